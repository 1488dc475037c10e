"""What a replay would do, before it is asked for: in words, and in a number that costs no more than a glance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Count

from eventing import event_sources
from eventing.models import OutboxStatus
from eventing.replays import Scope

if TYPE_CHECKING:
    from eventing.replays import Selection

LOOK = 20_000
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Preview:
    """How many of the selected events were delivered, are dead, or wait and are left alone."""

    delivered: int
    dead: int
    pending: int
    # Whether nothing was left out. Else the number is that of the newest events alone.
    is_all: bool

    @property
    def replayable(self) -> int:
        return self.delivered + self.dead


def of(selection: Selection) -> Preview:
    """Counted among no more than LOOK events: to count ten million would take as long as to replay them."""
    counts: Counter[str] = Counter()
    is_all = True
    for source in event_sources.of_sent(selection):
        found = source.found.select_related(None).order_by()
        keys = source.keys(None, at_most=LOOK, up=False)
        is_all = is_all and len(keys) < LOOK
        for start in range(0, len(keys), _AT_ONCE):
            rows = found.filter(pk__in=keys[start : start + _AT_ONCE])
            counts.update(dict(rows.values_list("status").annotate(Count("pk"))))
    return Preview(
        delivered=counts[OutboxStatus.DELIVERED],
        dead=counts[OutboxStatus.DEAD],
        pending=counts[OutboxStatus.PENDING],
        is_all=is_all,
    )


def described(selection: Selection) -> str:
    """The selection in words, to follow "Selected: "."""
    whose = "every tenant" if isinstance(selection.tenant, Scope) else f"tenant {selection.tenant}"
    ids = ", ".join(map(str, selection.ids))
    parts = {
        f"with {'the id' if len(selection.ids) == 1 else 'one of the ids'} {ids}": selection.ids,
        f"of item {'/'.join(selection.item or ())}": selection.item,
        f"of schema {selection.schema}": selection.schema,
        f"of rule {selection.rule}": selection.rule is not None,
        f"for {selection.bus}": selection.bus,
        f"that are {selection.status}": selection.status,
        f"since {selection.since and selection.since.isoformat()}": selection.since,
        f"until {selection.until and selection.until.isoformat()}": selection.until,
    }
    return ", ".join([f"events of {whose}", *(words for words, is_meant in parts.items() if is_meant)])
