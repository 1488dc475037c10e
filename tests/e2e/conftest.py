"""Everything that `make run` starts, on free ports, with a database and a broker of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
READY = "Blockforger is ready at"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class LocalRun:
    """One `make run`, and what it printed."""

    environment: dict[str, str]
    web_port: int = field(default_factory=free_port)
    aws_port: int = field(default_factory=free_port)
    output: Path = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        state = Path(self.environment["BLOCKFORGER_STATE_DIR"])
        state.mkdir(exist_ok=True)
        self.output = state / f"output-{uuid.uuid4()}.txt"
        command = ["-m", "deploy.run_local", "--web-port", str(self.web_port), "--aws-port", str(self.aws_port)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def wait_until_ready(self) -> None:
        ends_at = time.monotonic() + 90
        while READY not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < ends_at, self.text
            time.sleep(0.1)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def site(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def pasted(self) -> list[str]:
        """The commands that were printed to be pasted, each on one line."""
        guide = self.text.split("Paste into another terminal")[-1].split(READY)[0].replace("\\\n", " ")
        lines = [line.strip() for line in guide.splitlines() if line.startswith("  ")]
        return [line for line in lines if not line.startswith("#")]

    def key_of(self, tenant: str) -> str:
        """The key that was printed for a tenant."""
        (key,) = set(re.findall(rf"/api/{tenant}/\w+ -H 'X-API-Key: (\S+)'", self.text))
        return str(key)

    def shell(self, command: str) -> str:
        """Run a command as a user would in another terminal; gives what it printed."""
        env_file = Path(self.environment["BLOCKFORGER_STATE_DIR"]) / "local.env"
        done = subprocess.run(
            ["sh", "-c", f". {env_file}; {command}"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def manage(self, arguments: str) -> str:
        return self.shell(f"{sys.executable} manage.py {arguments}")


@contextmanager
def new_environment(state: Path) -> Iterator[dict[str, str]]:
    """A user's environment, with state of its own. On PostgreSQL also a database, on Redis its own number."""
    names = ("PATH", "HOME", "LANG", "PYENV_ROOT", "PYENV_VERSION")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment["BLOCKFORGER_STATE_DIR"] = str(state)
    if settings.CELERY_BROKER_URL.startswith("redis:"):
        environment["CELERY_BROKER_URL"] = settings.CELERY_BROKER_URL.rpartition("/")[0] + "/8"
    if "postgresql" not in settings.DATABASES["default"]["ENGINE"]:
        yield environment
        return
    server = os.environ["DATABASE_URL"]
    name = f"blockforger_e2e_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield {**environment, "DATABASE_URL": f"{server.rpartition('/')[0]}/{name}"}
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment in which nothing has run yet."""
    with new_environment(tmp_path) as environment:
        yield environment


@pytest.fixture(scope="session")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    with new_environment(tmp_path_factory.mktemp("local-run")) as environment:
        run = LocalRun(environment)
        run.start()
        try:
            run.wait_until_ready()
            yield run
        finally:
            if run.process.poll() is None:
                run.stop()
