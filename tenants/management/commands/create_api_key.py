from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from tenants import api_keys
from tenants.management.arguments import tenant_named
from tenants.models import Permission

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = "Make an API key for a tenant. Prints the key, and only the key: it is not kept and cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="The tenant's name.")
        parser.add_argument("--name", required=True, help="Who or what will use the key.")
        parser.add_argument(
            "--permission",
            action="append",
            default=[],
            choices=Permission.values,
            help="What the key may do. Can be given several times; without it the key may do nothing.",
        )
        parser.add_argument("--days", type=int, help="Days until the key expires. Without it, it does not.")

    def handle(self, **options: Any) -> None:
        tenant = tenant_named(options["tenant"])
        expires_at = timezone.now() + timedelta(days=options["days"]) if options["days"] is not None else None
        _, key = api_keys.create(
            tenant,
            name=options["name"],
            permissions=[Permission(name) for name in options["permission"]],
            expires_at=expires_at,
        )
        self.stdout.write(key)
