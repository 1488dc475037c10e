"""Blockforger as it runs in production, and databases for it: started and made through doors that stay."""

from __future__ import annotations

import json
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.processes import Process, base_environment, free_port, run
from benchmarks.rows import SEED_KEY
from benchmarks.seed import SCHEMA, bus_arn, payload, tenant_name

if TYPE_CHECKING:
    from benchmarks.services import Services

TENANTS = 100
QUEUE = "blockforger-input-bench"


@dataclass
class Product:
    """One database with its tenants, and the processes that work on it."""

    services: Services
    database: str
    # By tenant.
    keys: dict[str, str]

    @classmethod
    def seeded(cls, services: Services, database: str, *, tenants: int = TENANTS, buses: int = 1) -> Product:
        """A new database in which each tenant has a schema, a key, tokens, and a rule for each bus."""
        services.postgres.create(database)
        new = cls(services, database, {})
        command = [sys.executable, "-m", "benchmarks.seed", str(tenants), str(buses)]
        new.keys = json.loads(run(command, environment=new.environment()).splitlines()[-1])
        return new

    def copied(self, database: str) -> Product:
        return Product(self.services, self.services.postgres.create(database, template=self.database), self.keys)

    def environment(self) -> dict[str, str]:
        return {
            **base_environment(),
            **self.services.aws.environment(),
            "DATABASE_URL": self.services.postgres.url(self.database),
            "CELERY_BROKER_URL": self.services.redis.url,
            "BLOCKFORGER_STATE_DIR": str(self.services.directory / "state"),
            "BLOCKFORGER_INPUT_QUEUE_NAME": QUEUE,
            "BLOCKFORGER_ALLOWED_BUS_ARNS": bus_arn(0)[:-1] + "*",
            "SECRET_KEY": "only-for-benchmarks" * 4,
            "LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "blockforger.settings",
        }

    def web(self) -> Web:
        return Web(self.environment(), "blockforger.wsgi:application", ready_path="/readyz")

    def publisher(self) -> Process:
        command = [sys.executable, "manage.py", "publish_events", "--interval", "0.02"]
        return Process(command, environment=self.environment(), ready="publish_events: watching")

    def consumer(self) -> Process:
        environment = {**self.environment(), "LOG_LEVEL": "INFO"}
        command = [sys.executable, "manage.py", "consume_events"]
        return Process(command, environment=environment, ready="waiting for messages")

    def worker(self) -> Process:
        """Celery's worker with its beat, as `make run` starts it."""
        command = [sys.executable, "-m", "celery", "-A", "blockforger", "worker", "--beat", "--pool", "threads"]
        command += ["--concurrency", "2", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
        return Process([*command, "--without-heartbeat"], environment=self.environment(), ready=" ready.")

    def sow(self, *methods: str) -> None:
        """Let each tenant carry these out, over HTTP, on the item whose rows are multiplied."""
        web = self.web()
        try:
            for name, api_key in self.keys.items():
                for method in methods:
                    path = f"/api/{name}/{SCHEMA}" + (f"/{SEED_KEY}" if method != "POST" else "")
                    web.request(method, path, payload(SEED_KEY), {"X-API-Key": api_key})
        finally:
            web.stop()


class Web:
    """A WSGI application on granian with two workers, the same for ours and for every peer in Python."""

    def __init__(
        self, environment: dict[str, str], application: str, *, ready_path: str, python: str = sys.executable
    ) -> None:
        self.port = free_port()
        command = [python, "-m", "granian", "--interface", "wsgi", "--workers", "2", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--log-level", "warning", application]
        self._ready_path = ready_path
        self.process = Process(command, environment=environment, ready=self._answers)

    def request(self, method: str, path: str, body: object, headers: dict[str, str]) -> bytes:
        """Send one request. Raises for an answer that is no success."""
        return request(self.port, method, path, body, headers)

    def _answers(self) -> bool:
        try:
            self.request("GET", self._ready_path, None, {})
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.process.stop()


def request(port: int, method: str, path: str, body: object, headers: dict[str, str]) -> bytes:
    """Send one request to a server on this machine: bytes as they are. Raises for an answer that is no success."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    with urllib.request.urlopen(asked, timeout=30) as response:
        return bytes(response.read())


def tenant_names() -> list[str]:
    return [tenant_name(number) for number in range(TENANTS)]
