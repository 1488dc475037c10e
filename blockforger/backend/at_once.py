"""Operations that can be settled in one statement: alone, or together with those that other threads have ready.

Only PostgreSQL has such statements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blockforger.backend import deeds, settlements
from blockforger.backend.deeds import Crowded, Deed, Undone
from blockforger.backend.group_commit import GroupCommit
from blockforger.backend.items import Place, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.models import Item


class Ready(NamedTuple):
    """An operation that is not undone for want of anything that could be known before: a write, or a read."""

    deed: Deed
    # What the write makes of its item, and nothing for a read.
    plan: Plan
    # Where the item is that a read is for.
    read: Place | None = None

    @property
    def is_small(self) -> bool:
        """Whether others need not wait for it for its size."""
        (request,) = self.deed.admission.requests
        return bool(self.read or request.text)


class Settled(NamedTuple):
    """What the account held then, and the item that was read."""

    balance: int
    read: Item | None


def settle(ready: Ready) -> Settled | None:
    """Settle it in a transaction that is done when this returns. None: nothing was done.

    That is so if anything is not as it was thought to be: it has then to be looked at under locks.
    """
    if not ready.is_small:
        settled = _settle([ready])
        return settled[0] if settled else None
    (request,) = ready.deed.admission.requests
    return _group_commit.do(ready, names=() if ready.read else (request.place,))


def _settle(group: Sequence[Ready]) -> list[Settled] | None:
    of_group = [ready.deed for ready in group]
    try:
        told = deeds.told_of(of_group)
    except (Undone, Crowded):
        return None
    settlement = deeds.settlement_of(
        Plan.of_all([ready.plan for ready in group]),
        of_group,
        told,
        reads=[ready.read for ready in group if ready.read],
    )
    written = settlements.settle_at_once(settlement, {deed.tenant.pk: deed.tenant for deed in of_group}.values())
    if written is None:
        return None
    deeds.tell_of_commit(of_group, told)
    balances, found = deeds.balances_after(of_group, written.accounts), iter(written.found)
    return [Settled(balances[ready.deed.operation.id], next(found) if ready.read else None) for ready in group]


_group_commit = GroupCommit(_settle)
