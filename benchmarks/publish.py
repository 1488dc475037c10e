"""Publishing: how fast waiting events leave for EventBridge."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import rows
from benchmarks.environments import PEERS, environment_of, python_of
from benchmarks.figures import Group, count, ratio
from benchmarks.processes import SCALE, Busy, Failed, Process, all_of, cpu_seconds_of, run, wait_until
from benchmarks.product import Product
from benchmarks.records import check_records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from benchmarks.services import Services

EVENTS = int(20_000 * SCALE)
_BUSES = 2
# Peers send one event after the other, so that their rate is the same for fewer; their first are left out as warm-up.
_CELERY_EVENTS, _CELERY_EVENTS_AT_15_MS, _PACKAGE_EVENTS = (int(n * SCALE) for n in (2_000, 800, 1_000))
_WARM_UP = 0.1
_WAITING, _WARMING = "bench_waiting", "bench_warming"

PACKAGES = ("django-jaiminho", "django-outbox-pattern")


class Outbox:
    """A database whose outbox can be filled with waiting events, all at once."""

    def __init__(self, product: Product, *, buses: int = _BUSES, keeps_delivered: bool = False) -> None:
        self.product = product
        self._postgres, self._database = product.services.postgres, product.database
        self._buses, self._keeps_delivered = buses, keeps_delivered
        product.sow("POST", "PUT")
        with self._postgres.connection(self._database) as connection:
            connection.execute(f"CREATE TABLE {_WARMING} AS TABLE {rows.OUTBOX}")
            connection.execute(f"CREATE TABLE {_WAITING} AS TABLE {rows.OUTBOX} WITH NO DATA")
            times = EVENTS // (len(product.keys) * 2 * buses)
            self.events = rows.multiply(
                connection, rows.OUTBOX, into=_WAITING, times=times, computed=rows.OUTBOX_COMPUTED
            )
            connection.execute(f"TRUNCATE {rows.OUTBOX}")

    def release(self, table: str = _WAITING) -> int:
        """Let the events of that table wait. Returns the time of the system's monotonic clock, in ns, when they do."""
        with self._postgres.connection(self._database) as connection:
            connection.execute("BEGIN")
            rows.multiply(connection, table, into=rows.OUTBOX, times=1)
            connection.execute(f"ANALYZE {rows.OUTBOX}")
            connection.execute("COMMIT")
            return time.monotonic_ns()  # to write 20 MB to the disk is no publisher's work, and nobody sees them before

    def clear(self) -> None:
        with self._postgres.connection(self._database) as connection:
            connection.execute(f"TRUNCATE {rows.OUTBOX}")

    def release_seeds_and_drain(self) -> None:
        """Publish the product's own few events, so that there are delivered ones."""
        with self.product.publisher() as publisher:
            self.release(_WARMING)
            self._wait_until_drained([publisher])

    def is_drained(self) -> bool:
        # By the partial indexes: to read all that was delivered would take longer than to publish what was not.
        query = (
            "SELECT EXISTS (SELECT FROM eventing_outboxevent WHERE status = 'pending' AND next_attempt_at IS NULL)"
            " OR EXISTS (SELECT FROM eventing_outboxevent"
            " WHERE status = 'pending' AND next_attempt_at IS NOT NULL AND lane >= 0)"
        )
        with self._postgres.connection(self._database) as connection:
            connection.execute("SET enable_seqscan = off")
            return connection.execute(query).fetchone() == (False,)

    def drain(self, *, processes: int, latency_ms: float = 0) -> float:
        """Events a second, from the commit that lets them wait to the record of the last one's delivery."""
        aws = self.product.services.aws
        if not self._keeps_delivered:
            self.clear()
        aws.reset(latency_ms=latency_ms)
        with all_of([self.product.publisher() for _ in range(processes)]) as publishers:
            self.release(_WARMING)
            self._wait_until_drained(publishers)
            self._postgres.settle()
            aws.reset(latency_ms=latency_ms)
            started = self.release()
            busy = Busy(
                publishers=partial(cpu_seconds_of, publishers),
                postgresql=self._postgres.cpu_seconds,
                stub=aws.cpu_seconds,
            )
            wait_until(lambda: aws.accepted() >= self.events, seconds=300, what="publishing", alive=publishers[0].check)
            self._wait_until_drained(publishers)
            seconds = (time.monotonic_ns() - started) / 1e9
            count(**busy.processors())
        check_records(aws.records(), events=self.events, buses=self._buses, in_order=True)
        lost = "SELECT count(*) FROM eventing_outboxevent WHERE status <> 'delivered'"
        if self._postgres.number(self._database, lost):
            raise Failed("publishing: not all events are delivered")
        return self.events / seconds

    def _wait_until_drained(self, publishers: Collection[Process]) -> None:
        for publisher in publishers:
            wait_until(self.is_drained, seconds=120, what="publishing", alive=publisher.check, every=0.01)


