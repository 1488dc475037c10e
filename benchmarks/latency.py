"""Latency: from a write's commit to the bus that has its event; and whether one tenant's flood delays another."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import boto3

from benchmarks import rows
from benchmarks.figures import Figure, Group, count, median, median_ratio, ratio
from benchmarks.load import MANY, SECONDS, Load, Outcome
from benchmarks.processes import SCALE, Failed, Process, wait_until
from benchmarks.product import Product, Web
from benchmarks.rest import Ours, sown
from benchmarks.seed import SCHEMA, payload, tenant_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from benchmarks.services import Services

_BARE_CALLS = 300
FLOOD = int(100_000 * SCALE)
_SAMPLES, _BETWEEN_SAMPLES = 20, 0.15
_LEAST_SAMPLES = 5
_COMMITS = (
    "SELECT event.id::text, (extract(epoch FROM pg_xact_commit_timestamp(entry.xmin)) * 1e9)::bigint"
    " FROM eventing_outboxevent event"
    " JOIN tenants_ledgerentry entry ON entry.account_id = event.tenant_id AND entry.sequence = event.sequence"
)


def delays_ms(services: Services, database: str, where: str = "true") -> dict[str, float]:
    """Of each event that was accepted, by its id: milliseconds since PostgreSQL began to commit its write."""
    with services.postgres.connection(database) as connection:
        commits = dict(connection.execute(f"{_COMMITS} WHERE {where}").fetchall())
    accepted: dict[str, int] = {}
    for _, wall, _, (_, event) in services.aws.records():
        accepted.setdefault(event.split(":")[3], wall)
    if lacking := commits.keys() - accepted.keys():
        raise Failed(f"{len(lacking)} of {len(commits)} events did not reach the bus")
    return {event: (accepted[event] - at) / 1e6 for event, at in commits.items()}


class Latency:
    """Web, worker and beat as `make run` starts them, under half the load that they can bear."""

    def __init__(self, services: Services, stack: ExitStack) -> None:
        self._services = services
        self._ours = Ours(sown(services), stack)
        self._database = self._ours.product.database
        self._worker = stack.enter_context(self._ours.product.worker())
        self._p99: list[float] = []

    def p50(self) -> float:
        load = Load(self._ours.post_targets(), self._ours.web.port, self._services.directory, connections=MANY)
        load.send(seconds=2)
        most = load.send()
        self._clear()
        wait_ms = self._wait_for_half(load, most)
        self._clear()
        outcome = load.send(seconds=2 * SECONDS, wait_ms=wait_ms)
        self._wait_until_drained()
        delays = sorted(delays_ms(self._services, self._database).values())
        if len(delays) < outcome.succeeded:
            raise Failed(f"{outcome.succeeded} writes left {len(delays)} events")
        count(writes_per_second=outcome.rate, at_most=most.rate, events=len(delays))
        self._p99.append(delays[int(len(delays) * 0.99)])
        return statistics.median(delays)

    def p99(self) -> float:
        """Of the last measurement of p50."""
        return self._p99[-1]

    def bare_call(self) -> float:
        """Milliseconds that a PutEvents call of one entry takes when nothing else goes on."""
        environment = self._services.aws.environment()
        client: Any = boto3.client(
            "events",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name=environment["AWS_REGION"],
            aws_access_key_id="benchmark",
            aws_secret_access_key="benchmark",
        )
        entry = {"Source": "benchmark", "DetailType": "bare", "Detail": "{}", "Resources": ["item", "urn:u:event:0:0"]}
        taken = []
        for _ in range(_BARE_CALLS):
            started = time.perf_counter()
            client.put_events(Entries=[entry])
            taken.append(1000 * (time.perf_counter() - started))
        return statistics.median(taken)

    @staticmethod
    def _wait_for_half(load: Load, most: Outcome) -> int:
        """How long a connection must wait before each request for half of that rate."""
        pace_ms = 1000 * MANY / (most.rate / 2)
        wait_ms = max(int(pace_ms - most.p50_ms / 2), 1)
        tried = load.send(seconds=2, wait_ms=wait_ms)
        return max(int(wait_ms + pace_ms - 1000 * MANY / tried.rate), 1)

    def _wait_until_drained(self) -> None:
        query = f"SELECT count(*) FROM (SELECT FROM {rows.OUTBOX} WHERE status = 'pending' LIMIT 1) AS waiting"

        def is_drained() -> bool:
            return not self._services.postgres.number(self._database, query)

        wait_until(is_drained, seconds=300, what="publishing", alive=self._worker.check, every=0.1)

    def _clear(self) -> None:
        self._wait_until_drained()
        with self._services.postgres.connection(self._database) as connection:
            connection.execute(f"TRUNCATE {rows.OUTBOX}")
        self._services.postgres.settle()
        self._services.aws.reset()


class Fairness:
    """Two tenants on one bus: one has a flood of events waiting, the other writes now and then."""

    _FLOODED, _SMALL = tenant_name(0), tenant_name(1)

    def __init__(self, services: Services, stack: ExitStack) -> None:
        self._services = services
        self._product = Product.seeded(services, "bench_fairness", tenants=2)
        self._product.sow("POST", "PUT")
        self._postgres, self._database = services.postgres, self._product.database
        query = "SELECT id FROM tenants_tenant WHERE name = %s"
        flooded, self._small = (
            self._postgres.number(self._database, query, [name]) for name in (self._FLOODED, self._SMALL)
        )
        with self._postgres.connection(self._database) as connection:
            connection.execute(f"CREATE TABLE bench_flood AS TABLE {rows.OUTBOX} WITH NO DATA")
            rows.multiply(
                connection,
                rows.OUTBOX,
                into="bench_flood",
                times=FLOOD // 2,
                where=f"tenant_id = {flooded}",
                computed=rows.OUTBOX_COMPUTED,
            )
        self._web = self._product.web()
        stack.callback(self._web.stop)

    def with_a_flood(self) -> float:
        return self._measure(is_flooded=True)

    def alone(self) -> float:
        return self._measure(is_flooded=False)

    def _measure(self, *, is_flooded: bool) -> float:
        with self._postgres.connection(self._database) as connection:
            connection.execute(f"TRUNCATE {rows.OUTBOX}")
        self._services.aws.reset()
        with self._product.publisher() as publisher:
            _write(self._web, self._product, self._SMALL)
            self._wait_for_small(publisher)
            if is_flooded:
                with self._postgres.connection(self._database) as connection:
                    rows.multiply(connection, "bench_flood", into=rows.OUTBOX, times=1)
                    connection.execute(f"ANALYZE {rows.OUTBOX}")
            for _ in range(_SAMPLES):
                _write(self._web, self._product, self._SMALL)
                time.sleep(_BETWEEN_SAMPLES)
            self._wait_for_small(publisher)
            delays = delays_ms(self._services, self._database, f"event.tenant_id = {self._small}")
            if is_flooded:
                delays = self._in_the_flood(delays)
        return statistics.median(delays.values())

    def _in_the_flood(self, delays: dict[str, float]) -> dict[str, float]:
        """Those whose event came while the other tenant's were still coming. Raises Failed if they are too few."""
        events = [(resources[0], resources[1].split(":")[3]) for _, _, _, resources in self._services.aws.records()]
        places = [place for place, (item, _) in enumerate(events) if f":{self._FLOODED}:" in item]
        counted = {event: delays[event] for _, event in events[places[0] : places[-1]] if event in delays}
        if len(counted) < _LEAST_SAMPLES:
            raise Failed(f"only {len(counted)} events came while the flood did")
        return counted

    def _wait_for_small(self, publisher: Process) -> None:
        query = f"SELECT count(*) FROM {rows.OUTBOX} WHERE status = 'pending' AND tenant_id = %s"

        def is_drained() -> bool:
            return not self._postgres.number(self._database, query, [self._small])

        wait_until(is_drained, seconds=300, what="publishing", alive=publisher.check, every=0.05)


