"""Rows read and written by statements that are composed once, whatever their model.

Django composes each statement anew, which takes several times as long as the database does to carry it out. This is
for the path that every operation takes; everywhere else, Django's own ways are plainer.
"""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.db import connection, models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from django.db.models import Field, Model

    Column = Field[Any, Any]

M = TypeVar("M", bound="Model")

# SQLite takes 32,766 parameters, unless it was built otherwise.
_ROWS_OF_A_STATEMENT = 1000


class Columns(Generic[M]):
    """Some columns of a model, for statements of our own to select; the others are loaded when they are asked for."""

    def __init__(self, model: type[M], *names: str) -> None:
        self._model = model
        self._fields = _named(model, names)
        self._names = [field.attname for field in self._fields]
        self._converters: list[tuple[int, Column, list[Callable[..., Any]]]] | None = None

    def __len__(self) -> int:
        return len(self._fields)

    def of(self, table: str) -> str:
        """The columns as SQL, of the table of that name or alias."""
        return ", ".join(f"{table}.{_quoted(field)}" for field in self._fields)

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


def insert(rows: Iterable[Model]) -> None:
    """Insert rows, those of a model in one statement and in their order. Database-generated keys are not read back."""
    by_model: dict[type[Model], list[Model]] = {}
    for row in rows:
        by_model.setdefault(type(row), []).append(row)
    with connection.cursor() as cursor:
        for model, of_model in by_model.items():
            for part in _parts(of_model):
                statement = _insertion(model, _shape(part))
                cursor.execute(statement, _parameters(part, _inserted(model), is_new=True))


def insert_unless_taken(rows: Sequence[Model], *, unique: tuple[str, ...]) -> None:
    """Insert those rows of one model whose unique columns nobody has taken: they get their keys, the others none.

    Goes through the rows in their order, and waits for transactions that are about to take the same.
    """
    if not rows:
        return
    model = type(rows[0])
    fields = _named(model, unique)
    names = ", ".join(map(_quoted, fields))
    conflict = f" ON CONFLICT ({names}) DO NOTHING RETURNING {_quoted(_primary_key(model))}, {names}"
    inserted: dict[tuple[Any, ...], Any] = {}
    with connection.cursor() as cursor:
        for part in _parts(rows):
            statement = _insertion(model, _shape(part)) + conflict
            cursor.execute(statement, _parameters(part, _inserted(model), is_new=True))
            inserted |= {tuple(values): pk for pk, *values in cursor.fetchall()}
    for row in rows:
        row.pk = inserted.get(tuple(getattr(row, field.attname) for field in fields))


def update(rows: Sequence[Model], columns: tuple[str, ...]) -> None:
    """Write these columns of rows of one model, which the transaction has locked, in one statement."""
    if not rows:
        return
    model = type(rows[0])
    fields = [_primary_key(model), *_named(model, columns)]
    with connection.cursor() as cursor:
        for part in _parts(rows):
            statement = _change(model, columns, _shape(part))
            cursor.execute(statement, _parameters(part, fields, is_new=False))


def _parts(rows: Sequence[M]) -> Iterator[Sequence[M]]:
    for start in range(0, len(rows), _ROWS_OF_A_STATEMENT):
        yield rows[start : start + _ROWS_OF_A_STATEMENT]


@cache
def _inserted(model: type[Model]) -> list[Column]:
    return [field for field in model._meta.local_concrete_fields if not isinstance(field, models.AutoField)]


@cache
def _named(model: type[Model], names: tuple[str, ...]) -> list[Column]:
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    return fields


def _primary_key(model: type[Model]) -> Column:
    key: Any = model._meta.pk
    return key  # type: ignore[no-any-return]


def _shape(rows: Sequence[Model]) -> int | None:
    """For how many rows a statement has placeholders; None if it takes any number, as one JSON text.

    The driver takes longer over thousands of placeholders than PostgreSQL takes over the rows.
    """
    return None if len(rows) > 1 and connection.vendor == "postgresql" else len(rows)


@lru_cache(maxsize=1024)
def _insertion(model: type[Model], count: int | None) -> str:
    fields = _inserted(model)
    table = connection.ops.quote_name(model._meta.db_table)
    return f"INSERT INTO {table} ({', '.join(map(_quoted, fields))}) {_table(fields, count)}"


@lru_cache(maxsize=1024)
def _change(model: type[Model], columns: tuple[str, ...], count: int | None) -> str:
    key, *fields = _primary_key(model), *_named(model, columns)
    names = ", ".join(map(_quoted, [key, *fields]))
    assignments = ", ".join(f"{_quoted(field)} = changed.{_quoted(field)}" for field in fields)
    table = connection.ops.quote_name(model._meta.db_table)
    return (
        f"WITH changed({names}) AS ({_table([key, *fields], count)})"
        f" UPDATE {table} SET {assignments} FROM changed WHERE {table}.{_quoted(key)} = changed.{_quoted(key)}"
    )


def _table(fields: Sequence[Column], count: int | None) -> str:
    """The rows as a table of SQL."""
    if count is None:
        columns = ", ".join(f"{_quoted(field)} {_type(field)}" for field in fields)
        return f"SELECT * FROM json_to_recordset(%s::json) AS given({columns})"
    # PostgreSQL takes what stands in VALUES for text, where it is not told otherwise.
    casts = [f"%s::{_type(field)}" if connection.vendor == "postgresql" else "%s" for field in fields]
    row = f"({', '.join(casts)})"
    return f"VALUES {', '.join([row] * count)}"


def _type(field: Column) -> str:
    # A cast to varchar would shorten what is too long, without a word.
    is_text = isinstance(field, models.CharField | models.TextField)
    return "text" if is_text else str(field.cast_db_type(connection))


def _parameters(rows: Sequence[Model], fields: Sequence[Column], *, is_new: bool) -> list[Any]:
    if _shape(rows) is None:
        named = [(str(field.column), field) for field in fields]
        records = [{name: field.pre_save(row, is_new) for name, field in named} for row in rows]
        return [json.dumps(records, default=str, ensure_ascii=False)]  # times and UUIDs as texts
    return [field.get_db_prep_save(field.pre_save(row, is_new), connection) for row in rows for field in fields]


def _quoted(field: Column) -> str:
    return connection.ops.quote_name(str(field.column))
