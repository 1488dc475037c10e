from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from eventing import aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings


@pytest.fixture
def no_region(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    aws.reset()
    yield
    aws.reset()


@pytest.mark.usefixtures("aws_server")
def test_threads_that_ask_at_once_share_one_client() -> None:
    aws.reset()
    together = Barrier(8)

    def client(_: int) -> int:
        together.wait()
        return id(aws.sqs_client())

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(client, range(8)))) == 1


@pytest.mark.usefixtures("aws_server")
def test_a_forked_process_makes_its_own_client() -> None:
    parents = aws.sqs_client()

    child = os.fork()
    if child == 0:
        os._exit(0 if aws.sqs_client() is not parents else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert aws.sqs_client() is parents


@pytest.mark.usefixtures("aws_server")
def test_each_region_has_its_own_client_for_events() -> None:
    assert aws.events_client("eu-west-1").meta.region_name == "eu-west-1"
    assert aws.events_client("us-east-1").meta.region_name == "us-east-1"
    assert aws.events_client("eu-west-1") is aws.events_client("eu-west-1")


@pytest.mark.usefixtures("no_region")
def test_the_region_is_us_east_1_where_none_is_configured() -> None:
    assert aws.own_region() == "us-east-1"
    assert aws.logs_client().meta.region_name == "us-east-1"


@pytest.mark.usefixtures("aws_server")
def test_a_put_that_failed_is_left_to_the_outbox_to_repeat() -> None:
    config: Any = aws.events_client("us-east-1").meta.config

    assert config.retries == {"mode": "standard", "total_max_attempts": 1}


@pytest.mark.usefixtures("aws_server")
def test_a_long_poll_does_not_time_out() -> None:
    config: Any = aws.sqs_client().meta.config

    assert config.read_timeout > 20


def test_the_input_queue_is_found_by_its_name(stack: dict[str, str]) -> None:
    aws.sqs_client().send_message(QueueUrl=aws.input_queue_url(), MessageBody="found")

    (message,) = aws.sqs_client().receive_message(QueueUrl=stack["InputQueueUrl"])["Messages"]

    assert message["Body"] == "found"


@pytest.mark.usefixtures("aws")
def test_the_input_queues_url_is_taken_as_configured(settings: Settings) -> None:
    settings.BLOCKFORGER_INPUT_QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/1/elsewhere"

    assert aws.input_queue_url() == "https://sqs.us-east-1.amazonaws.com/1/elsewhere"


@pytest.mark.usefixtures("aws")
def test_a_missing_input_queue_is_told_with_its_remedy(settings: Settings) -> None:
    settings.BLOCKFORGER_INPUT_QUEUE_URL = ""
    settings.BLOCKFORGER_INPUT_QUEUE_NAME = "blockforger-input-nowhere"

    with pytest.raises(aws.QueueMissingError) as refusal:
        aws.input_queue_url()

    assert str(refusal.value) == (
        "There is no SQS queue 'blockforger-input-nowhere' in us-east-1. Make it with `manage.py deploy_stack`,"
        " or name another by BLOCKFORGER_INPUT_QUEUE_URL or BLOCKFORGER_INPUT_QUEUE_NAME."
    )
