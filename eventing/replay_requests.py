"""Replays that clients ask for: recorded in the request, carried on by the sweep, a slice at a time."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone

from eventing import replays
from eventing.models import Replay

if TYPE_CHECKING:
    from eventing.replays import Selection

SLICE_SECONDS = 5.0
_LEASE = timedelta(seconds=60)


def ask(selection: Selection, *, who: str, why: str) -> Replay:
    """Have the selected events sent once more, soon. One that goes on already, with the same selection, is that one."""
    begun = replays.unfinished(selection)
    if begun is None or begun.per_second is None:
        return replays.begin(selection, who=who, why=why, per_second=settings.BLOCKFORGER_REPLAYS_PER_SECOND)
    return begun


def carry_on(*, seconds: float) -> None:
    """Go on with what was asked for, the replays taking turns, until nothing is left or the time is over."""
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0 and (replay := _leased()):
        replays.carry_on(replay, per_second=replay.per_second or 1, seconds=min(left, SLICE_SECONDS))
        # Not before: whoever carried on at the same time would double the rate.
        Replay.objects.filter(pk=replay.pk).update(leased_until=timezone.now())


def _leased() -> Replay | None:
    """The replay that has waited longest, if there is one that nobody has in hand."""
    now = timezone.now()
    is_free = Q(leased_until=None) | Q(leased_until__lte=now)
    waiting = Replay.objects.filter(is_free, finished_at=None, per_second__isnull=False)
    for replay in waiting.order_by(F("leased_until").asc(nulls_first=True), "pk")[:10]:
        if waiting.filter(pk=replay.pk).update(leased_until=now + _LEASE):
            return replay
    return None
