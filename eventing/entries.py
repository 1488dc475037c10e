"""Entries of PutEvents: what one holds, what it weighs, and how many go into a call."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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


def calls_of(events: Iterable[OutboxEvent], *, max_bytes: int) -> Iterator[Sequence[OutboxEvent]]:
    """Pack events into calls: each for one bus, of at most 10 entries and that many bytes, in the order given.

    An event larger than that gets a call to itself, so that AWS can say no to it alone.
    """
    for _, of_bus in groupby(sorted(events, key=lambda event: event.bus_arn), key=lambda event: event.bus_arn):
        call: list[OutboxEvent] = []
        call_bytes = 0
        for event in of_bus:
            size = size_of(event)
            if call and (len(call) == MAX_ENTRIES or call_bytes + size > max_bytes):
                yield call
                call, call_bytes = [], 0
            call.append(event)
            call_bytes += size
        yield call
