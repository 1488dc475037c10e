"""The order of a list, and what comes after a place in it.

The id breaks ties, in the direction of the last path: so an index of a column and the id serves both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

from django.db.models import BigIntegerField, BooleanField, Expression, F, Func, OrderBy, Q, TextField, Value
from django.db.models.lookups import Exact

from blockforger.backend.errors import Malformed
from blockforger.backend.item_columns import COLUMNS
from blockforger.backend.list_filters import found

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from django.db.models import QuerySet

    from blockforger.backend.item_columns import Column
    from blockforger.backend.item_paths import Paths
    from blockforger.backend.list_queries import Sort
    from blockforger.backend.models import Item

Place: TypeAlias = tuple[Any, ...]
"""What an item is placed by: its values of the columns, and its id."""

_ID = BigIntegerField()


@dataclass(frozen=True, slots=True)
class Order:
    """Columns, each with whether it descends."""

    columns: tuple[tuple[Column, bool], ...] = ()

    @classmethod
    def of(cls, paths: Paths, sorts: Iterable[Sort]) -> Order:
        """A path of several types is several columns. Raises Malformed."""
        columns: list[tuple[Column, bool]] = []
        for sort in sorts:
            path = found(paths, sort.path, "sort")
            kinds = [COLUMNS[name] for name in COLUMNS if name in path.types]
            if not kinds:
                message = f"Items cannot be sorted by {sort.path[:200]!r}: no string, number or boolean stands there."
                raise Malformed(message, parameter="sort")
            columns += [(kind(path.names), sort.descending) for kind in kinds]
        return cls(tuple(columns))

    @property
    def kinds(self) -> list[type[Column]]:
        return [type(column) for column, _ in self.columns]

    def sorted(self, items: QuerySet[Item]) -> QuerySet[Item]:
        """The items in order, each with its place."""
        places = {_name(index): column for index, (column, _) in enumerate(self.columns)}
        ordering = [OrderBy(column, descending=descending) for column, descending in self._keys()]
        return items.annotate(**places).order_by(*ordering)

    def place(self, item: Item) -> Place:
        """The place of an item from `sorted`."""
        return (*(getattr(item, _name(index)) for index in range(len(self.columns))), item.pk)

    def after(self, place: Place) -> Q:
        """The condition on items that come after that place."""
        fields = [*(column.output_field for column, _ in self.columns), _ID]
        values = [Value(value, output_field=field) for value, field in zip(place, fields, strict=True)]
        keys = [(column, descending, value) for (column, descending), value in zip(self._keys(), values, strict=True)]
        runs = [(descending, list(run)) for descending, run in groupby(keys, key=lambda key: key[1])]
        return _after([_Run([key[0] for key in run], [key[2] for key in run], down) for down, run in runs])

    def _keys(self) -> list[tuple[Expression | F, bool]]:
        return [*self.columns, (F("id"), self.columns[-1][1] if self.columns else False)]


def _name(index: int) -> str:
    return f"place_{index}"


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring columns of one direction, which the database compares as a row."""

    columns: Sequence[Expression | F]
    values: Sequence[Value]
    descending: bool

    def compared(self, operator: str) -> Q:
        operator = operator.replace(">", "<") if self.descending else operator
        rows = _Row(*self.columns), _Row(*self.values)
        return Q(Func(*rows, template="%(expressions)s", arg_joiner=f" {operator} ", output_field=BooleanField()))

    def is_same(self) -> Q:
        return Q(*map(Exact, self.columns, self.values))


class _Row(Func):
    template = "(%(expressions)s)"
    output_field = TextField()  # it has none, and nobody asks


def _after(runs: Sequence[_Run]) -> Q:
    run, *rest = runs
    if not rest:
        return run.compared(">")
    # The first condition follows from the others. An index can serve it.
    return run.compared(">=") & (run.compared(">") | (run.is_same() & _after(rest)))
