"""PostgreSQL, Redis and AWS of the benchmarks' own: nobody else's work is in the figures, nor ours in theirs."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import sys
import tempfile
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from benchmarks.processes import Failed, Process, base_environment, free_port, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SERVER_USER = "postgres"


class Postgres:
    """A server with the settings of a new installation, fsync on, but for the number of connections."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._data = directory / "postgres"
        self._bin = _postgres_programs()
        self._user = _SERVER_USER if getpass.getuser() == "root" else None
        self._data.mkdir()
        if self._user:
            shutil.chown(self._data, self._user)
        as_user = ["runuser", "-u", self._user, "--"] if self._user else []
        initdb = [*as_user, str(self._bin / "initdb"), "-D", str(self._data), "-U", "postgres", "-E", "UTF8"]
        run([*initdb, "--locale=C.UTF-8", "--auth=trust"], environment=base_environment(), cwd=self._data)
        self._process = self._start()

    def restart(self, **settings: str) -> None:
        """Start anew, with other settings."""
        self._process.stop(2)
        self._process = self._start(**settings)

    def stop(self) -> None:
        self._process.stop(2)  # SIGINT: the fast shutdown

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def connection(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            yield connection

    def rows(self, database: str, query: LiteralString, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.connection(database) as connection:
            return connection.execute(query, parameters).fetchall()

    def number(self, database: str, query: LiteralString, parameters: Sequence[Any] = ()) -> int:
        """The one number that the query gives."""
        ((number,),) = self.rows(database, query, parameters)
        return int(number or 0)

    def create(self, database: str, *, template: str = "template1") -> str:
        """Make a database, anew if there is one, as a copy of the template."""
        names = psycopg.sql.Identifier(database), psycopg.sql.Identifier(template)
        with self.connection() as connection:
            connection.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(names[0]))
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        return database

    def drop(self, database: str) -> None:
        with self.connection() as connection:
            name = psycopg.sql.Identifier(database)
            connection.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def settle(self) -> None:
        """Write out what earlier runs have left to be written, so that it is not done at the next one's cost."""
        with self.connection() as connection:
            connection.execute("CHECKPOINT")

    def cpu_seconds(self) -> float:
        return self._process.cpu_seconds()

    def _start(self, **settings: str) -> Process:
        options = {"port": str(self.port), "listen_addresses": "127.0.0.1", "max_connections": "500"} | settings
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self._data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        return Process(
            command,
            environment=base_environment(),
            cwd=self._data,
            user=self._user,
            ready="ready to accept connections",
        )


class Redis:
    """A server that keeps nothing on disk."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = Process(
            [*command, "--dir", str(directory)], environment=base_environment(), ready="Ready to accept connections"
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        run(["redis-cli", "-p", str(self.port), "flushall"], environment=base_environment())

    def stop(self) -> None:
        self._process.stop()


class Aws:
    """The stub, in as many processes as it takes not to be the limit."""

    def __init__(self, *, processes: int = 1) -> None:
        self.port, control = free_port(), free_port()
        self._processes = processes
        self._control = [control + number for number in range(processes)]
        command = [sys.executable, "-m", "benchmarks.aws_stub", "--port", str(self.port)]
        command += ["--control-port", str(control), "--processes", str(processes)]
        self._process = Process(command, environment=base_environment())
        self._process.wait_for(lambda: self._process.text.count("ready") == processes, seconds=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What boto3 and the other SDKs read."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
        }

    def reset(self, *, latency_ms: float = 0) -> None:
        """Forget everything: what was sent, and the queues."""
        self._ask("reset", {"latency_ms": latency_ms})

    def accepted(self) -> int:
        """How many entries were accepted."""
        return sum(counts["accepted"] for counts in self._ask("counts"))

    def calls(self) -> int:
        return sum(counts["calls"] for counts in self._ask("counts"))

    def records(self) -> list[tuple[int, int, str, list[str]]]:
        """All accepted entries in order: monotonic and real time in ns, bus, resources."""
        return sorted(tuple(record) for records in self._ask("records") for record in records)

    def fill(self, queue: str, bodies: list[str]) -> int:
        """Put messages into the queue, all at once. Returns the monotonic time, in ns."""
        (answer,) = self._ask("fill", {"queue": queue, "bodies": bodies})
        return int(answer["at"])

    def queue(self, name: str) -> dict[str, int]:
        (counts,) = self._ask("counts")
        return dict(counts["queues"][name])

    def cpu_seconds(self) -> float:
        return self._process.cpu_seconds()

    def stop(self) -> None:
        self._process.stop()

    def _ask(self, what: str, body: object = None) -> list[Any]:
        answers = []
        for port in self._control:
            data = json.dumps(body).encode()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stub/{what}", data, timeout=60) as response:
                answers.append(json.load(response))
        return answers


class Services:
    """All of them, in a directory that is gone afterwards."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with ExitStack() as stack:
            self.postgres = Postgres(directory)
            stack.callback(self.postgres.stop)
            self.redis = Redis(directory)
            stack.callback(self.redis.stop)
            self.aws = Aws()
            stack.callback(self.aws.stop)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        self._stack.close()


@contextmanager
def services() -> Iterator[Services]:
    """Start them. BENCH_DIR names the directory for their files; it must be on a disk, or fsync would cost nothing."""
    parent = os.environ.get("BENCH_DIR") or tempfile.gettempdir()
    directory = Path(tempfile.mkdtemp(prefix="blockforger-bench-", dir=parent))
    directory.chmod(0o755)
    try:
        if _file_system(directory) == "tmpfs":
            raise Failed(
                f"{directory} is in memory, where fsync costs nothing: name a directory on a disk in BENCH_DIR."
            )
        running = Services(directory)
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _file_system(path: Path) -> str:
    return run(["stat", "-f", "-c", "%T", str(path)], environment=base_environment()).strip()


def _postgres_programs() -> Path:
    places = [Path(found).parent] if (found := shutil.which("initdb")) else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists():
            return place
    raise Failed("PostgreSQL's programs are not here: install the server's package.")
