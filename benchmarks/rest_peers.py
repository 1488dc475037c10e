"""What a user would pick instead, serving the same items with less to do."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from benchmarks import bare, load, rows
from benchmarks.environments import PEERS, environment_of, node_folder_of, python_of
from benchmarks.load import FEW, Load, Target, check_count
from benchmarks.processes import Failed, Process, free_port, run
from benchmarks.product import Web, request, tenant_names
from benchmarks.seed import DOCUMENT, SCHEMA, payload

if TYPE_CHECKING:
    from contextlib import ExitStack

    from benchmarks.figures import Missing
    from benchmarks.product import Product
    from benchmarks.services import Services

BODY = json.dumps(payload("%KEY%"))


class Drf:
    """A ModelViewSet with djangorestframework-api-key on the same server."""

    def __init__(self, services: Services, stack: ExitStack) -> None:
        self._services, folder = services, PEERS / "drf"
        python = python_of("drf")
        self._database = services.postgres.create("bench_drf")
        environment = {**environment_of(services, self._database), "PYTHONPATH": str(folder)}
        self._key = run([python, "project.py"], environment=environment, cwd=folder).split()[-1]
        self._web = Web(environment, "project:application", ready_path="/ready", python=python)
        stack.callback(self._web.stop)

    def post(self) -> float:
        return self._measure(Target("POST", "/items/", f"Authorization: Api-Key {self._key}", BODY), makes_items=True)

    def get(self) -> float:
        return self._measure(Target("GET", "/items/item-%PICK%/", f"Authorization: Api-Key {self._key}"))

    def _measure(self, target: Target, *, makes_items: bool = False) -> float:
        sending = Load([target], self._web.port, self._services.directory, picks=10_000)
        outcome, (grown,) = sending.measure(self._services.postgres, self._count)
        check_count(outcome, grown if makes_items else outcome.succeeded)
        return outcome.rate

    def _count(self) -> tuple[int]:
        return (self._services.postgres.number(self._database, "SELECT count(*) FROM items_item"),)


class Kinto:
    """Kinto with a collection of its own for each tenant, which is how it conflicts least; conflicts do not count."""

    _ITEMS = 10
    _AUTHORIZATION = {"Authorization": f"Basic {base64.b64encode(b'benchmark:benchmark').decode()}"}

    def __init__(self, services: Services, stack: ExitStack) -> None:
        self._services, folder = services, PEERS / "kinto"
        python = python_of("kinto")
        self._database = services.postgres.create("bench_kinto")
        environment = environment_of(services, self._database)
        environment |= {"PYTHONPATH": str(folder), "PEER_STATE": str(services.directory)}
        run([python, "app.py"], environment=environment, cwd=folder)
        self._web = Web(environment, "app:application", ready_path="/v1/__heartbeat__", python=python)
        stack.callback(self._web.stop)
        for name in tenant_names():
            self._prepare(name)

    def post(self) -> float:
        return self._measure("POST", "", json.dumps({"data": payload("%KEY%")}), makes_items=True)

    def get(self) -> float:
        return self._measure("GET", "/item-%PICK%")

    def _measure(self, method: str, item: str, body: str = "", *, makes_items: bool = False) -> float:
        headers = f"Authorization: {self._AUTHORIZATION['Authorization']}"
        targets = [Target(method, f"/v1{_records_of(name)}{item}", headers, body) for name in tenant_names()]
        sending = Load(
            targets, self._web.port, self._services.directory, picks=self._ITEMS, some_may_be_refused=makes_items
        )
        outcome, (grown,) = sending.measure(self._services.postgres, self._count)
        check_count(outcome, grown if makes_items else outcome.succeeded)
        return outcome.rate

    def _prepare(self, name: str) -> None:
        collection = {"data": {"schema": DOCUMENT}}
        requests: list[dict[str, Any]] = [
            {"method": "PUT", "path": f"/v1/buckets/{name}"},
            {"method": "PUT", "path": f"/v1/buckets/{name}/collections/{SCHEMA}", "body": collection},
            *(
                {"method": "PUT", "path": f"/v1{_records_of(name)}/{key}", "body": {"data": payload(key)}}
                for key in (f"item-{number}" for number in range(1, self._ITEMS + 1))
            ),
        ]
        answer = json.loads(self._web.request("POST", "/v1/batch", {"requests": requests}, self._AUTHORIZATION))
        if refused := [made for made in answer["responses"] if made["status"] >= 400]:
            raise Failed(f"Kinto refused what prepares it: {refused[0]}")

    def _count(self) -> tuple[int]:
        query = "SELECT count(*) FROM objects WHERE resource_name = 'record'"
        return (self._services.postgres.number(self._database, query),)


def _records_of(tenant: str) -> str:
    return f"/buckets/{tenant}/collections/{SCHEMA}/records"


class Directus:
    """Directus in one process, as many as its own image starts, with validated fields and a static token."""

    _TOKEN = "only-for-benchmarks"
    _PROGRAM = "node_modules/@directus/api/dist/cli/run.js"
    _database = "bench_directus"
    _start: tuple[str, ...] = ("node", _PROGRAM, "start")

    def __init__(self, services: Services, stack: ExitStack) -> None:
        self._services, folder = services, node_folder_of("directus")
        services.postgres.create(self._database)
        self._port = free_port()
        environment = {
            **environment_of(services, self._database),
            "DB_CLIENT": "pg",
            "DB_CONNECTION_STRING": services.postgres.url(self._database),
            "HOST": "127.0.0.1",
            "PORT": str(self._port),
            "SECRET": self._TOKEN,
            "ADMIN_EMAIL": "bench@example.com",
            "ADMIN_PASSWORD": self._TOKEN,
            "ADMIN_TOKEN": self._TOKEN,
            "TELEMETRY": "false",
            "LOG_LEVEL": "error",
            "NODE_ENV": "production",
            # It answers 503 when it is busy.
            "PRESSURE_LIMITER_ENABLED": "false",
        }
        run(["node", self._PROGRAM, "bootstrap"], environment=environment, cwd=folder)
        # A process keeps what it knows of the collections: it must start when they are there.
        with Process(self._start, environment=environment, cwd=folder, ready=self._answers):
            self._prepare()
        stack.enter_context(Process(self._start, environment=environment, cwd=folder, ready=self._answers))

    def post(self) -> float:
        target = Target("POST", f"/items/{SCHEMA}", f"Authorization: Bearer {self._TOKEN}", BODY)
        sending = Load([target], self._port, self._services.directory)
        outcome, (grown,) = sending.measure(self._services.postgres, self._count)
        check_count(outcome, grown)
        return outcome.rate

    def _prepare(self) -> None:
        fields = [
            {"field": "id", "type": "string", "schema": {"is_primary_key": True, "has_auto_increment": False}},
            {"field": "name", "type": "string", "schema": {"is_nullable": False, "max_length": 200}},
            {
                "field": "status",
                "type": "string",
                "schema": {"is_nullable": False},
                "meta": {"validation": {"_and": [{"status": {"_in": ["available", "pending", "sold"]}}]}},
            },
            {"field": "price", "type": "float", "schema": {}},
            {"field": "tags", "type": "json", "schema": {}},
        ]
        collection = {"collection": SCHEMA, "schema": {}, "meta": {}, "fields": fields}
        request(self._port, "POST", "/collections", collection, {"Authorization": f"Bearer {self._TOKEN}"})

    def _answers(self) -> bool:
        try:
            return request(self._port, "GET", "/server/ping", None, {}) == b"pong"
        except OSError:
            return False

    def _count(self) -> tuple[int]:
        return (self._services.postgres.number(self._database, "SELECT count(*) FROM pets"),)


class DirectusCluster(Directus):
    """Directus in two processes that share a port: more than it does by default, as much as two cores carry."""

    _database = "bench_directus_cluster"
    _start = ("node", "cluster.mjs")


class Floor:
    """pgbench with the four bare statements in a transaction: eight clients, 100 tenants, the product's own tables."""

    def __init__(self, product: Product) -> None:
        self._services, self._database = product.services, product.database
        with self._services.postgres.connection(self._database) as connection:
            texts = bare.statements(connection, tenant=":tenant", key="('bare-' || (:n)::text)")
        lines = [r"\set tenant random(0, 99)", r"\set n random(1, 9000000000000000000)", "BEGIN;", *texts, "END;"]
        self._script = self._services.directory / "floor.sql"
        self._script.write_text("\n".join(lines) + "\n")

    def post(self) -> float:
        before = self._count()
        self._services.postgres.settle()
        command = ["pgbench", "-n", "-c", str(FEW), "-j", "1", "-T", str(load.SECONDS), "-f", str(self._script)]
        environment = environment_of(self._services, self._database)
        server = ["-h", "127.0.0.1", "-p", str(self._services.postgres.port), "-U", "postgres", self._database]
        printed = run([*command, *server], environment=environment)
        made = int(_found(r"transactions actually processed: (\d+)", printed))
        if self._count() - before != made:
            raise Failed(f"pgbench counted {made} transactions, the table grew by {self._count() - before}")
        return float(_found(r"tps = ([\d.]+)", printed))

    def _count(self) -> int:
        return self._services.postgres.number(self._database, f"SELECT count(*) FROM {rows.OUTBOX}")


def _found(pattern: str, printed: str) -> str:
    found = re.search(pattern, printed)
    if found is None:
        raise Failed(f"pgbench printed something else than expected: {printed[-500:]}")
    return found[1]


def missing(error: Missing) -> float:
    """A side that says what it lacks."""
    raise error
