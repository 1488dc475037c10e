"""How large the tables are that grow with the traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from django.db import connection

from blockforger.backend.models import Item, OperationRecord
from eventing.models import OutboxEvent
from tenants.models import LedgerEntry

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import Model

# Each with the column that tells when a row was made; rows are made in the order of their primary keys.
_TABLES: tuple[tuple[type[Model], str], ...] = (
    (OutboxEvent, "time"),
    (OperationRecord, "received_at"),
    (Item, "created_at"),
    (LedgerEntry, "created_at"),
)

_POSTGRESQL = "SELECT reltuples::bigint, pg_total_relation_size(oid) FROM pg_class WHERE oid = %s::regclass"


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table's size. On PostgreSQL the rows are its own estimate; None for what the database does not know."""

    name: str
    rows: int | None
    # With indexes.
    bytes: int | None
    oldest: datetime | None


def of_tables() -> list[TableSize]:
    """The tables that grow with the traffic; quick however large they are on PostgreSQL, counted on SQLite."""
    return [_size_of(model, time_column) for model, time_column in _TABLES]


def of_database() -> int:
    """Bytes of the whole database."""
    is_postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_database_size(current_database())"
            if is_postgresql
            else "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        )
        return cast("int", cursor.fetchone()[0])


def _size_of(model: type[Model], time_column: str) -> TableSize:
    manager = model._default_manager  # noqa: SLF001 - Django's way to the manager of any model
    rows: int | None
    size: int | None
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_POSTGRESQL, [model._meta.db_table])  # noqa: SLF001
            rows, size = cursor.fetchone()
        if rows is not None and rows < 0:  # never vacuumed or analyzed
            rows = None
    else:
        rows, size = manager.count(), None
    oldest = manager.order_by("pk").values_list(time_column, flat=True).first()
    return TableSize(name=str(model._meta.verbose_name_plural), rows=rows, bytes=size, oldest=oldest)  # noqa: SLF001
