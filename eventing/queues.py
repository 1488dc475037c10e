"""Queues: whose event is next, found without reading what waits behind it.

A queue is what one tenant has ready for one bus in one lane: its new events, its feedback or its replays. An index
holds the ready events queue by queue, each in order. A round walks from the head of one queue to the head of the next
and takes a few events of each, so its cost depends on how many it takes, and not on how many wait. A bus that is paused
is stepped over as a whole.

Ready is what was never tried, or has become due again. What waits for a time is in an index by that time, where nobody
reads it before; an event that is found behind one of its stream that waits is given that one's time (`step_aside`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import OuterRef, Q, Subquery

from eventing.models import OutboxEvent, OutboxStatus, QueueKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from django.db.models import QuerySet

# How many times more events are looked at than taken: some queues have fewer than their share.
_SPARE = 2


class Queue(NamedTuple):
    """Where a queue is in the order in which they are walked."""

    lane: int
    bus_arn: str
    tenant_id: int
    kind: int


class _Candidate(NamedTuple):
    # As the database gives it: SQLite knows no UUIDs.
    id: UUID | str
    tenant_id: int
    kind: int
    # Its place in its queue.
    rank: int
    # Whether an earlier event of its stream waits for a time.
    is_behind: bool


# Where the next walk of a lane goes on, if there were more queues than one round could take from. Of this process
# only: that is enough for each queue to have its turn, and it is no loss when it is forgotten.
_places: dict[int, Queue] = {}

# Each step is two probes of an index. SQLite has no LATERAL, so a step can find one value: the id.
_WALK = """
WITH RECURSIVE
place (lane, bus_arn, tenant_id, kind) AS (VALUES {places}),
paused (arn) AS (SELECT arn FROM eventing_eventbus WHERE paused_until > %s),
head (id, found) AS (
    SELECT (
        SELECT next.id FROM eventing_outboxevent AS next
        WHERE {next_is_ready} AND next.lane = place.lane
            AND (next.bus_arn, next.tenant_id, {next_kind}) > (place.bus_arn, place.tenant_id, place.kind)
        ORDER BY next.bus_arn, next.tenant_id, {next_kind} LIMIT 1
    ), 0
    FROM place
    UNION ALL
    SELECT (
        SELECT next.id FROM eventing_outboxevent AS next
        WHERE {next_is_ready} AND next.lane = this.lane
            AND (next.bus_arn, next.tenant_id, {next_kind})
                > (this.bus_arn, CASE WHEN arn IS NULL THEN this.tenant_id ELSE {past_all} END, {this_kind})
        ORDER BY next.bus_arn, next.tenant_id, {next_kind} LIMIT 1
    ), found + CASE WHEN arn IS NULL THEN 1 ELSE 0 END
    FROM head JOIN eventing_outboxevent AS this ON this.id = head.id LEFT JOIN paused ON arn = this.bus_arn
    WHERE found + CASE WHEN arn IS NULL THEN 1 ELSE 0 END < {at_most}
)
SELECT this.lane, this.bus_arn, this.tenant_id, {this_kind}
FROM head JOIN eventing_outboxevent AS this ON this.id = head.id LEFT JOIN paused ON arn = this.bus_arn
WHERE arn IS NULL
"""

_FIRST_OF_QUEUE = """
SELECT this.id, this.tenant_id, {kind}, ROW_NUMBER() OVER (ORDER BY this.sequence, this.place), EXISTS (
    SELECT 1 FROM eventing_outboxevent AS earlier
    WHERE earlier.status = 'pending' AND earlier.next_attempt_at IS NOT NULL AND earlier.sequence IS NOT NULL
        AND earlier.stream = this.stream AND (earlier.sequence, earlier.place) < (this.sequence, this.place)
)
FROM eventing_outboxevent AS this
WHERE {is_ready} AND this.lane = %(lane)s AND this.bus_arn = %(bus_arn)s AND this.tenant_id = %(tenant_id)s
    AND {kind} = %(kind)s
