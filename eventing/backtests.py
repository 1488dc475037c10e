"""Backtests: what other rules would have sent for the last writes that are known, against today's.

Of past writes the outbox alone knows what was sent, so those that no rule matched then are not known, nor are states
of items before them. They are worked out as far as the writes are known without a gap; what cannot be decided is
counted.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from blockforger.backend import json_values
from eventing import explanations, rules
from eventing.explanations import Write
from eventing.models import OutboxEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema
    from eventing.rules import Rule
    from tenants.models import Tenant

MAX_WRITES = 1000
_MAX_SHOWN = 100
LIMITS: list[JsonValue] = [
    "Writes that no rule matched when they were made are not known, nor those whose events are pruned.",
    "An item's state before a PUT, PATCH or DELETE is known only after a POST or PUT with no gap in the numbers since.",
    "Conditions (filter, on_change) of which that state is not known are undecided: such writes are counted only.",
    "A payload that was sent by rules with 'fields' alone is known in part, so conditions on it are undecided, too.",
]


class Past(NamedTuple):
    """A write of the past. Its states are right only if they are known."""

    sequence: int
    schema: Schema
    write: Write
    is_known: bool


@dataclass(slots=True)
class Comparison:
    """What two lists of rules make of the same writes."""

    writes: int = 0
    first: int | None = None
    last: int | None = None
    today: int = 0
    then: int = 0
    undecided: int = 0
    gained: list[JsonValue] = field(default_factory=list)
    lost: list[JsonValue] = field(default_factory=list)
    gains: int = 0
    losses: int = 0

    @property
    def document(self) -> JsonObject:
        return {
            "writes": self.writes,
            "from": self.first,
            "to": self.last,
            "events": {"today": self.today, "then": self.then},
            "gains": self.gains,
            "losses": self.losses,
            "gained": self.gained,
            "lost": self.lost,
            "undecided": self.undecided,
            "limits": LIMITS,
        }


def compare(tenant: Tenant, other: Sequence[Rule], *, last: int) -> Comparison:
    """What today's rules and others make of the last writes that are known, up to that many."""
    today = rules.of_tenant(tenant)
    found = Comparison()
    for past in _past(tenant, today, last=last):
        found.writes += 1
        found.first, found.last = found.first or past.sequence, past.sequence
        before, undecided_before = _events(today, tenant, past)
        after, undecided_after = _events(other, tenant, past)
        if undecided_before or undecided_after:
            found.undecided += 1
            continue
        found.today, found.then = found.today + before.total(), found.then + after.total()
        found.gains += (after - before).total()
        found.losses += (before - after).total()
        _show(found.gained, after - before, past)
        _show(found.lost, before - after, past)
    return found


def _show(shown: list[JsonValue], events: Counter[str], past: Past) -> None:
    for text in events.elements():
        if len(shown) < _MAX_SHOWN:
            shown.append({"sequence": past.sequence, **json.loads(text)})


def _events(own: Iterable[Rule], tenant: Tenant, past: Past) -> tuple[Counter[str], bool]:
    """The events of a write, as texts without their ids; and whether a condition cannot be decided."""
    events: Counter[str] = Counter()
    for rule in own:
        has_conditions = rule.filter or rule.on_change
        if has_conditions and not past.is_known and rules.may_match(rule, past.schema, past.write.operation):
            return Counter(), True
        for explanation in explanations.explain_by([rule], tenant, past.schema, past.write):
            if explanation.event:
                events[json_values.compact(explanation.event.entry)] += 1
    return events, False


def _past(tenant: Tenant, today: Iterable[Rule], *, last: int) -> Iterator[Past]:
    """The last writes that are known, the oldest first."""
    sent = OutboxEvent.objects.filter(tenant=tenant, sequence__isnull=False)
    # By the primary key, which has the time in it and an index; a write has an event for each rule.
    rows = list(sent.order_by("-id")[: last * 4])
    whole = {rule.pk for rule in today if rule.projection is None}
    schemas = {schema.name: schema for schema in tenant.schemas.defer("document")}
    by_sequence: dict[int, list[OutboxEvent]] = {}
    for row in sorted(rows, key=lambda row: row.sequence or 0):
        by_sequence.setdefault(row.sequence or 0, []).append(row)
    states: dict[tuple[str, str], JsonObject | None] = {}
    previous = None
    for sequence, events in list(by_sequence.items())[-last:]:
        if previous is not None and sequence != previous + 1:
            states.clear()  # whoever wrote in between may have written any item
        previous = sequence
        event = next((event for event in events if event.rule_id in whole), events[0])
        item = (event.schema_name, event.item_key)
        if event.schema_name not in schemas:
            continue
        is_whole = event.rule_id in whole
        schema = schemas[event.schema_name]
        payload = json.loads(event.detail)["payload"]
        is_known = is_whole and (event.operation == "POST" or item in states)
        write = Write.of(event.operation, payload, before=states.get(item), key_field=schema.key_field)
        if is_known or (is_whole and event.operation == "PUT"):
            states[item] = write.after
        else:
            states.pop(item, None)
        yield Past(sequence, schema, write, is_known)
