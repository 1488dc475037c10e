"""The benchmarks' AWS, asked by the real boto3."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks import aws_stub
from benchmarks.processes import Failed, free_port
from benchmarks.records import check_records

if TYPE_CHECKING:
    from collections.abc import Iterator

BUS = "arn:aws:events:us-east-1:720291373173:event-bus/bench"


class Stub:
    """A stub that serves in a thread."""

    def __init__(self) -> None:
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._serving = self._loop.create_task(aws_stub.serve([self.port], ready=ready.set))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert ready.wait(10)

    def client(self, service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload] # any service
            service,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def control(self, what: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_stub/{what}", b"{}", timeout=10) as response:
            return json.load(response)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.stop()


def entry(number: int = 1, **changes: Any) -> dict[str, Any]:
    resources = ["urn:item:1", f"urn:event:{number}:{number}"]
    sent = {"Source": "s", "DetailType": "t", "Detail": "{}", "EventBusName": BUS, "Resources": resources}
    return {**sent, **changes}


def test_put_events_accepts_entries_and_keeps_them_in_order(stub: Stub) -> None:
    client = stub.client("events")
    first = client.put_events(Entries=[entry(1), entry(2)])
    client.put_events(Entries=[entry(3)])
    assert first["FailedEntryCount"] == 0
    assert len({answer["EventId"] for answer in first["Entries"]}) == 2
    records = stub.control("records")
    assert [resources[1] for _, _, _, resources in records] == [entry(number)["Resources"][1] for number in (1, 2, 3)]
    assert {bus for _, _, bus, _ in records} == {BUS}
    check_records(records, events=3, buses=1, in_order=True)


def test_put_events_refuses_an_entry_without_detail_and_takes_the_others(stub: Stub) -> None:
    answer = stub.client("events").put_events(Entries=[entry(1, Detail=""), entry(2)])
    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][0]["ErrorCode"] == "InvalidArgument"
    assert answer["Entries"][1]["EventId"]
    assert stub.control("counts")["accepted"] == 1


def test_put_events_refuses_eleven_entries(stub: Stub) -> None:
    with pytest.raises(ClientError, match="ValidationException"):
        stub.client("events").put_events(Entries=[entry(number) for number in range(11)])


def test_buses_and_the_account_are_told(stub: Stub) -> None:
    assert stub.client("events").describe_event_bus(Name=BUS) | {"ResponseMetadata": None} == {
        "Name": "bench",
        "Arn": BUS,
        "ResponseMetadata": None,
    }
    assert stub.client("sts").get_caller_identity()["Account"] == "720291373173"


def test_a_message_comes_until_it_is_deleted(stub: Stub) -> None:
    client = stub.client("sqs")
    url = client.create_queue(QueueName="input")["QueueUrl"]
    client.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "grün"}])
    asked = {"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageSystemAttributeNames": ["ApproximateReceiveCount"]}
    (message,) = client.receive_message(**asked)["Messages"]
    assert message["Body"] == "grün"
    assert message["MD5OfBody"] == hashlib.md5("grün".encode()).hexdigest()
    assert message["Attributes"] == {"ApproximateReceiveCount": "1"}
    assert "Messages" not in client.receive_message(**asked)
    entries = [{"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}]
    client.change_message_visibility_batch(QueueUrl=url, Entries=[{**entries[0], "VisibilityTimeout": 0}])
    (again,) = client.receive_message(**asked)["Messages"]
    assert again["Attributes"] == {"ApproximateReceiveCount": "2"}
    client.delete_message_batch(QueueUrl=url, Entries=[{"Id": "a", "ReceiptHandle": again["ReceiptHandle"]}])
    counts = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_a_long_poll_ends_when_a_message_becomes_visible_again(stub: Stub) -> None:
    client = stub.client("sqs")
    url = client.create_queue(QueueName="input")["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="late")
    client.receive_message(QueueUrl=url, VisibilityTimeout=1)
    (message,) = client.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    assert message["Body"] == "late"


def test_a_queue_that_is_not_there_is_refused_as_aws_does(stub: Stub) -> None:
    client = stub.client("sqs")
    with pytest.raises(client.exceptions.QueueDoesNotExist):
        client.get_queue_url(QueueName="nowhere")


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ((1, 1), "twice"),
        ((2, 1), "overtook"),
        ((1,), "1 events were sent, 2 were waiting"),
    ],
)
def test_a_wrong_result_gives_no_figure(stub: Stub, numbers: tuple[int, ...], problem: str) -> None:
    client = stub.client("events")
    for number in numbers:
        client.put_events(Entries=[entry(number)])
    with pytest.raises(Failed, match=problem):
        check_records(stub.control("records"), events=2, buses=1, in_order=True)
