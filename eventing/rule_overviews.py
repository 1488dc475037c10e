"""A tenant's rules as people look at them: list by list, in order, each with what it may not mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from blockforger.backend import json_values
from eventing import rule_documents, rule_lists, rule_warnings
from eventing.models import DEFAULT_DETAIL_TYPE, DEFAULT_SOURCE, OutputRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blockforger.backend.item_paths import Paths
    from blockforger.backend.models import Schema
    from eventing.rule_documents import RuleDocument
    from eventing.rule_warnings import Owned
    from tenants.models import Tenant

_FIELDS = {"keep": "Sends only", "drop": "Leaves out", "mask": "Masks"}


@dataclass(frozen=True, slots=True)
class ShownRule:
    """A rule, what it may not mean, and after which others its events go out."""

    row: OutputRule
    rule: Owned
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.rule.place + 1

    @property
    def title(self) -> str:
        return title_of(self.rule.document, self.rule.schema)

    @property
    def facts(self) -> list[tuple[str, str]]:
        return list(_facts(self.rule.document))


@dataclass(frozen=True, slots=True)
class ShownList:
    """The rules of the tenant, or of one of its schemas, which have an order among themselves."""

    schema: Schema | None
    rules: list[ShownRule]

    @property
    def order(self) -> str:
        """The ids of the rules, as a page tells which order it has seen."""
        return ",".join(str(shown.row.pk) for shown in self.rules)


def title_of(document: RuleDocument, own_schema: str | None) -> str:
    """Which writes a rule is for, in words."""
    operations = _listed(document["operations"]) or "Every write"
    schemas = document["schema_names"] or ([own_schema] if own_schema else [])
    return f"{operations} of {_listed(schemas, 'or') or 'all schemas'}"


def lists_of(tenant: Tenant) -> list[ShownList]:
    """All rules of a tenant, its own list first, which is there even if it is empty. Three queries."""
    schemas = _schemas_of(tenant)
    shown = _shown(tenant, _rows(tenant, schemas), schemas)
    lists = [ShownList(schema, list(rules)) for schema, rules in groupby(shown, key=lambda one: one.row.schema)]
    return lists if lists and lists[0].schema is None else [ShownList(None, []), *lists]


def of_draft(draft: OutputRule) -> ShownRule:
    """A rule that is not saved yet, among the others: in its place, or as the last of its list."""
    schemas = _schemas_of(draft.tenant)
    rows = _rows(draft.tenant, schemas)
    if any(row.pk == draft.pk for row in rows):
        rows = [draft if row.pk == draft.pk else row for row in rows]
    else:
        rows.append(draft)
        rows.sort(key=lambda row: row.schema.name if row.schema else "")
    return next(shown for shown in _shown(draft.tenant, rows, schemas, draft=draft) if shown.row is draft)


def _shown(
    tenant: Tenant, rows: Sequence[OutputRule], schemas: Sequence[Schema], draft: OutputRule | None = None
) -> list[ShownRule]:
    documents: dict[str | None, list[RuleDocument]] = {}
    for row in rows:
        documents.setdefault(row.schema.name if row.schema else None, []).append(rule_documents.of_row(row))
    rules = rule_warnings.owned(documents)
    found = {id(rule): ShownRule(row, rule) for row, rule in zip(rows, rules, strict=True)}
    paths = {schema.name: _paths(schema) for schema in schemas}
    # What is told once of each bus is told of the draft, whichever rule names its bus first.
    of_bus = [one.rule for one in found.values() if draft is None or one.row is draft]
    for warned in (
        *rule_warnings.of_rules(rules, paths),
        *rule_warnings.of_pairs(rules, paths),
        *rule_warnings.of_buses(of_bus, rule_lists.buses_of(of_bus, tenant.name)),
    ):
        found[id(warned.rule)].warnings.append(warned.message)
    for warned in rule_warnings.of_order(rules, paths):
        found[id(warned.rule)].notes.append(warned.message)
    return list(found.values())


def _rows(tenant: Tenant, schemas: Sequence[Schema]) -> list[OutputRule]:
    """In the order of lists; each with its schema, which is not read again.

    Those of a schema that is made or deleted just now are left out.
    """
    by_pk: Mapping[int, Schema] = {schema.pk: schema for schema in schemas}
    found = OutputRule.objects.filter(tenant=tenant).order_by("position", "id")
    rows = [row for row in found if row.schema_id is None or row.schema_id in by_pk]
    for row in rows:
        row.tenant = tenant
        if row.schema_id is not None:
            row.schema = by_pk[row.schema_id]
    return sorted(rows, key=lambda row: row.schema.name if row.schema else "")


def _schemas_of(tenant: Tenant) -> list[Schema]:
    return list(tenant.schemas.order_by("name"))


def _paths(schema: Schema) -> Paths:
    return rule_warnings.paths_of(schema.parsed_document(), schema.key_field)


def _facts(document: RuleDocument) -> Iterator[tuple[str, str]]:
    yield "To", document["eventbridge_arn"]
    if document["source"] != DEFAULT_SOURCE:
        yield "Source", document["source"]
    if document["detail_type"] != DEFAULT_DETAIL_TYPE:
        yield "Detail type", document["detail_type"]
    if document["filter"]:
        yield "Only if", json_values.compact(document["filter"])
    if document["on_change"]:
        yield "On a change of", ", ".join(document["on_change"])
    for name, paths in (document["fields"] or {}).items():
        yield _FIELDS[name], ", ".join(paths)


def _listed(words: Sequence[str], conjunction: str = "and") -> str:
    return f" {conjunction} ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""
