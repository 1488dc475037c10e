"""Entries of PutEvents: what one holds, what it weighs, and how many go into a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence

    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

    from eventing.models import OutboxEvent

MAX_ENTRIES = 10
"""Entries in a call (API reference of PutEvents)."""

_TIME_BYTES = 14


def entry_of(event: OutboxEvent) -> PutEventsRequestEntryTypeDef:
    """The entry that sends the event."""
    return {
        "Time": event.time,
        "Source": event.source,
        "Resources": event.resources,
        "DetailType": event.detail_type,
        "Detail": event.detail,
        "EventBusName": event.bus_arn,
    }


def size_of(event: OutboxEvent) -> int:
    """Bytes that AWS counts for the entry (user guide, "Calculating PutEvents event entry size")."""
    texts = (event.source, event.detail_type, event.detail, *event.resources)
    return _TIME_BYTES + sum(len(text.encode()) for text in texts)


def take_call(events: deque[OutboxEvent], *, max_bytes: int) -> Sequence[OutboxEvent]:
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
