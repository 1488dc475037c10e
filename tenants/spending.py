"""What was spent lately, told at the same cost however much it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.db.models import Sum

from tenants import by_time
from tenants.models import EntryKind, LedgerEntry

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet


class Spent(NamedTuple):
    """Tokens, and the entries of the ledger that tell of them."""

    tokens: int
    entries: QuerySet[LedgerEntry]


def since(moment: datetime, *, account: int, balance: int) -> Spent:
    """What an account with that balance has spent: by the balances that its entries left, not by their sum."""
    rows = LedgerEntry.objects.filter(account=account)
    pk = by_time.first_pk_since(rows, "created_at", moment)
    if pk is None:
        return Spent(0, rows.none())
    entries = rows.filter(pk__gte=pk)
    first = entries.earliest("pk")
    paid_in = entries.filter(kind=EntryKind.TOP_UP).aggregate(sum=Sum("amount"))["sum"] or 0
    return Spent(first.balance_after - first.amount + paid_in - balance, entries)
