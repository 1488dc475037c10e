"""One run: set up, storm, drain, and what was seen."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.chaos import processes, stage, writers
from tests.chaos.aws import FakeAws
from tests.chaos.buses import Buses
from tests.chaos.faults import Faults
from tests.chaos.killer import KINDS, Killer
from tests.chaos.observations import Observations
from tests.chaos.processes import ROOT, Supervisor
from tests.chaos.queues import Queue
from tests.chaos.servers import PostgreSQL, Redis, free_port
from tests.chaos.witness import Witness
from tests.chaos.writers import EventSender, RestWriter

if TYPE_CHECKING:
    from collections.abc import Callable

ROLES = ("web", "worker", "publisher", "consumer")
_READY_SECONDS = 60
_HURRY_EVERY_SECONDS = 5
_LAST_WRITES_SECONDS = 1.0
_SECRET_CHARACTERS = 43


@dataclass(frozen=True)
class Plan:
    """How a run goes. The same seed makes the same choices; what comes of them depends on the machine."""

    seed: int = 1
    duration: float = 60
    drain: float = 120
    roles: tuple[str, ...] = ROLES
    blows: tuple[str, ...] = KINDS
    rest_writers: int = 5
    event_senders: int = 2
    # Seconds between two writes of one writer, and between two blows, on the average.
    write_pause: float = 0.08
    blow_pause: float = 2.5
    # End at the first thing that is wrong for certain, without the rest.
    stops_at_first: bool = False


@dataclass
class Storm:
    """A run, from its parts to its observations."""

    plan: Plan
    say: Callable[[str], None]
    home: Path
    faults: Faults = field(init=False)
    buses: Buses = field(init=False)
    queue: Queue = field(init=False)
    supervisor: Supervisor = field(init=False)
    killer: Killer = field(init=False)
    rest: list[RestWriter] = field(init=False)
    senders: list[EventSender] = field(init=False)
    late: list[str] = field(default_factory=list)
    drained_after: float | None = None

    def __post_init__(self) -> None:
        self.faults = Faults(random.Random(f"{self.plan.seed}:faults"))
        self.buses, self.queue = Buses(), Queue(random.Random(f"{self.plan.seed}:queue"))

    def run(self) -> Observations:
        """Everything; the servers and processes are gone afterwards, however it ends."""
        with ExitStack() as ends:
            postgresql, redis = PostgreSQL(self.home), Redis(self.home)
            postgresql.start()
            ends.callback(postgresql.stop)
            redis.start()
            ends.callback(redis.kill)
            aws = FakeAws(self.faults, self.buses, self.queue)
            ends.callback(aws.stop)
            ports = [free_port(), free_port()]
            environment = processes.base_environment(self.home) | {
                "AWS_ENDPOINT_URL": aws.url,
                "BLOCKFORGER_SITE_URL": f"http://127.0.0.1:{ports[0]}",
                "CELERY_BROKER_URL": redis.url,
                "DATABASE_URL": postgresql.url,
            }
            keys = stage.set_up(self.home, environment, ROOT)
            witness = Witness(postgresql.url)
            witness.watch()
            self.supervisor = Supervisor(processes.of_the_product(environment, self.home, ports, self.plan.roles))
            ends.callback(self.supervisor.kill)
            self.supervisor.start()
            _wait_for_web(ports)
            self.say("The processes are up; the storm begins.")
            self.killer = Killer(self.supervisor, postgresql, redis, aws, self.plan)
            self._storm(ports, keys, witness)
            return self._observations(postgresql, environment, keys, witness)

    def _storm(self, ports: list[int], keys: dict[str, str], witness: Witness) -> None:
        plan, killer = self.plan, self.killer
        self.rest = [RestWriter(f"rest{n}", plan.seed, ports, keys, plan.write_pause) for n in range(plan.rest_writers)]
        self.senders = [
            EventSender(f"sender{n}", plan.seed, self.queue, keys, plan.write_pause)
            for n in range(plan.event_senders)
            if "consumer" in plan.roles
        ]
        for thread in (*self.rest, *self.senders, killer):
            thread.start()
        ends_at = time.monotonic() + plan.duration
        while time.monotonic() < ends_at and not self._is_settled(witness):
            time.sleep(0.5)
        killer.stopping.set()
        killer.join()
        # What is written now waits for certain when the last blow falls.
        self.faults.is_outage = True
        time.sleep(_LAST_WRITES_SECONDS)
        writers.stop([*self.rest, *self.senders])
        killer.last_blow()
        self.faults.is_on = self.faults.is_outage = False
        self.queue.misbehaves = False
        if not self._is_settled(witness):
            self.say("The storm is over; everything may drain.")
            killer.let_go()
            self._drain(witness)
        self.late = self.supervisor.stop()

    def _is_settled(self, witness: Witness) -> bool:
        """Whether enough was seen already, for a run that ends at the first thing that is wrong."""
        if not self.plan.stops_at_first:
            return False
        try:
            return bool(self.buses.violations or self.killer.violations or witness.rewritten())
        except psycopg.OperationalError:
            return bool(self.buses.violations)

    def _drain(self, witness: Witness) -> None:
        began = time.monotonic()
        hurry_at = 0.0
        while (passed := time.monotonic() - began) < self.plan.drain:
            if passed >= hurry_at:
                self.queue.hurry()
                hurry_at = passed + _HURRY_EVERY_SECONDS
            time.sleep(0.25)
            if not self.queue.bodies() and not witness.pending():
                self.drained_after = time.monotonic() - began
                return

    def _observations(
        self, postgresql: PostgreSQL, environment: dict[str, str], keys: dict[str, str], witness: Witness
    ) -> Observations:
        seen = Observations(rules={tenant.name: list(tenant.rules) for tenant in stage.TENANTS})
        seen.writes = [write for writer in self.rest for write in writer.writes]
        seen.reads = [read for writer in self.rest for read in writer.reads]
        seen.sent = [sent for sender in self.senders for sent in sender.sent]
        seen.unreadable = [body for sender in self.senders for body in sender.unreadable]
        seen.acceptances = list(self.buses.accepted)
        seen.strikes = {name: process.struck for name, process in self.supervisor.processes.items()}
        seen.strikes[""] = postgresql.crashes
        seen.seen_at_once = [*self.buses.violations, *self.killer.violations]
        seen.left_in_queue, seen.dead_letters = self.queue.bodies(), list(self.queue.dead_letters)
        witness.tell(seen)
        seen.audit = _audit(environment)
        texts = {path.name: path.read_text(errors="replace") for path in self.home.glob("*.log")}
        texts |= {"the database": postgresql.dump(), "accepted events": "\n".join(self.buses.texts)}
        seen.leaks = [
            f"leak: the API key of {tenant} is in {name}."
            for name, text in texts.items()
            for tenant, key in keys.items()
            if key[-_SECRET_CHARACTERS:] in text
        ]
        return seen


def new_home() -> Path:
    """A folder for a run, in which PostgreSQL's user may walk."""
    home = Path(tempfile.mkdtemp(prefix="blockforger-chaos-"))
    home.chmod(0o711)
    return home


def clear(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)


def _audit(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", "audit_ledger"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[-1000:]


def _wait_for_web(ports: list[int]) -> None:
    import urllib.error
    import urllib.request

    ends_at = time.monotonic() + _READY_SECONDS
    for port in ports:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                    break
            except (OSError, urllib.error.URLError):
                if time.monotonic() > ends_at:
                    raise
                time.sleep(0.1)
