"""REST: how many requests a second each server answers, all on the same machine with the same load."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import rows
from benchmarks.figures import Group, Missing, count, ratio
from benchmarks.load import Load, Target, check_count
from benchmarks.processes import Failed
from benchmarks.product import Product
from benchmarks.rest_peers import BODY, Directus, DirectusCluster, Drf, Floor, Kinto, missing
from benchmarks.seed import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from benchmarks.services import Services

_ITEMS_OF_A_TENANT = 100
_COST = 10


class Ours:
    """The product's web server, on a database in which each tenant has items."""

    def __init__(self, product: Product, stack: ExitStack) -> None:
        self.services, self.product = product.services, product
        self.web = product.web()
        stack.callback(self.web.stop)

    def post(self, *, tenants: int = 100) -> float:
        """Writes a second: checked, stored, billed, and with an event in the outbox."""
        return self._measure(self.post_targets()[:tenants], grows=("backend_item", rows.OUTBOX))

    def post_targets(self) -> list[Target]:
        """A write for each tenant."""
        return [
            Target("POST", f"/api/{name}/{SCHEMA}", f"X-API-Key: {key}", BODY)
            for name, key in self.product.keys.items()
        ]

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
        count(p50_ms=outcome.p50_ms, p99_ms=outcome.p99_ms, connections=outcome.connections)
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


def sown(services: Services) -> Product:
    """A database with 100 tenants, each of which has written one item."""
    product = Product.seeded(services, "bench_rest")
    product.sow("POST")
    return product


def add_items(product: Product) -> None:
    """Items to be read: 100 of each tenant."""
    with product.services.postgres.connection(product.database) as connection:
        rows.multiply(connection, "backend_item", times=_ITEMS_OF_A_TENANT)
        connection.execute("VACUUM ANALYZE")


_PEERS: dict[str, Callable[[Services, ExitStack], object]] = {
    "DRF": Drf,
    "Kinto": Kinto,
    "Directus": Directus,
    "Directus cluster": DirectusCluster,
}


@contextmanager
def _sides(services: Services, wanted: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    with ExitStack() as stack:
        product = sown(services)
        bare = product.copied("bench_floor")
        add_items(product)
        ours = Ours(product, stack)
        sides: dict[str, Callable[[], float]] = {
            "POST": ours.post,
            "GET": ours.get,
            "POST, one tenant": partial(ours.post, tenants=1),
            "POST, ten tenants": partial(ours.post, tenants=10),
        }
        if "pgbench POST" in wanted:
            sides["pgbench POST"] = Floor(bare).post
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
        ratio("post_vs_directus_cluster", "POST", "Directus cluster POST"),
        ratio("post_vs_pg_floor", "POST", "pgbench POST"),
        ratio("hot_tenant", "POST, one tenant", "POST"),
        ratio("scale_ten_tenants", "POST, ten tenants", "POST"),
    ),
    sides=_sides,
    unit="requests/s",
)
