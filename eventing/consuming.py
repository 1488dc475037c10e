"""Consuming: from the SQS queue through the backend's one path, with the effect of exactly once.

Messages are deleted after the transaction that recorded their outcomes. Whatever happens in between, they are
delivered again, and their records answer.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING

from django.db import InterfaceError, InternalError, OperationalError, close_old_connections, connection

from blockforger.backend.operations import execute_batch
from eventing import aws, backoff, envelopes, input_queue, lanes
from eventing.input_queue import InputQueue
from eventing.models import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.outcomes import Outcome
    from eventing.envelopes import Envelope
    from eventing.input_queue import Message

logger = logging.getLogger(__name__)

_RETRY_BASE, _RETRY_CAP = timedelta(seconds=5), timedelta(minutes=15)
# The template's maxReceiveCount: an unreadable message is given back at once until it is in the dead-letter queue.
# A queue without one must not make a busy loop.
_RECEIVES_BEFORE_DEAD_LETTER = 20
_OUTAGE_SECONDS = 60
_AWAY_SECONDS = 1.0


class Disposition(Enum):
    """What became of a message. The first three are deleted from the queue, the others stay in it."""

    CARRIED_OUT = "carried out"
    REFUSED = "refused"
    REPEATED = "repeated"
    UNREADABLE = "unreadable"
    FAILED = "failed"


_SETTLED = {Disposition.CARRIED_OUT, Disposition.REFUSED, Disposition.REPEATED}


class DatabaseAway(Exception):
    """The database does not answer: nothing can be received until it does."""


class Consumer:
    """One loop over the queue. `stop` may be called from any thread."""

    def __init__(self) -> None:
        self._queue = InputQueue()
        self.tally: Counter[Disposition] = Counter()
        self._stopping = threading.Event()
        # Held while a batch is in hand, so that whoever stops the process can wait for its end.
        self._batch_in_hand = threading.Lock()

    def run(self) -> None:
        """Consume until stopped; faults of SQS and the database are waited out."""
        while not self._stopping.is_set():
            try:
                self.consume(wait_seconds=20)
            except DatabaseAway:
                logger.exception("The database is away; receiving goes on when it is back.")
                self._wait_for_database()
            except (*aws.ERRORS, aws.QueueMissingError) as error:
                logger.warning("The queue does not answer; trying again: %s", error)
                self._stopping.wait(_AWAY_SECONDS)

    def stop(self) -> None:
        """Begin no further batch."""
        self._stopping.set()

    def has_ended(self, *, within: float) -> bool:
        """Wait for the end of the batch in hand. Returns whether it ended within that many seconds."""
        if ended := self._batch_in_hand.acquire(timeout=within):
            self._batch_in_hand.release()
        return ended

    def consume(self, *, wait_seconds: int, ends_at: float = math.inf) -> int:
        """Receive messages and settle them, and those that follow while the queue is full, until that time.

        The time is of the monotonic clock. Returns how many came. Raises DatabaseAway, and faults of SQS.
        """
        self._queue.find()
        messages = self._queue.receive(wait_seconds=wait_seconds)
        if not messages:
            return 0
        with self._batch_in_hand, self._queue.held():
            try:
                return self._consume(messages, ends_at=ends_at)
            except DatabaseAway:
                # Not at once: others would only receive them to fail too, until they are dead letters.
                self._queue.hand_back(seconds=_OUTAGE_SECONDS)
                raise
            except aws.ERRORS:
                self._queue.hand_back(seconds=0)
                raise

    def _consume(self, messages: Sequence[Message], *, ends_at: float) -> int:
        count = 0
        while messages:
            count += len(messages)
            if not self._stopping.is_set() and time.monotonic() < ends_at:
                self._queue.prefetch()
            close_old_connections()
            for part in input_queue.parts(messages):
                self._settle(part)
            messages = self._queue.prefetched()
        self._queue.finish_deletions()
        return count

    def _settle(self, messages: Sequence[Message]) -> None:
        if self._stopping.is_set():
            self._queue.hide(messages, seconds=0)
            return
        dispositions = handle_all([message.body for message in messages])
        self.tally.update(dispositions)
        settled: list[Message] = []
        delayed: dict[int, list[Message]] = {}
        for message, end in zip(messages, dispositions, strict=True):
            (settled if end in _SETTLED else delayed.setdefault(_delay(message, end), [])).append(message)
        try:
            self._queue.delete(settled)
        finally:
            for seconds, of_them in delayed.items():
                self._queue.hide(of_them, seconds=seconds)

    def _wait_for_database(self) -> None:
        while not database_answers() and not self._stopping.wait(_AWAY_SECONDS):
            pass


def handle_all(bodies: Sequence[str]) -> list[Disposition]:
    """Carry out what these bodies of messages ask for. Raises DatabaseAway; logs other faults."""
    read = [_envelope(body) for body in bodies]
    outcomes = iter(_outcomes([envelope for envelope in read if envelope is not None]))
    return [Disposition.UNREADABLE if envelope is None else _disposition(next(outcomes)) for envelope in read]


def drain(*, seconds: float = float("inf")) -> Counter[Disposition]:
    """Consume until the queue has nothing to give, or that many seconds have passed. Returns counts of messages."""
    consumer = Consumer()
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at and consumer.consume(wait_seconds=1, ends_at=ends_at):
        pass
    return consumer.tally


def database_answers() -> bool:
    """Whether a new connection to the database can write: after a failover it may be able only to read."""
    connection.close()
    try:
        # A lane that could be and is not: of a number that no column holds, Django knows without asking.
        Lane.objects.filter(pk=lanes.LANES).update(holder="")
    except (OperationalError, InterfaceError, InternalError):
        return False
    return True


def _envelope(body: str) -> Envelope | None:
    try:
        return envelopes.read(body)
    except envelopes.Unreadable as error:
        logger.error("A message cannot be read and goes to the dead-letter queue: %s", error)  # noqa: TRY400
    except Exception:  # no message may end the loop, or it would come again and end it again
        logger.exception("A message cannot be read and goes to the dead-letter queue.")
    return None


def _outcomes(batch: Sequence[Envelope]) -> list[Outcome | None]:
    """The outcome of each event. If they fail together, each half is tried, until one that fails is alone: None."""
    if not batch:
        return []
    try:
        return [*execute_batch([envelopes.operation_of(envelope) for envelope in batch])]
    except Exception as error:  # the outermost loop: one event's fault must not stop the others
        if not database_answers():
            raise DatabaseAway from error
        if len(batch) == 1:
            logger.exception("The event %s failed and will be tried again.", batch[0].id)
            return [None]
        logger.warning("%d events failed together, and are tried in halves.", len(batch), exc_info=True)
    half = len(batch) // 2
    return _outcomes(batch[:half]) + _outcomes(batch[half:])


def _disposition(outcome: Outcome | None) -> Disposition:
    if outcome is None:
        return Disposition.FAILED
    if outcome.repeated:
        return Disposition.REPEATED
    return Disposition.REFUSED if outcome.problem else Disposition.CARRIED_OUT


def _delay(message: Message, disposition: Disposition) -> int:
    """Seconds until a message that was not settled is to come back."""
    if disposition is Disposition.UNREADABLE and message.receives <= _RECEIVES_BEFORE_DEAD_LETTER:
        return 0  # no wait will mend it: it is to reach the dead-letter queue soon
    return int(backoff.doubled(message.receives, base=_RETRY_BASE, cap=_RETRY_CAP).total_seconds())
