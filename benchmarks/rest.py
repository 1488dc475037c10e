"""REST: how many requests a second each server answers, all on the same machine with the same load."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import rows
from benchmarks.figures import Group, Missing, ratio
from benchmarks.load import Load, Target, check_count
from benchmarks.processes import Failed
from benchmarks.product import Product
from benchmarks.rest_peers import BODY, Directus, Drf, Floor, Kinto, missing
from benchmarks.seed import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from benchmarks.services import Services

_ITEMS_OF_A_TENANT = 100
_COST = 10


class Ours:
    """The product's web server on a database with 100 tenants of 100 items each."""

    def __init__(self, services: Services, stack: ExitStack) -> None:
        self.services = services
        self.product = Product.seeded(services, "bench_rest")
        self.product.sow("POST")
        self.bare = self.product.copied("bench_floor")
        with services.postgres.connection(self.product.database) as connection:
            rows.multiply(connection, "backend_item", times=_ITEMS_OF_A_TENANT)
            connection.execute("VACUUM ANALYZE")
        self.web = self.product.web()
        stack.callback(self.web.stop)

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
        sending = Load(targets, self.web.port, self.services.directory, picks=_ITEMS_OF_A_TENANT)
        outcome, grown = sending.measure(self.services.postgres, lambda: self._counts(*grows))
        done = grown[0] // _COST
        if grown != (done * _COST, done * _COST, done, *[done] * len(grows)):
            raise Failed(f"{outcome.succeeded} requests made bill, balances, ledger and {grows} grow by {grown}")
        check_count(outcome, done)
        return outcome.rate

    def _counts(self, *tables: str) -> tuple[int, ...]:
        counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in ("tenants_ledgerentry", *tables))
        sums = "(SELECT -sum(amount) FROM tenants_ledgerentry), (SELECT -sum(balance) FROM tenants_tokenaccount)"
        with self.services.postgres.connection(self.product.database) as connection:
            (found,) = connection.execute(f"SELECT {sums}, {counts}").fetchall()
        return tuple(map(int, found))


_PEERS: dict[str, Callable[[Services, ExitStack], object]] = {"DRF": Drf, "Kinto": Kinto, "Directus": Directus}


@contextmanager
def _sides(services: Services, wanted: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    with ExitStack() as stack:
        ours = Ours(services, stack)
        sides: dict[str, Callable[[], float]] = {
            "POST": ours.post,
            "GET": ours.get,
            "POST, one tenant": partial(ours.post, tenants=1),
        }
        if "pgbench POST" in wanted:
            sides["pgbench POST"] = Floor(ours.bare).post
        for name, make in _PEERS.items():
            if methods := [method for method in ("POST", "GET") if f"{name} {method}" in wanted]:
                sides |= _sides_of(name, methods, partial(make, services, stack))
        yield sides


def _sides_of(name: str, methods: list[str], make: Callable[[], object]) -> dict[str, Callable[[], float]]:
    """The sides of a peer; if it cannot be had, each says so when it is measured."""
    try:
        peer = make()
    except Missing as error:
        return {f"{name} {method}": partial(missing, error) for method in methods}
    return {f"{name} {method}": getattr(peer, method.lower()) for method in methods}


GROUP = Group(
    figures=(
        ratio("post_vs_drf", "POST", "DRF POST"),
        ratio("get_vs_drf", "GET", "DRF GET"),
        ratio("post_vs_kinto", "POST", "Kinto POST"),
        ratio("get_vs_kinto", "GET", "Kinto GET"),
        ratio("post_vs_directus", "POST", "Directus POST"),
        ratio("post_vs_pg_floor", "POST", "pgbench POST"),
        ratio("hot_tenant", "POST, one tenant", "POST"),
    ),
    sides=_sides,
    unit="requests/s",
)
