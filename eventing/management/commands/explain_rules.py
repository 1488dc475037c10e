"""manage.py explain_rules: which events a write would send, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from django.core.management.base import BaseCommand, CommandError

from blockforger.backend import json_texts, json_values
from blockforger.backend.json_values import NotPortable
from blockforger.backend.models import WRITES, Schema
from eventing import explanations, rule_checks, rule_lists
from tenants.models import Tenant

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from blockforger.backend.json_values import JsonObject
    from eventing.explanations import Explanation


class Command(BaseCommand):
    help = (
        "Show what each output rule of a tenant makes of a write: the event that it would send and the bus, or the "
        "reason why it does not match. Rules come in the order in which their events would go out: the tenant's by "
        "position, then the schema's own. Nothing is written or sent, and the payload is not checked against the "
        "schema. What the tenant's rules may not mean is told on standard error. The exit code is 0 even if no rule "
        "matches."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="Name of the tenant.")
        parser.add_argument("schema", help="Name of the schema; '.json' at its end is ignored.")
        parser.add_argument("operation", help="POST, PUT, PATCH or DELETE.")
        parser.add_argument(
            "--payload",
            default="{}",
            metavar="JSON",
            help="What is sent: a JSON object, or file://payload.json (default: {}). Of a DELETE it is taken for the "
            "item if there is no --before.",
        )
        parser.add_argument(
            "--before",
            metavar="JSON",
            help="The item as it is stored before: a JSON object, or file://item.json. Rules may ask what has changed "
            "(on_change) and how the item is then (filter); without it, nothing was stored.",
        )

    def handle(
        self,
        *_args: object,
        tenant: str,
        schema: str,
        operation: str,
        payload: str,
        before: str | None,
        **_: object,
    ) -> None:
        if operation not in WRITES:
            raise CommandError(f"The operation '{operation}' is unknown. Use POST, PUT, PATCH or DELETE.")
        schema_row = _schema(tenant, rule_checks.schema_name_of(schema))
        write = explanations.Write.of(
            operation,
            _object(payload, "payload"),
            before=None if before is None else _object(before, "item before"),
            key_field=schema_row.key_field,
        )
        found = explanations.explain(schema_row.tenant, schema_row, write)
        matching = sum(explanation.event is not None for explanation in found)
        self.stdout.write(f"{operation} of {schema_row} of {tenant}: {matching} of {len(found)} rules match.")
        for place, explanation in enumerate(found, start=1):
            self.stdout.write(f"\n{place}. {_described(explanation)}")
        for warned in rule_lists.warnings_of(schema_row.tenant):
            self.stderr.write(f"Warning: {warned}.")


def _schema(tenant_name: str, name: str) -> Schema:
    tenant = Tenant.objects.filter(name=tenant_name).first()
    if tenant is None:
        raise CommandError(f"There is no tenant '{tenant_name}'.")
    schema = tenant.schemas.select_related("tenant").filter(name=name).first()
    if schema is None:
        names = ", ".join(tenant.schemas.values_list("name", flat=True)) or "none"
        raise CommandError(f"The tenant has no schema '{name}'. Its schemas: {names}.")
    return schema


def _object(text: str, name: str) -> JsonObject:
    source: bytes | str = text
    if text.startswith("file://"):
        path = Path(text.removeprefix("file://")).expanduser()
        try:
            source = path.read_bytes()
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        value = json_values.parse(source)
    except NotPortable as error:
        raise CommandError(f"The {name} cannot be used. {error.message}") from error
    if not isinstance(value, dict):
        raise CommandError(f"The {name} must be a JSON object.")
    return value


def _described(explanation: Explanation) -> str:
    owner = "tenant's" if explanation.rule.schema_id is None else "schema's"
    rule = f"The {owner} rule with the id {explanation.rule.pk}"
    event = explanation.event
    if event is None:
        return f"{rule} does not match: {explanation.mismatch}."
    return f"{rule} matches, and sends to {event.bus_arn}:\n{json_texts.readable(event.entry)}"
