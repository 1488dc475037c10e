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
    from blockforger.backend.settlements import Written
    from tenants.models import Tenant


class Ready(NamedTuple):
    """An operation that nothing stands against, as far as is known without a lock."""

    deed: Deed
    # What a write makes of its item, and nothing for a read.
    plan: Plan
    # Where the item is that is still to be read.
    read: Place | None = None


class Settled(NamedTuple):
    """What the account held afterwards, and the item that was read."""

    balance: int
    read: Item | None


def settle(ready: Ready) -> Settled | None:
    """Settle it in a transaction that is done when this returns. None: nothing was done.

    That is so if anything is not as it was thought to be: it has then to be looked at under locks.
    """
    (done,), (request,) = ready.deed.done, ready.deed.admission.requests
    if done.is_large:
        settled = _settle([ready])
        return settled[0] if settled else None
    return _group_commit.do(ready, names=(request.place,) if ready.deed.is_write else ())


def _settle(group: Sequence[Ready]) -> list[Settled | None] | None:
    """Settle them together; without those that something is found to be in the way of, if there are such."""
    tried = _try(group)
    if tried is None or isinstance(tried, list):
        return tried
    can_go = [not _is_hindered(index, group, tried) for index in range(len(group))]
    others = [ready for ready, goes in zip(group, can_go, strict=True) if goes]
    tried = _try(others) if 0 < len(others) < len(group) else []
    if not isinstance(tried, list):
        return None
    settled = iter(tried)
    return [next(settled, None) if goes else None for goes in can_go]


def _try(group: Sequence[Ready]) -> list[Settled | None] | Written | None:
    """What became of each; or what the statement found, if nothing was done; None if nothing is known."""
    tenants: dict[int, Tenant] = {}
    of_group = [ready.deed for ready in group]
    for deed in of_group:
        known = tenants.setdefault(deed.tenant.pk, deed.tenant)
        # One of them is out of date, and nobody's version may vouch for another's.
        if (known.configuration_version, known.admission_version) != (
            deed.tenant.configuration_version,
            deed.tenant.admission_version,
        ):
            return None
    try:
        told = deeds.told_of(of_group)
    except (Undone, Crowded):
        return None
    plan, reads = Plan.of_all([ready.plan for ready in group]), _reads(group)
    settlement = deeds.settlement_of(plan, of_group, told, reads=[place for _, place in reads])
    written = settlements.settle_at_once(settlement, tenants.values())
    if written is None or written.accounts.keys() != tenants.keys():
        return written
    deeds.tell_of_commit(of_group, told)
    balances = deeds.balances_after(of_group, written.accounts)
    found = {index: written.found[number] for number, (index, _) in enumerate(reads)}
    return [Settled(balances[deed.operation.id], found.get(index)) for index, deed in enumerate(of_group)]


def _reads(group: Sequence[Ready]) -> list[tuple[int, Place]]:
    """What is to be read for which of them."""
    return [(index, ready.read) for index, ready in enumerate(group) if ready.read]


def _is_hindered(index: int, group: Sequence[Ready], tried: Written) -> bool:
    """Whether the one at that index was in the way of the others."""
    deed, plan, read = group[index]
    if deed.tenant.pk not in tried.admitted:
        return True
    if read:
        return all(number not in tried.found for number, (of, _) in enumerate(_reads(group)) if of == index)
    places = {(None, item.schema_id, item.key) for item in plan.created}
    numbers = {(item.pk, None, None) for item in (*plan.changed, *plan.gone)}
    return not tried.in_the_way.isdisjoint(places | numbers)


_group_commit = GroupCommit(_settle)
