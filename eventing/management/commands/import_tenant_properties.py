"""manage.py import_tenant_properties: tenants, their rules and their schemas from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from django.core.management.base import BaseCommand, CommandError

from eventing import tenant_import
from eventing.tenant_import import ImportRefused

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Import tenants from files. A tenant's folder, which has the tenant's name, holds tenant.properties and for "
        "each schema {schema}.json, a JSON Schema (draft 2020-12) with an optional member 'meta'. In "
        "tenant.properties, eventbridge-input (true or false) and eventbridge-output (an array of rules) are the "
        "whole truth: what is left out is switched off or removed. Other properties are kept for the export; "
        "comments are not. In a schema's file, meta.key names the key field (default: id), meta.eventbridge-output "
        "holds the schema's own rules, and other members are kept. Tenants and schemas without files are left "
        "alone, nothing is ever deleted but rules and properties, and items that are there are not checked again. "
        "All files are imported, or none: if there are problems, all of them are printed to standard error, each "
        "with file, line, column and JSON path, and the exit code is 1. Prints what was done: '+' for new, '~' for "
        "changed, '-' for removed, '=' for unchanged, '!' for a warning. A second import changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "paths",
            nargs="+",
            type=Path,
            metavar="PATH",
            help="A tenant.properties (which brings no schemas), a tenant's folder, or a folder of tenants' folders. "
            "Names that begin with a dot are passed over.",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Print what would be done, and what else is to be said of rules and buses; change nothing.",
        )

    def handle(self, *_args: object, paths: list[Path], dry_run: bool, **_options: object) -> None:
        try:
            plans = tenant_import.plan(paths) if dry_run else tenant_import.carry_out(paths)
        except ImportRefused as error:
            problems = "1 problem" if len(error.problems) == 1 else f"{len(error.problems)} problems"
            raise CommandError(f"Nothing was imported, because of {problems}.\n{error}") from error
        for plan in plans:
            for line in plan.lines():
                self.stdout.write(line)
            for warned in tenant_import.further_warnings(plan) if dry_run else ():
                self.stdout.write(f"  ! {warned}")
        if all(plan.is_empty for plan in plans):
            self.stdout.write("Nothing to change.")
        else:
            self.stdout.write("Dry run: nothing was changed." if dry_run else "Imported.")
