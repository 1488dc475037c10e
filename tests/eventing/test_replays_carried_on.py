"""Replays that are stopped and carried on, and at what pace they go."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from eventing import publishing, replays
from eventing.models import OutboxEvent, OutboxStatus, Replay
from eventing.replays import Selection
from tests.eventing.event_bridge import EventBridge, event_bridge
from tests.eventing.replaying import (
    FAST,
    delays_are_long,
    named,
    replay,
    sent_names,
    tenant,
    write,
)
from tests.eventing.test_concurrency import at_once

if TYPE_CHECKING:
    from tenants.models import Tenant

__all__ = ["delays_are_long", "event_bridge", "tenant"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged", "delays_are_long")]


class TestStoppedAndCarriedOn:
    @pytest.fixture(autouse=True)
    def _ten_delivered_events(self, tenant: Tenant, event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(replays, "pace", lambda per_second: (2, 0.0))
        for number in range(10):
            write(tenant, str(number), str(number))
        publishing.drain()
        event_bridge.calls.clear()

    @pytest.mark.parametrize("after_the_rows", [False, True])
    def test_killed_half_way_and_started_again_it_replays_each_event_once(
        self, tenant: Tenant, event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch, after_the_rows: bool
    ) -> None:
        begun = replays.begin(Selection(tenant), who="ops", why="they asked")
        make_pending, batches = replays._make_pending, 0

        def killed(*args: Any) -> None:
            nonlocal batches
            batches += 1
            if batches == 3 and not after_the_rows:
                raise SystemExit
            make_pending(*args)
            if batches == 3:
                raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(replays, "_make_pending", killed)
            with pytest.raises(SystemExit):
                replays.carry_on(begun, per_second=FAST)
        half = Replay.objects.get()
        assert (half.events, half.finished_at) == (6 if after_the_rows else 4, None)
        publishing.drain()

        replays.carry_on(half, per_second=FAST)
        publishing.drain()
        assert sorted(sent_names(event_bridge)) == [str(number) for number in range(10)]
        assert half.events == 10
        assert half.finished_at is not None

    def test_a_finished_replay_that_is_carried_on_does_nothing(self, tenant: Tenant) -> None:
        record = replay(Selection(tenant))
        publishing.drain()
        finished_at = record.finished_at
        replays.carry_on(record, per_second=FAST)
        assert (record.events, record.finished_at) == (10, finished_at)
        assert not OutboxEvent.objects.filter(status=OutboxStatus.PENDING).exists()

    def test_another_replay_replays_again_what_one_has_replayed(
        self, tenant: Tenant, event_bridge: EventBridge
    ) -> None:
        for _ in range(2):
            assert replay(Selection(tenant)).events == 10
            publishing.drain()
        assert len(event_bridge.entries) == 20

    def test_it_stops_between_batches_when_it_is_asked_to(
        self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stopping = threading.Event()
        make_pending = replays._make_pending

        def last_batch(*args: Any) -> None:
            make_pending(*args)
            stopping.set()

        monkeypatch.setattr(replays, "_make_pending", last_batch)
        begun = replays.begin(Selection(tenant), who="ops", why="they asked")
        replays.carry_on(begun, per_second=FAST, stopping=stopping)
        assert (begun.events, begun.finished_at) == (2, None)

    def test_it_stops_when_its_time_is_over(self, tenant: Tenant) -> None:
        begun = replays.begin(Selection(tenant), who="ops", why="they asked")
        replays.carry_on(begun, per_second=FAST, seconds=0)
        assert (begun.events, begun.finished_at) == (0, None)

    def test_what_is_written_or_delivered_after_it_began_is_none_of_it(self, tenant: Tenant) -> None:
        write(tenant, "late", "delivered later")
        begun = replays.begin(Selection(tenant), who="ops", why="they asked")
        write(tenant, "new", "written later")
        publishing.drain()
        replays.carry_on(begun, per_second=FAST)
        assert begun.events == 10
        assert named("delivered later").status == named("written later").status == OutboxStatus.DELIVERED


class TestPace:
    @pytest.mark.parametrize(
        ("per_second", "size", "interval"),
        [
            (1, 1, 1.0),
            (50, 50, 1.0),
            (100, 100, 1.0),
            (150, 75, 0.5),  # 2 batches a second
            (1001, 91, 1 / 11),
            (10_000, 100, 0.01),
        ],
    )
    def test_no_second_has_more_events_than_allowed(self, per_second: int, size: int, interval: float) -> None:
        found_size, found_interval = replays.pace(per_second)
        assert found_size == size
        assert found_interval == pytest.approx(interval)
        assert size * round(1 / interval) <= per_second

    @pytest.mark.parametrize("per_second", [0, -1, 10_001])
    def test_others_are_refused(self, per_second: int) -> None:
        with pytest.raises(ValueError, match="at least 1 and at most 10000 events a second"):
            replays.pace(per_second)

    def test_between_batches_it_waits(
        self, tenant: Tenant, event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tenant, "1", "1", "2", "3")
        publishing.drain()
        waits: list[float] = []

        class Watched(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                waits.append(timeout)
                return False

        begun = replays.begin(Selection(tenant), who="ops", why="they asked")
        replays.carry_on(begun, per_second=1, stopping=Watched())
        assert begun.events == 3
        # None after the last look, which finds nothing left.
        assert waits == pytest.approx([1, 1, 1], abs=0.5)

    def test_a_batch_takes_few_statements(
        self, tenant: Tenant, event_bridge: EventBridge, django_assert_num_queries: Any
    ) -> None:
        for number in range(30):
            write(tenant, str(number), "x")
        publishing.drain()
        begun = replays.begin(Selection(tenant), who="ops", why="they asked")
        # ids, savepoint, events, record, release, end, record
        with django_assert_num_queries(7):
            replays.carry_on(begun, per_second=100)


@pytest.mark.django_db(transaction=True)
def test_carried_on_twice_at_the_same_moment_while_publishers_run_it_replays_each_event_once(
    tenant: Tenant, event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "pace", lambda per_second: (3, 0.0))
    for number in range(40):
        write(tenant, str(number % 8), str(number))
    publishing.drain()
    event_bridge.calls.clear()
    begun = replays.begin(Selection(tenant), who="ops", why="they asked")

    def carry_on() -> None:
        replays.carry_on(Replay.objects.get(pk=begun.pk), per_second=FAST)

    at_once([carry_on, publishing.drain, carry_on, publishing.drain])
    publishing.drain()
    assert sorted(map(int, sent_names(event_bridge))) == list(range(40))
    begun.refresh_from_db()
    assert begun.events == 40