def _write(web: Web, product: Product, tenant: str) -> None:
    headers = {"X-API-Key": product.keys[tenant]}
    web.request("POST", f"/api/{tenant}/{SCHEMA}", payload(f"sample-{time.monotonic_ns()}"), headers)


@contextmanager
def _latency_sides(services: Services, _: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    with _commit_times(services), ExitStack() as stack:
        latency = Latency(services, stack)
        yield {"bare call": latency.bare_call, "p50": latency.p50, "p99": latency.p99}


@contextmanager
def _fairness_sides(services: Services, _: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    with _commit_times(services), ExitStack() as stack:
        fairness = Fairness(services, stack)
        yield {"while others wait": fairness.with_a_flood, "alone": fairness.alone}


@contextmanager
def _commit_times(services: Services) -> Iterator[None]:
    """Let PostgreSQL note when each transaction commits."""
    services.postgres.restart(track_commit_timestamp="on")
    try:
        yield
    finally:
        services.postgres.restart()


def _p99_in_calls(values: Mapping[str, Sequence[float]]) -> float:
    return median_ratio(values["p99"], values["bare call"])


LATENCY = Group(
    figures=(
        median("latency_ms", "p50"),
        Figure("latency_ms_p99", ("p50", "p99"), lambda values: statistics.median(values["p99"])),
        ratio("latency_in_calls", "p50", "bare call"),
        Figure("latency_in_calls_p99", ("p50", "p99", "bare call"), _p99_in_calls),
    ),
    sides=_latency_sides,
    unit="ms",
)
FAIRNESS = Group(
    figures=(median("fairness_ms", "while others wait"), median("fairness_ms_alone", "alone")),
    sides=_fairness_sides,
    unit="ms",
)
