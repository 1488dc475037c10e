"""Whose event is next, and what it costs to find it, however much waits."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.utils import timezone

from blockforger.backend import rows
from eventing import lanes, outbox, publishing, queues
from eventing.answers import Verdict
from eventing.models import EventBus, OutboxEvent, OutboxStatus, Replay
from eventing.outbox import Tally
from tenants.new_rows import NewRows
from tests.cast import BUS, a_tenant
from tests.eventing.event_bridge import EventBridge, accepted, each, event_bridge

if TYPE_CHECKING:
    from tenants.models import Tenant

__all__ = ["event_bridge"]

OTHER_BUS = "arn:aws:events:eu-west-1:210987654321:event-bus/audit"
FLOOD = 20_000

counts_rows = pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL counts the rows it reads")


@pytest.fixture(autouse=True)
def _walks_begin_anew() -> None:
    queues._places.clear()


def some_events(tenant: Tenant, count: int, *, lane: int | None = None, first: int = 1, **fields: Any) -> None:
    """That many events of as many items, in that lane or in all of them."""
    new_event = NewRows(OutboxEvent)
    rows.insert(
        new_event(
            **{
                "tenant_id": tenant.pk,
                "item_key": str(number),
                "operation": "PUT",
                "sequence": number,
                "place": 0,
                "rule_id": 1,
                "bus_arn": BUS,
                "source": "s",
                "detail_type": "t",
                "item_urn": f"{tenant.name}/{number}",
                "detail": "{}",
                "time": timezone.now(),
                "stream": number * lanes.LANES + (number % lanes.LANES if lane is None else lane),
                "lane": number % lanes.LANES if lane is None else lane,
                **fields,
            }
        )
        for number in range(first, first + count)
    )


def a_good_bus(arn: str = BUS) -> None:
    now = timezone.now()
    EventBus.objects.create(arn=arn, verified_at=now, next_check_at=now + timedelta(hours=1))


def publish_until(done: threading.Event) -> None:
    with ExitStack() as stack:
        threads, aside_threads = (stack.enter_context(ThreadPoolExecutor(size)) for size in (16, 1))
        asides = publishing._Asides(aside_threads)
        while not done.is_set():
            publishing.publish_some(threads, asides, at=timezone.now())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("publishers", [1, 2])
@pytest.mark.parametrize("lane", [7, None])
def test_a_tenant_does_not_wait_for_the_flood_of_another(
    event_bridge: EventBridge, publishers: int, lane: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same bus. In the same lane it is in the next round; in any lane, its lane is in one of the next two."""
    a_good_bus()
    some_events(a_tenant("big"), FLOOD, lane=lane)
    some_events(a_tenant("small"), 1, lane=7, first=FLOOD + 1)
    seen = threading.Event()
    begun: list[str] = []  # in the order in which the calls began: which thread is answered first is chance
    really_take = publishing._Backlog.take

    def take(*arguments: Any, **options: Any) -> Any:
        calls = really_take(*arguments, **options)
        begun.extend(event.item_urn for call in calls for event in call)
        return calls

    def answering(entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if any(entry["Resources"][0].startswith("small/") for entry in entries):
            seen.set()
        return accepted(entries)

    monkeypatch.setattr(publishing._Backlog, "take", take)
    event_bridge.answering = answering

    def publisher(_: int) -> None:
        try:
            publish_until(seen)
        finally:
            connection.close()

    with ThreadPoolExecutor(publishers) as threads:
        list(threads.map(publisher, range(publishers)))
    calls_under_way = publishing.SENDING_THREADS * 10 * publishers
    rounds = 0 if lane is not None else 2 * publishing.EVENTS_PER_LEASE * publishers
    (small,) = (place for place, urn in enumerate(begun) if urn.startswith("small/"))
    assert small <= rounds + calls_under_way


@pytest.mark.django_db
def test_more_queues_than_a_round_can_take_from_all_have_their_turn() -> None:
    for number in range(25):
        some_events(a_tenant(f"tenant{number}"), 3, lane=7)
    found = [outbox.batch([7], at_most=10, at=timezone.now()) for _ in range(5)]
    # Two of each: to find a queue takes as long as to read an event.
    assert [len({event.tenant_id for event in events}) for events in found] == [5, 5, 5, 5, 5]
    assert len({event.tenant_id for events in found for event in events}) == 25


@pytest.mark.django_db
def test_a_walk_that_ended_before_queues_that_are_gone_begins_anew() -> None:
    some_events(a_tenant("one"), 1, lane=7)
    some_events(a_tenant("two"), 1, lane=7)
    (first,) = outbox.batch([7], at_most=1, at=timezone.now())
    OutboxEvent.objects.exclude(pk=first.pk).delete()
    assert outbox.batch([7], at_most=1, at=timezone.now()) == [first]


@pytest.mark.django_db
def test_a_tenants_buses_take_turns() -> None:
    tenant = a_tenant()
    some_events(tenant, 20, lane=7)
    some_events(tenant, 20, lane=7, first=21, bus_arn=OTHER_BUS)
    chosen = outbox.batch([7], at_most=10, at=timezone.now())
    assert [event.bus_arn for event in chosen] == [BUS, OTHER_BUS] * 5


@pytest.mark.django_db
def test_feedback_takes_turns_with_new_events_and_replays_come_last() -> None:
    tenant = a_tenant()
    replay = Replay.objects.create(tenant=tenant, who="w", why="y", selection={})
    some_events(tenant, 20, lane=7, replay_id=replay.pk)
    some_events(tenant, 20, lane=7, first=21)
    some_events(tenant, 20, lane=7, first=41, operation="", rule_id=None, sequence=None)
    chosen = outbox.batch([7], at_most=45, at=timezone.now())
    assert [event.sequence is None for event in chosen[:40]] == [False, True] * 20
    replayed = {str(pk) for pk in OutboxEvent.objects.filter(replay_id=replay.pk).values_list("pk", flat=True)}
    assert [event.pk in replayed for event in chosen] == [False] * 40 + [True] * 5


@pytest.mark.django_db
def test_a_round_reads_few_replays_however_little_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    some_events(a_tenant("new"), 30, lane=7)
    replay = Replay.objects.create(who="w", why="y", selection={})
    for number in range(20):
        some_events(a_tenant(f"tenant{number}"), 30, lane=7, replay_id=replay.pk)
    read: list[Any] = []
    really_read = queues._firsts

    def firsts(*arguments: Any, **options: Any) -> Any:
        found = really_read(*arguments, **options)
        read.extend(found)
        return found

    monkeypatch.setattr(queues, "_firsts", firsts)
    monkeypatch.setattr(queues, "_places", {})
    chosen = outbox.batch([7], at_most=20, at=timezone.now())
    # Ten queues have their turn, each tenant with two events.
    assert sorted(Counter(event.tenant_id for event in chosen).values()) == [2] * 10
    assert len(read) <= 2 * 20


@pytest.mark.django_db
def test_what_waits_behind_a_failing_event_of_its_item_steps_out_of_the_way_and_follows_it_later() -> None:
    tenant = a_tenant()
    now = timezone.now()
    until = now + timedelta(minutes=1)
    some_events(tenant, 1, lane=7, stream=7, next_attempt_at=until)
    some_events(tenant, 50, lane=7, stream=7, first=2)
    some_events(tenant, 1, lane=7, stream=71, first=100)
    rounds = [outbox.batch([7], at_most=5, at=now) for _ in range(6)]
    assert [event.sequence for event in next(filter(None, rounds))] == [100]
    assert set(OutboxEvent.objects.filter(stream=7).values_list("next_attempt_at", flat=True)) == {until}

    OutboxEvent.objects.filter(stream=71).delete()
    assert not outbox.lanes_with_work(at=now)
    assert outbox.lanes_with_work(at=until) == [7]
    assert [event.sequence for event in outbox.batch([7], at_most=20, at=until)] == list(range(1, 21))


@pytest.mark.django_db
def test_an_event_never_passes_one_of_its_item_that_is_due_but_not_yet_in_its_queue() -> None:
    """However few become ready at once, and whatever their times were."""
    tenant = a_tenant()
    now = timezone.now()
    for sequence, due in [(1, 10), (2, 30), (3, 20), (4, None)]:
        some_events(
            tenant, 1, lane=7, stream=7, first=sequence, next_attempt_at=due and now - timedelta(seconds=due)
        )  # fmt: skip
    sent: list[int | None] = []
    while pending := OutboxEvent.objects.filter(status=OutboxStatus.PENDING):
        chosen = outbox.batch([7], at_most=1, at=now)
        sent += [event.sequence for event in chosen]
        pending.filter(pk__in=[event.pk for event in chosen]).update(status=OutboxStatus.DELIVERED)
    assert sent == [1, 2, 3, 4]


@pytest.mark.django_db
def test_a_publisher_that_is_killed_at_any_instant_leaves_few_events_unrecorded(
    event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_good_bus()
    some_events(a_tenant(), 1000)
    recorded, unrecorded = 0, []
    record = outbox.record

    def noting(lease: lanes.Lease, results: Any, *, is_probe: bool = False) -> Tally:
        nonlocal recorded
        unrecorded.append(len(event_bridge.entries) - recorded)
        assert all(answer.verdict is Verdict.ACCEPTED for _, answer in results)
        tally = record(lease, results, is_probe=is_probe)
        recorded += tally.delivered
        return tally

    monkeypatch.setattr(outbox, "record", noting)
    assert publishing.drain() == Tally(delivered=1000)
    assert max(unrecorded) <= publishing.UNRECORDED_AT_MOST


@pytest.mark.django_db
@pytest.mark.parametrize("refused", ["ThrottlingException", "MalformedDetail"])
def test_in_one_record_each_event_gets_its_own_answer(event_bridge: EventBridge, refused: str) -> None:
    a_good_bus()
    some_events(a_tenant(), 30, failing_since=timezone.now(), error_code="Before", attempts=1)
    event_bridge.answering = lambda entries: each(
        entries, lambda entry: refused if int(entry["Resources"][0].rpartition("/")[2]) % 3 == 0 else None
    )
    tally = publishing.drain(as_of=timezone.now())
    assert (tally.delivered, tally.retried + tally.dead) == (20, 10)
    for event in OutboxEvent.objects.all():
        if int(event.item_key) % 3 == 0:
            assert (event.error_code, event.attempts) == (refused, 2)
            assert event.delivered_at is None
        else:
            assert (event.status, event.error_code, event.attempts) == (OutboxStatus.DELIVERED, "", 2)
            assert event.failing_since is None
            assert event.delivered_at is not None
    ids = OutboxEvent.objects.exclude(eventbridge_id="").values_list("eventbridge_id", flat=True)
    assert len(set(ids)) == 20


@pytest.mark.django_db
def test_an_items_backlog_holds_up_no_other_item_of_its_queue() -> None:
    """However many queues there are to be looked at in a round."""
    a_good_bus()
    tenant, stuck = a_tenant(), 7 * lanes.LANES
    later = timezone.now() + timedelta(hours=1)
    some_events(tenant, 1, lane=0, stream=stuck, item_key="stuck", next_attempt_at=later)
    some_events(tenant, 3_000, lane=0, first=2, stream=stuck, item_key="stuck")
    some_events(tenant, 1, lane=0, first=9_000, item_key="another")
    for number in range(60):
        some_events(a_tenant(f"other{number}"), 50, lane=0, first=10_000 + 100 * number)
    rounds = [outbox.batch([0], at_most=20, at=timezone.now()) for _ in range(8)]
    assert 9_000 in {event.sequence for events in rounds for event in events}


@pytest.mark.django_db(transaction=True)
def test_a_bus_that_hangs_does_not_hold_up_the_loop_at_its_probes(event_bridge: EventBridge) -> None:
    tenant, go_on, stopping = a_tenant(), threading.Event(), threading.Event()
    a_good_bus()
    a_good_bus(OTHER_BUS)
    EventBus.objects.filter(arn=OTHER_BUS).update(refusals=1)
    some_events(tenant, 1, lane=1, bus_arn=OTHER_BUS)

    def answering(entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if entries[0]["EventBusName"] == OTHER_BUS:
            go_on.wait(8)
        return accepted(entries)

    event_bridge.answering = answering

    def run() -> None:
        try:
            publishing.run(stopping, interval=0.01)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for number in range(2, 6):  # each after a second, when the loop begins anew
            some_events(tenant, 1, lane=2, first=number)
            assert eventually_delivered(number)
            time.sleep(0.6)
        assert not OutboxEvent.objects.filter(bus_arn=OTHER_BUS, status=OutboxStatus.DELIVERED).exists()
    finally:
        go_on.set()
        stopping.set()
        thread.join(20)
    assert OutboxEvent.objects.filter(status=OutboxStatus.DELIVERED).count() == 5


def eventually_delivered(sequence: int) -> bool:
    """Within four seconds, which is less than the bus hangs."""
    ends_at = time.monotonic() + 4
    while time.monotonic() < ends_at:
        if OutboxEvent.objects.filter(sequence=sequence, status=OutboxStatus.DELIVERED).exists():
            return True
        time.sleep(0.05)
    return False


def rows_read() -> int:
    """Of the outbox, by this transaction, so far."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'eventing_outboxevent'"
        )
        return int(cursor.fetchone()[0])


def cost_of_a_round(at_most: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE eventing_outboxevent")
    before = rows_read()
    now = timezone.now()
    outbox.batch(outbox.lanes_with_work(at=now)[:8] or range(8), at_most=at_most, at=now)
    return rows_read() - before


@counts_rows
@pytest.mark.django_db
@pytest.mark.parametrize("backlog", ["a flood", "for a paused bus", "waiting to be tried again", "replayed"])
def test_the_cost_of_a_round_does_not_grow_with_what_waits(backlog: str) -> None:
    tenant = a_tenant()
    a_good_bus(OTHER_BUS)
    EventBus.objects.create(arn=BUS, paused_until=timezone.now() + timedelta(hours=1), refusals=1)
    fields: dict[str, dict[str, Any]] = {
        "a flood": {"bus_arn": OTHER_BUS},
        "for a paused bus": {},
        "waiting to be tried again": {"next_attempt_at": timezone.now() + timedelta(hours=1), "bus_arn": OTHER_BUS},
        "replayed": {
            "bus_arn": OTHER_BUS,
            "replay_id": Replay.objects.create(tenant=tenant, who="w", why="y", selection={}).pk,
        },
    }
    some_events(tenant, 2_000, **fields[backlog])
    some_events(tenant, 100, first=5_000_000, bus_arn=OTHER_BUS)
    small = cost_of_a_round(100)
    some_events(tenant, 18_000, first=2_001, **fields[backlog])
    large = cost_of_a_round(100)
    assert large <= small * 1.2 + 50
    # Of 20,100. The small table may well be read as a whole: that is cheaper than an index.
    assert large < 3_000
