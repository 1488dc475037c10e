"""SQS, as far as a consumer meets it: a standard queue with visibility, receive counts and a dead-letter queue."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

NAME = "blockforger-input-chaos"
# Of the stack's template.
_MAX_RECEIVES = 20
# Short, so that what a killed consumer had in hand comes again within the run.
VISIBILITY_SECONDS = 6.0
# How often SQS delivers a message to two at once, or once more after it was deleted.
_TWO_AT_ONCE, _ONCE_MORE = 0.04, 0.03


@dataclass(slots=True)
class Message:
    """A message, and when it may be received."""

    body: str
    visible_at: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    receives: int = 0
    receipt: str = ""


class ServiceError(Exception):
    """A refusal: SQS's code, and that of its older protocol."""

    def __init__(self, code: str, query_code: str) -> None:
        super().__init__(code)
        self.code, self.query_code = code, query_code


class Queue:
    """The input queue. Any thread may call any method."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        # Where the queue is, as GetQueueUrl tells.
        self.url = ""
        self._messages: dict[str, Message] = {}
        self._changed = threading.Condition()
        self.dead_letters: list[str] = []
        self.misbehaves = True
        self.twice = 0
        self.received = 0
        self.redelivered = 0

    def send(self, body: str) -> None:
        """Put a message in."""
        message = Message(body, visible_at=time.monotonic())
        with self._changed:
            self._messages[message.id] = message
            self._changed.notify()

    def hurry(self) -> None:
        """Let the time pass for which messages are hidden: they can be received now, even if they are in hand."""
        with self._changed:
            for message in self._messages.values():
                message.visible_at = min(message.visible_at, time.monotonic())
            self._changed.notify_all()

    def bodies(self) -> list[str]:
        """What has not been deleted."""
        with self._changed:
            return [message.body for message in self._messages.values()]

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one call of the API. Raises ServiceError."""
        answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "GetQueueUrl": self._find,
            "ReceiveMessage": self._receive,
            "DeleteMessage": self._delete_one,
            "DeleteMessageBatch": self._delete_all,
            "ChangeMessageVisibility": self._hide_one,
            "ChangeMessageVisibilityBatch": self._hide_all,
        }
        if operation not in answers:
            raise ServiceError("InvalidAction", "InvalidAction")
        return answers[operation](request)

    def _find(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["QueueName"] != NAME:
            raise ServiceError("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")
        return {"QueueUrl": self.url}

    def _delete_one(self, request: dict[str, Any]) -> dict[str, Any]:
        self._delete(request["ReceiptHandle"])
        return {}

    def _delete_all(self, request: dict[str, Any]) -> dict[str, Any]:
        for entry in request["Entries"]:
            self._delete(entry["ReceiptHandle"])
        return {"Successful": [{"Id": entry["Id"]} for entry in request["Entries"]], "Failed": []}

    def _hide_one(self, request: dict[str, Any]) -> dict[str, Any]:
        self._hide(request["ReceiptHandle"], request["VisibilityTimeout"])
        return {}

    def _receive(self, request: dict[str, Any]) -> dict[str, Any]:
        ends_at = time.monotonic() + request.get("WaitTimeSeconds", 0)
        with self._changed:
            while not (found := self._take(request.get("MaxNumberOfMessages", 1))):
                left = ends_at - time.monotonic()
                if left <= 0:
                    return {}
                self._changed.wait(min(left, 0.1))
        return {"Messages": found}

    def _take(self, at_most: int) -> list[dict[str, Any]]:
        now = time.monotonic()
        found: list[dict[str, Any]] = []
        for message in [each for each in self._messages.values() if each.visible_at <= now]:
            if message.receives >= _MAX_RECEIVES:
                self.dead_letters.append(self._messages.pop(message.id).body)
                continue
            if len(found) == at_most:
                break
            self.received += 1
            self.redelivered += message.receives > 0
            message.receives += 1
            message.receipt = f"{message.id}:{message.receives}"
            message.visible_at = now + VISIBILITY_SECONDS
            if self.misbehaves and self._dice.random() < _TWO_AT_ONCE:
                self.twice += 1
                message.visible_at = now
            found.append(
                {
                    "MessageId": message.id,
                    "ReceiptHandle": message.receipt,
                    "MD5OfBody": _md5(message.body),
                    "Body": message.body,
                    "Attributes": {"ApproximateReceiveCount": str(message.receives)},
                }
            )
        return found

    def _delete(self, receipt: str) -> None:
        """A receipt that is not the last one deletes nothing, and is no error (API reference)."""
        with self._changed:
            message = self._messages.get(receipt.partition(":")[0])
            if message is None or message.receipt != receipt:
                return
            del self._messages[message.id]
            if self.misbehaves and self._dice.random() < _ONCE_MORE:
                # A copy on a server that was away when the message was deleted (developer guide, "at-least-once").
                self.twice += 1
                self._messages[message.id] = Message(
                    message.body, time.monotonic() + self._dice.uniform(0, 3), message.id, message.receives
                )

    def _hide(self, receipt: str, seconds: int) -> None:
        with self._changed:
            message = self._messages.get(receipt.partition(":")[0])
            if message is None or message.visible_at <= time.monotonic():
                raise ServiceError("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight")
            if message.receipt == receipt:
                message.visible_at = time.monotonic() + seconds
                self._changed.notify()

    def _hide_all(self, request: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry in request["Entries"]:
            try:
                self._hide(entry["ReceiptHandle"], entry.get("VisibilityTimeout", 0))
            except ServiceError as error:
                answer["Failed"].append({"Id": entry["Id"], "SenderFault": True, "Code": error.code})
            else:
                answer["Successful"].append({"Id": entry["Id"]})
        return answer


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
