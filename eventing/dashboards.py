"""What a tenant's dashboard shows: figures of the last day, and of what waits, dies and is spent.

Each figure costs about the same however many rows there are: it is counted within a window of ids, on an index, and
only so far. Ids of the outbox begin with their time; of records, an index by time leads to them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import Count, Min
from django.utils import timezone

from blockforger.backend.models import Origin
from eventing import queues, value_rows
from eventing.lanes import LANES
from eventing.models import EventBus, FeedbackBus, OutboxEvent, OutboxStatus, OutputRule, QueueKind
from eventing.replays import first_id_of
from tenants import spending
from tenants.models import LedgerEntry, TokenAccount

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from django.db.models import QuerySet

    from tenants.models import Tenant

HOURS = 24
MOST = 10_000
"""Up to here it is counted."""
SAMPLE = 1_000
"""Of so many of the newest events the times to the bus are taken."""
PACE_DAYS = 7
_HOUR = timedelta(hours=1)
# By this much the clocks of hosts may differ.
_SLACK = timedelta(hours=1)
_MOST_BUSES = 20

_OUT_BY_HOUR = """
SELECT hour.number, (SELECT count(*) FROM (
    SELECT 1 FROM eventing_outboxevent WHERE tenant_id = %(tenant)s AND id >= hour.low AND id < hour.high
    LIMIT %(most)s) AS counted)
FROM {hours}
"""
# Where an hour's records begin.
_FIRST_RECORD = """
SELECT hour.number, (SELECT id FROM backend_operationrecord
    WHERE origin = 'event' AND received_at >= {moment} ORDER BY received_at LIMIT 1)
FROM {hours}
"""
# How many, and in the five last digits how many of them were refused: each record is looked at once.
_IN_BY_HOUR = """
SELECT hour.number, (
    SELECT count(*) * 100000 + COALESCE(SUM(CASE WHEN counted.status >= 400 THEN 1 ELSE 0 END), 0)
    FROM (SELECT status FROM backend_operationrecord
        WHERE tenant_id = %(tenant)s AND id >= hour.low AND id < hour.high AND origin = %(origin)s
        LIMIT %(most)s) AS counted)
FROM {hours}
"""
# As the index outbox_ready_by_queue has it.
_OLDEST_READY = """
SELECT MIN(first.time) FROM (SELECT (
    SELECT this.time FROM eventing_outboxevent AS this
    WHERE this.status = 'pending' AND this.next_attempt_at IS NULL AND this.lane = queue.lane
        AND this.bus_arn = queue.bus_arn AND this.tenant_id = %(tenant)s
        AND (CASE WHEN this.replay_id IS NOT NULL THEN {replayed} WHEN this.sequence IS NULL THEN {feedback}
            ELSE {new} END) = queue.kind
    ORDER BY this.sequence, this.place, this.id LIMIT 1) AS time
FROM {queues}) AS first
"""


@dataclass(frozen=True, slots=True)
class Hour:
    """What passed within an hour; at most MOST of each is counted."""

    begin: datetime
    out: int
    dead: int
    received: int
    refused: int


@dataclass(frozen=True, slots=True)
class TimesToBus:
    """Seconds from the write to the bus, of the newest events that have arrived."""

    p50: float
    p95: float
    of: int


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits: how much, of that what failed before, and since when the oldest does."""

    depth: int
    retried: int
    oldest: datetime | None
    # Buses that the tenant's events are for, and to which nothing is sent now.
    paused: list[EventBus]


@dataclass(frozen=True, slots=True)
class Balance:
    """The tokens, what was spent of them lately, and when they run out at that pace; None if nothing was spent."""

    tokens: int
    spent: int
    days: float
    runs_out: datetime | None


@dataclass(frozen=True, slots=True)
class Dashboard:
    """All figures of a tenant."""

    hours: list[Hour]
    times: TimesToBus | None
    dead: int
    queue: Queue
    balance: Balance


def of(tenant: Tenant, *, at: datetime | None = None) -> Dashboard:
    """The figures of a tenant, at that moment."""
    at = at or timezone.now()
    begins = [at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - _HOUR * n for n in range(HOURS)][::-1]
    out, received = _out(tenant, begins), _received(tenant, begins)
    died = _died(tenant)
    died_by_hour = Counter(moment.replace(minute=0, second=0, microsecond=0) for moment in died if moment)
    hours = [
        Hour(begin, out.get(number, 0), died_by_hour[begin], *received.get(number, (0, 0)))
        for number, begin in enumerate(begins)
    ]
    newest = _newest(tenant, begins[0])
    queue = _queue(tenant, {arn for _, _, arn, _ in newest}, at)
    return Dashboard(hours, _times(newest), len(died), queue, balance_of(tenant, at))


def troubled(tenant: Tenant, status: OutboxStatus) -> QuerySet[OutboxEvent]:
    """A tenant's events that are dead, or that are pending and failed before or wait behind one that did."""
    rows = OutboxEvent.objects.filter(tenant=tenant, status=status)
    if status == OutboxStatus.DEAD:
        return rows
    # As the index outbox_retried_of_a_tenant has it.
    return rows.filter(next_attempt_at__isnull=False, tenant__gte=0)


