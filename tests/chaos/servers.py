"""A PostgreSQL and a Redis of our own, on free ports, so that they may be killed and restarted."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

_POSTGRESQL = Path("/usr/lib/postgresql")
_START_SECONDS = 60


class MissingError(Exception):
    """A server's programs are not installed."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class PostgreSQL:
    """A cluster with production's durability (fsync on)."""

    def __init__(self, home: Path) -> None:
        versions = sorted(_POSTGRESQL.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
        if not versions:
            raise MissingError(f"PostgreSQL's programs are not installed: there is no {_POSTGRESQL}/*/bin/initdb.")
        self._bin = versions[-1].parent
        self._data = home / "postgresql"
        self._log = home / "postgresql.log"
        self.port = free_port()
        # When it went away and came back.
        self.crashes: list[float] = []
        # initdb and postgres refuse to run as root.
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._data.mkdir()
        self._log.touch()
        if self._as_user:
            user = pwd.getpwnam("postgres")
            for path in (self._data, self._log):
                os.chown(path, user.pw_uid, user.pw_gid)

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Make the cluster and start it."""
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-locale")
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._data,
            "fsync": "on",
            "synchronous_commit": "on",
            "max_connections": 200,
            "shared_buffers": "128MB",
        }
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        self._control("start")

    def crash_and_restart(self) -> None:
        """End every connection at once and recover from the log, as after a loss of power."""
        self.crashes.append(time.monotonic())
        self._control("restart", "-m", "immediate")
        self.crashes.append(time.monotonic())

    def go_away(self) -> None:
        """Crash, and stay away until `come_back`."""
        self.crashes.append(time.monotonic())
        self.stop()

    def come_back(self) -> None:
        self._control("start")
        self.crashes.append(time.monotonic())

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def dump(self) -> str:
        """All that the database holds, as text."""
        return self._run(
            "pg_dump", "--data-only", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "postgres"
        )

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", *arguments, "-D", str(self._data), "-l", str(self._log), "-w", "-t", str(_START_SECONDS))

    def _run(self, program: str, *arguments: str) -> str:
        # Files and no pipes: what pg_ctl starts keeps them open.
        done = subprocess.run(
            [*self._as_user, str(self._bin / program), *arguments],
            cwd=self._data.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {arguments[0]} failed: {done.stderr or self._log.read_text()[-2000:]}")
        return done.stdout or ""


class Redis:
    """A Redis that keeps nothing: what a broker loses must cost time only."""

    def __init__(self, home: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise MissingError("Redis is not installed: there is no redis-server.")
        self._home = home
        self.port = free_port()
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        with (self._home / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._home, stdout=log, stderr=log)
        ends_at = time.monotonic() + _START_SECONDS
        while not answers(self.port):
            if time.monotonic() > ends_at:
                raise RuntimeError("Redis did not start; see redis.log.")
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def flush(self) -> None:
        """FLUSHALL."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            connection.recv(100)
