"""Queues: whose event is next, found without reading what waits behind it.

A queue is what one tenant has ready for one bus in one lane: its new events, its feedback or its replays. An index
holds the ready events queue by queue, each in order. A round walks from the head of one queue to the head of the next
and takes a few events of each, so its cost depends on how many it takes, and not on how many wait. A bus that is paused
is stepped over as a whole.

Ready is what was never tried, or has become due again. What waits for a time is in an index by that time, where nobody
reads it before; an event that is found behind one of its stream that waits is given that one's time (`step_aside`).
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import OuterRef, Q, Subquery

from eventing import value_rows
from eventing.entries import Ready
from eventing.models import OutboxEvent, OutboxStatus, QueueKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from django.db.models import QuerySet


def _as_indexed(select: str) -> str:
    """The query, with what it shares with the index filled in."""
    kind = (
        f"(CASE WHEN this.replay_id IS NOT NULL THEN {QueueKind.REPLAYED:d}"
        f" WHEN this.sequence IS NULL THEN {QueueKind.FEEDBACK:d} ELSE {QueueKind.NEW:d} END)"
    )
    return select.format(is_ready="this.status = 'pending' AND this.next_attempt_at IS NULL", kind=kind)


_PAST_ALL = 2**63 - 1
# How many events a queue gives in its turn, if it has them: to find a queue takes as long as to read an event.
_LEAST_SHARE = 2
# How many events of a queue are looked at whose first ones are all behind another, and of how many such queues.
_FURTHER, _STUCK_AT_ONCE = 2000, 4


class Queue(NamedTuple):
    """Where a queue is in the order in which they are walked."""

    lane: int
    bus_arn: str
    tenant_id: int
    kind: int


class _Candidate(NamedTuple):
    id: str
    queue: Queue
    # Its place in its queue.
    rank: int
    # Whether an earlier event of its stream waits for a time.
    is_behind: bool


# Where the next walk of a lane goes on, if there were more queues than one round could take from. Of this process
# only: that is enough for each queue to have its turn, and it is no loss when it is forgotten.
_places: dict[int, Queue] = {}

# Parameters of a statement that is carried out for each of many rows are written as for Python's %, with a dict.
_NEXT_QUEUE = _as_indexed("""
SELECT this.lane, this.bus_arn, this.tenant_id, {kind} AS kind, EXISTS (
    SELECT 1 FROM eventing_eventbus WHERE arn = this.bus_arn AND paused_until > %(at)s
) AS is_paused
FROM eventing_outboxevent AS this
WHERE {is_ready} AND this.lane = %(lane)s
    AND (this.bus_arn, this.tenant_id, {kind}) > (%(bus_arn)s, %(tenant_id)s, %(kind)s)
ORDER BY this.bus_arn, this.tenant_id, kind LIMIT 1
""")
_WALK = """
WITH RECURSIVE head AS (
    SELECT found.*, 1 AS step FROM {places} CROSS JOIN LATERAL ({next_queue}) AS found
    UNION ALL
    SELECT found.*, key.step
    FROM (
        SELECT lane, bus_arn, CASE WHEN is_paused THEN %(past_all)s ELSE tenant_id END AS tenant_id, kind,
            CASE WHEN is_paused THEN step ELSE step + 1 END AS step
        FROM head
    ) AS key CROSS JOIN LATERAL ({next_queue}) AS found
    WHERE key.step <= %(at_most)s
)
SELECT lane, bus_arn, tenant_id, kind FROM head WHERE NOT is_paused
"""
_FIRST_OF_QUEUE = _as_indexed("""
SELECT CAST(this.id AS text), this.lane, this.bus_arn, this.tenant_id, {kind},
    ROW_NUMBER() OVER (ORDER BY this.sequence, this.place, this.id), EXISTS (
    SELECT 1 FROM eventing_outboxevent AS earlier
    WHERE earlier.status = 'pending' AND earlier.next_attempt_at IS NOT NULL AND earlier.sequence IS NOT NULL
        AND earlier.stream = this.stream AND (earlier.sequence, earlier.place) < (this.sequence, this.place)
)
FROM eventing_outboxevent AS this
WHERE {is_ready} AND this.lane = %(lane)s AND this.bus_arn = %(bus_arn)s AND this.tenant_id = %(tenant_id)s
    AND {kind} = %(kind)s
ORDER BY this.sequence, this.place, this.id LIMIT %(at_most)s
""")
_TIME_OF_FIRST = _as_indexed("""
SELECT this.tenant_id, this.time
FROM eventing_outboxevent AS this
WHERE {is_ready} AND this.lane = %(lane)s AND this.bus_arn = %(bus_arn)s AND this.tenant_id = %(tenant_id)s
    AND {kind} = %(kind)s
