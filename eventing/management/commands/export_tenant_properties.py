"""manage.py export_tenant_properties: a tenant's files, as an import takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from django.core.management.base import BaseCommand, CommandError

from eventing import tenant_export
from tenants.models import Tenant

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Print a tenant's tenant.properties, or with --to write it and a {schema}.json for each of the tenant's "
        "schemas. Importing these files changes nothing. tenant.properties is written in ASCII and with a backslash "
        "at the end of lines that go on, so that every reader of .properties reads the same; its comments are not "
        "kept, and properties that Blockforger does not know come last, by name. API keys, tokens and items are not "
        "exported."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="Name of the tenant.")
        parser.add_argument(
            "--to",
            type=Path,
            metavar="DIR",
            help="Write the files into DIR/{tenant}, over those of the same names, and print their paths. Other files "
            "there are left alone.",
        )

    def handle(self, *_args: object, tenant: str, to: Path | None, **_options: object) -> None:
        row = Tenant.objects.filter(name=tenant).first()
        if row is None:
            raise CommandError(f"There is no tenant '{tenant}'.")
        if to is None:
            self.stdout.write(tenant_export.properties_text(row), ending="")
            return
        try:
            paths = tenant_export.write(row, to)
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be written: {error.strerror}.") from error
        for path in paths:
            self.stdout.write(str(path))
