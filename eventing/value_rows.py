"""Rows of values as a table of an SQL statement: hundreds of them cost the statement little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Sequence

_ARRAYS = {int: "bigint[]", str: "text[]", UUID: "uuid[]"}
_SUBQUERY = "(SELECT {named} FROM (VALUES {lines})) AS {name}"


def table(name: str, columns: Sequence[str], rows: Sequence[Sequence[int | str | UUID]]) -> tuple[str, dict[str, Any]]:
    """The table, as it is written after FROM, and its parameters. There is at least one row.

    Arrays on PostgreSQL: a placeholder for each value would take longer to read than the rows take to find.
    """
    if connection.vendor == "sqlite":
        flat = [value.hex if isinstance(value, UUID) else value for row in rows for value in row]
        values = {f"{name}_{number}": value for number, value in enumerate(flat)}
        places = iter(f"%({value})s" for value in values)
        lines = ", ".join(f"({', '.join(next(places) for _ in columns)})" for _ in rows)
        named = ", ".join(f"column{number} AS {column}" for number, column in enumerate(columns, start=1))
        return _SUBQUERY.format(named=named, lines=lines, name=name), values
    parameters = [f"{name}_{column}" for column in columns]
    arrays = ", ".join(f"%({one})s::{_ARRAYS[type(value)]}" for one, value in zip(parameters, rows[0], strict=True))
    values_of_columns = map(_array, zip(*rows, strict=True))
    return f"unnest({arrays}) AS {name} ({', '.join(columns)})", dict(zip(parameters, values_of_columns, strict=True))


def _array(values: Sequence[int | str | UUID]) -> list[str] | str:
    """Numbers and ids as PostgreSQL writes an array: the driver would look at each of a list."""
    texts = [str(value) for value in values]
    return texts if isinstance(values[0], str) else f"{{{','.join(texts)}}}"
