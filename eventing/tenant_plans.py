"""The plan of an import: what differs between a tenant's files and what is stored. Nothing here reads or writes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

from blockforger.backend import schema_changes
from eventing import rule_documents, rule_warnings
from eventing.rule_lists import RulesPlan
from eventing.tenant_files import FEEDBACK, INPUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blockforger.backend.item_paths import Paths
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.models import Schema
    from eventing.models import OutputRule
    from eventing.rule_documents import RuleDocument
    from eventing.rule_warnings import Owned
    from eventing.tenant_files import SchemaDocument, TenantDocument
    from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Stored:
    """A tenant as it is stored; `rules` are in order, by the schema that they belong to, None for the tenant's own."""

    tenant: Tenant
    schemas: Mapping[str, Schema]
    rules: Mapping[int | None, Sequence[OutputRule]]
    feedback_bus: str | None

    @property
    def document(self) -> JsonObject:
        """All of it that a plan may depend on."""
        tenant = self.tenant
        return {
            "tenant": [tenant.pk, tenant.accepts_events, {**tenant.extra_properties}, self.feedback_bus],
            "schemas": {name: [schema.pk, schema.version] for name, schema in self.schemas.items()},
            "rules": [
                [row.pk, row.schema_id, row.position, cast("JsonObject", rule_documents.of_row(row))]
                for rows in self.rules.values()
                for row in rows
            ],
        }


