from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants import balances
from tenants.models import LedgerEntry, TokenAccount


class Command(BaseCommand):
    help = (
        "Prove that the ledger explains every balance: entries add up to it, each follows from the one before, and "
        "the tenant's clock stands at its last number. Prints a line for each discrepancy and fails if there is one."
    )

    def handle(self, **_: Any) -> None:
        found = list(balances.discrepancies())
        for line in found:
            self.stdout.write(line)
        if found:
            raise CommandError(f"The ledger has {len(found)} discrepancies.")
        self.stdout.write(f"{TokenAccount.objects.count()} accounts and {LedgerEntry.objects.count()} entries agree.")
