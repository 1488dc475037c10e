"""Nudges: word to the workers that the outbox has something. They save time; the sweep is the guarantee.

A thread of the process sends them, so that a broker that is slow or away never slows or fails a request. Writes that
commit while a nudge is on its way share the next one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError

if TYPE_CHECKING:
    from kombu import Connection, Producer

logger = logging.getLogger(__name__)

_MIN_INTERVAL_SECONDS = 0.05
_CONNECT_SECONDS = 0.2
# For brokers over a socket; kombu's other transports ignore what they do not know.
_ONE_TRY = {"socket_timeout": 1.0, "socket_connect_timeout": _CONNECT_SECONDS, "max_retries": 0}
_QUIET_AFTER_FAILURE_SECONDS = 5.0
_BROKEN = (OperationalError, OSError)
_TASK = "eventing.tasks.publish_pending"


class _Nudger:
    """The thread of one process."""

    def __init__(self) -> None:
        self.wanted = threading.Event()
        threading.Thread(target=self._run, name="outbox-nudges", daemon=True).start()

    def _run(self) -> None:
        line = Line()
        while self.wanted.wait():
            self.wanted.clear()
            try:
                sent = line.send()
            except Exception:  # the outermost loop of a thread that nobody would start again
                logger.exception("A nudge failed, the sweep will publish.")
                line, sent = Line(), False
            time.sleep(_MIN_INTERVAL_SECONDS if sent else _QUIET_AFTER_FAILURE_SECONDS)


_nudger: _Nudger | None = None
_lock = threading.Lock()


def _forget() -> None:
    """A forked child has no thread yet, and its lock may have been held when it was made."""
    global _nudger, _lock
    _nudger, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def nudge() -> None:
    """Ask for the outbox to be published soon. Returns at once; without a broker (`publish_events`) does nothing."""
    if not settings.CELERY_BROKER_URL:
        return
    global _nudger
    if _nudger is None:
        with _lock:
            if _nudger is None:
                _nudger = _Nudger()
    _nudger.wanted.set()


class Line:
    """A connection to the broker, kept from nudge to nudge: to make one takes ten times as long as to use it."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._producer: Producer | None = None

    def send(self) -> bool:
        """Send one nudge. Returns whether the broker took it; a connection that broke meanwhile is made anew, once."""
        if self._producer is not None:
            try:
                self._send(self._producer)
            except _BROKEN:
                self._hang_up()
            else:
                return True
        try:
            self._connection = current_app.connection_for_write(
                connect_timeout=_CONNECT_SECONDS, transport_options=_ONE_TRY
            )
            self._producer = current_app.amqp.Producer(self._connection, auto_declare=False)
            self._send(self._producer)
        except _BROKEN as error:
            self._hang_up()
            logger.warning("The broker took no nudge, the sweep will publish: %s", error)
            return False
        return True

    def _send(self, producer: Producer) -> None:
        current_app.send_task(_TASK, producer=producer, retry=False, expires=10)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.release()
        self._connection = self._producer = None
