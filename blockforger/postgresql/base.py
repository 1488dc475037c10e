"""Django's PostgreSQL, but for how it finds out that a connection is of no more use."""

from __future__ import annotations

import select

import psycopg
from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus


class DatabaseWrapper(base.DatabaseWrapper):
    """Looks at a connection that was kept before it is used again, where CONN_HEALTH_CHECKS asks for it."""

    def is_usable(self) -> bool:
        """Whether the connection is open and idle, as far as this end knows: no round trip, as `SELECT 1` would be.

        Nobody speaks on a connection that is idle, unless to end it. A network that swallows everything is noticed by
        the next statement, after `tcp_user_timeout`. Only after an error it is asked whether it takes writes: another
        server may have taken over from that one.
        """
        if self.connection is None or self.connection.info.transaction_status != TransactionStatus.IDLE:
            return False
        socket = select.poll()
        socket.register(self.connection.fileno(), select.POLLIN)
        return not socket.poll(0) and (not self.errors_occurred or self._takes_writes())

    def rollback(self) -> None:
        """Django forgets with it that there was an error, before it has looked whether the connection is usable."""
        errors_occurred = self.errors_occurred
        super().rollback()
        self.errors_occurred = errors_occurred

    def _takes_writes(self) -> bool:
        try:
            with self.connection.cursor() as cursor:
                return bool(cursor.execute("SHOW transaction_read_only").fetchone() == ("off",))
        except psycopg.Error:
            return False
