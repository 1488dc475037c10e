"""An EventBridge that answers as a test wants: over HTTP, so that boto3 is the real one."""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.boto3_environment import asking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Entry = dict[str, Any]

_IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Account>{account}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""
_NO_IDENTITY = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"


def accepted(entries: list[Entry]) -> tuple[int, dict[str, Any]]:
    return each(entries, lambda entry: None)


def each(entries: list[Entry], error_of: Callable[[Entry], str | None]) -> tuple[int, dict[str, Any]]:
    """A 200 in which the entries for which `error_of` gives a code have failed."""
    answers = [
        {"ErrorCode": code, "ErrorMessage": f"{code} happened"}
        if (code := error_of(entry))
        else {"EventId": str(uuid.uuid4())}
        for entry in entries
    ]
    return 200, {"FailedEntryCount": sum("ErrorCode" in answer for answer in answers), "Entries": answers}


def failed(status: int, code: str) -> tuple[int, dict[str, Any]]:
    return status, {"__type": code, "message": f"{code} happened"}


def exists(arn: str) -> tuple[int, dict[str, Any]]:
    return 200, {"Name": arn.rpartition("/")[2], "Arn": arn}


class EventBridge:
    """The server: what it was sent, call by call, which buses were described, and how it answers both."""

    def __init__(self) -> None:
        self.calls: list[list[Entry]] = []
        self.answering: Callable[[list[Entry]], tuple[int, dict[str, Any]]] = accepted
        self.described: list[str] = []
        self.describing: Callable[[str], tuple[int, dict[str, Any]]] = exists
        # The account that we are of, as STS tells us. None: it does not.
        self.account: str | None = None
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"]))
                if b"Action=GetCallerIdentity" in text:
                    if owner.account:
                        self._send(200, "text/xml", _IDENTITY.format(account=owner.account))
                    else:
                        self._send(403, "text/xml", _NO_IDENTITY)
                    return
                request = json.loads(text)
                match self.headers["X-Amz-Target"]:
                    case "AWSEvents.PutEvents":
                        with owner._lock:
                            owner.calls.append(request["Entries"])
                        status, body = owner.answering(request["Entries"])
                    case "AWSEvents.DescribeEventBus":
                        with owner._lock:
                            owner.described.append(request["Name"])
                        status, body = owner.describing(request["Name"])
                    case target:
                        status, body = failed(400, f"Unexpected {target}")
                self._send(status, "application/x-amz-json-1.1", json.dumps(body))

            def _send(self, status: int, content_type: str, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def entries(self) -> list[Entry]:
        """All entries, in the order in which they came."""
        return [entry for call in self.calls for entry in call]


@pytest.fixture
def event_bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBridge]:
    """An EventBridge that accepts everything until it is told otherwise; all clients of boto3 use it."""
    bridge = EventBridge()
    with asking(bridge.url, monkeypatch):
        yield bridge
    bridge.server.shutdown()
    bridge.server.server_close()
