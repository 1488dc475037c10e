"""Rows of values as a table of an SQL statement: hundreds of them cost the statement little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_ARRAYS, _ID_ARRAY = {int: "bigint[]", str: "text[]"}, "uuid[]"
_SUBQUERY = "(SELECT {named} FROM (VALUES {lines})) AS {name}"


def table(
    name: str, columns: Sequence[str], rows: Sequence[Sequence[int | str]], *, ids: Collection[str] = ()
) -> tuple[str, dict[str, Any]]:
    """The table, as it is written after FROM, and its parameters. There is at least one row.

    The columns in `ids` are UUIDs, given as texts.
    Arrays on PostgreSQL: a placeholder for each value would take longer to read than the rows take to find.
    """
    if connection.vendor == "sqlite":
        # SQLite keeps UUIDs as texts without hyphens.
        flat = [
            str(value).replace("-", "") if column in ids else value
            for row in rows
            for column, value in zip(columns, row, strict=True)
        ]
        values = {f"{name}_{number}": value for number, value in enumerate(flat)}
        places = iter(f"%({value})s" for value in values)
        lines = ", ".join(f"({', '.join(next(places) for _ in columns)})" for _ in rows)
        named = ", ".join(f"column{number} AS {column}" for number, column in enumerate(columns, start=1))
        return _SUBQUERY.format(named=named, lines=lines, name=name), values
    parameters = [f"{name}_{column}" for column in columns]
    types = [
        _ID_ARRAY if column in ids else _ARRAYS[type(value)] for column, value in zip(columns, rows[0], strict=True)
    ]
    arrays = ", ".join(f"%({parameter})s::{array}" for parameter, array in zip(parameters, types, strict=True))
    values_of_columns = map(_array, zip(*rows, strict=True))
    return f"unnest({arrays}) AS {name} ({', '.join(columns)})", dict(zip(parameters, values_of_columns, strict=True))


def _array(values: Sequence[int | str]) -> str:
    """As PostgreSQL reads an array (manual, 8.15.6): the driver would look at each of a list."""
    return f"{{{','.join(_quoted(value) if isinstance(value, str) else str(value) for value in values)}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
