"""Rows by the thousand and million: rows that the product itself wrote, multiplied by SQL.

Columns are asked of the database, so that new ones need no change here: texts and JSON get the new item's key in
place of the old one's, UUIDs are made anew in the order of time, everything else is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from benchmarks.processes import Failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

SEED_KEY = "the-seed-of-all-items"

# Of time and of n, so unique and growing, as UUIDv7 are.
_UUID = (
    "(lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '7' ||"
    " substr(md5(n::text || s::text), 1, 3) || '8' || substr(md5(s::text || n::text), 1, 15))::uuid"
)
OUTBOX = "eventing_outboxevent"
_STREAM = "hashtextextended(replace(s.item_urn, '{seed}', {new}) || s.bus_arn, 0)"
# What is computed from other columns in Python. A write has its sequence number, a tenant's item its stream.
OUTBOX_COMPUTED = {
    "sequence": "s.sequence + n * 2",
    "stream": _STREAM,
    "lane": f"mod(mod({_STREAM}, l.lanes) + l.lanes, l.lanes)",
}


def multiply(
    connection: psycopg.Connection[Any],
    table: str,
    *,
    times: int,
    into: str = "",
    where: str = "true",
    key: str = "'item-' || n",
    computed: Mapping[str, str] | None = None,
) -> int:
    """Add the table's rows of that condition that many times, with n from 1 in the key. Returns how many that makes.

    `computed` gives columns that are more than a copy; the table must have them.
    """
    columns = _columns(connection, table)
    computed = {name: text.format(seed=SEED_KEY, new=key) for name, text in (computed or {}).items()}
    if unknown := computed.keys() - {name for name, _, _ in columns}:
        raise Failed(f"{table} has no column {', '.join(sorted(unknown))} any more: mend benchmarks/rows.py.")
    chosen = {
        name: computed.get(name) or _expression(name, kind, key)
        for name, kind, is_generated in columns
        if name in computed or not is_generated
    }
    statement = (
        f"INSERT INTO {into or table} ({', '.join(chosen)}) SELECT {', '.join(chosen.values())}"
        f" FROM generate_series(1, {times}) AS n,"
        " (SELECT count(*) AS lanes FROM eventing_lane) AS l,"
        f" (SELECT * FROM {table} WHERE {where} ORDER BY ctid OFFSET 0) AS s"
    )
    return connection.execute(sql.SQL(statement)).rowcount


def literal_insert(connection: psycopg.Connection[Any], table: str, variables: Mapping[str, str], *, where: str) -> str:
    """An INSERT of a copy of a row of that condition, as text, with expressions of their own for some columns."""
    columns = [(name, kind) for name, kind, generated in _columns(connection, table) if not generated]
    if unknown := variables.keys() - {name for name, _ in columns}:
        raise Failed(f"{table} has no column {', '.join(sorted(unknown))} any more: mend the benchmark.")
    quoted = ", ".join(f"quote_nullable({name})" for name, _ in columns)
    row = connection.execute(sql.SQL(f"SELECT {quoted} FROM {table} WHERE {where} LIMIT 1")).fetchone()
    if row is None:
        raise Failed(f"{table} has no row to be copied.")
    values = [variables.get(name, text) for (name, _), text in zip(columns, row, strict=True)]
    return f"INSERT INTO {table} ({', '.join(name for name, _ in columns)}) VALUES ({', '.join(values)});"


def _expression(name: str, kind: str, key: str) -> str:
    match kind:
        case "text" | "character varying":
            return f"replace(s.{name}, '{SEED_KEY}', {key})"
        case "jsonb":
            return f"replace(s.{name}::text, '{SEED_KEY}', {key})::jsonb"
        case "uuid":
            return _UUID
        case _:
            return f"s.{name}"


def _columns(connection: psycopg.Connection[Any], table: str) -> list[tuple[str, str, bool]]:
    query = (
        "SELECT column_name::text, data_type::text, is_identity = 'YES' OR column_default LIKE 'nextval%%'"
        " FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position"
    )
    columns = [(name, kind, bool(generated)) for name, kind, generated in connection.execute(query, [table])]
    if not columns:
        raise Failed(f"There is no table {table} any more: mend the benchmark.")
    return columns
