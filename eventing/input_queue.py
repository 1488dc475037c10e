"""The queue of input events: messages received, kept from other consumers while they are in hand, and settled.

Sources: API reference of SQS (ReceiveMessage, ChangeMessageVisibilityBatch, DeleteMessageBatch; batches hold 10).
"""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from botocore import xform_name

from eventing import aws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
    """The queue as one consumer uses it."""

    def __init__(self) -> None:
        self._url = ""
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="sqs")
        # Receive calls made beside the first: more while all that are made come back full.
        self._more_calls = 0
        # What was received last and is neither deleted nor hidden, by receipt.
        self._in_hand: dict[str, Message] = {}

    def find(self) -> None:
        """Look the queue up, once. Raises QueueMissingError and faults of SQS."""
        if not self._url:
            self._url = aws.input_queue_url()
            logger.info("consume_events: waiting for messages in %s", self._url)

    def receive(self, *, wait_seconds: int) -> list[Message]:
        """Up to a hundred messages, or none if none came within that time. Raises faults of SQS."""
        messages = self._receive_some(wait_seconds)
        self._in_hand = {message.receipt: message for message in messages}
        return messages

    def _receive_some(self, wait_seconds: int) -> list[Message]:
        messages = self._receive(wait_seconds)
        if len(messages) < BATCH or _characters(messages) > MAX_CHARACTERS // CALLS_AT_ONCE:
            self._more_calls = 0
            return messages
        more = self._more_calls
        for few in self._threads.map(lambda _: self._receive_or_not(), range(more)):
            messages += few
        is_full = len(messages) == BATCH * (1 + more)
        self._more_calls = min(2 * more + 1, CALLS_AT_ONCE - 1) if is_full else 0
        return messages

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep what was received from other consumers, until it is deleted or hidden or the block ends."""
        done = threading.Event()

        def extend() -> None:
            while not done.wait(_EXTENDED_EVERY_SECONDS):
                self._in_batches(self._in_hand.values(), partial(self._hide, seconds=_VISIBILITY_SECONDS))

        thread = threading.Thread(target=extend, name="visibility", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            # A call that is under way does no harm: a message is deleted all the same, or comes back a little later.
            thread.join(timeout=1)

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete what is settled. Raises faults of SQS: what was not deleted comes again, and its record answers."""
        self._let_go(messages)
        self._in_batches(messages, self._delete)

    def hide(self, messages: Sequence[Message], *, seconds: int) -> None:
        """Have the messages come back after that many seconds; if SQS does not do it, when their own time is over."""
        self._let_go(messages)
        self._in_batches(messages, partial(self._hide, seconds=seconds))

    def _let_go(self, messages: Iterable[Message]) -> None:
        gone = {message.receipt for message in messages}
        # A new dictionary, because the thread that extends goes through the old one.
        self._in_hand = {receipt: message for receipt, message in self._in_hand.items() if receipt not in gone}

    def _in_batches(self, messages: Iterable[Message], call: Callable[[Sequence[Message]], None]) -> None:
        of_all = list(messages)
        batches = [of_all[start : start + BATCH] for start in range(0, len(of_all), BATCH)]
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
        return [
            Message(
                message["ReceiptHandle"],
                message["Body"],
                int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for message in received.get("Messages", [])
        ]

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


def _characters(messages: Iterable[Message]) -> int:
    return sum(len(message.body) for message in messages)


def _log_failures(what: str, failures: Iterable[BatchResultErrorEntryTypeDef]) -> None:
    for failure in failures:
        logger.warning("SQS did not %s: %s: %s", what, failure["Code"], failure.get("Message", ""))
