"""Replays: delivered and dead events made pending again, at a bounded rate, and recorded with who and why."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.db import transaction
from django.db.models import Count, F, Q
from django.utils import timezone

from eventing import lanes, nudges
from eventing.models import OutboxEvent, OutboxStatus, Replay
from tenants.models import Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import QuerySet

    from blockforger.backend.json_values import JsonObject

REPLAYABLE = (OutboxStatus.DELIVERED, OutboxStatus.DEAD)
MAX_PER_SECOND = 10_000

_BATCH = 100
# An event gets its id when its write is carried out; by this much the clock may have been set back in between.
CLOCK_CHANGE = timedelta(hours=1)


class Scope(Enum):
    """What an operator may name in place of a tenant. Nothing else, None least of all, means every tenant."""

    EVERY_TENANT = "every tenant"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events: those that pass every filter given, of one tenant or, for operators only, of every tenant."""

    tenant: Tenant | Scope
    ids: tuple[UUID, ...] = ()
    # Name of the schema, and key.
    item: tuple[str, str] | None = None
    schema: str | None = None
    rule: int | None = None
    bus: str | None = None
    status: OutboxStatus | None = None
    # By the time of the write: from `since` on, and before `until`.
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_everything(self) -> bool:
        """Whether there is no filter but the tenant."""
        return not self.as_json()

    def as_json(self) -> JsonObject:
        """The filters; the tenant has its own column."""
        filters: JsonObject = {
            "ids": [str(pk) for pk in self.ids] or None,
            "item": list(self.item) if self.item else None,
            "schema": self.schema,
            "rule": self.rule,
            "bus": self.bus,
            "status": str(self.status) if self.status else None,
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
        }
        return {name: value for name, value in filters.items() if value is not None}


def selection_of(replay: Replay) -> Selection:
    """What that replay replays."""
    filters = cast("dict[str, Any]", replay.selection)
    item, status = filters.get("item"), filters.get("status")
    since, until = filters.get("since"), filters.get("until")
    return Selection(
        tenant=replay.tenant or Scope.EVERY_TENANT,
        ids=tuple(map(UUID, filters.get("ids", ()))),
        item=(item[0], item[1]) if item else None,
        schema=filters.get("schema"),
        rule=filters.get("rule"),
        bus=filters.get("bus"),
        status=OutboxStatus(status) if status else None,
        since=datetime.fromisoformat(since) if since else None,
        until=datetime.fromisoformat(until) if until else None,
    )


@dataclass(frozen=True, slots=True)
class Counts:
    """How many selected events were delivered or are dead, and how many match but are pending and left alone."""

    delivered: int = 0
    dead: int = 0
    pending: int = 0

    @property
    def replayable(self) -> int:
        return self.delivered + self.dead


def count(selection: Selection) -> Counts:
    """How many events a replay of the selection would replay now."""
    rows = matching(selection).order_by().values_list("status").annotate(Count("pk"))
    counts = {status: number for status, number in rows if status not in REPLAYABLE or status in _statuses(selection)}
    return Counts(**counts)


def unfinished(selection: Selection) -> Replay | None:
    """The last replay of the same selection, if it was not finished: it should be carried on, and none begun."""
    tenant = selection.tenant if isinstance(selection.tenant, Tenant) else None
    same = Replay.objects.filter(tenant=tenant) if tenant else Replay.objects.filter(tenant__isnull=True)
    last = same.filter(selection=selection.as_json()).first()
    return last if last and last.finished_at is None else None


def replay(selection: Selection, *, who: str, why: str, per_second: int) -> Replay:
    """Have the selected events sent once more. Returns when the last of them is pending: that may take long."""
    begun = begin(selection, who=who, why=why)
    carry_on(begun, per_second=per_second)
    return begun


def begin(selection: Selection, *, who: str, why: str, per_second: int | None = None) -> Replay:
    """Record a replay of what the selection selects by now. Nothing is sent until it is carried on.

    With a rate, the sweep carries it on; without one the caller does.
    """
    tenant = selection.tenant if isinstance(selection.tenant, Tenant) else None
    return Replay.objects.create(tenant=tenant, who=who, why=why, selection=selection.as_json(), per_second=per_second)


