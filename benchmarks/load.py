"""Load from wrk: one thread, a few connections, each request with a body of its own."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import SCALE, Failed, base_environment, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.services import Postgres

FEW, MANY = 8, 32
# Before each measurement: connections are opened, schemas compiled, caches filled, on every side alike.
WARM_UP_SECONDS = 2
SECONDS = max(int(5 * SCALE), 1)
_SCRIPT = Path(__file__).parent / "wrk.lua"
_prefixes = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Target:
    """A request that is sent again and again; %KEY% stands for a new key, %PICK% for a number of an item."""

    method: str
    path: str
    headers: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What wrk counted."""

    seconds: float
    succeeded: int
    refused: int
    p50_ms: float
    p99_ms: float
    faults: int
    connections: int

    @property
    def rate(self) -> float:
        """Successes a second."""
        return self.succeeded / self.seconds


@dataclass(frozen=True, slots=True)
class Load:
    """These requests in turn, from a few connections at once, each sending as soon as it has its answer."""

    targets: Sequence[Target]
    port: int
    directory: Path
    picks: int = 1
    some_may_be_refused: bool = False
    connections: int = FEW

    def send(self, *, seconds: int = SECONDS, wait_ms: int = 0) -> Outcome:
        """Send for some seconds; `wait_ms` is how long a connection waits before a request, on average."""
        if not shutil.which("wrk"):
            raise Failed("wrk is not here: install it (Debian's package wrk).")
        file = self.directory / "targets.tsv"
        lines = (f"{target.method}\t{target.path}\t{target.headers}\t{target.body}\n" for target in self.targets)
        file.write_text("".join(lines))
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "-s", str(_SCRIPT)]
        command += [f"http://127.0.0.1:{self.port}", "--", str(file), f"load-{os.getpid()}-{next(_prefixes)}-"]
        command += [str(self.picks), str(wait_ms)]
        printed = run(command, environment=base_environment(), seconds=seconds + 60)
        outcome = Outcome(**json.loads(printed.splitlines()[-1]), connections=self.connections)
        if outcome.faults or not outcome.succeeded or (outcome.refused and not self.some_may_be_refused):
            raise Failed(f"the load did not go well: {outcome}")
        return outcome

    def measure(self, postgres: Postgres, count: Callable[[], tuple[int, ...]]) -> tuple[Outcome, tuple[int, ...]]:
        """Send from as many connections as the server is faster with, as warm-ups show: few, or many.

        Returns also by how much what is counted has grown.
        """
        tried = [replace(self, connections=number) for number in (FEW, MANY)]
        best = max(tried, key=lambda load: load.send(seconds=WARM_UP_SECONDS).rate)
        before = settled(count)
        postgres.settle()
        outcome = best.send()
        # What wrk had asked for when its time was up is carried out too.
        grown = tuple(new - old for old, new in zip(before, settled(count), strict=True))
        return outcome, grown


def settled(count: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """What it counts, once that does not grow any more."""
    counted = count()
    while True:
        time.sleep(0.3)
        again = count()
        if again == counted:
            return again
        counted = again


def check_count(outcome: Outcome, done: int) -> None:
    """What was carried out must be what was answered, but for what was under way at the end."""
    if not outcome.succeeded <= done <= outcome.succeeded + outcome.connections:
        raise Failed(f"{outcome.succeeded} requests were answered, {done} carried out")
