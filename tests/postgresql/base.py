"""The product's PostgreSQL, but for how tests that commit leave an empty database behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.backends.postgresql import operations

from blockforger.postgresql import base

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGE_BYTES = 4 * 1024 * 1024


class DatabaseOperations(operations.DatabaseOperations):
    def sql_flush(
        self, style: Any, tables: Sequence[str], *, reset_sequences: bool = False, allow_cascade: bool = False
    ) -> list[str]:
        """Delete the few rows of the tables that hold any: TRUNCATE makes new files for each table and its indexes.

        Without triggers: the ledger's would refuse it, and keys from one table to another ask for an order.
        """
        if reset_sequences:
            return super().sql_flush(style, tables, reset_sequences=reset_sequences, allow_cascade=allow_cascade)
        sizes = self._sizes(tables)
        large = [self.quote_name(table) for table, size in sizes.items() if size >= _LARGE_BYTES]
        return [
            *([f"TRUNCATE {', '.join(large)} CASCADE"] if large else []),
            "SET LOCAL session_replication_role = replica",
            *(f"DELETE FROM {self.quote_name(table)}" for table, size in sizes.items() if 0 < size < _LARGE_BYTES),
        ]

    def _sizes(self, tables: Sequence[str]) -> dict[str, int]:
        """Bytes by table, without its indexes."""
        with connections[self.connection.alias].cursor() as cursor:
            cursor.execute(
                "SELECT name, pg_relation_size(quote_ident(name)::regclass) FROM unnest(%s::text[]) AS name",
                [list(tables)],
            )
            return dict(cursor.fetchall())


class DatabaseWrapper(base.DatabaseWrapper):
    ops_class = DatabaseOperations
