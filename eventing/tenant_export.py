"""Exporting a tenant as the files that an import of it would leave unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blockforger.backend import json_values, schema_documents
from eventing import properties, rule_documents
from eventing.models import FeedbackBus, OutputRule
from eventing.tenant_files import FEEDBACK, INPUT, OUTPUT, PROPERTIES, SCHEMA_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from blockforger.backend.json_values import JsonObject, JsonValue
    from tenants.models import Tenant


def properties_text(tenant: Tenant) -> str:
    """The tenant's tenant.properties, in ASCII. Properties that Blockforger does not know follow its own, by name."""
    rows = OutputRule.objects.filter(tenant=tenant, schema=None).order_by("position", "id")
    written: dict[str, str | list[JsonValue]] = {
        INPUT: "true" if tenant.accepts_events else "false",
        OUTPUT: _rules(rows),
    }
    if feedback_bus := FeedbackBus.objects.filter(tenant=tenant).first():
        written[FEEDBACK] = feedback_bus.eventbridge_arn
    for key, value in sorted(tenant.extra_properties.items()):
        written.setdefault(key, value if isinstance(value, str) else json_values.compact(value))
    return properties.write(written)


def files(tenant: Tenant) -> dict[str, str]:
    """The texts of all the tenant's files, by name, to be stored as UTF-8."""
    texts = {PROPERTIES: properties_text(tenant)}
    for schema in tenant.schemas.order_by("name").prefetch_related("output_rules"):
        meta = cast("JsonObject", {**schema.meta})
        rows = sorted(schema.output_rules.all(), key=lambda row: (row.position, row.pk))
        if rows:
            meta[OUTPUT] = _rules(rows)
        text = schema_documents.with_meta(schema.document, meta) if meta else schema.document
        texts[f"{schema.name}{SCHEMA_SUFFIX}"] = text
    return texts


def write(tenant: Tenant, directory: Path) -> list[Path]:
    """Write the tenant's files into `{directory}/{tenant}`, over those that are there. Returns their paths."""
    folder = directory / tenant.name
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in files(tenant).items():
        path = folder / name
        path.write_text(text, encoding="utf-8", newline="")
        paths.append(path)
    return paths


def _rules(rows: Iterable[OutputRule]) -> list[JsonValue]:
    return [rule_documents.written(rule_documents.of_row(row)) for row in rows]
