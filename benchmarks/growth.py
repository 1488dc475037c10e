"""Growth: whether millions of items and delivered events slow down what is written, published and consumed."""

from __future__ import annotations

import os
import shutil
import statistics
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import rows
from benchmarks.consume import Inbox
from benchmarks.figures import Figure, Group
from benchmarks.processes import SCALE, Failed
from benchmarks.product import Product
from benchmarks.publish import Outbox
from benchmarks.rest import Ours

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import psycopg

    from benchmarks.services import Services

FEW = 10_000
MANY = int(os.environ.get("GROWTH_ROWS") or 10_000_000 * SCALE)
_BYTES_OF_A_ROW = 2_500  # of an item and an event, with their indexes and the log of writing them
_DOORS = ("POST", "publish", "consume")
# How many items, and as many delivered events.
_SIZES = {"few": FEW, "a tenth of many": MANY // 10, "many": MANY}


def _database(services: Services, name: str, count: int) -> tuple[Product, Outbox]:
    """Tenants with that many items and as many delivered events."""
    product = Product.seeded(services, name)
    outbox = Outbox(product, buses=1, keeps_delivered=True)
    outbox.release_seeds_and_drain()
    times = count // len(product.keys)
    with services.postgres.connection(product.database) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '512MB'")
        for table in ("backend_item", rows.OUTBOX):
            with _without_indexes(connection, table):
                # The outbox has two events of each item: POST and PUT.
                where = "operation = 'POST'" if table == rows.OUTBOX else "true"
                computed = rows.OUTBOX_COMPUTED if table == rows.OUTBOX else {}
                rows.multiply(connection, table, times=times, key="'old-' || n", where=where, computed=computed)
        connection.execute("VACUUM ANALYZE")
    return product, outbox


@contextmanager
def _without_indexes(connection: psycopg.Connection[Any], table: str) -> Iterator[None]:
    """Millions of rows come in faster if the indexes are made afterwards."""
    query = (
        "SELECT indexdef, indexname FROM pg_indexes WHERE tablename = %s"
        " AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass)"
    )
    indexes = connection.execute(query, [table, table]).fetchall()
    for _, name in indexes:
        connection.execute(f'DROP INDEX "{name}"')
    yield
    for definition, _ in indexes:
        connection.execute(definition)


@contextmanager
def _sides(services: Services, wanted: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    sizes = {size: count for size, count in _SIZES.items() if f"POST at {size}" in wanted}
    if shutil.disk_usage(services.directory).free < sum(sizes.values()) * _BYTES_OF_A_ROW:
        raise Failed(f"{services.directory} has too little room for {MANY:,} rows: name a larger disk in BENCH_DIR.")
    sides: dict[str, Callable[[], float]] = {}
    with ExitStack() as stack:
        for size, count in sizes.items():
            name = f"bench_{count}"
            stack.callback(services.postgres.drop, name)
            product, outbox = _database(services, name, count)
            sides[f"POST at {size}"] = Ours(product, stack).post
            sides[f"publish at {size}"] = partial(outbox.drain, processes=1)
            sides[f"consume at {size}"] = partial(Inbox(product).drain, processes=1)
        yield sides


def _growth(name: str, size: str) -> Figure:
    """How much of its speed at few rows the slowest door keeps at so many: the median of each run's worst."""

    def value(values: Mapping[str, Sequence[float]]) -> float:
        doors = [_shares(values, door, size) for door in _DOORS]
        worst: list[float] = [min(of_run) for of_run in zip(*doors, strict=True)]
        return statistics.median(worst)

    return Figure(name, tuple(f"{door} at {given}" for door in _DOORS for given in ("few", size)), value)


def _shares(values: Mapping[str, Sequence[float]], door: str, size: str) -> list[float]:
    return [now / few for now, few in zip(values[f"{door} at {size}"], values[f"{door} at few"], strict=True)]


GROUP = Group(
    figures=(_growth("growth", "many"), _growth("scale_growth_to_a_million", "a tenth of many")),
    sides=_sides,
    unit="a second",
)
