"""The suite's own SQS does what SQS does: over HTTP, asked by the product's client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from eventing import aws as aws_clients
from tests.chaos import queues
from tests.chaos.buses import BUSES
from tests.chaos.faults import Fault
from tests.chaos.quiet_aws import without_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

    from tests.chaos.aws import FakeAws


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    """Without faults."""
    with without_faults(monkeypatch) as fake:
        yield fake


@pytest.fixture
def url(aws: FakeAws) -> str:
    return aws_clients.sqs_client().get_queue_url(QueueName=queues.NAME)["QueueUrl"]


def received(url: str, at_most: int = 10) -> list[tuple[str, str, int]]:
    """Body, receipt and receive count of what can be received now."""
    answer = aws_clients.sqs_client().receive_message(
        QueueUrl=url, MaxNumberOfMessages=at_most, MessageSystemAttributeNames=["ApproximateReceiveCount"]
    )
    return [
        (message["Body"], message["ReceiptHandle"], int(message["Attributes"]["ApproximateReceiveCount"]))
        for message in answer.get("Messages", [])
    ]


def test_an_answer_that_cannot_be_read_is_a_fault_of_aws_that_a_consumer_waits_out(
    aws: FakeAws, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BLOCKFORGER_INPUT_QUEUE_URL, settings.BLOCKFORGER_INPUT_QUEUE_NAME = "", queues.NAME
    monkeypatch.setattr(aws.faults, "befalling", lambda operation: Fault.GARBLED)
    with pytest.raises(aws_clients.ERRORS, match="cannot be read"):
        aws_clients.input_queue_url()
    monkeypatch.setattr(aws.faults, "befalling", lambda operation: Fault.NONE)
    assert aws_clients.input_queue_url() == aws.queue.url


def test_a_message_in_hand_is_hidden_until_it_is_given_back(aws: FakeAws, url: str) -> None:
    aws.queue.send("one")
    ((body, receipt, count),) = received(url)
    assert (body, count, received(url)) == ("one", 1, [])
    aws_clients.sqs_client().change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=0)
    assert [(body, count) for body, _, count in received(url)] == [("one", 2)]


def test_a_message_comes_again_when_its_time_is_over(aws: FakeAws, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "VISIBILITY_SECONDS", 0.1)
    aws.queue.send("one")
    received(url)
    time.sleep(0.2)
    assert [(body, count) for body, _, count in received(url)] == [("one", 2)]


def test_only_the_last_receipt_deletes(aws: FakeAws, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "VISIBILITY_SECONDS", 0.0)
    aws.queue.send("one")
    receipts = [received(url)[0][1] for _ in range(2)]
    for receipt, left in zip(receipts, [["one"], []], strict=True):
        done = aws_clients.sqs_client().delete_message_batch(
            QueueUrl=url, Entries=[{"Id": "a", "ReceiptHandle": receipt}]
        )
        assert [entry["Id"] for entry in done["Successful"]] == ["a"]
        assert aws.queue.bodies() == left


def test_what_was_received_twenty_times_is_a_dead_letter(
    aws: FakeAws, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "VISIBILITY_SECONDS", 0.0)
    aws.queue.send("one")
    assert [received(url)[0][2] for _ in range(20)] == list(range(1, 21))
    assert received(url) == []
    assert aws.queue.dead_letters == ["one"]


def test_a_misbehaving_queue_brings_back_what_was_deleted(aws: FakeAws, url: str) -> None:
    aws.queue.misbehaves = True
    for number in range(300):
        aws.queue.send(str(number))
    seen: list[str] = []
    while aws.queue.bodies():
        for body, receipt, _ in received(url):
            seen.append(body)
            aws_clients.sqs_client().delete_message(QueueUrl=url, ReceiptHandle=receipt)
        aws.queue.hurry()
    assert set(seen) == {str(number) for number in range(300)}
    assert len(seen) > 300


def test_a_bus_that_does_not_exist_answers_with_success_and_drops_the_event(aws: FakeAws) -> None:
    entry = {
        "Source": "s",
        "DetailType": "pets.POST",
        "Detail": '{"tenant": "alpha", "payload": {}}',
        "Resources": ["urn:blockforger:item:alpha:pets:1", "urn:blockforger:event:e:1"],
    }
    events = aws_clients.events_client("us-east-1")
    for bus in (BUSES[0], BUSES[0] + "-missing"):
        answer = events.put_events(Entries=[{**entry, "EventBusName": bus}])  # type: ignore[typeddict-item]
        assert answer["FailedEntryCount"] == 0
    assert [acceptance.bus for acceptance in aws.buses.accepted] == [BUSES[0]]
    assert events.describe_event_bus(Name=BUSES[0])["Arn"] == BUSES[0]
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.describe_event_bus(Name=BUSES[0] + "-missing")


def test_an_ambush_strikes_one_call_of_one_process_when_it_is_done(aws: FakeAws, url: str) -> None:
    struck: list[int] = []
    aws.faults.lay_ambush("somebody-else", "SendMessage", lambda: struck.append(-1))
    aws.faults.lay_ambush("test", "ReceiveMessage", lambda: struck.append(len(aws.queue.bodies())))
    aws.queue.send("one")
    received(url)
    received(url)
    assert struck == [1]