ORDER BY this.sequence, this.place, this.id LIMIT 1
""")
_DUE_IN_LANE = """
SELECT id FROM eventing_outboxevent
WHERE status = 'pending' AND lane >= 0 AND lane = %(lane)s AND next_attempt_at <= %(at)s
ORDER BY next_attempt_at, sequence, place LIMIT %(at_most)s
"""
# In whole seconds: what is sent has no more. And the bytes of what is sent.
_COMPUTED = {
    "postgresql": {"seconds": "floor(extract(epoch FROM this.time))::bigint", "bytes": "octet_length(this.detail)"},
    "sqlite": {
        "seconds": "CAST(strftime('%%s', this.time) AS integer)",
        "bytes": "length(CAST(this.detail AS blob))",
    },
}
_READ = """
SELECT CAST(id AS text), tenant_id, lane, stream, bus_arn, source, detail_type, detail, item_urn, sequence, seconds
FROM (
    SELECT this.*, chosen.rank, {seconds} AS seconds, SUM({bytes}) OVER (ORDER BY chosen.rank) AS bytes
    FROM eventing_outboxevent AS this JOIN {chosen} ON this.id = chosen.id
) AS counted
WHERE rank = 0 OR bytes <= %(at_most_bytes)s
ORDER BY rank
"""
_OF_EACH = "SELECT found.* FROM {keys} CROSS JOIN LATERAL ({select}) AS found"


@contextmanager
def in_index_order() -> Iterator[None]:
    """Have PostgreSQL read as the indexes are ordered, however little its statistics say that there is to sort.

    They know nothing of a flood that has just begun, and then all of it would be read and sorted.
    """
    if connection.vendor == "sqlite":
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_sort = off")
        yield


def due(at: datetime) -> QuerySet[OutboxEvent]:
    """The events that waited for a time which has come."""
    return OutboxEvent.objects.filter(status=OutboxStatus.PENDING, lane__gte=0, next_attempt_at__lte=at).order_by()


def ready_lanes(lane_ids: Iterable[int], *, at: datetime) -> set[int]:
    """Those of these lanes in which there is a queue whose bus is not paused."""
    return {queue.lane for queue in _walk([_first(lane) for lane in lane_ids], at_most=1, at=at)}


def make_ready(lane_ids: Collection[int], *, at_most: int, at: datetime) -> None:
    """Put events of these lanes whose time has come back into their queues, what has been due for longest first."""
    keys = [(lane,) for lane in lane_ids]
    if found := _of_each(("lane",), keys, _DUE_IN_LANE, at=_moment(at), at_most=at_most):
        due(at).filter(pk__in=[event_id for (event_id,) in found]).update(next_attempt_at=None)


def next_events(lane_ids: Collection[int], *, at_most: int, at: datetime) -> list[str]:
    """The next events of these lanes, each queue's in order, the tenants taking turns, what is replayed coming last."""
    of_a_lane = at_most // (_LEAST_SHARE * max(1, len(lane_ids)))
    queues = _next_queues(lane_ids, at_most=max(1, of_a_lane), at=at)
    if not queues:
        return []
    found = _shares(queues, at_most)
    if stuck := _stuck(found):
        # Their next events lie behind the backlog of an item that waits.
        found = [one for one in found if one.queue not in stuck] + _firsts(stuck, at_most=_FURTHER)
    return _in_turns(found)[:at_most]


def heads(lane_ids: Iterable[int], *, at_most: int, at: datetime) -> list[tuple[int, datetime]]:
    """Tenant and time of the first event of that many queues of each lane, but for those of paused buses and replays.

    For those who look on: it changes nothing.
    """
    found = _walk([_first(lane) for lane in lane_ids], at_most=at_most, at=at)
    walked = [queue for queue in found if queue.kind != QueueKind.REPLAYED]
    if not walked:
        return []
    rows = _of_each(Queue._fields, walked, _TIME_OF_FIRST)
    return [(tenant, moment) for tenant, time in rows if (moment := moment_of(time))]


def read(ids: Sequence[str], *, at_most_bytes: int) -> list[Ready]:
    """What these events send, in the order of the ids, without those that are gone.

    The first of them, that is, whose details have so many bytes together; at least one.
    """
    if not ids:
        return []
    ranked = [(event_id, rank) for rank, event_id in enumerate(ids)]
    chosen, values = value_rows.table("chosen", ("id", "rank"), ranked, ids={"id"})
    with connection.cursor() as cursor:
        statement = _READ.format(chosen=chosen, **_COMPUTED[connection.vendor])
        cursor.execute(statement, {**values, "at_most_bytes": at_most_bytes})
        return [Ready(*columns) for columns in _with_ids(cursor.fetchall())]


