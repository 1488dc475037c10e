from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from tenants import balances
from tenants.management.arguments import tenant_named

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = (
        "Add tokens to a tenant's account, once per reference: repeated with the same reference and amount, the "
        "command changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="The tenant's name.")
        parser.add_argument("amount", type=int, help="Tokens to add; an operation costs 10.")
        parser.add_argument("--reference", required=True, help="What it is for, such as an invoice number.")

    def handle(self, **options: Any) -> None:
        tenant = tenant_named(options["tenant"])
        try:
            entry, is_new = balances.top_up(tenant, amount=options["amount"], reference=options["reference"])
        except balances.TopUpRefused as error:
            raise CommandError(str(error)) from error
        if is_new:
            self.stdout.write(f"Added {entry.amount} tokens. The balance of {tenant} is {entry.balance_after}.")
        else:
            self.stdout.write(f"Nothing to do: the {entry.amount} tokens of '{entry.reference}' were added before.")
