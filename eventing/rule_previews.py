"""What a rule would send that is perhaps not saved yet: the entry, for a write of a sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blockforger.backend import example_payloads
from blockforger.backend.models import WRITES, Item, Schema
from eventing import explanations, rule_warnings, rules
from eventing.explanations import Write
from eventing.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.json_values import JsonObject
    from eventing.models import OutputRule

MAX_KEYS_OFFERED = 20
# What stands for a schema where the tenant has none yet.
_SAMPLE_SCHEMA = "sample"


@dataclass(frozen=True, slots=True)
class Wish:
    """Of what a preview is wanted. What cannot be is replaced by the first that can."""

    schema: str = ""
    operation: str = ""
    # Of a stored item.
    key: str = ""
    # Instead of a stored item's, or of one that the schema makes.
    payload: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What there is to choose from, what was chosen, and what the rule makes of it."""

    schemas: list[str]
    operations: list[str]
    # Of the items that were stored last.
    keys: list[str]
    schema: str
    operation: str
    key: str
    payload: JsonObject
    # That the schema knows, for conditions.
    paths: list[str]
    # Why such a write sends nothing; None if it does.
    mismatch: str | None
    # What is sent where the conditions are met. None: there is no such write.
    entry: JsonObject | None


def of(draft: OutputRule, wish: Wish) -> Preview:
    """What a rule without problems makes of a write of a sample. Nothing of it is stored or sent."""
    rule = Rule.of(draft)
    unconditional = replace(rule, enabled=True, filter=None, on_change=())
    schemas = _schemas_for(unconditional, draft)
    schema = next((one for one in schemas if one.name == wish.schema), schemas[0])
    operations = [str(method) for method in WRITES if not rule.operations or method in rule.operations]
    operation = wish.operation if wish.operation in operations else operations[0]
    stored = Item.objects.filter(schema=schema.pk).order_by("-pk")
    item = stored.filter(key=wish.key).first() if wish.key and "\0" not in wish.key else None
    document = schema.parsed_document()
    payload = wish.payload or (item.payload if item else example_payloads.of_document(document, schema.key_field))
    write = Write.of(operation, payload, before=None, key_field=schema.key_field)
    [found] = explanations.explain_by([rule], draft.tenant, schema, write)
    [sent] = explanations.explain_by([unconditional], draft.tenant, schema, write)
    return Preview(
        schemas=[one.name for one in schemas],
        operations=operations,
        keys=list(stored.values_list("key", flat=True)[:MAX_KEYS_OFFERED]),
        schema=schema.name,
        operation=operation,
        key=item.key if item else "",
        payload=payload,
        paths=rule_warnings.paths_of(document, schema.key_field).told(),
        mismatch=found.mismatch,
        entry=sent.event.entry if sent.event else None,
    )


def _schemas_for(rule: Rule, draft: OutputRule) -> Sequence[Schema]:
    """The schemas that the rule is for; of one that is for none, a schema as it might come to be."""
    stored = draft.tenant.schemas.order_by("name")
    known = [schema for schema in stored if any(rules.may_match(rule, schema, method) for method in WRITES)]
    name = (draft.schema and draft.schema.name) or next(iter(rule.schema_names), _SAMPLE_SCHEMA)
    return known or [Schema(pk=rule.schema_id, tenant=draft.tenant, name=name, document="{}")]
