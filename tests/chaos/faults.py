"""What goes wrong between us and AWS: which fault befalls which call, chosen by dice with a seed."""

from __future__ import annotations

import threading
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


class Fault(Enum):
    """What befalls one call."""

    NONE = "none"
    DELAY = "delay"
    # The connection ends before AWS has the call.
    RESET_BEFORE = "reset before"
    # AWS did it, and the connection ends before its answer.
    RESET_AFTER = "reset after"
    # AWS did it, and nothing comes for a while, or until the caller gives up.
    SILENCE = "silence"
    LONG_SILENCE = "long silence"
    THROTTLE = "throttle"
    SERVER_ERROR = "500"
    # AWS did it, and its answer is no JSON.
    GARBLED = "garbled"
    # 200, with entries that failed.
    FAILED_ENTRIES = "failed entries"


# In a thousand calls.
_OF_PUT_EVENTS = {
    Fault.DELAY: 120,
    Fault.RESET_BEFORE: 25,
    Fault.RESET_AFTER: 30,
    Fault.SILENCE: 30,
    Fault.LONG_SILENCE: 1,
    Fault.THROTTLE: 30,
    Fault.SERVER_ERROR: 25,
    Fault.GARBLED: 10,
    Fault.FAILED_ENTRIES: 120,
}
_OF_DESCRIBE = {Fault.DELAY: 100, Fault.RESET_BEFORE: 50, Fault.THROTTLE: 50, Fault.SERVER_ERROR: 100}
_OF_SQS = {
    Fault.DELAY: 60,
    Fault.RESET_BEFORE: 20,
    Fault.RESET_AFTER: 40,
    Fault.THROTTLE: 20,
    Fault.SERVER_ERROR: 20,
    Fault.GARBLED: 5,
}
_ENTRY_CODES = ("InternalFailure", "ThrottlingException")
_SECONDS = {Fault.DELAY: (0.02, 0.4), Fault.SILENCE: (0.3, 1.5), Fault.LONG_SILENCE: (11.0, 12.0)}


class Faults:
    """Chooses the faults. `is_on` ends them all; ambushes are what the killer laid for the next call of a process."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._lock = threading.Lock()
        self._ambushes: dict[tuple[str, str], Callable[[], None]] = {}
        self.is_on = True
        # All calls to EventBridge fail.
        self.is_outage = False
        self.count: Counter[str] = Counter()

    def befalling(self, operation: str) -> Fault:
        """The fault of this call."""
        if not self.is_on:
            return Fault.NONE
        if self.is_outage and operation == "PutEvents":
            fault = Fault.SERVER_ERROR
        else:
            table = {"PutEvents": _OF_PUT_EVENTS, "DescribeEventBus": _OF_DESCRIBE}.get(operation, _OF_SQS)
            with self._lock:
                fault = self._dice.choices([Fault.NONE, *table], [1000 - sum(table.values()), *table.values()])[0]
        if fault is not Fault.NONE:
            with self._lock:
                self.count[f"{'PutEvents' if operation == 'PutEvents' else 'other'} {fault.value}"] += 1
        return fault

    def seconds(self, fault: Fault) -> float:
        """How long the fault lasts."""
        with self._lock:
            return self._dice.uniform(*_SECONDS[fault])

    def entry_error(self) -> str | None:
        """The error of one entry of a call with failed entries."""
        with self._lock:
            return self._dice.choice(_ENTRY_CODES) if self._dice.random() < 0.4 else None

    def lay_ambush(self, process: str, operation: str, strike: Callable[[], None]) -> None:
        """Do something when AWS has carried out that process's next such call, and before it is answered."""
        with self._lock:
            self._ambushes[process, operation] = strike

    def withdraw_ambush(self, process: str, operation: str) -> None:
        """Lay it no more, if no such call came."""
        self.ambush(process, operation)

    def ambush(self, process: str, operation: str) -> Callable[[], None] | None:
        """What was laid for this call, if anything; it strikes once."""
        with self._lock:
            return self._ambushes.pop((process, operation), None)
