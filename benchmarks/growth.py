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
def _sides(services: Services, _: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    if shutil.disk_usage(services.directory).free < MANY * _BYTES_OF_A_ROW:
        raise Failed(f"{services.directory} has too little room for {MANY:,} rows: name a larger disk in BENCH_DIR.")
    sides: dict[str, Callable[[], float]] = {}
    with ExitStack() as stack:
        for size, name, count in (("few", "bench_few", FEW), ("many", "bench_many", MANY)):
            stack.callback(services.postgres.drop, name)
            product, outbox = _database(services, name, count)
            sides[f"POST at {size}"] = Ours(product, stack).post
            sides[f"publish at {size}"] = partial(outbox.drain, processes=1)
            sides[f"consume at {size}"] = partial(Inbox(product).drain, processes=1)
        yield sides


def _worst(values: Mapping[str, Sequence[float]]) -> float:
    """The median of each run's worst."""
    doors = [[many / few for many, few in _pairs(values, door)] for door in _DOORS]
    worst: list[float] = [min(of_run) for of_run in zip(*doors, strict=True)]
    return statistics.median(worst)


def _pairs(values: Mapping[str, Sequence[float]], door: str) -> Iterator[tuple[float, float]]:
    return zip(values[f"{door} at many"], values[f"{door} at few"], strict=True)


GROUP = Group(
    figures=(Figure("growth", tuple(f"{door} at {size}" for door in _DOORS for size in ("few", "many")), _worst),),
    sides=_sides,
    unit="a second",
)
