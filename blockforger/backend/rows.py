"""Rows read and written by statements that are composed once, whatever their model.

Django composes each statement anew, which takes several times as long as the database does to carry it out. This is
for the path that every operation takes; everywhere else, Django's own ways are plainer.
"""

from __future__ import annotations

import json
from functools import cache, cached_property, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import orjson
from django.db import connection, models
from psycopg.types.json import Json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from django.db.models import Field, Model

    Column = Field[Any, Any]

M = TypeVar("M", bound="Model")

# SQLite takes 32,766 parameters, unless it was built otherwise.
_ROWS_OF_A_STATEMENT = 1000
_RECORDSET = "json_to_recordset(%s::json)"


class Fields(tuple["Column", ...]):
    """At least two columns of a model, and the way to a row's values of them."""

    @cached_property
    def values_of(self) -> Callable[[Model], tuple[Any, ...]]:
        """Takes the values as they are: no field may make its own when it is saved."""
        for field in self:
            if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
                raise TypeError(f"{field} has a time of its own: give it a default instead.")
        return attrgetter(*[field.attname for field in self])

    @cached_property
    def conversions(self) -> list[Callable[[Any], Any] | None]:
        """For each, what makes of a value what PostgreSQL is given; None: it is given the value."""
        return [_conversion(field) for field in self]


class Columns(Generic[M]):
    """Some columns of a model, for statements of our own to select; the others are loaded when they are asked for."""

    def __init__(self, model: type[M], *names: str) -> None:
        self._model = model
        self._fields = named(model, names)
        self._names = [field.attname for field in self._fields]
        self._converters: list[tuple[int, Column, list[Callable[..., Any]]]] | None = None

    def __len__(self) -> int:
        return len(self._fields)

    def of(self, table: str) -> str:
        """The columns as SQL, of the table of that name or alias."""
        return ", ".join(f"{table}.{quoted(field)}" for field in self._fields)

    def row(self, values: Sequence[Any]) -> M:
        """A row of the model from the columns' values, as a cursor gave them."""
        if self._converters is None:
            self._converters = self._find_converters()
        converted = list(values)
        for index, column, converters in self._converters:
            for convert in converters:
                converted[index] = convert(converted[index], column, connection)
        return self._model.from_db(connection.alias, self._names, converted)

    def _find_converters(self) -> list[tuple[int, Any, list[Callable[..., Any]]]]:
        found = []
        for index, field in enumerate(self._fields):
            column = field.get_col(self._model._meta.db_table)
            converters = [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]
            if converters:
                found.append((index, column, converters))
        return found


@cache
def is_postgresql() -> bool:
    """Whether the database is PostgreSQL: to ask Django's connection takes as long as to convert a row's values."""
    return connection.vendor == "postgresql"


