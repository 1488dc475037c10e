"""AWS for the product's processes: over HTTP, as botocore speaks to it, with the faults of `faults`."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.chaos import queues
from tests.chaos.faults import Fault
from tests.chaos.queues import ServiceError

if TYPE_CHECKING:
    from tests.chaos.buses import Buses
    from tests.chaos.faults import Faults
    from tests.chaos.queues import Queue

_IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Account>111111111111</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""
_HANGING_UP = {Fault.RESET_AFTER, Fault.SILENCE, Fault.LONG_SILENCE}
_CREDENTIAL = re.compile(r"Credential=([^/]+)/")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections of processes that were killed break: nothing to say."""


class FakeAws:
    """The server. A process is known by its access key id, which is its name."""

    def __init__(self, faults: Faults, buses: Buses, queue: Queue) -> None:
        self.faults, self.buses, self.queue = faults, buses, queue
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"]))
                owner.answer(self, text)

            def send(self, status: int, content_type: str, text: str, **headers: str) -> None:
                lines = [f"HTTP/1.1 {status} {status}", f"Content-Type: {content_type}"]
                lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
                body = text.encode()
                lines += [f"Content-Length: {len(body)}", "", ""]
                self.wfile.write("\r\n".join(lines).encode() + body)

            def hang_up(self) -> None:
                self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        queue.url = f"{self.url}/111111111111/{queues.NAME}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, connection: Any, text: bytes) -> None:
        """Answer one call, if its fault lets it."""
        if b"Action=GetCallerIdentity" in text:
            connection.send(200, "text/xml", _IDENTITY)
            return
        service, _, operation = connection.headers["X-Amz-Target"].partition(".")
        found = _CREDENTIAL.search(connection.headers.get("Authorization", ""))
        process = found[1] if found else ""
        fault = self.faults.befalling(operation)
        if fault is Fault.RESET_BEFORE:
            connection.hang_up()
            return
        if fault is Fault.DELAY:
            time.sleep(self.faults.seconds(fault))
        request = json.loads(text)
        if service == "AmazonSQS":
            status, body, headers = self._of_sqs(operation, request, fault)
        else:
            status, body, headers = *self._of_events(operation, request, fault, process), {}
        if strike := self.faults.ambush(process, operation):
            strike()
        if fault in {Fault.SILENCE, Fault.LONG_SILENCE}:
            time.sleep(self.faults.seconds(fault))
        if fault in _HANGING_UP:
            connection.hang_up()
            return
        answer = "{{{" if fault is Fault.GARBLED else json.dumps(body)
        connection.send(status, "application/x-amz-json-1.0", answer, **headers)

    def _of_events(
        self, operation: str, request: dict[str, Any], fault: Fault, process: str
    ) -> tuple[int, dict[str, Any]]:
        if fault is Fault.THROTTLE:
            return 400, _error("ThrottlingException")
        if fault is Fault.SERVER_ERROR:
            return 500, _error("InternalFailure")
        if operation == "DescribeEventBus":
            bus = self.buses.describe(request["Name"])
            return (200, bus) if bus else (400, _error("ResourceNotFoundException"))
        if operation == "PutEvents":
            answer = self.buses.put(
                request["Entries"],
                lambda _: self.faults.entry_error() if fault is Fault.FAILED_ENTRIES else None,
                process=process,
                is_in_doubt=fault in {*_HANGING_UP, Fault.GARBLED},
            )
            return (200, answer) if answer else (400, _error("ValidationException"))
        return 400, _error("UnknownOperationException")

    def _of_sqs(
        self, operation: str, request: dict[str, Any], fault: Fault
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        if fault is Fault.THROTTLE:
            return 400, _error("com.amazonaws.sqs#RequestThrottled"), {"x_amzn_query_error": "RequestThrottled;Sender"}
        if fault is Fault.SERVER_ERROR:
            return 500, _error("InternalFailure"), {}
        try:
            return 200, self.queue.call(operation, request), {}
        except ServiceError as error:
            return (
                400,
                _error(f"com.amazonaws.sqs#{error.code}"),
                {"x_amzn_query_error": f"{error.query_code};Sender"},
            )


def _error(code: str) -> dict[str, Any]:
    return {"__type": code, "message": f"{code} happened"}
