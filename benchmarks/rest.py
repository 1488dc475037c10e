"""REST: how many requests a second each server answers, all on the same machine with the same load."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import load, rows
from benchmarks.environments import PEERS, environment_of, python_of
from benchmarks.figures import Group, Missing, ratio
from benchmarks.load import CONNECTIONS, Target
from benchmarks.processes import Failed, run
from benchmarks.product import Product, Web
from benchmarks.seed import SCHEMA, payload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from benchmarks.services import Services

BODY = json.dumps(payload("%KEY%"))
_ITEMS_OF_A_TENANT = 100
_COST = 10


class Ours:
    """The product's web server on a database with 100 tenants of 100 items each."""

    def __init__(self, services: Services, stack: ExitStack) -> None:
        self.services = services
        self.product = Product.seeded(services, "bench_rest")
        self.web = self.product.web()
        stack.callback(self.web.stop)
        self.product.write(self.web, "POST", key=rows.SEED_KEY)
        with services.postgres.connection(self.product.database) as connection:
            rows.multiply(connection, "backend_item", times=_ITEMS_OF_A_TENANT)
            connection.execute("VACUUM ANALYZE")

    def post(self, *, tenants: int = 100) -> float:
        """Writes a second: checked, stored, billed, and with an event in the outbox."""
        targets = [
            Target("POST", f"/api/{name}/{SCHEMA}", f"X-API-Key: {key}", BODY)
            for name, key in list(self.product.keys.items())[:tenants]
        ]
        return self._measure(targets, grows=("backend_item", rows.OUTBOX))

    def get(self) -> float:
        """Reads a second, billed."""
        targets = [
            Target("GET", f"/api/{name}/{SCHEMA}/item-%PICK%", f"X-API-Key: {key}")
            for name, key in self.product.keys.items()
        ]
        return self._measure(targets, grows=())

    def _measure(self, targets: list[Target], *, grows: tuple[str, ...]) -> float:
        before = self._counts(*grows)
        self.services.postgres.settle()
        outcome = load.send(targets, port=self.web.port, directory=self.services.directory, picks=_ITEMS_OF_A_TENANT)
        # What wrk had asked for when its time was up is carried out too.
        grown = [new - old for old, new in zip(before, self._counts(*grows), strict=True)]
        done = grown[0] // _COST
        if grown != [done * _COST, done * _COST, done, *[done] * len(grows)]:
            raise Failed(f"{outcome.succeeded} requests made bill, balances, ledger and {grows} grow by {grown}")
        check_count(outcome, done)
        return outcome.rate

    def _counts(self, *tables: str) -> list[int]:
        number = partial(self.services.postgres.number, self.product.database)
        with self.services.postgres.connection(self.product.database) as connection:
            counts = [
                int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])
                for table in ("tenants_ledgerentry", *tables)
            ]
        ledger = number("SELECT -sum(amount) FROM tenants_ledgerentry")
        return [ledger, number("SELECT -sum(balance) FROM tenants_tokenaccount"), *counts]


def check_count(outcome: load.Outcome, done: int) -> None:
    """What was carried out must be what was answered, but for what was under way at the end."""
    if not outcome.succeeded <= done <= outcome.succeeded + CONNECTIONS:
        raise Failed(f"{outcome.succeeded} requests were answered, {done} carried out")


class Drf:
    """A ModelViewSet with djangorestframework-api-key on the same server."""

    def __init__(self, services: Services, stack: ExitStack) -> None:
        self._services, self._folder = services, PEERS / "drf"
        python = python_of("drf")
        self._database = services.postgres.create("bench_drf")
        environment = {**environment_of(services, self._database), "PYTHONPATH": str(self._folder)}
        self._key = run([python, "project.py"], environment=environment, cwd=self._folder).split()[-1]
        self._web = Web(environment, "project:application", ready_path="/ready", python=python)
        stack.callback(self._web.stop)

    def post(self) -> float:
        before = self._count()
        outcome = self._send(Target("POST", "/items/", f"Authorization: Api-Key {self._key}", BODY))
        check_count(outcome, self._count() - before)
        return outcome.rate

    def get(self) -> float:
        return self._send(Target("GET", "/items/item-%PICK%/", f"Authorization: Api-Key {self._key}")).rate

    def _send(self, target: Target) -> load.Outcome:
        self._services.postgres.settle()
        return load.send([target], port=self._web.port, directory=self._services.directory, picks=10_000)

    def _count(self) -> int:
        return self._services.postgres.number(self._database, "SELECT count(*) FROM items_item")


_PEERS: dict[str, Callable[[Services, ExitStack], object]] = {"DRF": Drf}


@contextmanager
def _sides(services: Services, wanted: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    with ExitStack() as stack:
        ours = Ours(services, stack)
        sides: dict[str, Callable[[], float]] = {
            "POST": ours.post,
            "GET": ours.get,
            "POST, one tenant": partial(ours.post, tenants=1),
        }
        for name, peer in _PEERS.items():
            methods = [method for method in ("POST", "GET") if f"{name} {method}" in wanted]
            if methods:
                sides |= _methods(name, methods, partial(peer, services, stack))
        yield sides


def _methods(name: str, methods: list[str], make: Callable[[], object]) -> dict[str, Callable[[], float]]:
    """The sides of a peer; if it cannot be had, each says so when it is measured."""
    try:
        peer = make()
    except Missing as error:
        return {f"{name} {method}": partial(_raise, error) for method in methods}
    return {f"{name} {method}": getattr(peer, method.lower()) for method in methods}


def _raise(error: Missing) -> float:
    raise error


GROUP = Group(
    figures=(
        ratio("post_vs_drf", "POST", "DRF POST"),
        ratio("get_vs_drf", "GET", "DRF GET"),
        ratio("hot_tenant", "POST, one tenant", "POST"),
    ),
    sides=_sides,
    unit="requests/s",
)