def celery_per_event(services: Services, *, events: int, latency_ms: float = 0) -> float:
    """Events a second that a worker with two processes sends, its tasks waiting in Redis."""
    python, folder = python_of("celery_per_event"), PEERS / "celery_per_event"
    environment = environment_of(services, services.postgres.create("bench_celery"))
    services.redis.flush()
    services.aws.reset(latency_ms=latency_ms)
    printed = run([python, "app.py", "enqueue", str(events)], environment=environment, cwd=folder)
    count(enqueue_ms=json.loads(printed.splitlines()[-1])["enqueue_ms"])
    services.postgres.settle()
    command = [python, "-m", "celery", "-A", "app", "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel"]
    command += ["WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with Process(command, environment=environment, cwd=folder) as worker:
        wait_until(lambda: services.aws.accepted() >= events, seconds=300, what="Celery", alive=worker.check)
    return _rate_of_records(services, events)


def outbox_package(services: Services, package: str) -> float:
    """Events a second that one process of the package sends."""
    python, folder = python_of("outbox_packages"), PEERS / "outbox_packages"
    environment = environment_of(services, services.postgres.create("bench_package"))
    services.aws.reset()
    run([python, "app.py", "migrate"], environment=environment, cwd=folder)
    run([python, "app.py", "enqueue", package, str(_PACKAGE_EVENTS)], environment=environment, cwd=folder)
    services.postgres.settle()
    run([python, "app.py", "publish", package], environment=environment, cwd=folder)
    return _rate_of_records(services, _PACKAGE_EVENTS)


def _rate_of_records(services: Services, events: int) -> float:
    """A peer's rate by what arrived, without its start: to its advantage."""
    records = services.aws.records()
    check_records(records, events=events, buses=_BUSES, in_order=False)
    after = records[int(len(records) * _WARM_UP) :]
    return (len(after) - 1) / ((after[-1][0] - after[0][0]) / 1e9)


@contextmanager
def _sides(services: Services, wanted: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    outbox = Outbox(Product.seeded(services, "bench_publish", buses=_BUSES))
    everything: dict[str, Callable[[], float]] = {
        "ours": partial(outbox.drain, processes=2),
        "celery": partial(celery_per_event, services, events=_CELERY_EVENTS),
        "ours at 15 ms": partial(outbox.drain, processes=2, latency_ms=15),
        "celery at 15 ms": partial(celery_per_event, services, events=_CELERY_EVENTS_AT_15_MS, latency_ms=15),
        "ours, one process": partial(outbox.drain, processes=1),
        "ours at 15 ms, one process": partial(outbox.drain, processes=1, latency_ms=15),
        "ours at 15 ms, four processes": partial(outbox.drain, processes=4, latency_ms=15),
        **{package: partial(outbox_package, services, package) for package in PACKAGES},
    }
    yield {name: side for name, side in everything.items() if name in wanted}


GROUP = Group(
    figures=(
        ratio("publish_vs_celery_per_event", "ours", "celery"),
        ratio("publish_at_15ms", "ours at 15 ms", "celery at 15 ms"),
        ratio("publish_vs_outbox_package", "ours, one process", *PACKAGES),
        # At once, as no AWS answers, PostgreSQL and the stub leave two processes too little of two processors.
        ratio("two_publishers", "ours at 15 ms", "ours at 15 ms, one process"),
        ratio("two_publishers_at_once", "ours", "ours, one process"),
        ratio("scale_four_publishers", "ours at 15 ms, four processes", "ours at 15 ms, one process"),
    ),
    sides=_sides,
    unit="events/s",
)
