"""Entries of PutEvents: what one holds, what it weighs, and how many go into a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from eventing.models import OutboxEvent

MAX_ENTRIES = 10
"""Entries in a call (API reference of PutEvents)."""

_TIME_BYTES = 14


class Ready(NamedTuple):
    """An event of the outbox that may go, with what is needed to send it: a row is read faster than a model."""

    # A UUID with hyphens.
    pk: str
    tenant_id: int
    lane: int
    stream: int
    bus_arn: str
    source: str
    detail_type: str
    detail: str
    item_urn: str
    sequence: int | None
    # In whole seconds since 1970, as boto3 sends it.
    time: int

    @property
    def resources(self) -> list[str]:
        return resources_of(self.pk, self.item_urn, self.sequence)


def resources_of(event_id: UUID | str, item_urn: str, sequence: int | None) -> list[str]:
    """The `Resources` of the entry: the item, and this event under the id that never changes."""
    own_urn = f"urn:blockforger:event:{event_id}"
    return [item_urn, own_urn if sequence is None else f"{own_urn}:{sequence}"]


def body_of(events: Iterable[Ready]) -> bytes:
    """The body of the call that sends these events."""
    entries = [
        {
            "Time": event.time,
            "Source": event.source,
            "Resources": event.resources,
            "DetailType": event.detail_type,
            "Detail": event.detail,
            "EventBusName": event.bus_arn,
        }
        for event in events
    ]
    return orjson.dumps({"Entries": entries})


def size_of(event: Ready | OutboxEvent) -> int:
    """Bytes that AWS counts for the entry (user guide, "Calculating PutEvents event entry size")."""
    texts = (event.source, event.detail_type, event.detail, *event.resources)
    return _TIME_BYTES + len("".join(texts).encode())


def take_call(events: deque[Ready], *, max_bytes: int) -> Sequence[Ready]:
    """Take the next call from events of one bus: at most 10 entries and that many bytes, in the order given.

    An event larger than that gets a call to itself, so that AWS can say no to it alone.
    """
    call = [events.popleft()]
    call_bytes = size_of(call[0])
    while events and len(call) < MAX_ENTRIES:
        call_bytes += size_of(events[0])
        if call_bytes > max_bytes:
            break
        call.append(events.popleft())
    return call
