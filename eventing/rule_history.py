"""The history of output rules: what each said before and after a change, and who made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from blockforger.backend import json_values
from eventing import rule_documents
from eventing.models import RuleChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema
    from eventing.models import OutputRule
    from tenants.models import Tenant

What = RuleChange.What


class Difference(NamedTuple):
    """A member of a rule that says something else than before, as texts; empty: there was, or is, no rule."""

    member: str
    before: str
    after: str


def added(rows: Iterable[OutputRule], *, who: str, what: What = What.ADDED) -> None:
    RuleChange.objects.bulk_create(_change(row, what, who, None, _said_by(row)) for row in rows)


def removed(rows: Iterable[OutputRule], *, who: str) -> None:
    RuleChange.objects.bulk_create(_change(row, What.REMOVED, who, _said_by(row), None) for row in rows)


def changed(stored: OutputRule, row: OutputRule, *, who: str, what: What = What.CHANGED) -> None:
    """The rule as it is stored, and as it will be."""
    _change(row, what, who, _said_by(stored), _said_by(row)).save()


def moved(tenant: Tenant, schema: Schema | None, before: Sequence[int], after: Sequence[int], *, who: str) -> None:
    """The ids of a list's rules, in both orders."""
    RuleChange.objects.create(
        tenant=tenant,
        schema_name=schema.name if schema else "",
        what=What.MOVED,
        who=who,
        before=list(before),
        after=list(after),
    )


def differences(before: JsonObject | None, after: JsonObject | None) -> list[Difference]:
    """What two JSON documents of a rule say differently. None: there is no rule."""
    members = rule_documents.members_of(before) | rule_documents.members_of(after)
    texts = [(name, _text(name, before), _text(name, after)) for name in members]
    return [Difference(*text) for text in texts if text[1] != text[2]]


def moves(entry: RuleChange) -> list[tuple[int, str, str]]:
    """The ids of the rules that an order gave another place, and both places."""
    before, after = entry.before or [], entry.after or []
    was = {pk: place for place, pk in enumerate(before, start=1)}
    return [(pk, f"place {was[pk]}", f"place {place}") for place, pk in enumerate(after, start=1) if was[pk] != place]


def _change(row: OutputRule, what: What, who: str, before: JsonObject | None, after: JsonObject | None) -> RuleChange:
    return RuleChange(
        tenant_id=row.tenant_id,
        schema_name=row.schema.name if row.schema else "",
        rule_id=row.pk,
        what=what,
        who=who,
        before=before,
        after=after,
    )


def _said_by(row: OutputRule) -> JsonObject:
    return rule_documents.written(rule_documents.of_row(row))


def _text(member: str, document: JsonObject | None) -> str:
    if document is None:
        return ""
    value: JsonValue = rule_documents.members_of(document)[member]
    if value in ([], None):
        return "none" if member in ("filter", "on_change") else "all"
    if isinstance(value, list):
        return ", ".join(cast("list[str]", value))
    return value if isinstance(value, str) else json_values.compact(value)