def balance_of(tenant: Tenant, at: datetime) -> Balance:
    """The balance, and the pace of the last days."""
    tokens = TokenAccount.objects.filter(pk=tenant.pk).values_list("balance", flat=True).first() or 0
    spent = spending.since(at - timedelta(days=PACE_DAYS), account=tenant.pk, balance=tokens).tokens
    oldest = LedgerEntry.objects.filter(account=tenant.pk).order_by("pk").first()
    if oldest is None:
        return Balance(tokens, 0, PACE_DAYS, None)
    # Of an account that is younger, the pace of its own time; but not of minutes.
    days = min(float(PACE_DAYS), max((at - oldest.created_at) / timedelta(days=1), 1 / 24))
    if spent <= 0:
        return Balance(tokens, 0, days, None)
    left = min(tokens / (spent / days), 36_500.0)
    return Balance(tokens, spent, days, at + timedelta(days=left))


def _out(tenant: Tenant, begins: Sequence[datetime]) -> dict[int, int]:
    rows = [(n, str(first_id_of(begin)), str(first_id_of(begin + _HOUR))) for n, begin in enumerate(begins)]
    table, values = value_rows.table("hour", ("number", "low", "high"), rows, ids={"low", "high"})
    with connection.cursor() as cursor:
        cursor.execute(_OUT_BY_HOUR.format(hours=table), {**values, "tenant": tenant.pk, "most": MOST})
        return dict(cursor.fetchall())


def _received(tenant: Tenant, begins: Sequence[datetime]) -> dict[int, tuple[int, int]]:
    moments = [*begins, begins[-1] + _HOUR]
    is_sqlite = connection.vendor == "sqlite"
    # As the column has it: text on SQLite, where a whole second is the first text of those that begin with it.
    texts = [(n, f"{begin:%Y-%m-%d %H:%M:%S}" + ("" if is_sqlite else "+00")) for n, begin in enumerate(moments)]
    table, values = value_rows.table("hour", ("number", "begin"), texts)
    moment = "hour.begin" if is_sqlite else "hour.begin::timestamptz"
    with connection.cursor() as cursor:
        cursor.execute(_FIRST_RECORD.format(hours=table, moment=moment), values)
        firsts = dict(cursor.fetchall())
        ends = [firsts.get(n) or 2**63 - 1 for n in range(len(moments))]
        rows = [(n, low, high) for n, (low, high) in enumerate(itertools.pairwise(ends)) if low < high]
        if not rows:
            return {}
        table, values = value_rows.table("hour", ("number", "low", "high"), rows)
        constants: dict[str, Any] = {"tenant": tenant.pk, "most": MOST, "origin": str(Origin.EVENT)}
        cursor.execute(_IN_BY_HOUR.format(hours=table), {**values, **constants})
        return {number: divmod(both, 100_000) for number, both in cursor.fetchall()}


def _died(tenant: Tenant) -> list[datetime | None]:
    """When the newest dead events died."""
    dead = troubled(tenant, OutboxStatus.DEAD).order_by("-pk")
    return list(dead.values_list("next_attempt_at", flat=True)[:MOST])


def _newest(tenant: Tenant, since: datetime) -> list[tuple[datetime, datetime | None, str, int | None]]:
    rows = OutboxEvent.objects.filter(tenant=tenant, pk__gte=first_id_of(since)).order_by("-pk")
    return list(rows.values_list("time", "delivered_at", "bus_arn", "replay")[:SAMPLE])


def _times(newest: Sequence[tuple[datetime, datetime | None, str, int | None]]) -> TimesToBus | None:
    times = sorted(
        max(0.0, (delivered - time).total_seconds())
        for time, delivered, _, replay in newest
        if delivered is not None and replay is None
    )
    if not times:
        return None
    return TimesToBus(times[(len(times) - 1) // 2], times[min(len(times) - 1, len(times) * 95 // 100)], len(times))


def _queue(tenant: Tenant, seen: Collection[str], at: datetime) -> Queue:
    own = OutputRule.objects.filter(tenant=tenant).order_by().values_list("eventbridge_arn", flat=True)
    feedback = FeedbackBus.objects.filter(tenant=tenant).values_list("eventbridge_arn", flat=True)
    # `union` is that of sets: each bus once.
    arns = sorted({*own.union(feedback), *seen})[:_MOST_BUSES]
    waiting = troubled(tenant, OutboxStatus.PENDING).order_by("pk")[:MOST].aggregate(n=Count("pk"), oldest=Min("time"))
    if not arns:
        return Queue(waiting["n"], waiting["n"], waiting["oldest"], [])
    ready = OutboxEvent.objects.filter(
        status=OutboxStatus.PENDING, next_attempt_at=None, lane__in=range(LANES), bus_arn__in=arns, tenant=tenant
    )
    depth = min(MOST, ready.order_by()[:MOST].count() + waiting["n"])
    oldest = [moment for moment in (waiting["oldest"], _oldest_ready(tenant, arns)) if moment]
    paused = list(EventBus.objects.filter(arn__in=arns, paused_until__gt=at).order_by("arn"))
    return Queue(depth, waiting["n"], min(oldest, default=None), paused)


def _oldest_ready(tenant: Tenant, arns: Sequence[str]) -> datetime | None:
    """Of what is ready, but for replays: they are of old events, and have not waited since then."""
    kinds = (int(QueueKind.NEW), int(QueueKind.FEEDBACK))
    rows = list(itertools.product(range(LANES), arns, kinds))
    table, values = value_rows.table("queue", ("lane", "bus_arn", "kind"), rows)
    named = {"replayed": int(QueueKind.REPLAYED), "feedback": int(QueueKind.FEEDBACK), "new": int(QueueKind.NEW)}
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST_READY.format(queues=table, **named), {**values, "tenant": tenant.pk})
        (oldest,) = cursor.fetchone()
    return queues.moment_of(oldest)
