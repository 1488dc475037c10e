"""The product's processes, as in production, each in a group of its own; what dies is started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[2]
_STOP_SECONDS = 30


def base_environment(state: Path) -> dict[str, str]:
    """Nothing of the caller's but what finds programs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SECRET_ACCESS_KEY": "chaos",
        "BLOCKFORGER_ENVIRONMENT": "chaos",
        "BLOCKFORGER_LEASE_SECONDS": "25",
        "BLOCKFORGER_STATE_DIR": str(state),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


@dataclass
class Process:
    """One of the product's processes; all it prints goes to a file."""

    name: str
    command: list[str]
    environment: dict[str, str]
    output: Path
    is_frozen: bool = False
    # Whether we ended it: if not, its end is news.
    was_killed: bool = False
    starts: int = 0
    # When it was killed or frozen.
    struck: list[float] = field(default_factory=list)
    _popen: subprocess.Popen[bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        with self.output.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT,
                # AWS sees which process calls.
                env=self.environment | {"AWS_ACCESS_KEY_ID": self.name},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.was_killed = False
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL for the process and all that it started."""
        with self._lock:
            self._note_strike()
            self._signal(signal.SIGKILL)
            if self._popen is not None:
                self._popen.wait()

    def kill_a_child(self) -> bool:
        """SIGKILL for one of the processes that it started. Returns whether there was one."""
        with self._lock:
            pid = self._popen.pid if self._popen is not None else 0
            children = Path(f"/proc/{pid}/task/{pid}/children")
            pids = children.read_text().split() if children.exists() else []
            if not pids:
                return False
            self._note_strike()
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pids[-1]), signal.SIGKILL)
            return True

    def freeze(self) -> None:
        self.is_frozen = True
        self.struck.append(time.monotonic())
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def has_ended(self) -> bool:
        return self._popen is not None and self._popen.poll() is not None

    def exit_code(self) -> int | None:
        return self._popen.poll() if self._popen is not None else None

    def wait(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        try:
            if self._popen is not None:
                self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _note_strike(self) -> None:
        self.was_killed = True
        self.struck.append(time.monotonic())

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is not None and self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)


class Supervisor:
    """Starts the processes, and starts again what has ended."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self.processes = {process.name: process for process in processes}
        self._stopping = threading.Event()
        self.ended_by_themselves: list[str] = []
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        for process in self.processes.values():
            process.start()
        self._thread.start()

    def of_role(self, role: str) -> list[Process]:
        return [process for name, process in self.processes.items() if name.partition("-")[0] == role]

    def stop(self) -> list[str]:
        """SIGTERM for all. Returns the names of those that did not heed it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for process in self.processes.values():
            process.thaw()
            process.terminate()
        ends_at = time.monotonic() + _STOP_SECONDS
        late = [
            process.name
            for process in self.processes.values()
            if not process.wait(max(0.1, ends_at - time.monotonic()))
        ]
        self.kill()
        return late

    def kill(self) -> None:
        """End everything at once, however the run ends."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for process in self.processes.values():
            process.kill()

    def _watch(self) -> None:
        while not self._stopping.wait(0.1):
            for process in self.processes.values():
                if not process.has_ended():
                    continue
                if not process.was_killed:
                    self.ended_by_themselves.append(f"{process.name} ({process.exit_code()})")
                    self._stopping.wait(0.5)
                process.start()


def of_the_product(
    environment: dict[str, str], home: Path, web_ports: list[int], roles: Iterable[str]
) -> list[Process]:
    """The processes of these roles: web, worker (with beat), publisher, consumer."""
    manage = ["manage.py"]
    granian = ["-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--blocking-threads", "4", "--port"]
    commands = {
        **{f"web-{n}": [*granian, str(port), "blockforger.wsgi:application"] for n, port in enumerate(web_ports, 1)},
        "worker-1": ["-m", "celery", "-A", "blockforger", "worker", "--beat", "--concurrency", "2",
                     "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"],
        "publisher-1": [*manage, "publish_events"],
        "publisher-2": [*manage, "publish_events"],
        "consumer-1": [*manage, "consume_events"],
        "consumer-2": [*manage, "consume_events", "--workers", "2"],
    }  # fmt: skip
    return [
        Process(name, command, environment, home / f"{name}.log")
        for name, command in commands.items()
        if name.partition("-")[0] in roles
    ]
