"""The queue of input events: messages received, kept from other consumers while they are in hand, and settled.

Sources: API reference of SQS (ReceiveMessage, ChangeMessageVisibilityBatch, DeleteMessageBatch; batches hold 10).
"""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from botocore import xform_name

from eventing import aws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef

logger = logging.getLogger(__name__)

BATCH = 10
CALLS_AT_ONCE = 10
"""How many batches are received together while the queue is full."""

MAX_CHARACTERS = 2 * 1024 * 1024
"""How long the bodies may be that are carried out together: all of it is in memory, and then in one transaction."""

# For how long a message is nobody else's; longer than the template's, for queues that others made.
_VISIBILITY_SECONDS = 60
_EXTENDED_EVERY_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received. The body holds an API key: it is not to be printed."""

    receipt: str
    body: str = field(repr=False)
    # How often it was received, this time included.
    receives: int


class InputQueue:
    """The queue as one consumer uses it: what follows is received, and what is settled deleted, while it works."""

    def __init__(self) -> None:
        self._url = ""
        self._threads = ThreadPoolExecutor(2 * CALLS_AT_ONCE, thread_name_prefix="sqs")
        # How many receive calls are made together.
        self._calls_at_once = 1
        self._coming: list[Future[list[Message]]] = []
        self._deletions: list[Future[None]] = []
        # What was received and is neither deleted nor hidden, by receipt.
        self._in_hand: dict[str, Message] = {}
        self._hand = threading.Lock()

    def find(self) -> None:
        """Look the queue up, once. Raises QueueMissingError and faults of SQS."""
        if not self._url:
            self._url = aws.input_queue_url()
            logger.info("consume_events: waiting for messages in %s", self._url)

    def receive(self, *, wait_seconds: int) -> list[Message]:
        """Up to ten messages, or none if none came within that time. Raises faults of SQS."""
        return self._noted(self._receive(wait_seconds), calls=1)

    def prefetch(self) -> None:
        """Begin to receive what follows, up to a hundred messages, if the last calls gave enough to expect more."""
        if self._calls_at_once > 1:
            self._coming = [self._threads.submit(self._receive_or_not) for _ in range(self._calls_at_once)]

    def prefetched(self) -> list[Message]:
        """What came of it."""
        coming, self._coming = self._coming, []
        return self._noted([message for few in coming for message in few.result()], calls=len(coming))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep what is received from other consumers, until it is deleted or hidden or the block ends."""
        done = threading.Event()

        def extend() -> None:
            while not done.wait(_EXTENDED_EVERY_SECONDS):
                self._in_batches(self._all_in_hand(), partial(self._hide, seconds=_VISIBILITY_SECONDS))

        thread = threading.Thread(target=extend, name="visibility", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            # A call that is under way does no harm: a message is deleted all the same, or comes back a little later.
            thread.join(timeout=1)

    def delete(self, messages: Sequence[Message]) -> None:
        """Begin to delete what is settled, once all that was to be deleted before is.

        Raises faults of SQS, of those before: what was not deleted comes again, and its record answers.
        """
        self._let_go(messages)
        try:
            self.finish_deletions()
        finally:
            self._deletions = [self._threads.submit(self._delete, batch) for batch in _batches(messages)]

    def finish_deletions(self) -> None:
        """Wait until what is to be deleted is. Raises faults of SQS."""
        deletions, self._deletions = self._deletions, []
        wait(deletions)
        for deletion in deletions:
            deletion.result()

    def hide(self, messages: Sequence[Message], *, seconds: int) -> None:
        """Have the messages come back after that many seconds; if SQS does not do it, when their own time is over."""
        self._let_go(messages)
        self._in_batches(messages, partial(self._hide, seconds=seconds))

    def hand_back(self, *, seconds: int) -> None:
        """Hide all that was received, also ahead, and is not settled; what is being deleted is deleted first."""
        wait(self._deletions)
        self.prefetched()
        self.hide(self._all_in_hand(), seconds=seconds)

    def _all_in_hand(self) -> list[Message]:
        with self._hand:
            return list(self._in_hand.values())

    def _noted(self, messages: list[Message], *, calls: int) -> list[Message]:
        """The messages that so many calls gave. The fuller they came back, the more are made next."""
        self._calls_at_once = _next_calls(calls, messages)
        return messages

    def _let_go(self, messages: Iterable[Message]) -> None:
        with self._hand:
            for message in messages:
                self._in_hand.pop(message.receipt, None)

    def _in_batches(self, messages: Iterable[Message], call: Callable[[Sequence[Message]], None]) -> None:
        batches = _batches(list(messages))
        if len(batches) == 1:
            call(batches[0])
            return
        list(self._threads.map(call, batches))

    def _receive(self, wait_seconds: int) -> list[Message]:
        received = self._call(
            "ReceiveMessage",
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=_VISIBILITY_SECONDS,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        messages = [
            Message(
                message["ReceiptHandle"],
                message["Body"],
                int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for message in received.get("Messages", [])
        ]
        with self._hand:
            self._in_hand |= {message.receipt: message for message in messages}
        return messages

    def _receive_or_not(self) -> list[Message]:
        try:
            return self._receive(0)
        except aws.ERRORS as error:
            logger.warning("SQS gave no more messages: %s", error)
            return []

    def _delete(self, messages: Sequence[Message]) -> None:
        response = self._call(
            "DeleteMessageBatch",
            Entries=[{"Id": str(index), "ReceiptHandle": message.receipt} for index, message in enumerate(messages)],
        )
        _log_failures("delete a message", response.get("Failed", []))

    def _hide(self, messages: Sequence[Message], *, seconds: int) -> None:
        try:
            response = self._call(
                "ChangeMessageVisibilityBatch",
                Entries=[
                    {"Id": str(index), "ReceiptHandle": message.receipt, "VisibilityTimeout": seconds}
                    for index, message in enumerate(messages)
                ],
            )
        except aws.ERRORS:
            logger.warning("SQS did not change the visibility of messages.", exc_info=True)
            return
        _log_failures("change a message's visibility", response.get("Failed", []))

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make the call; once more by boto3, with its retries, if it fails: each of them may be repeated."""
        parameters["QueueUrl"] = self._url
        try:
            return aws.sqs_calls()(operation, json.dumps(parameters).encode())
        except aws.ERRORS:
            client: Any = aws.sqs_client()
            return cast("dict[str, Any]", getattr(client, xform_name(operation))(**parameters))


def parts(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """The messages in their order, in parts that may be carried out together."""
    part: list[Message] = []
    characters = 0
    for message in messages:
        characters += len(message.body)
        if part and characters > MAX_CHARACTERS:
            yield part
            part, characters = [], len(message.body)
        part.append(message)
    if part:
        yield part


def _next_calls(calls: int, messages: Sequence[Message]) -> int:
    """How many calls are to follow so many that gave these messages. SQS may give less than it has (short polling)."""
    if not messages or sum(len(message.body) for message in messages) > MAX_CHARACTERS * calls // CALLS_AT_ONCE:
        return 1
    if len(messages) == BATCH * calls:
        return min(2 * calls, CALLS_AT_ONCE)
    return calls if 2 * len(messages) > BATCH * calls else max(1, calls // 2)


def _batches(messages: Sequence[Message]) -> list[Sequence[Message]]:
    return [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]


def _log_failures(what: str, failures: Iterable[BatchResultErrorEntryTypeDef]) -> None:
    for failure in failures:
        logger.warning("SQS did not %s: %s: %s", what, failure["Code"], failure.get("Message", ""))
