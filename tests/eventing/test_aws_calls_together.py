"""Calls beside boto3's own that are made at once: each has its own answer, or fault."""

from __future__ import annotations

import json
import os
import resource
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pycurl
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from eventing import aws, aws_calls
from tests.eventing.aws_server import BODY, ENTRY, REGION, Server, by_boto3, environment, one_of_several, server

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["environment", "server"]


def test_calls_are_made_at_once_and_each_has_its_own_answer(server: Server) -> None:
    bodies = [json.dumps({"number": number}).encode() for number in range(10)]
    server.answers = {body: (200, {}, body) for body in bodies}
    server.answers[bodies[3]] = (400, {}, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}')
    server.waits_for = threading.Barrier(len(bodies))

    for _ in range(2):
        results = aws.events_calls(REGION).together("PutEvents", bodies)

        refused = results.pop(3)
        assert isinstance(refused, ClientError)
        assert refused.response["Error"]["Code"] == "ThrottlingException"
        assert results == [{"number": number} for number in range(10) if number != 3]
    assert server.connections == len(bodies)


def test_a_call_that_is_not_answered_costs_the_others_nothing(server: Server, environment: pytest.MonkeyPatch) -> None:
    environment.setattr(aws, "_EVENTS", aws._EVENTS.merge(Config(connect_timeout=0.3, read_timeout=0.3)))
    aws.reset()
    breaks_off = {"Content-Length": "9"}
    server.answers = {b'"late"': (200, breaks_off, b"{}")}

    late, answer = aws.events_calls(REGION).together("PutEvents", [b'"late"', BODY])

    assert isinstance(late, ReadTimeoutError)
    assert answer == {"FailedEntryCount": 0, "Entries": []}
    assert by_boto3()["FailedEntryCount"] == 0


def test_one_call_is_made_by_the_thread_that_asks_for_it() -> None:
    def who(argument: int) -> dict[str, Any]:
        return {str(argument): threading.current_thread()}

    assert aws_calls.at_once(who, [1]) == [{"1": threading.current_thread()}]
    both = aws_calls.at_once(who, [1, 2])
    assert [*map(list, both)] == [["1"], ["2"]]  # type: ignore[arg-type]
    assert {"1": threading.current_thread()} not in both


def test_no_calls_together_are_none(server: Server) -> None:
    assert aws.events_calls(REGION).together("PutEvents", []) == []
    assert server.asked == []


def test_behind_a_proxy_each_call_has_its_own_answer_too(server: Server, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "http://events.example")
    environment.setenv("http_proxy", server.url)
    aws.reset()
    server.waits_for = threading.Barrier(2)
    server.answers = {json.dumps({"Entries": [{**ENTRY, "Source": "bad"}]}).encode(): (400, {}, b"{}")}

    refused, answer = aws.events_calls(REGION).together("PutEvents", [BODY.replace(b'"s"', b'"bad"'), BODY])

    assert isinstance(refused, ClientError)
    assert isinstance(answer, dict)
    assert answer["FailedEntryCount"] == 0


def test_what_goes_wrong_with_all_calls_together_is_the_fault_of_each(
    server: Server, environment: pytest.MonkeyPatch
) -> None:
    def break_down() -> None:
        raise pycurl.error("initializing curl-multi failed")

    with environment.context() as patch:
        patch.setattr(pycurl, "CurlMulti", break_down)
        faults = aws.events_calls(REGION).together("PutEvents", [BODY, BODY])

    assert [type(fault) for fault in faults] == [ConnectionClosedError] * 2
    assert server.asked == []
    assert one_of_several() == by_boto3_without_metadata()


def by_boto3_without_metadata() -> Any:
    return {name: value for name, value in by_boto3().items() if name != "ResponseMetadata"}


def test_calls_that_are_interrupted_leave_nothing_behind_for_the_next(
    server: Server, environment: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with environment.context() as patch:
        patch.setattr(aws_calls, "_wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            aws.events_calls(REGION).together("PutEvents", [b"1", b"2"])

    server.answers = {body: (200, {}, b'{"is": %b}' % body) for body in (b"3", b"4")}
    assert aws.events_calls(REGION).together("PutEvents", [b"3", b"4"]) == [{"is": 3}, {"is": 4}]


@pytest.fixture
def many_files() -> Iterator[None]:
    """More open files than select() can watch."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    with ExitStack() as files:
        for _ in range(1100):
            files.enter_context(Path(os.devnull).open())
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_process_with_many_files_waits_for_its_answers_all_the_same(
    server: Server, environment: pytest.MonkeyPatch
) -> None:
    wait = aws_calls._wait
    waits = 0

    def counted(bundle: pycurl.CurlMulti, running: int) -> None:
        nonlocal waits
        waits += 1
        wait(bundle, running)

    environment.setattr(aws_calls, "_wait", counted)
    server.waits_for = threading.Barrier(2)
    release = threading.Timer(0.2, server.waits_for.wait)
    release.start()

    assert one_of_several()["FailedEntryCount"] == 0
    release.join()
    # It does not look again and again without a pause.
    assert waits < 500
