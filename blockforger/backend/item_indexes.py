"""Indexes on PostgreSQL for what schemas list as `indexes`: made and dropped while items are written.

An index is of the very expression that lists filter and sort by, and of one schema's items. Its name is made of its
definition: another definition is another index. So what is to be done shows by names alone, whatever happened before.

Each has statistics of its name beside it: of an index of some rows the planner keeps none, and would take any filter
for one that lets many items through.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.db import connection
from django.db.models.sql import Query

from blockforger.backend import schema_indexes
from blockforger.backend.item_columns import COLUMNS, Json
from blockforger.backend.item_paths import SCALARS
from blockforger.backend.models import Item, Schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.db.models import Expression

    from blockforger.backend.item_paths import ItemPath

logger = logging.getLogger(__name__)

_PREFIX = "item_path_"
_LOCK = 0x626C6F636B  # any number that nothing else locks
_STORED = """
    SELECT index.relname, pg_index.indisvalid
    FROM pg_index JOIN pg_class AS index ON index.oid = pg_index.indexrelid
    WHERE pg_index.indrelid = %s::regclass AND starts_with(index.relname, %s)
"""
_STORED_STATISTICS = """
    SELECT stxname, true FROM pg_statistic_ext WHERE stxrelid = %s::regclass AND starts_with(stxname, %s)
"""


@dataclass(frozen=True, slots=True)
class Definition:
    """An index: an expression, and what follows the table in CREATE INDEX."""

    expression: str
    index: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What was done, by names of indexes."""

    made: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    # What schemas list beyond the number of indexes that the table may have.
    left_out: list[str] = field(default_factory=list)
    # Another process is at it; nothing was done.
    is_busy: bool = False


def sync() -> Changes:
    """Make what is missing and drop what nobody wants, or what an interrupted run left unusable.

    No writer waits. Outside of transactions only. On other databases than PostgreSQL there is nothing to do.
    """
    if connection.vendor != "postgresql":
        return Changes()
    with _alone() as is_alone:
        if not is_alone:
            return Changes(is_busy=True)
        definitions = list(wanted().items())
        allowed = dict(definitions[: settings.BLOCKFORGER_MAX_ITEM_INDEXES])
        left_out = [name for name, _ in definitions[len(allowed) :]]
        if left_out:
            logger.warning("BLOCKFORGER_MAX_ITEM_INDEXES leaves out: %s.", ", ".join(left_out))
        return _changed_to(allowed, left_out)


def _changed_to(allowed: Mapping[str, Definition], left_out: list[str]) -> Changes:
    stored = _stored(_STORED)
    dropped = [name for name, is_valid in stored.items() if name not in allowed or not is_valid]
    for name in dropped:
        _run(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
    made = [name for name in allowed if name in dropped or name not in stored]
    for name in made:
        _run(f'CREATE INDEX CONCURRENTLY "{name}" ON {_table()} {allowed[name].index}')
    if _change_statistics_to(allowed) or made:
        _run(f"ANALYZE {_table()}")
    return Changes(made, dropped, left_out)


def _change_statistics_to(allowed: Mapping[str, Definition]) -> bool:
    stored = _stored(_STORED_STATISTICS)
    for name in stored.keys() - allowed.keys():
        _run(f'DROP STATISTICS IF EXISTS "{name}"')
    missing = allowed.keys() - stored.keys()
    for name in missing:
        _run(f'CREATE STATISTICS "{name}" ON ({allowed[name].expression}) FROM {_table()}')
    return bool(missing)


def wanted() -> dict[str, Definition]:
    """The indexes that schemas list, by name."""
    schemas = Schema.objects.filter(meta__has_key=schema_indexes.INDEXES).order_by("pk")
    return {
        _name(schema, definition): definition
        for schema in schemas
        for path in schema_indexes.paths_of(schema)
        for definition in _definitions(schema, path)
    }


def _definitions(schema: Schema, path: ItemPath) -> Iterator[Definition]:
    condition = f"WHERE schema_id = {int(schema.pk)}"
    for kind, column in COLUMNS.items():
        if kind in path.types:
            expression = _sql(column(path.names))
            yield Definition(expression, f"(({expression}), id) {condition}")
    if path.element_types & SCALARS:
        expression = _sql(Json(path.names))
        yield Definition(expression, f"USING gin (({expression}) jsonb_path_ops) {condition}")


def _name(schema: Schema, definition: Definition) -> str:
    return f"{_PREFIX}{schema.pk}_{hashlib.sha256(definition.index.encode()).hexdigest()[:12]}"


def _sql(expression: Expression) -> str:
    """The expression as lists use it, its values in it as literals: CREATE INDEX takes no parameters."""
    query = Query(Item, alias_cols=False)
    sql, parameters = query.get_compiler(connection=connection).compile(expression.resolve_expression(query))
    return str(cast("Any", connection.ops).compose_sql(sql, parameters))


def _stored(kind: str) -> dict[str, bool]:
    """What there is by name, and whether it is usable."""
    with connection.cursor() as cursor:
        cursor.execute(kind, [_table(), _PREFIX])
        return dict(cursor.fetchall())


def _table() -> str:
    return connection.ops.quote_name(Item._meta.db_table)  # noqa: SLF001 - Django's way to a model's table


@contextmanager
def _alone() -> Iterator[bool]:
    """Holds a lock of the session, so that no other run takes what this one builds for unusable; no time limit."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        is_alone = cursor.fetchone() == (True,)
    try:
        if is_alone:
            _run("SET statement_timeout = 0")
        yield is_alone
    finally:
        if is_alone:
            _run("RESET statement_timeout")
            _run("SELECT pg_advisory_unlock(%s)", _LOCK)


def _run(sql: str, *parameters: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
