from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from tenants import api_keys
from tenants.models import ApiKey

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = (
        "Replace an API key by a new one with the same name, permissions and expiry. The old key goes on working "
        "for the overlap, then ends. Prints the new key, and only the key."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", help="The old key's prefix: the part between its two underscores.")
        parser.add_argument(
            "--overlap-hours", type=float, default=24.0, help="Hours for which both keys work (default: 24)."
        )

    def handle(self, **options: Any) -> None:
        old = ApiKey.objects.filter(prefix=options["prefix"]).first()
        if old is None:
            raise CommandError(f"There is no key with the prefix '{options['prefix']}'. The admin lists the prefixes.")
        if options["overlap_hours"] < 0:
            raise CommandError("--overlap-hours must not be negative.")
        try:
            _, key = api_keys.rotate(old, overlap=timedelta(hours=options["overlap_hours"]))
        except api_keys.NotRotatable as error:
            raise CommandError(str(error)) from error
        self.stdout.write(key)
