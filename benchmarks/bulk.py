"""Bulk: how fast a client creates items by the thousand, against the loop that would be written without it."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.environments import PEERS, environment_of, python_of
from benchmarks.figures import Group, ratio
from benchmarks.processes import SCALE, Failed, run
from benchmarks.product import Product
from benchmarks.seed import SCHEMA, payload, tenant_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from benchmarks.services import Services

_ITEMS_OF_A_REQUEST = 1000
_REQUESTS = max(int(20 * SCALE), 2)
_LOOPS = int(4_000 * SCALE)
_WARM_UP = 2
_COST = 10

_numbers = itertools.count()


class Bulk:
    """A web server, and one client that sends arrays to it, one after the other."""

    def __init__(self, product: Product, stack: ExitStack, *, events_of_an_item: int) -> None:
        self._product, self._events = product, events_of_an_item
        self._web = product.web()
        stack.callback(self._web.stop)

    def create(self) -> float:
        """Items a second: checked, stored, billed, and with an event each in the outbox if a rule matches."""
        self._send(_arrays(_WARM_UP))
        arrays = _arrays(_REQUESTS)
        self._product.services.postgres.settle()
        before = self._counts()
        started = time.monotonic()
        self._send(arrays)
        seconds = time.monotonic() - started
        items = _REQUESTS * _ITEMS_OF_A_REQUEST
        grown = tuple(new - old for old, new in zip(before, self._counts(), strict=True))
        if grown != (items, items * self._events, items * _COST):
            raise Failed(f"{items} items made items, events and bill grow by {grown}")
        return items / seconds

    def _send(self, arrays: Sequence[bytes]) -> None:
        name = tenant_name(0)
        for array in arrays:
            self._web.request("POST", f"/api/{name}/{SCHEMA}", array, {"X-API-Key": self._product.keys[name]})

    def _counts(self) -> tuple[int, ...]:
        (found,) = self._product.services.postgres.rows(
            self._product.database,
            "SELECT (SELECT count(*) FROM backend_item), (SELECT count(*) FROM eventing_outboxevent),"
            " (SELECT -sum(balance) FROM tenants_tokenaccount)",
        )
        return tuple(map(int, found))


def _arrays(number: int) -> list[bytes]:
    """Bodies of requests, each of as many new items as one may hold."""
    return [
        json.dumps([payload(f"bulk-{next(_numbers)}") for _ in range(_ITEMS_OF_A_REQUEST)]).encode()
        for _ in range(number)
    ]


def orm_loop(services: Services, *, command: str) -> float:
    """Items a second that a loop creates one by one with the ORM: no check, no HTTP.

    By the command `create` each with its bill, ledger's entry and event in one transaction; by `create-bare` alone.
    """
    python, folder = python_of("naive_consumer"), PEERS / "naive_consumer"
    database = services.postgres.create("bench_loop")
    environment = environment_of(services, database)
    run([python, "app.py", "migrate"], environment=environment, cwd=folder)
    services.postgres.settle()
    printed = run([python, "app.py", command, str(_LOOPS)], environment=environment, cwd=folder)
    if (made := services.postgres.number(database, "SELECT count(*) FROM items_item")) != _LOOPS:
        raise Failed(f"The loop made {made} items, not {_LOOPS}")
    return _LOOPS / float(json.loads(printed.splitlines()[-1])["seconds"])


@contextmanager
def _sides(services: Services, wanted: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    with ExitStack() as stack:
        sides: dict[str, Callable[[], float]] = {
            "loop": partial(orm_loop, services, command="create"),
            "bare loop": partial(orm_loop, services, command="create-bare"),
        }
        for name, rules in {"bulk": 1, "bulk, no rule": 0}.items():
            if name in wanted:
                product = Product.seeded(services, f"bench_bulk_{rules}", tenants=1, buses=rules)
                sides[name] = Bulk(product, stack, events_of_an_item=rules).create
        yield sides


GROUP = Group(
    figures=(
        ratio("bulk_vs_orm_loop", "bulk", "loop"),
        ratio("bulk_vs_bare_orm_loop", "bulk, no rule", "bare loop"),
    ),
    sides=_sides,
    unit="items/s",
)
