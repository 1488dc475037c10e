"""A server in the place of AWS that answers as it is told, and who asks it."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from eventing import aws

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY = {"Source": "s", "DetailType": "t", "Detail": '{"a": "\\u00e4"}', "EventBusName": "default", "Time": 1764000000}
BODY = json.dumps({"Entries": [ENTRY]}).encode()
REGION = "us-east-1"


class Server:
    """Answers every call as it is told, once as many are asked as it waits for, and keeps what was asked."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b'{"FailedEntryCount": 0, "Entries": []}')
        # Of those whose body is known.
        self.answers: dict[bytes, tuple[int, dict[str, str], bytes]] = {}
        self.waits_for = threading.Barrier(1)
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self._sockets: list[socket.socket] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                owner.connections += 1
                owner._sockets.append(self.request)
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                owner.waits_for.wait(10)
                status, headers, content = owner.answers.get(body, owner.answer)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def hang_up(self) -> None:
        """Close every connection, as servers do that have waited long enough for more."""
        for connection in self._sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The variables that boto3 reads; what is set with it counts from the next call on."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    aws.reset()
    yield monkeypatch
    aws.reset()


@pytest.fixture
def server(environment: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    environment.setenv("AWS_ENDPOINT_URL", server.url)
    yield server
    aws.reset()
    server.server.shutdown()
    server.server.server_close()


def by_boto3() -> Any:
    return aws.events_client(REGION).put_events(Entries=[ENTRY])  # type: ignore[list-item]


def one_of_several() -> Any:
    first, *others = aws.events_calls(REGION).together("PutEvents", [BODY])
    assert not others
    if isinstance(first, Exception):
        raise first
    return first
