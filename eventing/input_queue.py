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
from typing import TYPE_CHECKING, cast

from botocore import xform_name

from eventing import aws
from eventing.aws_calls import at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from eventing.aws_calls import Answer

logger = logging.getLogger(__name__)

BATCH = 10
CALLS_AT_ONCE = 10
"""How many batches are received together while the queue is full."""

MAX_CHARACTERS = 2 * 1024 * 1024
"""How long the bodies may be that are carried out together: all of it is in memory, and then in one transaction."""

# For how long a message is nobody else's; longer than the template's, for queues that others made, and than a call's
# time-out (33 s) and the pause between two extensions together.
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
        # One receives ahead, the other deletes.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="sqs")
        # How many receive calls are made together.
        self._calls_at_once = 1
        self._coming: Future[list[Message]] | None = None
        self._deletions: Future[None] | None = None
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
        (result,) = self._results_at_last("ReceiveMessage", [_reception(wait_seconds)])
        if isinstance(result, Exception):
            raise result
        return self._received([result])

    def prefetch(self) -> None:
        """Begin to receive what follows, up to a hundred messages, if the last calls gave enough to expect more."""
        if self._calls_at_once > 1:
            self._coming = self._threads.submit(self._receive_ahead, self._calls_at_once)

    def prefetched(self) -> list[Message]:
        """What came of it."""
        coming, self._coming = self._coming, None
        if coming is None:
            self._calls_at_once = 1
            return []
        return coming.result()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep what is received from other consumers, until it is deleted or hidden or the block ends."""
        done = threading.Event()

        def extend() -> None:
            while not done.wait(_EXTENDED_EVERY_SECONDS):
                self._hide(self._all_in_hand(), seconds=_VISIBILITY_SECONDS)

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
            self._deletions = self._threads.submit(self._delete, messages)

    def finish_deletions(self) -> None:
        """Wait until what is to be deleted is. Raises faults of SQS."""
        deletions, self._deletions = self._deletions, None
        if deletions is not None:
            deletions.result()

    def hide(self, messages: Sequence[Message], *, seconds: int) -> None:
        """Have the messages come back after that many seconds; if SQS does not do it, when their own time is over."""
        self._let_go(messages)
        self._hide(messages, seconds=seconds)

    def hand_back(self, *, seconds: int) -> None:
        """Hide all that was received, also ahead, and is not settled; what is being deleted is deleted first."""
        if self._deletions is not None:
            wait([self._deletions])
        self.prefetched()
        self.hide(self._all_in_hand(), seconds=seconds)

    def _all_in_hand(self) -> list[Message]:
        with self._hand:
            return list(self._in_hand.values())

    def _let_go(self, messages: Iterable[Message]) -> None:
        with self._hand:
            for message in messages:
                self._in_hand.pop(message.receipt, None)

    def _received(self, answers: Sequence[Answer]) -> list[Message]:
        """The messages that calls gave. The fuller they came back, the more are made next."""
        messages = [_message(given) for answer in answers for given in answer.get("Messages", [])]
        with self._hand:
            self._in_hand |= {message.receipt: message for message in messages}
        self._calls_at_once = _next_calls(len(answers), messages)
        return messages

    def _receive_ahead(self, calls: int) -> list[Message]:
        """They are not made once more if they fail: there will be others."""
        results = self._results("ReceiveMessage", [_reception(wait_seconds=0)] * calls)
        answers, failures = _apart(results)
        if failures:
            logger.warning("SQS gave fewer messages, %d of %d calls failed: %s", len(failures), calls, failures[0])
        return self._received([*answers, *[{} for _ in failures]])

    def _delete(self, messages: Sequence[Message]) -> None:
        self._settle(messages, "DeleteMessageBatch", "delete a message")

    def _hide(self, messages: Sequence[Message], *, seconds: int) -> None:
        operation = "ChangeMessageVisibilityBatch"
        try:
            self._settle(messages, operation, "change a message's visibility", VisibilityTimeout=seconds)
        except aws.ERRORS:
            logger.warning("SQS did not change the visibility of messages.", exc_info=True)

    def _settle(self, messages: Sequence[Message], operation: str, what: str, **more: int) -> None:
        """Do that to all of them, in batches. Raises the first fault, once all were tried."""
        requests = [{"Entries": _entries(few, more)} for few in _batches(messages)]
        answers, failures = _apart(self._results_at_last(operation, requests))
        for answer in answers:
            for failed in answer.get("Failed", []):
                logger.warning("SQS did not %s: %s: %s", what, failed["Code"], failed.get("Message", ""))
        if failures:
            raise failures[0]

    def _results_at_last(self, operation: str, requests: Sequence[Answer]) -> list[Answer | Exception]:
        """What each is answered. What fails is asked once more by boto3, with its retries: each may be repeated."""
        results = self._results(operation, requests)
        if failed := [index for index, result in enumerate(results) if isinstance(result, Exception)]:
            call = partial(self._call_by_boto3, operation)
            for index, result in zip(failed, at_once(call, [requests[index] for index in failed]), strict=True):
                results[index] = result
        return results

    def _results(self, operation: str, requests: Sequence[Answer]) -> list[Answer | Exception]:
        bodies = [json.dumps({"QueueUrl": self._url, **request}).encode() for request in requests]
        try:
            return aws.sqs_calls().together(operation, bodies)
        except aws.ERRORS as error:
            return [error] * len(requests)

    def _call_by_boto3(self, operation: str, request: Answer) -> Answer:
        call = getattr(aws.sqs_client(), xform_name(operation))
        return cast("Answer", call(QueueUrl=self._url, **request))


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


def _reception(wait_seconds: int) -> Answer:
    return {
        "MaxNumberOfMessages": BATCH,
        "WaitTimeSeconds": wait_seconds,
        "VisibilityTimeout": _VISIBILITY_SECONDS,
        "MessageSystemAttributeNames": ["ApproximateReceiveCount"],
    }


def _message(given: Answer) -> Message:
    receives = given.get("Attributes", {}).get("ApproximateReceiveCount", 1)
    return Message(given["ReceiptHandle"], given["Body"], int(receives))


def _entries(messages: Sequence[Message], more: Mapping[str, int]) -> list[Answer]:
    return [{"Id": str(index), "ReceiptHandle": message.receipt, **more} for index, message in enumerate(messages)]


def _batches(messages: Sequence[Message]) -> list[Sequence[Message]]:
    return [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]


def _apart(results: Iterable[Answer | Exception]) -> tuple[list[Answer], list[Exception]]:
    """The answers, and the faults."""
    answers: list[Answer] = []
    faults: list[Exception] = []
    for result in results:
        if isinstance(result, Exception):
            faults.append(result)
        else:
            answers.append(result)
    return answers, faults
