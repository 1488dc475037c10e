"""Explaining rules: what each rule of a tenant makes of a write, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventing import event_format, rules

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.models import Schema
    from eventing.rules import Rule
    from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Event:
    """What a rule would send, and to which bus."""

    bus_arn: str
    source: str
    detail_type: str
    detail: JsonObject


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a rule makes of a write: the event that it would send, or else why it does not match."""

    rule: Rule
    mismatch: str | None
    event: Event | None


def explain(tenant: Tenant, schema: Schema, operation: str, payload: JsonObject) -> list[Explanation]:
    """What each of the tenant's rules makes of a write of that schema: all rules, in the order of their events.

    The payload is taken as it is: it is not checked against the schema.
    """
    detail = event_format.detail_of(tenant.name, schema.name, operation, payload)
    explanations = []
    for rule in rules.of_tenant(tenant):
        mismatch = rules.mismatch(rule, schema, operation)
        detail_type = rules.detail_type_of(rule, schema.name, operation)
        event = Event(rule.eventbridge_arn, rule.source, detail_type, detail) if mismatch is None else None
        explanations.append(Explanation(rule, mismatch, event))
    return explanations