def carry_on(
    replay: Replay, *, per_second: int, seconds: float = float("inf"), stopping: threading.Event | None = None
) -> None:
    """Make what is left of a replay pending, no more events a second than that, until all is done, or it is stopped.

    It can be killed and called again, at any time: no event becomes pending twice by one replay. `finished_at` and
    `events` of the replay tell how far it came.
    """
    size, interval = pace(per_second)
    stopping = stopping or threading.Event()
    ends_at = time.monotonic() + seconds
    last = UUID(int=0)
    while time.monotonic() < ends_at and not stopping.is_set():
        next_batch_at = time.monotonic() + interval
        batch = list(_left(replay).filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:size])
        if batch:
            last = batch[-1]
            _make_pending(replay, batch)
        if len(batch) < size:
            Replay.objects.filter(pk=replay.pk, finished_at=None).update(finished_at=timezone.now())
            break
        stopping.wait(max(0.0, next_batch_at - time.monotonic()))
    replay.refresh_from_db()


def pace(per_second: int) -> tuple[int, float]:
    """How many events make a batch, and the seconds from one to the next, so that no second has more than allowed."""
    if not 1 <= per_second <= MAX_PER_SECOND:
        raise ValueError(f"Replay at least 1 and at most {MAX_PER_SECOND} events a second.")
    batches_a_second = -(-per_second // _BATCH)
    return per_second // batches_a_second, 1 / batches_a_second


def _make_pending(replay: Replay, ids: Sequence[UUID]) -> None:
    with transaction.atomic(durable=True):
        # Asked again: another replay may have been faster.
        changed = (
            _left(replay)
            .filter(pk__in=ids)
            .update(
                **lanes.of_replays(),
                replay=replay,
                status=OutboxStatus.PENDING,
                next_attempt_at=None,
                attempts=0,
                failing_since=None,
                error_code="",
                error_message="",
            )
        )
        Replay.objects.filter(pk=replay.pk).update(events=F("events") + changed)
        transaction.on_commit(nudges.nudge)


def _left(replay: Replay) -> QuerySet[OutboxEvent]:
    """What the replay has still to do. What is delivered while it runs is none of it: it would never end."""
    selection, begun = selection_of(replay), replay.created_at
    settled_before = Q(status=OutboxStatus.DEAD) | Q(status=OutboxStatus.DELIVERED, delivered_at__lte=begun)
    return (
        matching(selection)
        .filter(settled_before, status__in=_statuses(selection), time__lte=begun)
        .exclude(replay=replay)
    )


def _statuses(selection: Selection) -> tuple[OutboxStatus, ...]:
    return tuple(status for status in REPLAYABLE if selection.status in (None, status))


def matching(selection: Selection, events: QuerySet[OutboxEvent] | None = None) -> QuerySet[OutboxEvent]:
    """The events, of those or of all, that pass every filter but the one of status."""
    if events is None:
        events = OutboxEvent.objects.all()
    if selection.tenant is not Scope.EVERY_TENANT:
        events = events.filter(tenant=selection.tenant)
    schema_name, item_key = selection.item or (selection.schema, None)
    filters = {
        "pk__in": selection.ids or None,
        "schema_name": schema_name,
        "item_key": item_key,
        "rule_id": selection.rule,
        "bus_arn": selection.bus,
        "time__gte": selection.since,
        # Ids begin with their time, and an index has them: without this, the whole history would be read.
        "pk__gte": selection.since and first_id_of(selection.since - CLOCK_CHANGE),
        "time__lt": selection.until,
    }
    return events.filter(**{name: value for name, value in filters.items() if value is not None})


def first_id_of(moment: datetime) -> UUID:
    """The lowest UUIDv7 of that millisecond."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def moment_of(event_id: UUID) -> datetime:
    """The millisecond in which that id was made."""
    return datetime.fromtimestamp((event_id.int >> 80) / 1000, tz=UTC)