def _with_ids(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
    """SQLite keeps ids without hyphens."""
    if connection.vendor == "sqlite":
        return ((str(UUID(event_id)), *columns) for event_id, *columns in rows)
    return rows


def _shares(queues: Sequence[Queue], at_most: int) -> list[_Candidate]:
    """The first events of each queue: its share of that many.

    Replays, which come last with their tenant, have the share that they would have with all others; these have theirs
    as if there were no replays, so that none that comes last has a place which another could have taken.
    """
    replayed = [queue for queue in queues if queue.kind == QueueKind.REPLAYED]
    others = [queue for queue in queues if queue.kind != QueueKind.REPLAYED]
    found: list[_Candidate] = []
    for part, sharing in ((others, others), (replayed, queues)):
        if part:
            found += _firsts(part, at_most=max(_LEAST_SHARE, -(-at_most // len(sharing))))
    return found


def _firsts(queues: Sequence[Queue], *, at_most: int) -> list[_Candidate]:
    """The first events of each queue, that many at the most. Those that are behind another step aside, after this."""
    rows = _of_each(Queue._fields, queues, _FIRST_OF_QUEUE, at_most=at_most)
    found = [_Candidate(event_id, Queue(*queue), rank, is_behind) for event_id, *queue, rank, is_behind in rows]
    _step_aside([one.id for one in found if one.is_behind])
    return found


def _stuck(found: Iterable[_Candidate]) -> list[Queue]:
    """Queues of which all events that were looked at are behind others."""
    going = {one.queue for one in found if not one.is_behind}
    return sorted({one.queue for one in found} - going)[:_STUCK_AT_ONCE]


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
    return Queue(lane, "", 0, 0)


def _in_turns(found: Iterable[_Candidate]) -> list[str]:
    """Of those that may go, each tenant's first, then each one's second, and so on; its queues take turns too."""
    turns: dict[int, int] = {}
    ordered: list[tuple[int, int, str]] = []
    going = [one for one in found if not one.is_behind]
    for one in sorted(going, key=lambda one: (one.queue.kind == QueueKind.REPLAYED, one.rank, one.id)):
        tenant = one.queue.tenant_id
        turn = turns[tenant] = turns.get(tenant, 0) + 1
        ordered.append((turn, tenant, one.id))
    return [event_id for _, _, event_id in sorted(ordered)]


def _step_aside(ids: Sequence[str]) -> None:
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
    if connection.vendor == "sqlite":
        return [queue for place in places for queue in islice(_walk_lane(place, at), at_most)]
    table, values = value_rows.table("key", Queue._fields, places)
    constants: dict[str, Any] = {"at": at, "at_most": at_most, "past_all": _PAST_ALL}
    walk = _WALK.format(places=table, next_queue=_of_key(_NEXT_QUEUE, Queue._fields, constants))
    with connection.cursor() as cursor:
        cursor.execute(walk, {**values, **constants})
        return [Queue(*row) for row in cursor.fetchall()]


def _walk_lane(place: Queue, at: datetime) -> Iterator[Queue]:
    """What _WALK does, step by step, where that costs no way to a server."""
    while rows := _of_each(Queue._fields, [place], _NEXT_QUEUE, at=_moment(at)):
        *queue, is_paused = rows[0]
        place = Queue(*queue)
        if is_paused:
            place = place._replace(tenant_id=_PAST_ALL)
        else:
            yield place


def _of_each(
    columns: Sequence[str], rows: Sequence[tuple[Any, ...]], select: str, **constants: Any
) -> list[tuple[Any, ...]]:
    """What the query gives for each of these rows of parameters.

    One statement on PostgreSQL. SQLite has no LATERAL, and no way to a server that it would save.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            keys = ({**dict(zip(columns, row, strict=True)), **constants} for row in rows)
            return [row for key in keys for row in cursor.execute(select, key).fetchall()]
        table, values = value_rows.table("key", columns, rows)
        of_each = _OF_EACH.format(keys=table, select=_of_key(select, columns, constants))
        cursor.execute(of_each, {**values, **constants})
        return list(cursor.fetchall())


def _of_key(select: str, columns: Iterable[str], constants: Iterable[str]) -> str:
    """The query with the columns of `key` in the places of its parameters, but for what is the same for all."""
    places = {column: f"key.{column}" for column in columns} | {name: f"%({name})s" for name in constants}
    return select % places


def moment_of(time: datetime | str | None) -> datetime | None:
    """A time that a statement of ours gave: a text, or one without a zone, on SQLite."""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _moment(at: datetime) -> Any:
    """As text on SQLite, which keeps times as text."""
    return connection.ops.adapt_datetimefield_value(at)
