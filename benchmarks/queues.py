"""SQS in memory, for aws_stub: what a consumer can see of a standard queue, in the JSON protocol."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "720291373173"
MAX_BATCH = 10
_DEFAULT_VISIBILITY = 30

Body = dict[str, Any]


class Refused(Exception):
    """An error as AWS answers it."""

    def __init__(self, code: str, message: str, *, query_code: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.query_code = code, message, query_code


@dataclass(slots=True)
class _Message:
    id: str
    body: str
    md5: str
    sent_at: float
    receives: int = 0
    receipt: str = ""
    visible_at: float = 0.0


@dataclass
class Queue:
    """A standard queue: at least once, visibility timeouts, long polls."""

    name: str
    visible: deque[_Message] = field(default_factory=deque)
    in_flight: dict[str, _Message] = field(default_factory=dict)
    # (when, receipt) of what is in flight; entries whose receipt is gone, or whose time has changed, are stale.
    due: list[tuple[float, str]] = field(default_factory=list)
    sent: int = 0
    deleted: int = 0
    last_delete_ns: int = 0
    arrival: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, body: str) -> _Message:
        self.sent += 1
        digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        message = _Message(str(uuid.UUID(int=self.sent)), body, digest, time.time())
        self.visible.append(message)
        self.arrival.set()
        return message

    def fill(self, bodies: list[str]) -> int:
        """Send them all at once. Returns the time of the system's monotonic clock, in ns."""
        for body in bodies:
            self.send(body)
        return time.monotonic_ns()

    def take(self, at_most: int, visibility: float) -> list[_Message]:
        self._bring_back()
        now = time.monotonic()
        taken = [self.visible.popleft() for _ in range(min(at_most, len(self.visible)))]
        for message in taken:
            message.receives += 1
            message.receipt = f"{message.id}#{message.receives}"
            self.in_flight[message.receipt] = message
            self._hide(message, now + visibility)
        return taken

    def delete(self, receipt: str) -> None:
        if self.in_flight.pop(receipt, None):
            self.deleted += 1
            self.last_delete_ns = time.monotonic_ns()

    def change(self, receipt: str, visibility: float) -> None:
        if message := self.in_flight.get(receipt):
            self._hide(message, time.monotonic() + visibility)
            self.arrival.set()

    def _hide(self, message: _Message, until: float) -> None:
        message.visible_at = until
        heapq.heappush(self.due, (until, message.receipt))

    def _bring_back(self) -> None:
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            until, receipt = heapq.heappop(self.due)
            message = self.in_flight.get(receipt)
            if message and message.visible_at == until:
                self.visible.append(self.in_flight.pop(receipt))

    def seconds_until_due(self) -> float:
        return max(self.due[0][0] - time.monotonic(), 0.001) if self.due else 3600.0


class Queues:
    """The queues of one account, and the operations on them."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._queues: dict[str, Queue] = {}

    def named(self, name: str) -> Queue:
        """The queue, made if need be."""
        return self._queues.setdefault(name, Queue(name))

    def counts(self) -> dict[str, Body]:
        return {
            queue.name: {
                "sent": queue.sent,
                "deleted": queue.deleted,
                "visible": len(queue.visible),
                "in_flight": len(queue.in_flight),
                "last_delete_ns": queue.last_delete_ns,
            }
            for queue in self._queues.values()
        }

    def serve(self, operation: str, request: Body) -> Body:
        match operation:
            case "CreateQueue":
                self.named(request["QueueName"])
                return {"QueueUrl": self._url(request["QueueName"])}
            case "GetQueueUrl":
                return {"QueueUrl": self._url(self._existing(request["QueueName"]).name)}
            case "GetQueueAttributes":
                queue = self._of(request)
                counted = {"Messages": len(queue.visible), "MessagesNotVisible": len(queue.in_flight)}
                arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue.name}"
                counts = {f"ApproximateNumberOf{name}": str(number) for name, number in counted.items()}
                return {"Attributes": {**counts, "QueueArn": arn, "VisibilityTimeout": str(_DEFAULT_VISIBILITY)}}
            case "SendMessage":
                message = self._of(request).send(request["MessageBody"])
                return {"MessageId": message.id, "MD5OfMessageBody": message.md5}
            case "DeleteMessage":
                self._of(request).delete(request["ReceiptHandle"])
                return {}
            case "ChangeMessageVisibility":
                self._of(request).change(request["ReceiptHandle"], request["VisibilityTimeout"])
                return {}
            case "SendMessageBatch" | "DeleteMessageBatch" | "ChangeMessageVisibilityBatch":
                return self._batch(operation.removesuffix("Batch"), request)
            case _:
                raise Refused("UnknownOperationException", operation)

    def _batch(self, operation: str, request: Body) -> Body:
        entries = request["Entries"]
        if len(entries) > MAX_BATCH:
            message = f"Maximum number of entries per request are {MAX_BATCH}. You have sent {len(entries)}."
            raise Refused("com.amazonaws.sqs#TooManyEntriesInBatchRequest", message)
        url = {"QueueUrl": request["QueueUrl"]}
        done = [{"Id": entry["Id"], **self.serve(operation, {**entry, **url})} for entry in entries]
        return {"Successful": done, "Failed": []}

    async def receive(self, request: Body) -> Body:
        queue = self._of(request)
        ends_at = time.monotonic() + request.get("WaitTimeSeconds", 0)
        asked = request.get("MessageSystemAttributeNames") or request.get("AttributeNames") or []
        while True:
            visibility = request.get("VisibilityTimeout", _DEFAULT_VISIBILITY)
            if taken := queue.take(request.get("MaxNumberOfMessages", 1), visibility):
                return {"Messages": [_told(message, asked) for message in taken]}
            if (left := ends_at - time.monotonic()) <= 0:
                return {}
            queue.arrival.clear()
            try:
                await asyncio.wait_for(queue.arrival.wait(), min(left, queue.seconds_until_due()))
            except TimeoutError:
                continue

    def _url(self, name: str) -> str:
        return f"{self._endpoint}/{ACCOUNT}/{name}"

    def _of(self, request: Body) -> Queue:
        return self._existing(request["QueueUrl"].rpartition("/")[2])

    def _existing(self, name: str) -> Queue:
        if name not in self._queues:
            raise Refused(
                "com.amazonaws.sqs#QueueDoesNotExist",
                "The specified queue does not exist.",
                query_code="AWS.SimpleQueueService.NonExistentQueue",
            )
        return self._queues[name]


def _told(message: _Message, asked: list[str]) -> Body:
    attributes = {"ApproximateReceiveCount": str(message.receives), "SentTimestamp": str(int(message.sent_at * 1000))}
    told = {name: value for name, value in attributes.items() if name in asked or "All" in asked}
    return {
        "MessageId": message.id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": message.md5,
        "Body": message.body,
        **({"Attributes": told} if told else {}),
    }
