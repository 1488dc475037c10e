"""EventBridge, as far as a publisher meets it: what each bus accepted, in order."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.chaos.observations import Acceptance

if TYPE_CHECKING:
    from collections.abc import Callable

BUSES = (
    "arn:aws:events:us-east-1:111111111111:event-bus/one",
    "arn:aws:events:eu-west-1:111111111111:event-bus/two",
)
_MAX_ENTRIES = 10
_MAX_BYTES = 1_048_576

_Entry = dict[str, Any]


class Buses:
    """The buses of one account. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.accepted: list[Acceptance] = []
        # The entries as they came, in which no secret may be.
        self.texts: list[str] = []
        self.accepted_once: Counter[str] = Counter()
        # What can be told at once to be wrong.
        self.violations: list[str] = []
        self._latest: dict[tuple[str, str], int] = {}

    def describe(self, name: str) -> dict[str, Any] | None:
        """The bus, or None if there is none of that name or ARN."""
        arn = next((bus for bus in BUSES if name in {bus, bus.rpartition("/")[2]}), None)
        return {"Name": arn.rpartition("/")[2], "Arn": arn} if arn else None

    def put(
        self, entries: list[_Entry], error_of: Callable[[_Entry], str | None], *, process: str, is_in_doubt: bool
    ) -> dict[str, Any] | None:
        """Accept the entries, but for those that get an error. None: the call is not valid, as AWS sees it.

        It is in doubt if the process that sends it will not get the answer.
        """
        if not 1 <= len(entries) <= _MAX_ENTRIES or sum(map(_size, entries)) > _MAX_BYTES:
            return None
        with self._lock:
            self._check(entries)
            answers = [
                self._put_one(entry, error_of(entry) or _error_in(entry), process, is_in_doubt=is_in_doubt)
                for entry in entries
            ]
        return {"FailedEntryCount": sum("ErrorCode" in answer for answer in answers), "Entries": answers}

    def duplicates(self) -> int:
        """How often an event was accepted that had been accepted before."""
        with self._lock:
            return self.accepted_once.total() - len(self.accepted_once)

    def _put_one(self, entry: _Entry, error: str | None, process: str, *, is_in_doubt: bool) -> dict[str, str]:
        if error is not None:
            return {"ErrorCode": error, "ErrorMessage": f"{error} happened"}
        # A bus that does not exist answers with success, and drops the event.
        if entry["EventBusName"] in BUSES:
            self._accept(entry, process, is_in_doubt=is_in_doubt)
        return {"EventId": str(uuid.uuid4())}

    def _accept(self, entry: _Entry, process: str, *, is_in_doubt: bool) -> None:
        item, own = entry["Resources"]
        event, _, sequence = own.removeprefix("urn:blockforger:event:").partition(":")
        acceptance = Acceptance(
            bus=entry["EventBusName"],
            item=item,
            event=event,
            sequence=int(sequence),
            detail_type=entry["DetailType"],
            detail=json.loads(entry["Detail"]),
            process=process,
            at=time.monotonic(),
            is_in_doubt=is_in_doubt,
        )
        stream = (acceptance.bus, item)
        if event not in self.accepted_once and acceptance.sequence < self._latest.get(stream, 0):
            self.violations.append(
                f"order: {item}: {acceptance.sequence} was accepted after {self._latest[stream]} (seen at once)."
            )
        self._latest[stream] = max(acceptance.sequence, self._latest.get(stream, 0))
        self.accepted_once[event] += 1
        self.accepted.append(acceptance)
        self.texts.append(json.dumps(entry))

    def _check(self, entries: list[_Entry]) -> None:
        items = Counter(entry["Resources"][0] for entry in entries)
        if len(items) < len(entries):
            self.violations.append(f"order: a call held two entries of {items.most_common(1)[0][0]}.")
        if len({entry["EventBusName"] for entry in entries}) > 1:
            self.violations.append("events: a call held entries of two buses.")


def _size(entry: _Entry) -> int:
    texts = (entry["Source"], entry["DetailType"], entry["Detail"], *entry["Resources"])
    return 14 + sum(len(text.encode()) for text in texts)


def _error_in(entry: _Entry) -> str | None:
    try:
        detail = json.loads(entry["Detail"])
    except ValueError:
        return "MalformedDetail"
    return None if isinstance(detail, dict) else "MalformedDetail"
