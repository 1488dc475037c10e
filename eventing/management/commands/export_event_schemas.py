"""manage.py export_event_schemas: a tenant's output events, as the EventBridge Schema Registry takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from django.core.management.base import BaseCommand, CommandError

from eventing import registry_schemas
from tenants.models import Tenant

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Print the schemas of a tenant's output events as one JSON object, by the names that the EventBridge Schema "
        "Registry gives to those it discovers ({source}@{detail-type}); or with --dir write each to a file of that "
        f"name. They are of the registry's type {registry_schemas.TYPE}: aws schemas create-schema --registry-name "
        f"NAME --schema-name NAME --type {registry_schemas.TYPE} --content file://FILE. They are of the rules and "
        "schemas as they are now. What Draft 4 of JSON Schema cannot say, such as 'if' and 'contains', is left out."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="Name of the tenant.")
        parser.add_argument(
            "--dir",
            type=Path,
            metavar="DIR",
            help="Write DIR/{source}@{detail-type}.json for each schema, over those of the same names, and print the "
            "paths. Other files there are left alone.",
        )

    def handle(self, *_args: object, tenant: str, dir: Path | None, **_options: object) -> None:  # noqa: A002
        row = Tenant.objects.filter(name=tenant).first()
        if row is None:
            raise CommandError(f"There is no tenant '{tenant}'.")
        schemas = registry_schemas.of_tenant(row)
        if dir is None:
            self.stdout.write(json.dumps(schemas, indent=2))
            return
        try:
            dir.mkdir(parents=True, exist_ok=True)
            for name, schema in schemas.items():
                path = dir / f"{name}.json"
                path.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
                self.stdout.write(str(path))
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be written: {error.strerror}.") from error
