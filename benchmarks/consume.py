"""Consuming: how fast messages in SQS become items."""

from __future__ import annotations

import itertools
import json
import uuid
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import bare
from benchmarks.environments import PEERS, environment_of, node_folder_of, python_of
from benchmarks.figures import Group, count, ratio
from benchmarks.processes import SCALE, Busy, Failed, Process, all_of, cpu_seconds_of, run, wait_until
from benchmarks.product import QUEUE, Product, tenant_names
from benchmarks.seed import SCHEMA, payload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from benchmarks.services import Services

MESSAGES = int(10_000 * SCALE)
# Slower peers get fewer: their rate is the same.
_NAIVE_MESSAGES, _SQS_CONSUMER_MESSAGES = (int(n * SCALE) for n in (1_500, 4_000))
# Messages of every tenant for each of the consumers, so that what is kept of each is there.
_WARM_UP = 1_000
_COST = 10

_numbers = itertools.count()


class Inbox:
    """A database, and the queue that its consumers read."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self._postgres, self._database = product.services.postgres, product.database

    def drain(self, *, processes: int, messages: int = MESSAGES) -> float:
        """Messages a second, from when they are in the queue until the last is deleted from it."""
        aws = self.product.services.aws
        aws.reset()
        aws.fill(QUEUE, [])
        before = self._counts()
        with all_of([self.product.consumer() for _ in range(processes)]) as consumers:
            rate = drain(self.product.services, consumers, bodies(messages, self.product.keys))
        self._check(before, self._counts(), messages + _WARM_UP)
        return rate

    def _counts(self) -> tuple[int, ...]:
        query = (
            "SELECT (SELECT count(*) FROM backend_item), (SELECT count(*) FROM eventing_outboxevent),"
            " (SELECT count(*) FROM backend_operationrecord WHERE origin = 'event' AND status = 201),"
            " (SELECT -sum(balance) FROM tenants_tokenaccount),"
            " (SELECT -sum(amount) FROM tenants_ledgerentry)"
        )
        (counts,) = self._postgres.rows(self._database, query)
        return tuple(map(int, counts))

    def _check(self, before: tuple[int, ...], after: tuple[int, ...], messages: int) -> None:
        grown = [new - old for old, new in zip(before, after, strict=True)]
        if grown != [messages, messages, messages, _COST * messages, _COST * messages]:
            raise Failed(f"{messages} messages made items, events, records, bill and ledger grow by {grown}")


def drain(services: Services, consumers: Sequence[Process], filling: Sequence[str]) -> float:
    """Let consumers that wait drain that filling, its first part being a warm-up. Returns messages a second."""
    aws = services.aws
    _fill_and_wait(services, consumers, filling[:_WARM_UP], total=_WARM_UP)
    services.postgres.settle()
    busy = Busy(
        consumers=partial(cpu_seconds_of, consumers), postgresql=services.postgres.cpu_seconds, stub=aws.cpu_seconds
    )
    started = _fill_and_wait(services, consumers, filling[_WARM_UP:], total=len(filling))
    count(**busy.processors())
    return (len(filling) - _WARM_UP) / ((aws.queue(QUEUE)["last_delete_ns"] - started) / 1e9)


def _fill_and_wait(services: Services, consumers: Sequence[Process], filling: Sequence[str], *, total: int) -> int:
    started = services.aws.fill(QUEUE, list(filling))

    def is_done() -> bool:
        return services.aws.queue(QUEUE)["deleted"] >= total

    for consumer in consumers:
        # Seldom, for it takes what is measured: the stub knows when the last was deleted.
        wait_until(is_done, seconds=300, what="consuming", alive=consumer.check, every=0.1)
    return started


def bodies(messages: int, keys: Mapping[str, str]) -> list[str]:
    """Bodies of SQS messages as EventBridge makes them, for the warm-up and that many more: each a new item."""
    made = []
    names = tenant_names()
    for number in range(messages + _WARM_UP):
        tenant = names[number % len(names)]
        detail = {
            "tenant": tenant,
            "rootSchema": SCHEMA,
            "operation": "POST",
            "api_key": keys.get(tenant, ""),
            "payload": payload(f"message-{next(_numbers)}"),
        }
        envelope = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": f"{SCHEMA}.POST",
            "source": "blockforger-input",
            "account": "720291373173",
            "time": "2026-11-24T12:00:00Z",
            "region": "us-east-1",
            "resources": [],
            "detail": detail,
        }
        made.append(json.dumps(envelope))
    return made


def naive(services: Services) -> float:
    """The boto3 loop with the ORM, without dedupe."""
    python, folder = python_of("naive_consumer"), PEERS / "naive_consumer"
    database = services.postgres.create("bench_naive")
    environment = environment_of(services, database)
    run([python, "app.py", "migrate"], environment=environment, cwd=folder)
    services.aws.reset()
    services.aws.fill(QUEUE, [])
    command = [python, "app.py", "consume", QUEUE]
    with Process(command, environment=environment, cwd=folder, ready="consuming") as consumer:
        rate = drain(services, [consumer], bodies(_NAIVE_MESSAGES, {}))
    _check_peer(services, database, "items_item", _NAIVE_MESSAGES)
    return rate


def sqs_consumer(services: Services, database: str) -> float:
    """npm's sqs-consumer with the four bare statements, on the product's tables."""
    folder = node_folder_of("sqs_consumer")
    services.aws.reset()
    services.aws.fill(QUEUE, [])
    with services.postgres.connection(database) as connection:
        texts = bare.statements(connection, tenant="$1::int", key="$2::text")
    before = services.postgres.number(database, "SELECT count(*) FROM backend_item")
    statements = services.directory / "statements.json"
    statements.write_text(json.dumps(texts))
    command = ["node", "consume.mjs", str(statements), f"{services.aws.url}/720291373173/{QUEUE}"]
    environment = environment_of(services, database)
    with Process(command, environment=environment, cwd=folder, ready="consuming") as consumer:
        rate = drain(services, [consumer], bodies(_SQS_CONSUMER_MESSAGES, {}))
    _check_peer(services, database, "backend_item", before + _SQS_CONSUMER_MESSAGES)
    return rate


def _check_peer(services: Services, database: str, table: str, messages: int) -> None:
    with services.postgres.connection(database) as connection:
        ((count,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    if count != messages + _WARM_UP:
        raise Failed(f"{table} has {count} rows, not {messages + _WARM_UP}")


@contextmanager
def _sides(services: Services, wanted: Collection[str]) -> Iterator[Mapping[str, Callable[[], float]]]:
    product = Product.seeded(services, "bench_consume")
    product.sow("POST")
    bare_database = product.copied("bench_consume_bare").database
    inbox = Inbox(product)
    everything: dict[str, Callable[[], float]] = {
        "ours": partial(inbox.drain, processes=1),
        "naive": partial(naive, services),
        "sqs-consumer": partial(sqs_consumer, services, bare_database),
        "ours, two processes": partial(inbox.drain, processes=2),
        "ours, four processes": partial(inbox.drain, processes=4),
    }
    yield {name: side for name, side in everything.items() if name in wanted}


GROUP = Group(
    figures=(
        # First, so that the two are measured one after the other: what peers leave behind meets neither.
        ratio("two_consumers", "ours, two processes", "ours"),
        ratio("consume_vs_naive", "ours", "naive"),
        ratio("consume_vs_sqs_consumer", "ours", "sqs-consumer"),
        ratio("scale_four_consumers", "ours, four processes", "ours"),
    ),
    sides=_sides,
    unit="messages/s",
)