@dataclass(frozen=True, slots=True)
class SchemaPlan:
    """What becomes of a schema that has a file; `stored` is None for a new one."""

    wanted: SchemaDocument
    stored: Schema | None
    # Of document and meta, those that say something else than before; how they are laid out does not count.
    changed_parts: list[str]
    rules: RulesPlan
    lines: list[str]

    @classmethod
    def of(cls, wanted: SchemaDocument, stored: Schema | None, rows: Sequence[OutputRule]) -> SchemaPlan:
        changed_parts: list[str] = []
        lines = []
        if stored is None:
            lines.append(f"+ schema {wanted.name}")
        else:
            changed_parts = schema_changes.changed_parts(stored, document=wanted.document, meta=wanted.meta)
            if changed_parts:
                parts = " and ".join(changed_parts)
                lines.append(f"~ schema {wanted.name}: {parts}; becomes version {stored.version + 1}")
        rules = RulesPlan.of(rows, wanted.rules)
        lines += rules.lines(f"schema {wanted.name}, ")
        return cls(wanted, stored, changed_parts, rules, lines)


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """What becomes of a tenant; `stored` is None for a new one. Made once: it does not change while it is applied."""

    wanted: TenantDocument
    stored: Stored | None
    changes_tenant: bool
    changes_feedback: bool
    rules: RulesPlan
    schemas: list[SchemaPlan]
    # A line for each change; none if there is nothing to do.
    changes: list[str]

    @classmethod
    def of(cls, wanted: TenantDocument, stored: Stored | None) -> TenantPlan:
        schemas = []
        for document in wanted.schemas:
            schema = stored.schemas.get(document.name) if stored else None
            rows = stored.rules.get(schema.pk, []) if stored and schema else []
            schemas.append(SchemaPlan.of(document, schema, rows))
        rules = RulesPlan.of(stored.rules.get(None, []) if stored else [], wanted.rules)
        tenant_lines = [*_tenant_lines(wanted, stored.tenant if stored else None)]
        feedback_lines = [*_feedback_lines(wanted.feedback_bus, stored.feedback_bus if stored else None)]
        changes = [
            *tenant_lines,
            *feedback_lines,
            *rules.lines(),
            *(line for schema in schemas for line in schema.lines),
        ]
        return cls(wanted, stored, bool(tenant_lines), bool(feedback_lines), rules, schemas, changes)

    @property
    def is_empty(self) -> bool:
        return not self.changes

    @property
    def text(self) -> str:
        """All that the plan rests on: what the files say, and what is stored. For machines."""
        stored = self.stored.document if self.stored else None
        return json.dumps({"wanted": asdict(self.wanted), "stored": stored}, sort_keys=True)

    @property
    def changes_rules(self) -> bool:
        return not all(plan.is_empty for plan in self._rules_plans())

    def lines(self) -> Iterator[str]:
        """The plan, to be read by people."""
        state = "new" if self.stored is None else "unchanged" if self.is_empty else "changed"
        yield f"tenant {self.wanted.name}: {state}"
        for line in [*self.changes, *self._unchanged_lines(), *self._warning_lines()]:
            yield f"  {line}"

    def _unchanged_lines(self) -> Iterator[str]:
        rules = sum(len(plan.kept) for plan in self._rules_plans())
        schemas = sum(not schema.lines for schema in self.schemas)
        if rules or schemas:
            yield f"= unchanged: {_counted(rules, 'rule')}, {_counted(schemas, 'schema')}"
        if self.stored and self.schemas:
            with_files = {schema.wanted.name for schema in self.schemas}
            alone = [name for name in self.stored.schemas if name not in with_files]
            yield from (f"= schema {name}: has no file and is left alone" for name in alone)

    def _warning_lines(self) -> Iterator[str]:
        yield from (f"! {warning}" for warning in self.wanted.warnings)
        yield from (f"! {warned}" for warned in rule_warnings.of_rules(self.listed_rules(), self.paths()))

    def listed_rules(self) -> list[Owned]:
        """The rules as the plan leaves them, those of schemas without files included."""
        lists: dict[str | None, list[RuleDocument]] = {None: self.wanted.rules}
        for name, schema in self.stored.schemas.items() if self.stored else ():
            rows = self.stored.rules.get(schema.pk, ()) if self.stored else ()
            lists[name] = list(map(rule_documents.of_row, rows))
        lists |= {schema.name: schema.rules for schema in self.wanted.schemas}
        return rule_warnings.owned(lists)

    @property
    def number_before(self) -> int:
        """How many rules are stored."""
        return sum(map(len, self.stored.rules.values())) if self.stored else 0

    def paths(self) -> dict[str, Paths]:
        """What the schemas know of their items, as the plan leaves them."""
        stored = self.stored.schemas if self.stored else {}
        paths = {
            name: rule_warnings.paths_of(schema.parsed_document(), schema.key_field) for name, schema in stored.items()
        }
        for schema in self.wanted.schemas:
            key_field = str(schema.meta.get("key", "id"))
            paths[schema.name] = rule_warnings.paths_of(json.loads(schema.document), key_field)
        return dict(sorted(paths.items()))

    def _rules_plans(self) -> list[RulesPlan]:
        return [self.rules, *(schema.rules for schema in self.schemas)]


def _tenant_lines(wanted: TenantDocument, stored: Tenant | None) -> Iterator[str]:
    if stored is None:
        yield f"+ {INPUT}={_written(wanted.accepts_events)}"
    elif stored.accepts_events != wanted.accepts_events:
        yield f"~ {INPUT}: {_written(stored.accepts_events)} becomes {_written(wanted.accepts_events)}"
    old, new = stored.extra_properties if stored else {}, wanted.extra_properties
    yield from (f"- property {key}" for key in sorted(old) if key not in new)
    yield from (f"~ property {key}" for key in new if key in old and old[key] != new[key])
    yield from (f"+ property {key}" for key in new if key not in old)


def _feedback_lines(wanted: str | None, stored: str | None) -> Iterator[str]:
    if stored == wanted:
        return
    if stored and wanted:
        yield f"~ {FEEDBACK}: {stored} becomes {wanted}"
    else:
        yield f"+ {FEEDBACK}={wanted}" if wanted else f"- {FEEDBACK}={stored}"


def _written(flag: bool) -> str:  # noqa: FBT001
    return "true" if flag else "false"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
