"""Processes: started, waited for, measured and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
# Below 1 for trying a benchmark out: fewer events, messages and seconds.
SCALE = float(os.environ.get("SCALE") or 1)
_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A benchmark that could not be made, or whose result is wrong: there is no figure."""


class Process:
    """A process in a group of its own, which ends with the block that it is used in."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: dict[str, str],
        cwd: Path = ROOT,
        ready: str | Callable[[], bool] = "",
        user: str | None = None,
    ) -> None:
        self.command = list(command)
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            self.command,
            cwd=cwd,
            env=environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            process_group=0,
            user=user,
        )
        try:
            self.wait_for(ready if callable(ready) else lambda: ready in self.text, seconds=120)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def text(self) -> str:
        """What it printed."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, condition: Callable[[], bool], *, seconds: float) -> None:
        """Wait until that holds; the process must go on meanwhile."""
        wait_until(condition, seconds=seconds, what=" ".join(self.command), alive=self.check)

    def check(self) -> None:
        """Raises Failed if it has ended."""
        if self._process.poll() is not None:
            raise Failed(f"{' '.join(self.command)} ended with {self._process.returncode}:\n{self.text[-4000:]}")

    def wait(self, *, seconds: float) -> str:
        """Wait until it ends by itself, well. Returns what it printed."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{' '.join(self.command)} did not end in {seconds} s:\n{self.text[-4000:]}") from error
        if code:
            raise Failed(f"{' '.join(self.command)} ended with {code}:\n{self.text[-4000:]}")
        return self.text

    def children(self) -> list[int]:
        """The processes that it has started and that are still there."""
        return [pid for pid in _family(self.pid) if pid != self.pid]

    def cpu_seconds(self) -> float:
        """What it, its living children and those that it has seen end have used."""
        return sum(_cpu_seconds(pid) for pid in _family(self.pid))

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()
        self._output.close()


def run(command: Sequence[str], *, environment: dict[str, str], seconds: float = 600, cwd: Path = ROOT) -> str:
    """Run a command to its end. Returns what it printed."""
    with Process(command, environment=environment, cwd=cwd) as process:
        return process.wait(seconds=seconds)


def wait_until(
    condition: Callable[[], bool],
    *,
    seconds: float,
    what: str,
    alive: Callable[[], None] = lambda: None,
    every: float = 0.02,
) -> None:
    """Wait until that holds. Raises Failed when the time is up, and whatever `alive` raises."""
    ends_at = time.monotonic() + seconds
    while not condition():
        alive()
        if time.monotonic() > ends_at:
            raise Failed(f"{what}: not done within {seconds:.0f} s")
        time.sleep(every)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def base_environment() -> dict[str, str]:
    """What any process needs of ours, and nothing that would change what it does."""
    names = ("PATH", "HOME", "LANG", "PYENV_ROOT", "PYENV_VERSION", "TMPDIR")
    return {name: os.environ[name] for name in names if name in os.environ}


class Busy:
    """How many processors each of some parts kept busy, from when this is made until it is asked.

    Beside the parts: how many were idle, and how many the host gave to others while something was ready to run.
    """

    def __init__(self, **parts: Callable[[], float]) -> None:
        machine = {"idle": partial(_machine_seconds, "idle", "iowait"), "stolen": partial(_machine_seconds, "steal")}
        self._parts, self._started = parts | machine, time.monotonic()
        self._before = {name: cpu_seconds() for name, cpu_seconds in self._parts.items()}

    def processors(self) -> dict[str, float]:
        seconds = time.monotonic() - self._started
        return {name: (part() - self._before[name]) / seconds for name, part in self._parts.items()}


def _machine_seconds(*kinds: str) -> float:
    """What all processors together have spent so since the machine was started (proc(5), /proc/stat)."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    ticks = dict(zip(names, map(int, Path("/proc/stat").read_text().split()[1:]), strict=False))
    return sum(ticks[kind] for kind in kinds) / os.sysconf("SC_CLK_TCK")


def cpu_seconds_of(processes: Sequence[Process]) -> float:
    return sum(process.cpu_seconds() for process in processes)


@contextmanager
def all_of(processes: Sequence[Process]) -> Iterator[Sequence[Process]]:
    """Processes that end together."""
    try:
        yield processes
    finally:
        for process in processes:
            process.stop()


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _cpu_seconds(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in stat.rpartition(")")[2].split()[11:15]) / _TICKS