ORDER BY this.sequence, this.place LIMIT {at_most}
"""

_DUE_IN_LANE = """
SELECT id FROM eventing_outboxevent
WHERE status = 'pending' AND lane >= 0 AND lane = %(lane)s AND next_attempt_at <= %(at)s
ORDER BY next_attempt_at, sequence, place LIMIT {at_most}
"""

_OF_EACH = "SELECT found.* FROM (VALUES {keys}) AS key ({names}) CROSS JOIN LATERAL ({select}) AS found"


def due(at: datetime) -> QuerySet[OutboxEvent]:
    """The events that waited for a time which has come."""
    return OutboxEvent.objects.filter(status=OutboxStatus.PENDING, lane__gte=0, next_attempt_at__lte=at).order_by()


def ready_lanes(lane_ids: Iterable[int], *, at: datetime) -> set[int]:
    """Those of these lanes in which there is a queue whose bus is not paused."""
    return {queue.lane for queue in _walk([_first(lane) for lane in lane_ids], at_most=1, at=at)}


def make_ready(lane_ids: Collection[int], *, at_most: int, at: datetime) -> None:
    """Put events of these lanes whose time has come back into their queues, what has been due for longest first."""
    # As text where the database keeps times as text.
    moment = connection.ops.adapt_datetimefield_value(at)
    keys = [{"lane": lane, "at": moment} for lane in lane_ids]
    if ids := [row[0] for row in _of_each(keys, _DUE_IN_LANE.format(at_most=at_most))]:
        due(at).filter(pk__in=ids).update(next_attempt_at=None)


def next_events(lane_ids: Collection[int], *, at_most: int, at: datetime) -> list[UUID]:
    """The next events of these lanes, each queue's in order, the tenants taking turns, what is replayed coming last."""
    queues = _next_queues(lane_ids, at_most=max(1, at_most // max(1, len(lane_ids))), at=at)
    if not queues:
        return []
    select = _FIRST_OF_QUEUE.format(
        kind=_kind_of("this"), is_ready=_is_ready("this"), at_most=-(-_SPARE * at_most // len(queues))
    )
    found = [_Candidate(*row) for row in _of_each([queue._asdict() for queue in queues], select)]
    _step_aside([one.id for one in found if one.is_behind])
    return _in_turns([one for one in found if not one.is_behind])[:at_most]


def _next_queues(lane_ids: Collection[int], *, at_most: int, at: datetime) -> list[Queue]:
    """As many queues of each lane, from where the last walk ended; from the lane's first after its last."""
    places = [_places.pop(lane, _first(lane)) for lane in lane_ids]
    queues = _walk(places, at_most=at_most, at=at)
    if not queues and places != [_first(lane) for lane in lane_ids]:
        return _next_queues(lane_ids, at_most=at_most, at=at)
    by_lane: dict[int, list[Queue]] = {}
    for queue in queues:
        by_lane.setdefault(queue.lane, []).append(queue)
    _places.update({lane: max(found) for lane, found in by_lane.items() if len(found) == at_most})
    return queues


def _first(lane: int) -> Queue:
    """A place before every queue of the lane."""
    return Queue(lane, "", 0, QueueKind.NEW)


def _in_turns(found: Iterable[_Candidate]) -> list[UUID]:
    """Each tenant's first, then each one's second, and so on. A tenant's queues take turns too, the oldest first."""
    turns: dict[int, int] = {}
    ordered: list[tuple[int, int, Any]] = []
    for one in sorted(found, key=lambda one: (one.kind == QueueKind.REPLAYED, one.rank, str(one.id))):
        turn = turns[one.tenant_id] = turns.get(one.tenant_id, 0) + 1
        ordered.append((turn, one.tenant_id, one.id))
    return [UUID(str(event_id)) for _, _, event_id in sorted(ordered)]


def _step_aside(ids: Sequence[UUID | str]) -> None:
    """Let events that wait behind another of their stream wait for its time, out of the way of all others.

    This decides nothing: it only spares looking at them. If the other has gone meanwhile, they stay ready.
    """
    if not ids:
        return
    waiting = OutboxEvent.objects.filter(
        status=OutboxStatus.PENDING, next_attempt_at__isnull=False, sequence__isnull=False
    )
    earlier = Q(sequence__lt=OuterRef("sequence")) | Q(sequence=OuterRef("sequence"), place__lt=OuterRef("place"))
    first = waiting.filter(earlier, stream=OuterRef("stream")).order_by("sequence", "place")
    ready = OutboxEvent.objects.filter(pk__in=ids, status=OutboxStatus.PENDING, next_attempt_at=None)
    ready.update(next_attempt_at=Subquery(first.values("next_attempt_at")[:1]))


def _walk(places: Sequence[Queue], *, at_most: int, at: datetime) -> list[Queue]:
    """The queues after these places, that many of each place's lane, without those of paused buses."""
    if not places:
        return []
    walk = _WALK.format(
        places=", ".join(["(%s, %s, %s, %s)"] * len(places)),
        next_is_ready=_is_ready("next"),
        next_kind=_kind_of("next"),
        this_kind=_kind_of("this"),
        past_all=2**63 - 1,
        at_most=at_most,
    )
    with connection.cursor() as cursor:
        moment = connection.ops.adapt_datetimefield_value(at)
        cursor.execute(walk, [*(value for place in places for value in place), moment])
        return [Queue(*row) for row in cursor.fetchall()]


def _of_each(keys: Sequence[Mapping[str, Any]], select: str) -> list[tuple[Any, ...]]:
    """What the query gives for each of these sets of parameters.

    One statement on PostgreSQL. SQLite has no LATERAL, and no way to the server that it would save.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            return [row for key in keys for row in cursor.execute(select, key).fetchall()]
        names = list(keys[0])
        of_each = _OF_EACH.format(
            keys=", ".join([f"({', '.join(['%s'] * len(names))})"] * len(keys)),
            names=", ".join(names),
            select=select % {name: f"key.{name}" for name in names},
        )
        cursor.execute(of_each, [value for key in keys for value in key.values()])
        return list(cursor.fetchall())


def _is_ready(row: str) -> str:
    return f"{row}.status = 'pending' AND {row}.next_attempt_at IS NULL"


def _kind_of(row: str) -> str:
    """As the index has it."""
    return (
        f"(CASE WHEN {row}.replay_id IS NOT NULL THEN {QueueKind.REPLAYED:d}"
        f" WHEN {row}.sequence IS NULL THEN {QueueKind.FEEDBACK:d} ELSE {QueueKind.NEW:d} END)"
    )
