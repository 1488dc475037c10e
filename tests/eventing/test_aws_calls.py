"""Calls beside boto3's own: the same requests, answers and errors, from the same environment."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.session import Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventing import answers, aws
from eventing.aws_calls import Calls
from tests.eventing.aws_server import BODY, ENTRY, REGION, Server, by_boto3, environment, one_of_several, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["environment", "server"]


def alone() -> Any:
    return aws.events_calls(REGION)("PutEvents", BODY)


@pytest.fixture(params=[alone, one_of_several])
def by_us(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """The call as we make it, in both ways."""
    call: Callable[[], Any] = request.param
    return call


def error_of(call: Callable[[], object]) -> ClientError | BotoCoreError:
    with pytest.raises((ClientError, BotoCoreError)) as raised:
        call()
    return raised.value  # type: ignore[return-value]


@pytest.mark.usefixtures("aws")
def test_a_bus_accepts_what_we_send_and_says_what_was_wrong_with_it(by_us: Callable[[], Any]) -> None:
    good, bad = by_us(), aws.events_calls(REGION)("PutEvents", BODY.replace(b'"Source": "s", ', b""))

    assert answers.of_entry(good["Entries"][0]).event_id
    assert good["FailedEntryCount"] == by_boto3()["FailedEntryCount"] == 0
    assert bad["Entries"][0]["ErrorCode"] == "InvalidArgument"


@pytest.mark.usefixtures("aws")
def test_what_aws_refuses_is_the_error_that_boto3_raises() -> None:
    ours = error_of(lambda: aws.events_calls(REGION)("DescribeEventBus", b'{"Name": "nowhere"}'))
    theirs = error_of(lambda: aws.events_client(REGION).describe_event_bus(Name="nowhere"))

    assert type(ours) is type(theirs) is aws.events_client(REGION).exceptions.ResourceNotFoundException
    assert told_by(ours) == told_by(theirs)


def told_by(error: ClientError | BotoCoreError) -> object:
    """Code, text and status; the rest says when it was asked, and how often."""
    assert isinstance(error, ClientError)
    return error.operation_name, error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]


def test_the_request_is_what_boto3_sends(
    server: Server, environment: pytest.MonkeyPatch, by_us: Callable[[], Any]
) -> None:
    environment.setenv("AWS_SESSION_TOKEN", "token")
    aws.reset()

    by_boto3()
    by_us()

    (their_path, theirs, their_body), (path, ours, body) = server.asked
    same = ("content-type", "host", "x-amz-target", "x-amz-security-token")
    assert [ours[name] for name in same] == [theirs[name] for name in same]
    assert path == their_path == "/"
    # Whoever looks into CloudTrail finds both.
    assert theirs["user-agent"].startswith(ours["user-agent"].partition(" ua/")[0])
    assert json.loads(body) == json.loads(their_body)
    assert {"content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"} <= signed_by(ours)


def signed_by(headers: dict[str, str]) -> set[str]:
    """The headers under the signature of a call to EventBridge by `test`."""
    pattern = r"AWS4-HMAC-SHA256 Credential=test/\d{8}/us-east-1/events/aws4_request, ?SignedHeaders=(.*),"
    found = re.match(pattern, headers["authorization"])
    assert found
    return {*found[1].split(";")}


@cache
def client_of(url: str) -> Any:
    return Session().create_client("events", REGION, endpoint_url=url)


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@given(body=st.binary(min_size=1, max_size=200), secret=WORDS, token=st.none() | WORDS)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("path", ["", "/a/b", "/a%20b/~c"])
def test_a_signature_is_botocores(server: Server, path: str, body: bytes, secret: str, token: str | None) -> None:
    credentials = Credentials("test", secret, token)
    with closing(Calls(client_of(server.url + path), credentials, ca_bundle=None)) as calls:
        calls("PutEvents", body)

    _, headers, received = server.asked[-1]
    assert received == body
    asked = {name: headers[name] for name in signed_by(headers) - {"x-amz-date"}}
    request = AWSRequest("POST", server.url + path, asked, body)
    moment = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    with patch("botocore.auth.get_current_datetime", return_value=moment):
        SigV4Auth(credentials, "events", REGION).add_auth(request)
    assert headers["authorization"].replace(", ", ",") == request.headers["Authorization"].replace(", ", ",")


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'),
        (400, b'{"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "not you"}'),
        (400, b'{"__type": "ResourceNotFoundException", "message": "no such bus"}'),
        (400, b'{"__type": "InternalException", "message": "sorry"}'),
        (403, b'{"__type": "ExpiredTokenException", "message": "expired"}'),
        (413, b"<html>too large</html>"),
        (500, b""),
        (503, b"<html>Service Unavailable</html>"),
        (301, b""),
    ],
)
def test_an_error_is_read_as_boto3_reads_it(
    server: Server, status: int, content: bytes, by_us: Callable[[], Any]
) -> None:
    server.answer = (status, {"Content-Type": "application/x-amz-json-1.1"}, content)

    ours, theirs = error_of(by_us), error_of(by_boto3)

    assert type(ours) is type(theirs)
    assert told_by(ours) == told_by(theirs)
    assert answers.of_failed_call(ours) == answers.of_failed_call(theirs)


def test_an_error_of_sqs_has_the_code_that_boto3_gives_it(server: Server) -> None:
    code = "AWS.SimpleQueueService.NonExistentQueue"
    content = b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no such queue"}'
    server.answer = (400, {"x-amzn-query-error": f"{code};Sender"}, content)
    url = "http://127.0.0.1/1/queue"

    ours = error_of(lambda: aws.sqs_calls()("ReceiveMessage", json.dumps({"QueueUrl": url}).encode()))
    theirs = error_of(lambda: aws.sqs_client().receive_message(QueueUrl=url))

    assert type(ours) is type(theirs) is aws.sqs_client().exceptions.QueueDoesNotExist
    assert told_by(ours) == told_by(theirs)


def test_an_answer_that_is_announced_is_read_when_it_comes(environment: pytest.MonkeyPatch) -> None:
    code = b"AWS.SimpleQueueService.NonExistentQueue"
    content = b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist"}'

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 400 Bad Request\r\n")
        connection.sendall(b"x-amzn-query-error: %b;Sender\r\nContent-Length: %d\r\n\r\n" % (code, len(content)))
        connection.sendall(content)

    with listening(serve) as port:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        error = error_of(lambda: aws.sqs_calls()("ReceiveMessage", b"{}"))

    assert isinstance(error, ClientError)
    assert error.response["Error"]["Code"] == code.decode()


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]"])
def test_a_success_that_cannot_be_read_says_nothing(server: Server, content: bytes, by_us: Callable[[], Any]) -> None:
    server.answer = (200, {}, content)

    assert by_us() == {}


def test_nobody_there_is_the_error_that_boto3_raises(environment: pytest.MonkeyPatch, by_us: Callable[[], Any]) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        ours, theirs = error_of(by_us), error_of(by_boto3)

    assert isinstance(ours, EndpointConnectionError)
    assert (type(ours), str(ours)) == (type(theirs), str(theirs))


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server that does that with each connection. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=5)


@pytest.mark.parametrize("answered_before", [0, 1])
def test_an_answer_that_does_not_come_is_given_up(
    environment: pytest.MonkeyPatch, answered_before: int, by_us: Callable[[], Any]
) -> None:
    environment.setattr(aws, "_EVENTS", aws._EVENTS.merge(Config(connect_timeout=0.2, read_timeout=0.2)))
    given_up = threading.Event()

    def serve(connection: socket.socket) -> None:
        for _ in range(answered_before):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        given_up.wait(10)

    with listening(serve) as port:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for _ in range(answered_before):
            by_us()
        error = error_of(by_us)
        given_up.set()

    assert isinstance(error, ReadTimeoutError)
    assert answers.of_failed_call(error).verdict is answers.Verdict.RETRY


@contextmanager
def dead_end() -> Iterator[int]:
    """A port that takes no connection, and refuses none. Gives its number."""
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())
        yield full.getsockname()[1]


def test_a_connection_that_does_not_come_is_given_up(environment: pytest.MonkeyPatch, by_us: Callable[[], Any]) -> None:
    environment.setattr(aws, "_EVENTS", aws._EVENTS.merge(Config(connect_timeout=0.2, read_timeout=20)))
    with dead_end() as port:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        ours, theirs = error_of(by_us), error_of(by_boto3)

    assert type(ours) is type(theirs) is ConnectTimeoutError
    assert answers.of_failed_call(ours).verdict is answers.Verdict.RETRY


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"nonsense\r\n\r\n"])
def test_an_answer_that_breaks_off_is_the_error_that_boto3_raises(
    environment: pytest.MonkeyPatch, said: bytes, by_us: Callable[[], Any]
) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    with listening(serve) as port:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        ours = error_of(by_us)

    assert isinstance(ours, ConnectionClosedError)
    assert answers.of_failed_call(ours).verdict is answers.Verdict.RETRY


def test_a_server_that_cannot_prove_who_it_is_is_told_nothing(
    environment: pytest.MonkeyPatch, by_us: Callable[[], Any]
) -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with listening(serve) as port:
        environment.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{port}")
        error = error_of(by_us)

    assert isinstance(error, SSLError)
    assert b"PutEvents" not in b"".join(heard)


def test_connections_are_kept_and_one_that_was_closed_is_not_used_again(
    server: Server, by_us: Callable[[], Any]
) -> None:
    by_us()
    by_us()
    assert server.connections == 1

    server.answer = (200, {"Connection": "close"}, b"{}")
    by_us()
    server.answer = (200, {}, b"{}")
    by_us()
    assert server.connections == 2

    server.hang_up()
    by_us()
    assert server.connections == 3


def test_a_child_leaves_its_parents_connections_alone(server: Server, by_us: Callable[[], Any]) -> None:
    by_us()

    of_parent = aws.events_calls(REGION)

    child = os.fork()
    if child == 0:
        try:
            by_us()
            # To close one with TLS would end it for the parent, too.
            are_left = of_parent._idle and bool(of_parent._idle_bundles) is (by_us is one_of_several)
            os._exit(0 if are_left else 2)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    by_us()

    assert server.connections == 2
    assert len(server.asked) == 3


def test_without_credentials_nothing_is_sent(
    server: Server, environment: pytest.MonkeyPatch, by_us: Callable[[], Any]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws.reset()

    assert isinstance(error_of(by_us), NoCredentialsError)
    assert server.asked == []


def test_a_proxy_is_left_to_boto3(server: Server, environment: pytest.MonkeyPatch, by_us: Callable[[], Any]) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "http://events.example")
    environment.setenv("http_proxy", server.url)
    aws.reset()

    assert by_us()["FailedEntryCount"] == 0
    assert server.asked[0][0] == "http://events.example/"


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1"])
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_ENDPOINT_URL": "http://localhost:4566/prefix"},
        {"AWS_ENDPOINT_URL": "http://localhost:4566", "AWS_ENDPOINT_URL_EVENTBRIDGE": "https://vpce.example"},
    ],
)
def test_calls_go_where_boto3_sends_them(
    environment: pytest.MonkeyPatch, region: str, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    sent: list[str] = []

    def answer(request: Any, **_: object) -> AWSResponse:
        sent.append(request.url)
        raw: Any = type("Raw", (), {"stream": lambda *_: [b"{}"]})()
        return AWSResponse(request.url, 200, HTTPHeaders(), raw)

    client: Any = aws.events_client(region)
    client.meta.events.register("before-send.eventbridge", answer)
    client.put_events(Entries=[ENTRY])

    assert sent == [Calls(client, None, ca_bundle=None).url]
