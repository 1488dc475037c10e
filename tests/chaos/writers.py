"""Those who write: over REST and by events, each with dice of its own, at random and without mercy."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.chaos.observations import Sent, Write
from tests.chaos.stage import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.queues import Queue

_HOT_KEYS = 6
_MISSING = frozenset({200, 404, 402})
_PAID = {
    "POST": frozenset({201, 409, 402}),
    "PUT": _MISSING,
    "PATCH": _MISSING,
    "DELETE": frozenset({204, 404, 402}),
    "GET": _MISSING,
}
_ANSWER_SECONDS = 15


class Plans:
    """Makes up writes. A hot key is written by everybody; a fresh one is new, or was made by the same writer."""

    def __init__(self, name: str, seed: int) -> None:
        self.dice = random.Random(f"{seed}:{name}")
        self._name = name
        self._count = 0
        self._own: list[tuple[str, str, str]] = []

    def next(self, tenants: list[str], methods: dict[str, int]) -> Write:
        tenant, schema = self.dice.choice(tenants), self.dice.choice(SCHEMAS)
        method = self.dice.choices([*methods], [*methods.values()])[0]
        self._count += 1
        marker = f"{self._name}:{self._count}"
        if self.dice.random() < 0.6:
            key = f"hot{self.dice.randrange(_HOT_KEYS)}"
        elif method == "POST" or not self._own:
            key = f"of {self._name}/{self._count}"  # a key that URLs must quote
            self._own.append((tenant, schema, key))
        else:
            tenant, schema, key = self.dice.choice(self._own[-20:])
        payload = {"id": key, "marker": marker, "amount": self._count}
        if method == "PATCH":
            payload[f"patched{self.dice.randrange(3)}"] = self._count
        return Write(marker, tenant, schema, method, key, payload, _PAID[method])


class RestWriter(threading.Thread):
    """A client with one connection, that is told now and then to come back to the other web process."""

    METHODS = {"POST": 35, "PUT": 25, "PATCH": 20, "DELETE": 12, "GET": 8}

    def __init__(self, name: str, seed: int, ports: list[int], keys: dict[str, str], pause: float) -> None:
        super().__init__(name=name, daemon=True)
        self._plans, self._ports, self._keys, self._pause = Plans(name, seed), ports, keys, pause
        self._connection: http.client.HTTPConnection | None = None
        self.stopping = threading.Event()
        self.writes: list[Write] = []
        self.reads: list[Write] = []
        self.answers: Counter[str] = Counter()

    def run(self) -> None:
        while not self.stopping.is_set():
            write = self._plans.next(["alpha", "alpha", "beta", "beta", "poor", "closed"], self.METHODS)
            key = self._keys[write.tenant]
            if self._plans.dice.random() < 0.06 and write.method != "GET":
                key = self._spoil(write, key)
            (self.reads if write.method == "GET" else self.writes).append(write)
            write.started = time.monotonic()
            write.status = self._send(write, key)
            write.ended = time.monotonic() if write.status is not None else None
            self.answers[str(write.status or "no answer")] += 1
            if write.is_unknown:
                self.stopping.wait(0.2)
            self.stopping.wait(self._plans.dice.expovariate(1 / self._pause))

    def _spoil(self, write: Write, key: str) -> str:
        match self._plans.dice.choice(["payload", "key", "schema"]):
            case "payload" if write.method in {"POST", "PUT"}:
                write.payload["amount"] = "much"
                # Where there is nothing to put, that is what the caller hears.
                write.may_be = frozenset({400, 404}) if write.method == "PUT" else frozenset({400})
            case "key":
                write.may_be = frozenset({401})
                return "bf_0123456789ab_" + "x" * 43
            case _:
                write.schema = "nothing"
                write.may_be = frozenset({404})
        return key

    def _send(self, write: Write, key: str) -> int | None:
        path = f"/api/{write.tenant}/{write.schema}"
        if write.method != "POST":
            path += "/" + write.key.replace(" ", "%20").replace("/", "%2F")
        body = None if write.method in {"DELETE", "GET"} else json.dumps(write.payload)
        try:
            if self._connection is None:
                port = self._plans.dice.choice(self._ports)
                self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
            headers = {"X-API-Key": key, "Content-Type": "application/json"}
            self._connection.request(write.method, path, body, headers)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            with suppress(OSError, AttributeError):
                self._connection.close()  # type: ignore[union-attr]
            self._connection = None
            return None
        if self._plans.dice.random() < 0.05:
            self._connection.close()
            self._connection = None
        return response.status


class EventSender(threading.Thread):
    """Another system: puts events into the queue, as EventBridge would, some of them more than once."""

    METHODS = {"POST": 45, "PUT": 25, "PATCH": 18, "DELETE": 12}

    def __init__(self, name: str, seed: int, queue: Queue, keys: dict[str, str], pause: float) -> None:
        super().__init__(name=name, daemon=True)
        self._plans, self._queue, self._keys, self._pause = Plans(name, seed), queue, keys, pause
        self.stopping = threading.Event()
        self.sent: list[Sent] = []
        self.unreadable: list[str] = []

    def run(self) -> None:
        dice = self._plans.dice
        while not self.stopping.is_set():
            # EventBridge's events come as they come, now and then many at once.
            for _ in range(dice.choice([1, 1, 1, 1, 12])):
                self._send_one()
            self.stopping.wait(dice.expovariate(1 / (self._pause * 3)))

    def _send_one(self) -> None:
        dice = self._plans.dice
        if dice.random() < 0.01:
            self.unreadable.append(f"no envelope {len(self.unreadable)}")
            self._queue.send(self.unreadable[-1])
            return
        write = self._plans.next(["alpha", "alpha", "beta", "beta", "poor"], self.METHODS)
        sent = Sent(str(uuid.UUID(int=dice.getrandbits(128), version=4)), write)
        detail: dict[str, Any] = {
            "tenant": write.tenant,
            "rootSchema": write.schema,
            "operation": write.method,
            "api_key": self._keys[write.tenant],
            "payload": write.payload,
        }
        if dice.random() < 0.08:
            self._spoil(write, detail)
        if write.method == "DELETE":
            detail["payload"] = {"id": write.key}
        body = json.dumps(
            {
                "version": "0",
                "id": sent.id,
                "detail-type": f"{write.schema}.{write.method}",
                "source": "blockforger-input",
                "detail": detail,
            }
        )
        sent.copies += dice.random() < 0.1
        self.sent.append(sent)
        for _ in range(sent.copies):
            self._queue.send(body)

    def _spoil(self, write: Write, detail: dict[str, Any]) -> None:
        match self._plans.dice.choice(["payload", "key", "schema", "tenant"]):
            case "payload" if write.method in {"POST", "PUT"}:
                write.payload["amount"] = "much"
                write.may_be = frozenset({400, 404}) if write.method == "PUT" else frozenset({400})
            case "key":
                detail["api_key"] = "bf_0123456789ab_" + "x" * 43
                write.may_be = frozenset({401})
            case "tenant":
                detail["tenant"] = write.tenant = "closed"
                detail["api_key"] = self._keys["closed"]
                write.may_be = frozenset({403})
            case _:
                detail["rootSchema"] = write.schema = "nothing"
                write.may_be = frozenset({404})


def stop(writers: Iterable[RestWriter | EventSender]) -> None:
    """Let each finish the write in hand."""
    writers = list(writers)
    for writer in writers:
        writer.stopping.set()
    for writer in writers:
        writer.join()
