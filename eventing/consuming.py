"""Consuming: from the SQS queue through the backend's one path, with the effect of exactly once.

A message is deleted after the transaction that recorded its outcome. Whatever happens in between, it is delivered
again, and its record answers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING

from django.db import InterfaceError, InternalError, OperationalError, close_old_connections, connection

from blockforger.backend.operations import execute
from eventing import aws, backoff, envelopes
from eventing.models import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mypy_boto3_sqs.type_defs import MessageTypeDef

logger = logging.getLogger(__name__)

BATCH = 10
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
        self._queue_url = ""
        self.tally: Counter[Disposition] = Counter()
        self._stopping = threading.Event()
        # Held while a batch is in hand, so that whoever stops the process can wait for its end.
        self._batch_in_hand = threading.Lock()

    def run(self) -> None:
        """Consume until stopped; faults of SQS and the database are waited out."""
        while not self._stopping.is_set():
            try:
                self.consume_batch(wait_seconds=20)
            except DatabaseAway:
                logger.exception("The database is away; receiving goes on when it is back.")
                self._wait_for_database()
            except (*aws.ERRORS, aws.QueueMissingError) as error:
                logger.warning("The queue does not answer; trying again: %s", error)
                self._stopping.wait(_AWAY_SECONDS)

    def find_queue(self) -> None:
        """Look the queue up, once. Raises QueueMissingError and faults of SQS."""
        if not self._queue_url:
            self._queue_url = aws.input_queue_url()
            logger.info("consume_events: waiting for messages in %s", self._queue_url)

    def stop(self, *, timeout: float) -> bool:
        """Stop, and wait for the batch in hand. Returns whether it ended within that many seconds."""
        self._stopping.set()
        if ended := self._batch_in_hand.acquire(timeout=timeout):
            self._batch_in_hand.release()
        return ended

    def consume_batch(self, *, wait_seconds: int) -> int:
        """Receive and handle up to ten messages. Returns how many came. Raises DatabaseAway, and faults of SQS."""
        self.find_queue()
        received = aws.sqs_client().receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        messages = received.get("Messages", [])
        if not messages:
            return 0
        with self._batch_in_hand:
            if self._stopping.is_set():
                self._hand_back(messages, seconds=0)
            else:
                self._handle_all(messages)
        return len(messages)

    def _handle_all(self, messages: Sequence[MessageTypeDef]) -> None:
        close_old_connections()
        settled: list[MessageTypeDef] = []
        try:
            for index, message in enumerate(messages):
                try:
                    disposition = handle(message["Body"])
                except DatabaseAway:
                    # Not at once: others would only receive them to fail too, until they are dead letters.
                    self._hand_back(messages[index:], seconds=_OUTAGE_SECONDS)
                    raise
                self.tally[disposition] += 1
                if disposition in _SETTLED:
                    settled.append(message)
                else:
                    self._delay(message, disposition)
        finally:
            self._delete(settled)

    def _delete(self, messages: Sequence[MessageTypeDef]) -> None:
        if not messages:
            return
        response = aws.sqs_client().delete_message_batch(
            QueueUrl=self._queue_url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]} for index, message in enumerate(messages)
            ],
        )
        for failure in response.get("Failed", []):
            # It comes again, and its record answers.
            logger.warning("SQS did not delete a message: %s: %s", failure["Code"], failure.get("Message", ""))

    def _hand_back(self, messages: Iterable[MessageTypeDef], *, seconds: int) -> None:
        for message in messages:
            self._hide(message, seconds=seconds)

    def _delay(self, message: MessageTypeDef, disposition: Disposition) -> None:
        receives = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        if disposition is Disposition.UNREADABLE and receives <= _RECEIVES_BEFORE_DEAD_LETTER:
            # No wait will mend it: it is to reach the dead-letter queue soon.
            self._hide(message, seconds=0)
            return
        self._hide(message, seconds=int(backoff.doubled(receives, base=_RETRY_BASE, cap=_RETRY_CAP).total_seconds()))

    def _hide(self, message: MessageTypeDef, *, seconds: int) -> None:
        try:
            aws.sqs_client().change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
            )
        except aws.ERRORS:
            # It comes back all the same, when the queue's own time is over.
            logger.warning("SQS did not change a message's visibility.", exc_info=True)

    def _wait_for_database(self) -> None:
        while not database_answers() and not self._stopping.wait(_AWAY_SECONDS):
            pass


def handle(body: str) -> Disposition:
    """Carry out what the body of a message asks for. Raises DatabaseAway; logs other faults."""
    try:
        envelope = envelopes.read(body)
    except envelopes.Unreadable as error:
        logger.error("A message cannot be read and goes to the dead-letter queue: %s", error)  # noqa: TRY400
        return Disposition.UNREADABLE
    try:
        outcome = execute(envelopes.operation_of(envelope))
    except (OperationalError, InterfaceError) as error:
        raise DatabaseAway from error
    except Exception:  # the outermost loop: one event's fault must not stop the others
        logger.exception("The event %s failed and will be tried again.", envelope.id)
        return Disposition.FAILED
    if outcome.repeated:
        return Disposition.REPEATED
    return Disposition.REFUSED if outcome.problem else Disposition.CARRIED_OUT


def drain(*, seconds: float = float("inf")) -> Counter[Disposition]:
    """Consume until the queue has nothing to give, or that many seconds have passed. Returns counts of messages."""
    consumer = Consumer()
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at and consumer.consume_batch(wait_seconds=1):
        pass
    return consumer.tally


def database_answers() -> bool:
    """Whether a new connection to the database can write: after a failover it may be able only to read."""
    connection.close()
    try:
        Lane.objects.filter(pk=-1).update(holder="")
    except (OperationalError, InterfaceError, InternalError):
        return False
    return True
