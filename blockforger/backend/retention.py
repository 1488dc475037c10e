"""How long rows are kept, and how those that are old enough leave: the oldest first, few at a time.

Nobody waits for it and it waits for nobody. A batch is a transaction of its own, of milliseconds. It locks only rows
that are past their time, which no operation has in hand, and leaves those that somebody has locked after all for the
next run. Deleting rows to which nothing refers locks no other row and keeps no insert waiting.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from blockforger.backend.models import OperationRecord, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.db.models import QuerySet

REST_RECORDS_KEPT_FOR = timedelta(hours=24)
"""How long a request with an `Idempotency-Key` can be repeated."""

SHORTEST_DAYS_OF_EVENT_RECORDS = 15
"""An event can come again as long as a copy of it lives: EventBridge tries for a day, SQS keeps for 14. Then an event
that comes again must still be known, or it is carried out and billed twice."""


@dataclass(frozen=True, slots=True)
class Expired:
    """Rows that may go, under the name that people know them by."""

    name: str
    rows: QuerySet[Any]
    # The indexed column that leads to them without passing many others; it grows with age.
    by: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rows go at a time, how long writers then have for themselves, and when to stop."""

    batch: int = 1000
    pause: float = 0.05
    ends_at: float = float("inf")  # by time.monotonic()


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows went, by name, and whether none was left that could go."""

    deleted: dict[str, int]
    finished: bool


def kept_for(setting: str, *, at_least: int = 1) -> timedelta:
    """The days that a setting names. Raises ImproperlyConfigured if there are fewer of them than is safe."""
    days: int = getattr(settings, setting)
    if days < at_least:
        raise ImproperlyConfigured(f"{setting} is {days}; it must be {at_least} or more days.")
    return timedelta(days=days)


def event_records_kept_for() -> timedelta:
    """How long an event that comes again is known. Raises ImproperlyConfigured if that is too short to be safe."""
    return kept_for("BLOCKFORGER_KEEP_EVENT_RECORDS_DAYS", at_least=SHORTEST_DAYS_OF_EVENT_RECORDS)


def expired_records() -> list[Expired]:
    """The records of operations that may be forgotten."""
    return [
        _records_of(Origin.EVENT, "records of events", event_records_kept_for()),
        _records_of(Origin.API, "records of REST requests", REST_RECORDS_KEPT_FOR),
    ]


def prune(kinds: Sequence[Expired], pace: Pace) -> Pruned:
    """Delete what has expired, a batch of each kind in turn, so that a flood of one does not keep the others."""
    deleted = {kind.name: 0 for kind in kinds}
    waiting = deque((kind, _batches(kind, pace.batch)) for kind in kinds)
    while waiting and time.monotonic() < pace.ends_at:
        kind, batches = waiting.popleft()
        count = next(batches)
        deleted[kind.name] += count
        if count == pace.batch:
            waiting.append((kind, batches))
            time.sleep(pace.pause)
    return Pruned(deleted=deleted, finished=not waiting)


def _records_of(origin: Origin, name: str, kept_for: timedelta) -> Expired:
    rows = OperationRecord.objects.filter(origin=origin, received_at__lt=timezone.now() - kept_for)
    return Expired(name=name, rows=rows, by="received_at")


def _batches(kind: Expired, size: int) -> Iterator[int]:
    """Delete batch after batch. Each goes on where the last one ended: PostgreSQL still has the dead rows before."""
    rows = kind.rows
    while True:
        with transaction.atomic(durable=True):
            found = rows.order_by(kind.by).select_for_update(skip_locked=True).values_list("pk", kind.by)[:size]
            batch = list(found)
            if batch:
                rows.model._default_manager.filter(pk__in=[pk for pk, _ in batch]).delete()  # noqa: SLF001
                rows = kind.rows.filter(**{f"{kind.by}__gte": batch[-1][1]})
        yield len(batch)
