"""Explaining rules: what each rule of a tenant makes of a write, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from blockforger.backend import json_values, keys
from blockforger.backend.merge_patch import merged
from blockforger.backend.models import Method
from eventing import event_format, rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.models import Schema
    from eventing.rules import Rule
    from tenants.models import Tenant

MAX_SHOWN_CHARACTERS = 4 * 1024 * 1024
"""Of the events of one write; once they have more, payloads are left out."""
# What nobody knows before the write.
_KEY, _EVENT = "{key}", "urn:blockforger:event:{id}:{sequence}"


@dataclass(frozen=True, slots=True)
class Write:
    """A write that might be: what an event of it says, and the item before and after."""

    operation: str
    payload: JsonObject
    before: JsonObject | None
    after: JsonObject | None

    @classmethod
    def of(cls, operation: str, payload: JsonObject, *, before: JsonObject | None, key_field: str) -> Self:
        """The write that sends this payload to an item that is `before`, as the API would carry it out.

        Nothing is checked against the schema. Of a DELETE, a payload is taken for the item if no `before` is given.
        """
        if operation == Method.POST:
            return cls(operation, payload, None, payload)
        if operation == Method.DELETE:
            gone = payload if before is None else before
            return cls(operation, {name: gone[name] for name in [key_field] if name in gone}, gone, None)
        if before is not None and key_field in before:
            payload = keys.with_key(payload, field=key_field, value=before[key_field])
        after = merged(before, payload) if operation == Method.PATCH else payload
        return cls(operation, payload, before, after)


@dataclass(frozen=True, slots=True)
class Event:
    """What a rule would send, and to which bus: an entry of PutEvents."""

    bus_arn: str
    source: str
    detail_type: str
    resources: list[str]
    detail: JsonObject

    @property
    def entry(self) -> JsonObject:
        """The entry, with `Detail` as the object that it is the text of."""
        return {
            "Source": self.source,
            "DetailType": self.detail_type,
            "EventBusName": self.bus_arn,
            "Resources": [*self.resources],
            "Detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a rule makes of a write: the event that it would send, or else why it does not match."""

    rule: Rule
    mismatch: str | None
    event: Event | None

    def document(self, entry: JsonObject | None) -> JsonObject:
        """With the entry as it is shown."""
        return {"id": self.rule.pk, "matches": self.event is not None, "mismatch": self.mismatch, "event": entry}


def explain(tenant: Tenant, schema: Schema, write: Write) -> list[Explanation]:
    """What each of the tenant's rules makes of a write of that schema: all rules, in the order of their events."""
    return explain_by(rules.of_tenant(tenant), tenant, schema, write)


def explain_by(own: Iterable[Rule], tenant: Tenant, schema: Schema, write: Write) -> list[Explanation]:
    """The same of any rules."""
    explanations = []
    for rule in own:
        mismatch = rules.mismatch(rule, schema, write.operation, before=write.before, after=write.after)
        if mismatch is None:
            explanations.append(Explanation(rule, None, _event(rule, tenant, schema, write)))
        else:
            text = mismatch if isinstance(mismatch, str) else f"its filter is not met: {mismatch}"
            explanations.append(Explanation(rule, text, None))
    return explanations


def shown(found: Iterable[Explanation]) -> tuple[list[JsonObject | None], list[str]]:
    """The entry of each event, and what is to be said of payloads that are left out, for all would be too much."""
    entries: list[JsonObject | None] = []
    left, left_out = MAX_SHOWN_CHARACTERS, 0
    for explanation in found:
        event = explanation.event
        if event is None:
            entries.append(None)
            continue
        if left < 0:
            left_out += 1
            event = replace(event, detail={name: part for name, part in event.detail.items() if name != "payload"})
        entries.append(event.entry)
        left -= len(json_values.compact(event.entry))
    text = f"The events are large: of the last {left_out:,}, the payload is not shown"
    return entries, [text] if left_out else []


def event_of(
    rule: Rule, tenant_name: str, schema_name: str, operation: str, payload: JsonObject, resources: list[str]
) -> Event:
    """The event of the rule with that payload."""
    return Event(
        rule.eventbridge_arn,
        rule.source,
        rules.detail_type_of(rule, schema_name, operation),
        resources,
        event_format.detail_of(tenant_name, schema_name, operation, payload),
    )


def item_urn(tenant_name: str, schema_name: str, key: str) -> str:
    """The item among the `Resources` of an event."""
    return f"urn:blockforger:item:{tenant_name}:{schema_name}:{quote(key, safe='')}"


def _event(rule: Rule, tenant: Tenant, schema: Schema, write: Write) -> Event:
    key = write.payload.get(schema.key_field)
    urn = item_urn(tenant.name, schema.name, "") + _KEY if key is None else item_urn(tenant.name, schema.name, str(key))
    payload = rules.payload_of(rule, schema, write.payload)
    return event_of(rule, tenant.name, schema.name, write.operation, payload, [urn, _EVENT])