def fetched(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """What a statement that composes no two ways gives. PostgreSQL plans it once for a connection, not each time.

    Numbers should come as texts: a plan is for the types of the parameters, and the driver has three for integers.
    """
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def insert(rows: Iterable[Model]) -> None:
    """Insert rows, those of a model in one statement and in their order. Database-generated keys are not read back."""
    by_model: dict[type[Model], list[Model]] = {}
    for row in rows:
        by_model.setdefault(type(row), []).append(row)
    with connection.cursor() as cursor:
        for model, of_model in by_model.items():
            for part in _parts(of_model):
                statement = _insertion(model, shape_of(len(part)))
                cursor.execute(statement, parameters(part, inserted(model)))


def insert_unless_taken(rows: Sequence[Model], *, unique: tuple[str, ...]) -> None:
    """Insert those rows of one model whose unique columns nobody has taken: they get their keys, the others none.

    Goes through the rows in their order, and waits for transactions that are about to take the same.
    """
    if not rows:
        return
    model = type(rows[0])
    fields = named(model, unique)
    names = ", ".join(map(quoted, fields))
    conflict = f" ON CONFLICT ({names}) DO NOTHING RETURNING {quoted(_primary_key(model))}, {names}"
    new: dict[tuple[Any, ...], Any] = {}
    for part in _parts(rows):
        statement = _insertion(model, shape_of(len(part))) + conflict
        given = parameters(part, inserted(model))
        new |= {tuple(values): pk for pk, *values in fetched(statement, given)}
    for row in rows:
        row.pk = new.get(tuple(getattr(row, field.attname) for field in fields))


def update(rows: Sequence[Model], columns: tuple[str, ...]) -> None:
    """Write these columns of rows of one model, which the transaction has locked, in one statement."""
    if not rows:
        return
    model = type(rows[0])
    fields = _with_key(model, columns)
    with connection.cursor() as cursor:
        for part in _parts(rows):
            statement = _change(model, columns, shape_of(len(part)))
            cursor.execute(statement, parameters(part, fields))


def parameters(rows: Sequence[Model], fields: Fields) -> list[Any]:
    """What a statement about these columns of the rows is given: a value each, or all as one JSON text."""
    if shape_of(len(rows)) is None:
        names = [str(field.column) for field in fields]
        records = [dict(zip(names, fields.values_of(row), strict=True)) for row in rows]
        # It knows times and UUIDs. Of numbers that are none it would make null: json_values lets none of them in.
        return [Json(records, dumps=orjson.dumps)]
    if not is_postgresql():
        return [
            field.get_db_prep_save(value, connection)
            for row in rows
            for field, value in zip(fields, fields.values_of(row), strict=True)
        ]
    # Plain values, whose types are the same each time; the statement casts them.
    (row,) = rows
    return [
        value if value is None or convert is None else convert(value)
        for value, convert in zip(fields.values_of(row), fields.conversions, strict=True)
    ]


def shape_of(count: int) -> int | None:
    """For how many rows a statement has placeholders; None if it takes any number, as one JSON text.

    The driver takes longer over thousands of placeholders than PostgreSQL takes over the rows.
    """
    return None if count > 1 and is_postgresql() else count


def table(fields: Sequence[Column], shape: int | None) -> str:
    """The rows that a statement is given, as a query."""
    return f"SELECT * FROM {_RECORDSET} AS given({_typed(fields)})" if shape is None else _values(fields, shape)


def numbered_table(fields: Sequence[Column], shape: int | None, *, name: str) -> str:
    """The same, of that name, with the column `row_number`. Only for PostgreSQL."""
    names = ", ".join(map(quoted, fields))
    if shape is None:
        functions = f"ROWS FROM ({_RECORDSET} AS ({_typed(fields)}))"
        return f"{functions} WITH ORDINALITY AS {name}({names}, row_number)"
    return f"(SELECT *, 1 FROM ({_values(fields, shape)}) AS one) AS {name}({names}, row_number)"


@cache
def inserted(model: type[Model]) -> Fields:
    """The columns that a new row brings along."""
    return Fields(field for field in model._meta.local_concrete_fields if not isinstance(field, models.AutoField))


@cache
def named(model: type[Model], names: tuple[str, ...]) -> Fields:
    """The columns of these fields."""
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    return Fields(fields)


def quoted(field: Column) -> str:
    """The column's name in SQL."""
    return connection.ops.quote_name(str(field.column))


def quoted_table(model: type[Model]) -> str:
    """The table's name in SQL."""
    return connection.ops.quote_name(model._meta.db_table)


def _parts(rows: Sequence[M]) -> Iterator[Sequence[M]]:
    for start in range(0, len(rows), _ROWS_OF_A_STATEMENT):
        yield rows[start : start + _ROWS_OF_A_STATEMENT]


@cache
def _with_key(model: type[Model], columns: tuple[str, ...]) -> Fields:
    return Fields([_primary_key(model), *named(model, columns)])


def _primary_key(model: type[Model]) -> Column:
    key: Any = model._meta.pk
    return key  # type: ignore[no-any-return]


@lru_cache(maxsize=1024)
def _insertion(model: type[Model], shape: int | None) -> str:
    fields = inserted(model)
    return f"INSERT INTO {quoted_table(model)} ({', '.join(map(quoted, fields))}) {table(fields, shape)}"


@lru_cache(maxsize=1024)
def _change(model: type[Model], columns: tuple[str, ...], shape: int | None) -> str:
    given = _with_key(model, columns)
    key, *fields = given
    names = ", ".join(map(quoted, given))
    assignments = ", ".join(f"{quoted(field)} = changed.{quoted(field)}" for field in fields)
    target = quoted_table(model)
    return (
        f"WITH changed({names}) AS ({table(given, shape)})"
        f" UPDATE {target} SET {assignments} FROM changed WHERE {target}.{quoted(key)} = changed.{quoted(key)}"
    )


def _typed(fields: Sequence[Column]) -> str:
    return ", ".join(f"{quoted(field)} {_type(field)}" for field in fields)


def _values(fields: Sequence[Column], count: int) -> str:
    # PostgreSQL takes what stands in VALUES for text, where it is not told otherwise.
    casts = [f"%s::{_type(field)}" if is_postgresql() else "%s" for field in fields]
    row = f"({', '.join(casts)})"
    return f"VALUES {', '.join([row] * count)}"


def _type(field: Column) -> str:
    # A cast to varchar would shorten what is too long, without a word.
    is_text = isinstance(field, models.CharField | models.TextField)
    return "text" if is_text else str(field.cast_db_type(connection))


def _conversion(field: Column) -> Callable[[Any], Any] | None:
    if isinstance(field, models.JSONField):
        return json.dumps
    is_number = isinstance(field, models.IntegerField | models.ForeignKey)
    is_text = isinstance(field, models.CharField | models.TextField)
    return str if is_number or is_text else None
