"""Load from wrk: one thread, a few connections, each request with a body of its own."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import SCALE, Failed, base_environment, run

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS = 8
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

    @property
    def rate(self) -> float:
        """Successes a second."""
        return self.succeeded / self.seconds


def send(
    targets: Sequence[Target],
    *,
    port: int,
    directory: Path,
    picks: int = 1,
    seconds: int = SECONDS,
    wait_ms: int = 0,
    some_may_be_refused: bool = False,
) -> Outcome:
    """Send these in turn for some seconds."""
    if not shutil.which("wrk"):
        raise Failed("wrk is not here: install it (Debian's package wrk).")
    file = directory / "targets.tsv"
    file.write_text("".join(f"{target.method}\t{target.path}\t{target.headers}\t{target.body}\n" for target in targets))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(_SCRIPT), f"http://127.0.0.1:{port}", "--"]
    command += [str(file), f"load-{os.getpid()}-{next(_prefixes)}-", str(picks), str(wait_ms)]
    printed = run(command, environment=base_environment(), seconds=seconds + 60)
    outcome = Outcome(**json.loads(printed.splitlines()[-1]))
    if outcome.faults or not outcome.succeeded or (outcome.refused and not some_may_be_refused):
        raise Failed(f"the load did not go well: {outcome}")
    return outcome
