"""Django's PostgreSQL, but for how it finds out that the server has closed a connection."""

from __future__ import annotations

import select

from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus

# Of a server from which another has taken over, and that is left up.
_READ_ONLY = ("default_transaction_read_only", "in_hot_standby")


class DatabaseWrapper(base.DatabaseWrapper):
    """Looks at a connection that was kept before it is used again, where CONN_HEALTH_CHECKS asks for it."""

    def is_usable(self) -> bool:
        """Whether the connection is open, idle and of a server that takes writes, as far as this end knows.

        No round trip, as `SELECT 1` would be: nobody speaks on a connection that is idle, unless to end it, and what
        the server became, it says with its answers (PostgreSQL manual, 55.2.7). A network that swallows everything is
        noticed by the next statement, after `tcp_user_timeout`.
        """
        if self.connection is None or self.connection.info.transaction_status != TransactionStatus.IDLE:
            return False
        if any(self.connection.info.parameter_status(name) == "on" for name in _READ_ONLY):
            return False
        socket = select.poll()
        socket.register(self.connection.fileno(), select.POLLIN)
        return not socket.poll(0)
