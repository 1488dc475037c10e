"""Pages by the place of their last row, not by counting: each row once, however many are added meanwhile.

A page never reads more than it may look at: where no index knows which rows are wanted, it is what is found among the
next LOOK rows, and may be short, or empty, while there is more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import Model, QuerySet

M = TypeVar("M", bound="Model")

LOOK = 10_000
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Source(Generic[M]):
    """Where wanted rows are: among those that an index has in the order of their keys."""

    looked_at: QuerySet[M]
    found: QuerySet[M]
    # The column of the index before the key, of which `one_of` has been asked; as the table calls it.
    by: str = ""

    def keys(self, beyond: Any, *, at_most: int, up: bool) -> list[Any]:
        """The next keys of the rows to look at."""
        return list(self._keys(beyond, up=up)[:at_most])

    def key(self, beyond: Any, place: int, *, up: bool) -> Any:
        """The one of them at that place, from 1; None if there are not so many."""
        return self._keys(beyond, up=up)[place - 1 : place].first()

    def _keys(self, beyond: Any, *, up: bool) -> QuerySet[M, Any]:
        rows = self.looked_at
        if beyond is not None:
            rows = rows.filter(**{"pk__gt" if up else "pk__lt": beyond})
        sign = "" if up else "-"
        order = [f"{sign}{column}" for column in (self.by, "pk") if column]
        return rows.order_by(*order).values_list("pk", flat=True)


def one_of(column: str, value: int) -> dict[str, list[int]]:
    """A condition that the column has that value, for rows in the order of an index that begins with the column.

    Were it an equation, PostgreSQL would know that the column needs no sorting, and might read the primary key in
    place of that index: all rows of others that lie between, however many.
    """
    return {f"{column}__in": [value, _NOBODY]}


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """Rows, the highest key first, and where to go on: before the one key to older rows, after the other to newer.

    None: there is nothing more on that side. A page whose rows are few may have more on either.
    """

    rows: list[M]
    older: Any
    newer: Any


def page(
    sources: Sequence[Source[M]], *, limit: int, before: Any = None, after: Any = None, look: int = LOOK
) -> Page[M]:
    """The page next to that key, in the one direction or the other; without a key, that of the highest ones."""
    if after is not None:
        rows, newer = _merged([_portion(source, after, limit, look, up=True) for source in sources], limit, up=True)
        rows.reverse()
        older = rows[-1].pk if rows else newer
        return Page(rows, older, newer)
    rows, older = _merged([_portion(source, before, limit, look, up=False) for source in sources], limit, up=False)
    newer = None if before is None else rows[0].pk if rows else older
    return Page(rows, older, newer)


def _portion(source: Source[M], beyond: Any, limit: int, look: int, *, up: bool) -> tuple[list[M], Any]:
    """What is found among the next rows, and the last key up to which that is all; None if there is nothing beyond."""
    size = min(limit + 1, look)
    keys = source.keys(beyond, at_most=size, up=up)
    # By their keys alone: whatever the planner thinks of the filters, it reads no other rows.
    found = {row.pk: row for row in source.found.filter(pk__in=keys).order_by()} if keys else {}
    rows = [found[key] for key in keys if key in found]
    end = keys[-1] if len(keys) == size else None
    if end is not None and len(rows) <= limit and look > size:
        more, end = _further(source, end, limit + 1 - len(rows), look - size, up=up)
        rows += more
    return (rows[:limit], rows[limit - 1].pk) if len(rows) > limit else (rows, end)


def _further(source: Source[M], beyond: Any, limit: int, look: int, *, up: bool) -> tuple[list[M], Any]:
    """What is found between that key and the one that many rows on, and that one; None if there are not so many."""
    last = source.key(beyond, look, up=up)
    bounds = {"pk__gt" if up else "pk__lt": beyond}
    if last is not None:
        bounds["pk__lte" if up else "pk__gte"] = last
    return list(source.found.filter(**bounds).order_by("pk" if up else "-pk")[:limit]), last


def _merged(portions: Sequence[tuple[list[M], Any]], limit: int, *, up: bool) -> tuple[list[M], Any]:
    """The portions as one: as far as all of them are complete."""
    ends = [end for _, end in portions if end is not None]
    end = (min(ends) if up else max(ends)) if ends else None
    rows = [row for rows, _ in portions for row in rows if end is None or (row.pk <= end if up else row.pk >= end)]
    rows.sort(key=lambda row: row.pk, reverse=not up)
    if len(rows) > limit:
        return rows[:limit], rows[limit - 1].pk
    return rows, end
