"""AWS as the benchmarks need it: EventBridge, SQS and STS in memory, fast enough not to be what is measured.

Usage: python -m benchmarks.aws_stub --port 4600 [--control-port 4601] [--processes N] [--latency-ms N]

It answers as AWS does to what well-behaved clients send, checks no signature, and keeps what it was sent until it is
asked. Process i also listens on the control port + i, and only there can it be told apart from the others. Queues are
the process's own: use one process for SQS.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.queues import ACCOUNT, Queues, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ENTRIES = 10
_REQUIRED = ("Source", "DetailType", "Detail")
_TARGET = re.compile(rb"\r\nx-amz-target: *([^\r]+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_IDENTITY = f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::{ACCOUNT}:user/benchmark</Arn><UserId>AIDABENCHMARK</UserId><Account>{ACCOUNT}</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""

Body = dict[str, Any]


class Stub:
    """What one process was sent, and how it answers."""

    def __init__(self, *, endpoint: str, latency_ms: float) -> None:
        self.latency = latency_ms / 1000
        self.endpoint = endpoint
        self.queues = Queues(endpoint)
        # Of each accepted entry: when (of the system's monotonic and of its real clock, in ns), the bus, its resources.
        self.accepted: list[tuple[int, int, str, list[str]]] = []
        self.calls = 0

    def put_events(self, request: Body) -> Body:
        entries = request.get("Entries", [])
        if not 1 <= len(entries) <= MAX_ENTRIES:
            message = f"Value '{len(entries)}' at 'entries' failed to satisfy constraint: 1 to {MAX_ENTRIES} members"
            raise Refused("ValidationException", message)
        self.calls += 1
        now, wall = time.monotonic_ns(), time.time_ns()
        answers = []
        for entry in entries:
            if missing := [name for name in _REQUIRED if not entry.get(name)]:
                message = f"Parameter {missing[0]} is not valid. Reason: {missing[0]} is a required argument."
                answers.append({"ErrorCode": "InvalidArgument", "ErrorMessage": message})
                continue
            self.accepted.append((now, wall, entry.get("EventBusName", "default"), entry.get("Resources", [])))
            answers.append({"EventId": f"{os.getpid():08x}-0000-4000-8000-{len(self.accepted):012x}"})
        return {"FailedEntryCount": sum("ErrorCode" in answer for answer in answers), "Entries": answers}

    def describe_event_bus(self, request: Body) -> Body:
        name = request.get("Name", "default")
        arn = name if name.startswith("arn:") else f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/{name}"
        return {"Name": arn.rpartition("/")[2], "Arn": arn}

    def counts(self) -> Body:
        return {"accepted": len(self.accepted), "calls": self.calls, "queues": self.queues.counts()}

    def control(self, path: str, body: bytes) -> Any:
        """What the benchmarks ask, and AWS has not."""
        match path:
            case "/_stub/counts":
                return self.counts()
            case "/_stub/records":
                return self.accepted
            case "/_stub/reset":
                settings = orjson.loads(body or b"{}")
                self.latency = settings.get("latency_ms", self.latency * 1000) / 1000
                self.accepted, self.calls = [], 0
                self.queues = Queues(self.endpoint)
            case "/_stub/fill":
                request = orjson.loads(body)
                return {"at": self.queues.named(request["queue"]).fill(request["bodies"])}
            case _:
                raise Refused("UnknownOperationException", path)
        return {}


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with kept connections, as far as the SDKs use it."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._events: dict[str, Callable[[Body], Body]] = {
            "AWSEvents.PutEvents": stub.put_events,
            "AWSEvents.DescribeEventBus": stub.describe_event_bus,
        }
        self._buffer = b""
        self._transport: asyncio.Transport
        self._waiting: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        for task in self._waiting:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = _LENGTH.search(head)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < total:
                return
            body, self._buffer = self._buffer[end + 4 : total], self._buffer[total:]
            self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        target = _TARGET.search(head)
        operation = target[1].decode() if target else ""
        try:
            if operation == "AmazonSQS.ReceiveMessage":
                task = asyncio.ensure_future(self._receive(orjson.loads(body)))
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)
            elif operation.startswith("AmazonSQS."):
                self._answer(self._stub.queues.serve(operation.partition(".")[2], orjson.loads(body)), version="1.0")
            elif operation in self._events:
                self._answer_later(_json(self._events[operation](orjson.loads(body))))
            elif b"Action=GetCallerIdentity" in body:
                self._write(200, _IDENTITY.encode(), "text/xml")
            else:
                path = head.split(b" ", 2)[1].decode()
                self._answer(self._stub.control(path, body))
        except Refused as refused:
            self._refuse(refused)

    async def _receive(self, request: Body) -> None:
        try:
            self._answer(await self._stub.queues.receive(request), version="1.0")
        except Refused as refused:
            self._refuse(refused)

    def _answer_later(self, body: bytes) -> None:
        if self._stub.latency:
            asyncio.get_running_loop().call_later(self._stub.latency, self._write, 200, body)
        else:
            self._write(200, body)

    def _answer(self, body: Any, *, version: str = "1.1") -> None:
        self._write(200, _json(body), f"application/x-amz-json-{version}")

    def _refuse(self, refused: Refused) -> None:
        extra = f"x-amzn-query-error: {refused.query_code};Sender\r\n" if refused.query_code else ""
        self._write(400, _json({"__type": refused.code, "message": refused.message}), extra=extra)

    def _write(
        self, status: int, body: bytes, content_type: str = "application/x-amz-json-1.1", extra: str = ""
    ) -> None:
        if not self._transport.is_closing():
            head = (
                f"HTTP/1.1 {status} {'OK' if status == 200 else 'Bad Request'}\r\nContent-Type: {content_type}\r\n"
                f"x-amzn-RequestId: 00000000-0000-0000-0000-000000000000\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
            )
            self._transport.write(head.encode() + body)


def _json(value: Any) -> bytes:
    return orjson.dumps(value)


def _socket(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    return listener


async def serve(ports: list[int], *, latency_ms: float = 0, ready: Callable[[], None] = lambda: None) -> None:
    """Serve on these ports until cancelled."""
    stub = Stub(endpoint=f"http://127.0.0.1:{ports[0]}", latency_ms=latency_ms)
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: _Connection(stub), sock=_socket(port), backlog=512) for port in ports]
    ready()
    try:
        await asyncio.Event().wait()
    finally:
        for server in servers:
            server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="AWS for benchmarks, in memory.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--latency-ms", type=float, default=0)
    options = parser.parse_args()
    number = 0
    children: list[int] = []
    for other in range(1, options.processes):
        if not (child := os.fork()):
            number, children = other, []
            break
        children.append(child)
    signal.signal(signal.SIGTERM, lambda *_: _end(children))
    ports = [options.port] + ([options.control_port + number] if options.control_port else [])
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(ports, latency_ms=options.latency_ms, ready=lambda: print("aws_stub: ready", flush=True)))


def _end(children: list[int]) -> None:
    for child in children:
        os.kill(child, signal.SIGTERM)
    raise SystemExit(0)


if __name__ == "__main__":
    main()
