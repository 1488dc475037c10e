"""Rows by time, where no index has it: ids of rows grow with their time, so a search among ids finds a moment.

An index by time would cost each operation more than a search costs the few who look back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import Model, QuerySet

M = TypeVar("M", bound="Model")


def first_pk_since(rows: QuerySet[M], column: str, moment: datetime) -> int | None:
    """The lowest id of a row whose time is at or after the moment; None if there is none.

    The rows must be found by their ids quickly, as those of one tenant are by an index of tenant and id. Takes some
    thirty statements, of a row each.
    """
    last = _first(rows.order_by("-pk"), column)
    if last is None or last[1] < moment:
        return None
    low, high = 0, last[0]
    # The row looked for is at `high` or before it, and not before `low`.
    while low < high:
        middle = (low + high) // 2
        found = _first(rows.filter(pk__gte=middle).order_by("pk"), column)
        if found is None or found[1] >= moment:
            high = middle
        else:
            low = found[0] + 1
    return low


def _first(rows: QuerySet[M], column: str) -> Any:
    return rows.values_list("pk", column).first()
