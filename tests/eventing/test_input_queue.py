"""The input queue while SQS fails: what can be settled is, and what cannot is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from eventing import aws as aws_clients
from eventing.input_queue import InputQueue
from tests.chaos import queues
from tests.chaos.faults import Fault
from tests.chaos.queues import ServiceError
from tests.chaos.quiet_aws import without_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

    from eventing.input_queue import Message
    from tests.chaos.aws import FakeAws


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[FakeAws]:
    """An SQS that does nothing wrong by itself."""
    settings.BLOCKFORGER_INPUT_QUEUE_URL, settings.BLOCKFORGER_INPUT_QUEUE_NAME = "", queues.NAME
    with without_faults(monkeypatch) as fake:
        yield fake


@pytest.fixture
def queue(aws: FakeAws) -> InputQueue:
    """With forty messages."""
    for number in range(40):
        aws.queue.send(str(number))
    queue = InputQueue()
    queue.find()
    return queue


class Asked:
    """What is asked of the queue by one operation; a call with the poison in it is refused, the others at first."""

    def __init__(self, aws: FakeAws, operation: str, poison: Message) -> None:
        self.poison, self._operation = poison, operation
        self.times: dict[str, int] = {}
        self._call = aws.queue.call

    def __call__(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if operation != self._operation:
            return self._call(operation, request)
        receipts = [entry["ReceiptHandle"] for entry in request["Entries"]]
        self.times[receipts[0]] = self.times.get(receipts[0], 0) + 1
        if self.poison.receipt in receipts or self.times[receipts[0]] == 1:
            raise ServiceError("InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId")
        return self._call(operation, request)


def received(queue: InputQueue) -> list[Message]:
    """Thirty messages, as a consumer receives them."""
    messages = queue.receive(wait_seconds=1)
    queue.prefetch()
    return [*messages, *queue.prefetched()]


def test_a_call_ahead_that_fails_costs_nothing_but_its_own_messages(
    aws: FakeAws, queue: InputQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = queue.receive(wait_seconds=1)
    faults = iter([Fault.SERVER_ERROR])
    monkeypatch.setattr(aws.faults, "befalling", lambda operation: next(faults, Fault.NONE))

    queue.prefetch()
    ahead = queue.prefetched()

    assert (len(first), len(ahead)) == (10, 10)
    assert "SQS gave fewer messages, 1 of 2 calls failed" in caplog.text
    queue.hand_back(seconds=0)
    assert len(queue.receive(wait_seconds=1)) == 10


def test_while_sqs_is_away_nothing_comes_ahead_and_the_next_call_says_why(
    aws: FakeAws, queue: InputQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.receive(wait_seconds=1)
    monkeypatch.setattr(aws.faults, "befalling", lambda operation: Fault.SERVER_ERROR)

    queue.prefetch()

    assert queue.prefetched() == []
    with pytest.raises(aws_clients.ERRORS):
        queue.receive(wait_seconds=1)


def test_what_cannot_be_deleted_does_not_keep_the_rest_from_it(
    aws: FakeAws, queue: InputQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = received(queue)
    asked = Asked(aws, "DeleteMessageBatch", messages[0])
    monkeypatch.setattr(aws.queue, "call", asked)

    queue.delete(messages)
    with pytest.raises(ClientError, match="InvalidBatchEntryId"):
        queue.finish_deletions()

    assert len(messages) == 30
    assert {*aws.queue.bodies()} & {message.body for message in messages} == {message.body for message in messages[:10]}
    assert [*asked.times.values()] == [2, 2, 2]  # what failed was asked once more


def test_a_deletion_that_failed_is_told_by_the_next_which_is_carried_out(
    aws: FakeAws, queue: InputQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = received(queue)
    with monkeypatch.context() as patch:
        patch.setattr(aws.queue, "call", Asked(aws, "DeleteMessageBatch", messages[0]))
        queue.delete(messages[:10])
        with pytest.raises(ClientError):
            queue.delete(messages[10:])

    queue.hand_back(seconds=0)

    assert len(aws.queue.bodies()) == 20


def test_what_cannot_be_hidden_does_not_keep_the_rest_from_it(
    aws: FakeAws, queue: InputQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    messages = received(queue)
    monkeypatch.setattr(aws.queue, "call", Asked(aws, "ChangeMessageVisibilityBatch", messages[0]))

    queue.hand_back(seconds=0)

    assert "SQS did not change the visibility of messages." in caplog.text
    others = InputQueue()
    others.find()
    again = [message.body for message in received(others)]
    assert {*again} == {str(number) for number in range(40)} - {message.body for message in messages[:10]}


def test_what_sqs_did_not_delete_is_logged_even_if_another_call_fails(
    aws: FakeAws, queue: InputQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    messages = received(queue)
    asked = Asked(aws, "DeleteMessageBatch", messages[0])

    def call(operation: str, request: dict[str, Any]) -> dict[str, Any]:
        answer = asked(operation, request)
        return {**answer, "Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}

    monkeypatch.setattr(aws.queue, "call", call)

    queue.delete(messages)
    with pytest.raises(ClientError):
        queue.finish_deletions()

    assert caplog.text.count("SQS did not delete a message: InternalError") == 2
