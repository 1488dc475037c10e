"""Backtests: what other rules would have sent for the last writes that are known, against today's.

Of past writes the outbox alone knows what was sent, so those that no rule matched then are not known, nor are states
of items before them. They are worked out as far as the writes are known without a gap; what cannot be decided is
counted.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.models import Func, IntegerField

from blockforger.backend import json_values
from eventing import explanations, rules
from eventing.explanations import Write
from eventing.models import OutboxEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema
    from eventing.rules import Rule
    from tenants.models import Tenant

    Kind = Callable[[Schema, str], list[Rule]]

MAX_WRITES = 1000
MAX_BYTES = 64 * 1024 * 1024
"""Of writes and of the events that are worked out for them; older writes are left out."""
_MAX_SHOWN = 100
# Of an event with more than that, all but the payload is shown.
_MAX_SHOWN_CHARACTERS = 16 * 1024
# What an event has besides its payload, roughly.
_OVERHEAD = 1024
# Of so many writes the payloads are in memory at once.
_PORTION = 10
LIMITS: list[JsonValue] = [
    "Writes that no rule matched when they were made are not known, nor those whose events are pruned.",
    "An item's state before a PUT, PATCH or DELETE is known only after a POST or PUT with no gap in the numbers since.",
    "Conditions (filter, on_change) of which that state is not known are undecided: such writes are counted only.",
    "A payload that was sent by rules with 'fields' alone is known in part, so conditions on it are undecided, too.",
    f"Of events with more than {_MAX_SHOWN_CHARACTERS:,} characters, the payload is not shown.",
]


class Known(NamedTuple):
    """A write of the past, and the event by which it is known best."""

    sequence: int
    schema: Schema
    item_key: str
    operation: str
    event: UUID
    # Whether the event has all of the payload.
    is_whole: bool
    # Whether the write before is known too: else any item may have been written in between.
    follows: bool


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
    left_out: int = 0

    @property
    def limits(self) -> list[JsonValue]:
        """What it does not say, and why."""
        if not self.left_out:
            return LIMITS
        text = (
            f"The oldest {self.left_out:,} of these writes are left out: with what the rules make of them, they have "
            f"more than {MAX_BYTES // 1024 // 1024} MiB. Try fewer rules."
        )
        return [text, *LIMITS]

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
            "limits": self.limits,
        }


class Bytes(Func):
    """The length of a text that the database need not read for that."""

    function = "OCTET_LENGTH"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="LENGTH", **context)


def compare(tenant: Tenant, other: Sequence[Rule], *, last: int) -> Comparison:
    """What today's rules and others make of the last writes that are known, up to that many."""
    today = rules.of_tenant(tenant)
    of_today, of_other = _by_kind(today), _by_kind(other)
    known, left_out = _known(tenant, today, lambda *kind: len(of_today(*kind)) + len(of_other(*kind)), last=last)
    found = Comparison(left_out=left_out)
    for past in _past(known):
        found.writes += 1
        found.first, found.last = found.first or past.sequence, past.sequence
        kind = (past.schema, past.write.operation)
        before, undecided_before = _events(of_today(*kind), tenant, past)
        after, undecided_after = _events(of_other(*kind), tenant, past)
        if undecided_before or undecided_after:
            found.undecided += 1
            continue
        found.today, found.then = found.today + before.total(), found.then + after.total()
        found.gains += (after - before).total()
        found.losses += (before - after).total()
        _show(found.gained, after - before, past)
        _show(found.lost, before - after, past)
    return found


def _by_kind(own: Sequence[Rule]) -> Kind:
    """Which of the rules may match writes of a schema and operation: worked out once for each."""
    return cache(lambda schema, operation: [rule for rule in own if rules.may_match(rule, schema, operation)])


def _show(shown: list[JsonValue], events: Counter[str], past: Past) -> None:
    for text in events.elements():
        if len(shown) == _MAX_SHOWN:
            return
        entry = json.loads(text)
        if len(text) > _MAX_SHOWN_CHARACTERS:
            del entry["Detail"]["payload"]
        shown.append({"sequence": past.sequence, **entry})


def _events(own: Sequence[Rule], tenant: Tenant, past: Past) -> tuple[Counter[str], bool]:
    """The events of a write, as texts without their ids; and whether a condition cannot be decided."""
    if not past.is_known and any(rule.filter or rule.on_change for rule in own):
        return Counter(), True
    found = explanations.explain_by(own, tenant, past.schema, past.write)
    return Counter(json_values.compact(one.event.entry) for one in found if one.event), False


def _known(
    tenant: Tenant, today: Sequence[Rule], count: Callable[[Schema, str], int], *, last: int
) -> tuple[list[Known], int]:
    """The last writes that are known, the oldest first; and how many of them are left out, for all would be too much.

    `count` says how many rules may match a write of a schema and operation.
    """
    sent = OutboxEvent.objects.filter(tenant=tenant, sequence__isnull=False).annotate(size=Bytes("detail"))
    # By the primary key, which has the time in it and an index; a write has an event for each rule.
    rows: list[Any] = list(sent.order_by("-id").defer("detail")[: last * 4])
    whole = {rule.pk for rule in today if rule.projection is None}
    schemas = {schema.name: schema for schema in tenant.schemas.defer("document")}
    by_sequence: dict[int, list[Any]] = {}
    for row in sorted(rows, key=lambda row: row.sequence):
        by_sequence.setdefault(row.sequence, []).append(row)
    writes = [
        (sequence, next((event for event in events if event.rule_id in whole), events[0]))
        for sequence, events in list(by_sequence.items())[-last:]
        if events[0].schema_name in schemas
    ]
    found: list[Known] = []
    left = MAX_BYTES
    for sequence, event in reversed(writes):
        schema = schemas[event.schema_name]
        left -= (event.size + _OVERHEAD) * (2 + count(schema, event.operation))
        if left < 0:
            break
        is_whole = event.rule_id in whole
        follows = sequence - 1 in by_sequence
        found.append(Known(sequence, schema, event.item_key, event.operation, event.pk, is_whole, follows))
    return found[::-1], len(writes) - len(found)


def _past(writes: Sequence[Known]) -> Iterator[Past]:
    """What these writes did to their items, as far as that is known."""
    states: dict[tuple[str, str], JsonObject | None] = {}
    for known, payload in _payloads(writes):
        if payload is None or not known.follows:
            states.clear()
        if payload is None:
            continue
        item = (known.schema.name, known.item_key)
        is_known = known.is_whole and (known.operation == "POST" or item in states)
        key_field = known.schema.key_field
        write = Write.of(known.operation, payload, before=states.get(item), key_field=key_field)
        if is_known or (known.is_whole and known.operation == "PUT"):
            states[item] = write.after
        else:
            states.pop(item, None)
        yield Past(known.sequence, known.schema, write, is_known)


def _payloads(writes: Sequence[Known]) -> Iterator[tuple[Known, JsonObject | None]]:
    """What each write sent; None if its event is pruned meanwhile."""
    for start in range(0, len(writes), _PORTION):
        portion = writes[start : start + _PORTION]
        rows = OutboxEvent.objects.filter(pk__in=[known.event for known in portion])
        details = dict(rows.values_list("pk", "detail"))
        for known in portion:
            detail = details.get(known.event)
            yield known, None if detail is None else json.loads(detail)["payload"]
