"""Lanes: how publishers share the outbox without ever holding the same event.

An event belongs to a lane by its stream. A publisher leases lanes, for a time and under a fencing number; all times
are the database's, so that the clocks of the publishers' hosts do not matter.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from eventing import value_rows
from eventing.models import Lane

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.db.models import Expression, QuerySet

LANES = 64
"""How many lanes there are. An event's lane is stored with it: with another number, order would be lost for events
that wait at that moment."""

SHORTEST_LEASE_SECONDS = 25
"""A call may take 13 seconds, and none begins with less than 20 left of the lease."""


_HELD = """
SELECT lane.id FROM eventing_lane AS lane JOIN {given} ON held.id = lane.id AND held.fence = lane.fence
ORDER BY lane.id {lock}
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """Lanes held by one publisher: the fencing number of each, and when the lease ends by its own clock."""

    fences: dict[int, int]
    ends_at: float

    def seconds_left(self) -> float:
        return self.ends_at - time.monotonic()

    def without(self, lanes: Collection[int]) -> Lease:
        """The same lease, but for these lanes."""
        return Lease({lane: fence for lane, fence in self.fences.items() if lane not in lanes}, self.ends_at)


def stream_of(*parts: str) -> int:
    """A number of 64 bits (signed) for what must stay in order. Two streams that share one only wait for each other."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def lane_of(stream: int) -> int:
    return stream % LANES


def of_replays() -> dict[str, Expression]:
    """The stream and lane, as an update's values, of what is replayed: not those of its item's new events.

    Replayed events of one item still share a stream, and keep their order.
    """
    replayed = Q(replay__isnull=False)
    return {
        "stream": Case(When(replayed, then=F("stream")), default=Value(-1) - F("stream")),
        # As lane_of says of that stream.
        "lane": Case(When(replayed, then=F("lane")), default=Value(LANES - 1) - F("lane")),
    }


def create_all(using: str, **_: object) -> None:
    """Make the rows, after each migration and flush of the database."""
    Lane.objects.using(using).bulk_create([Lane(id=number) for number in range(LANES)], ignore_conflicts=True)


def free() -> QuerySet[Lane]:
    """The lanes that nobody holds."""
    return Lane.objects.filter(Q(leased_until=None) | Q(leased_until__lte=Now())).order_by()


def lease(lanes: Collection[int], *, at_most: int, holder: str) -> Lease | None:
    """Lease up to that many of these lanes, what was not held for longest first, or None if none of them is free."""
    started = time.monotonic()
    seconds = settings.BLOCKFORGER_LEASE_SECONDS
    with transaction.atomic():
        skip_locked = connection.features.has_select_for_update_skip_locked
        found = free().filter(pk__in=lanes).select_for_update(skip_locked=skip_locked)
        found = found.order_by(F("leased_until").asc(nulls_first=True))
        fences = {lane.pk: lane.fence + 1 for lane in found[:at_most]}
        Lane.objects.filter(pk__in=fences).update(
            fence=F("fence") + 1, leased_until=Now() + timedelta(seconds=seconds), holder=holder
        )
    return Lease(fences=fences, ends_at=started + seconds) if fences else None


def lock_held(lease: Lease) -> Collection[int]:
    """The lanes that nobody has leased since, locked until the transaction ends."""
    if not lease.fences:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(*held(lease))
        return {lane for (lane,) in cursor.fetchall()}


def held(lease: Lease) -> tuple[str, dict[str, Any]]:
    """The query that finds and locks them, and its parameters. The lease is of one lane at least."""
    given, values = value_rows.table("held", ("id", "fence"), list(lease.fences.items()))
    lock = "FOR UPDATE OF lane" if connection.features.has_select_for_update else ""
    return _HELD.format(given=given, lock=lock), values


def release(lease: Lease) -> None:
    """Give back what is still held."""
    with transaction.atomic():
        Lane.objects.filter(pk__in=lock_held(lease)).update(leased_until=Now(), holder="")
