"""manage.py backtest_rules: what other rules would have sent for the last writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from django.core.management.base import BaseCommand, CommandError

from blockforger.backend import json_texts, json_values
from blockforger.backend.errors import DocumentInvalid
from blockforger.backend.json_values import NotPortable
from eventing import backtests, rule_lists
from tenants.models import Tenant

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from blockforger.backend.json_values import JsonValue


class Command(BaseCommand):
    help = (
        "Show what a list of rules would have sent for a tenant's last writes, and what of it is more or less than "
        "today's rules would have. The outbox is all that is known of the past: the answer says what that leaves out. "
        "Nothing is written or sent."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="Name of the tenant.")
        parser.add_argument(
            "--rules",
            type=Path,
            required=True,
            metavar="FILE",
            help='The rules, as GET /api/{tenant}/$rules shows them: {"rules": [...], "schemas": {"pets": [...]}}.',
        )
        parser.add_argument("--last", type=int, default=100, metavar="N", help="How many writes (default: 100).")

    def handle(self, *_args: object, tenant: str, last: int, **options: Path) -> None:
        owner = Tenant.objects.filter(name=tenant).first()
        if owner is None:
            raise CommandError(f"There is no tenant '{tenant}'.")
        if not 1 <= last <= backtests.MAX_WRITES:
            raise CommandError(f"--last must be a number from 1 to {backtests.MAX_WRITES}.")
        path = options["rules"]
        try:
            wanted = rule_lists.read(owner, json_values.parse(path.read_bytes()))
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
        except NotPortable as error:
            raise CommandError(f"{path} cannot be used. {error.message}") from error
        except DocumentInvalid as error:
            problems = json_texts.readable(cast("JsonValue", error.data["errors"]))
            raise CommandError(f"The rules cannot be used.\n{problems}") from error
        self.stdout.write(json_texts.readable(backtests.compare(owner, wanted, last=last).document))
