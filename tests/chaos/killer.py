"""The one who kills: a shuffled deck of blows, so that each kind falls at least once before one falls again."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.aws import FakeAws
    from tests.chaos.processes import Process, Supervisor
    from tests.chaos.servers import PostgreSQL, Redis
    from tests.chaos.storm import Plan

# Longer than the lease of the product's processes (25 seconds), and than messages are hidden.
_PUBLISHER_FREEZE_SECONDS, _CONSUMER_FREEZE_SECONDS = 27.0, 8.0
_AMBUSH_SECONDS = 3.0
_OUTAGE_SECONDS = 2.5
# The last nudges are on their way for a moment.
_NUDGE_SECONDS = 0.3
# While the database is away, a consumer that has just started finds that out by one batch.
_NOTICED_AFTER_SECONDS, _AWAY_SECONDS, _RECEIVED_IN_VAIN = 2.0, 5.0, 30
KINDS = ("web", "worker", "publisher", "consumer", "postgresql", "redis", "aws", "freeze")


class Killer(threading.Thread):
    """Strikes until stopped. `count` says what was struck how often."""

    def __init__(self, supervisor: Supervisor, postgresql: PostgreSQL, redis: Redis, aws: FakeAws, plan: Plan) -> None:
        super().__init__(name="killer", daemon=True)
        self._dice = random.Random(f"{plan.seed}:killer")
        self._supervisor, self._postgresql, self._redis, self._aws = supervisor, postgresql, redis, aws
        self._pause, self._kinds = plan.blow_pause, plan.blows
        self.stopping = threading.Event()
        self.count: Counter[str] = Counter()
        # What can be told at once to be wrong.
        self.violations: list[str] = []
        self._freezers: list[threading.Thread] = []
        self._frozen_until = 0.0

    def run(self) -> None:
        deck: list[Callable[[], None]] = []
        self.stopping.wait(self._pause)
        while not self.stopping.is_set():
            if not deck:
                deck = self._deck()
            deck.pop()()
            self.stopping.wait(self._dice.uniform(0.5, 1.5) * self._pause)

    def last_blow(self) -> None:
        """When nobody writes any more: the broker forgets everything, and whoever publishes dies."""
        time.sleep(_NUDGE_SECONDS)
        self._redis.flush()
        self.count["last blow"] += 1
        for role in ("worker", "publisher"):
            for process in self._supervisor.of_role(role):
                process.kill()

    def let_go(self) -> None:
        """Wake who is frozen, and wait for those who would."""
        self.stopping.set()
        for freezer in self._freezers:
            freezer.join()

    def _deck(self) -> list[Callable[[], None]]:
        kinds: dict[str, list[Callable[[], None]]] = {
            "web": [self._kill_web] * 3,
            "worker": [self._kill_worker, self._kill_worker_child],
            "publisher": [self._kill_publisher, *[self._kill_publisher_before_its_answer] * 2],
            "consumer": [
                *[self._kill_consumer] * 2,
                self._kill_consumer_after_receive,
                *[self._kill_consumer_before_delete] * 2,
                self._freeze_consumer,
            ],
            "postgresql": [self._restart_postgresql, self._take_postgresql_away],
            "redis": [self._restart_redis, self._flush_redis],
            "aws": [self._outage_of_aws],
        }
        deck = [blow for kind, blows in kinds.items() if kind in self._kinds for blow in blows]
        self._dice.shuffle(deck)
        # Drawn first: it takes longest.
        return [*deck, self._freeze_publisher] if "freeze" in self._kinds else deck

    def _one_of(self, role: str) -> Process | None:
        awake = [process for process in self._supervisor.of_role(role) if not process.is_frozen]
        return self._dice.choice(awake) if awake else None

    def _kill(self, role: str) -> None:
        if process := self._one_of(role):
            process.kill()
            self.count[f"kill -9 {role}"] += 1

    def _kill_web(self) -> None:
        self._kill("web")

    def _kill_worker(self) -> None:
        self._kill("worker")

    def _kill_publisher(self) -> None:
        self._kill("publisher")

    def _kill_consumer(self) -> None:
        self._kill("consumer")

    def _kill_worker_child(self) -> None:
        process = self._one_of("worker")
        if process and process.kill_a_child():
            self.count["kill -9 worker's child"] += 1

    def _kill_publisher_before_its_answer(self) -> None:
        self._ambush("publisher", "PutEvents", "kill -9 publisher, accepted and not answered")

    def _kill_consumer_after_receive(self) -> None:
        """Before its commit, or in the midst of its batch."""
        self._ambush("consumer", "ReceiveMessage", "kill -9 consumer, received", delay=self._dice.uniform(0, 0.05))

    def _kill_consumer_before_delete(self) -> None:
        self._ambush("consumer", "DeleteMessageBatch", "kill -9 consumer, committed")

    def _ambush(self, role: str, operation: str, name: str, *, delay: float = 0.0) -> None:
        process = self._one_of(role)
        if process is None:
            return
        struck = threading.Event()

        def strike() -> None:
            if delay:
                # It gets its answer, and dies over it.
                threading.Timer(delay, process.kill).start()
            else:
                process.kill()
            self.count[name] += 1
            struck.set()

        self._aws.faults.lay_ambush(process.name, operation, strike)
        struck.wait(_AMBUSH_SECONDS)
        self._aws.faults.withdraw_ambush(process.name, operation)

    def _freeze_publisher(self) -> None:
        """SIGSTOP in the midst of a call, until its lease has passed: it wakes with an answer that is none of its."""
        if time.monotonic() > self._frozen_until and len(self._supervisor.of_role("publisher")) > 1:
            name = "SIGSTOP publisher, until its lease is over"
            if self._freeze("publisher", "PutEvents", name, _PUBLISHER_FREEZE_SECONDS):
                self._frozen_until = time.monotonic() + _PUBLISHER_FREEZE_SECONDS

    def _freeze_consumer(self) -> None:
        """SIGSTOP with messages in hand, until others get them: it wakes and carries out what is done already."""
        name = "SIGSTOP consumer, until its messages come again"
        self._freeze("consumer", "ReceiveMessage", name, _CONSUMER_FREEZE_SECONDS)

    def _freeze(self, role: str, operation: str, name: str, seconds: float) -> bool:
        process = self._one_of(role)
        if process is None:
            return False
        struck = threading.Event()

        def strike() -> None:
            process.freeze()
            self.count[name] += 1
            freezer = threading.Thread(target=self._thaw_later, args=(process, seconds), daemon=True)
            self._freezers.append(freezer)
            freezer.start()
            struck.set()

        self._aws.faults.lay_ambush(process.name, operation, strike)
        struck.wait(_AMBUSH_SECONDS)
        self._aws.faults.withdraw_ambush(process.name, operation)
        return struck.is_set()

    def _thaw_later(self, process: Process, seconds: float) -> None:
        time.sleep(seconds)
        process.thaw()

    def _restart_postgresql(self) -> None:
        self._postgresql.crash_and_restart()
        self.count["restart of PostgreSQL"] += 1

    def _take_postgresql_away(self) -> None:
        """For a while: who consumes must stop receiving, or the outage empties the queue into the dead letters."""
        self._postgresql.go_away()
        time.sleep(_NOTICED_AFTER_SECONDS)
        before = self._aws.queue.received
        time.sleep(_AWAY_SECONDS)
        received = self._aws.queue.received - before
        self._postgresql.come_back()
        self.count["PostgreSQL away for a while"] += 1
        if received > _RECEIVED_IN_VAIN:
            self.violations.append(f"outage: {received} messages were received while the database was away.")

    def _restart_redis(self) -> None:
        self._redis.kill()
        time.sleep(self._dice.uniform(0.1, 1.0))
        self._redis.start()
        self.count["restart of Redis"] += 1

    def _flush_redis(self) -> None:
        self._redis.flush()
        self.count["FLUSHALL"] += 1

    def _outage_of_aws(self) -> None:
        self._aws.faults.is_outage = True
        self.stopping.wait(_OUTAGE_SECONDS)
        self._aws.faults.is_outage = False
        self.count["outage of EventBridge"] += 1
