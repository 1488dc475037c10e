from __future__ import annotations

import json
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import IntegrityError
from django.db.models import RestrictedError
from django.utils import timezone

from blockforger.backend.models import Method, Origin
from blockforger.backend.operations import Operation, execute
from eventing import lanes, outbox, publishing, replays
from eventing.models import OutboxEvent, OutboxStatus, Replay
from eventing.outbox import Tally
from eventing.replays import Counts, Scope, Selection
from tenants.models import Tenant
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing.event_bridge import EventBridge, each, event_bridge
from tests.eventing.test_concurrency import at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["event_bridge"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

OTHER_BUS = "arn:aws:events:eu-west-1:210987654321:event-bus/audit"
FAST = 10_000


@pytest.fixture(autouse=True)
def _delays_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventing.backoff.random.random", lambda: 0.9)


@pytest.fixture
def tenant() -> Tenant:
    return with_schema_and_rule("mytenant")


@pytest.fixture
def other() -> Tenant:
    return with_schema_and_rule("other")


def with_schema_and_rule(name: str) -> Tenant:
    tenant = a_tenant(name, tokens=100_000)
    a_schema(tenant)
    a_rule(tenant)
    return tenant


def write(tenant: Tenant, item_key: str, *names: str) -> None:
    """Write the item, once for each name."""
    key = a_key(tenant)
    for name in names:
        exists = OutboxEvent.objects.filter(tenant=tenant, item_key=item_key).exists()
        outcome = execute(
            Operation(
                origin=Origin.API,
                method=Method.PUT if exists else Method.POST,
                tenant=tenant.name,
                schema="petstore",
                api_key=key,
                key=item_key if exists else None,
                payload={"id": item_key, "name": name},
            )
        )
        assert outcome.problem is None


def named(name: str) -> OutboxEvent:
    return OutboxEvent.objects.get(detail__contains=f'"{name}"')


def sent_names(bridge: EventBridge) -> list[str]:
    return [json.loads(entry["Detail"])["payload"]["name"] for entry in bridge.entries]


def replay(selection: Selection, *, per_second: int = FAST) -> Replay:
    return replays.replay(selection, who="ops", why="they asked", per_second=per_second)


def failing(*names: str) -> Callable[[list[dict[str, Any]]], tuple[int, dict[str, Any]]]:
    """EventBridge throttles the events of these names, and takes all others."""
    return lambda entries: each(
        entries,
        lambda entry: "ThrottlingException" if json.loads(entry["Detail"])["payload"]["name"] in names else None,
    )


def bury(event: OutboxEvent) -> None:
    OutboxEvent.objects.filter(pk=event.pk).update(
        status=OutboxStatus.DEAD,
        attempts=7,
        failing_since=timezone.now() - timedelta(days=2),
        error_code="MalformedDetail",
        error_message="no",
    )


class TestWhatIsSent:
    def test_a_replayed_event_goes_out_exactly_as_it_did_before(
        self, tenant: Tenant, event_bridge: EventBridge
    ) -> None:
        write(tenant, "1", "first")
        publishing.drain()
        replay(Selection(tenant))
        assert publishing.drain() == Tally(delivered=1)
        first, second = event_bridge.entries
        assert first == second

    def test_a_dead_event_is_delivered_once_its_bus_takes_it(self, tenant: Tenant, event_bridge: EventBridge) -> None:
        write(tenant, "1", "first")
        bury(named("first"))
        replay(Selection(tenant, status=OutboxStatus.DEAD))
        event = named("first")
        assert (event.status, event.attempts, event.failing_since) == (OutboxStatus.PENDING, 0, None)
        assert (event.error_code, event.error_message) == ("", "")
        assert publishing.drain() == Tally(delivered=1)
        assert named("first").attempts == 1

    def test_until_it_is_accepted_again_an_event_shows_when_it_was_accepted_before(
        self, tenant: Tenant, event_bridge: EventBridge
    ) -> None:
        write(tenant, "1", "first")
        publishing.drain()
        before = named("first")
        record = replay(Selection(tenant))
        event = named("first")
        assert (event.delivered_at, event.eventbridge_id) == (before.delivered_at, before.eventbridge_id)
        assert event.replay == record
        publishing.drain()
        event = named("first")
        assert event.eventbridge_id != before.eventbridge_id
        assert event.replay == record

    def test_pending_events_are_left_alone(self, tenant: Tenant, event_bridge: EventBridge) -> None:
        write(tenant, "1", "first")
        event_bridge.answering = failing("first")
        publishing.drain()
        before = OutboxEvent.objects.values().get()
        record = replay(Selection(tenant))
        assert (record.events, OutboxEvent.objects.values().get()) == (0, before)

    def test_a_replay_asks_for_publishers(
        self, tenant: Tenant, event_bridge: EventBridge, nudged: list[None], django_capture_on_commit_callbacks: Any
    ) -> None:
        write(tenant, "1", "first")
        publishing.drain()
        nudged.clear()
        with django_capture_on_commit_callbacks(execute=True):
            replay(Selection(tenant))
        assert nudged == [None]


class TestOrder:
    def test_new_events_do_not_wait_for_a_replayed_one_of_their_item_that_fails(
        self, tenant: Tenant, event_bridge: EventBridge
    ) -> None:
        write(tenant, "1", "old")
        publishing.drain()
        event_bridge.answering = failing("old")
        replay(Selection(tenant))
        assert publishing.drain() == Tally(retried=1)
        write(tenant, "1", "new 1", "new 2")
        event_bridge.calls.clear()
        assert publishing.drain() == Tally(delivered=2)
        assert sent_names(event_bridge) == ["new 1", "new 2"]

    def test_not_even_in_the_same_batch(self, tenant: Tenant, event_bridge: EventBridge) -> None:
        write(tenant, "1", "old")
        publishing.drain()
        replay(Selection(tenant))
        write(tenant, "1", "new 1", "new 2")
        event_bridge.answering = failing("old")
        assert publishing.drain() == Tally(delivered=2, retried=1)

    def test_new_events_keep_their_order_while_an_older_one_is_replayed(
        self, tenant: Tenant, event_bridge: EventBridge
    ) -> None:
        write(tenant, "1", "old")
        publishing.drain()
        write(tenant, "1", "new 1", "new 2")
        event_bridge.answering = failing("new 1")
        publishing.drain()
        replay(Selection(tenant))
        event_bridge.calls.clear()
        assert publishing.drain() == Tally(delivered=1)
        assert sent_names(event_bridge) == ["old"]  # new 2 waits for new 1 as it did before
        event_bridge.answering = failing()
        OutboxEvent.objects.filter(status=OutboxStatus.PENDING).update(next_attempt_at=timezone.now())
        assert publishing.drain() == Tally(delivered=2)
        assert sent_names(event_bridge) == ["old", "new 1", "new 2"]

    def test_replayed_events_of_an_item_keep_their_order_though_the_first_fails(
        self, tenant: Tenant, event_bridge: EventBridge
    ) -> None:
        write(tenant, "1", "first", "second", "third")
        publishing.drain()
        event_bridge.calls.clear()
        replay(Selection(tenant))
        event_bridge.answering = failing("first")
        assert publishing.drain() == Tally(retried=1)
        assert publishing.drain() == Tally()
        event_bridge.answering = failing()
        OutboxEvent.objects.update(next_attempt_at=timezone.now())
        assert publishing.drain() == Tally(delivered=3)
        assert sent_names(event_bridge) == ["first", "first", "second", "third"]

    def test_what_is_new_goes_before_what_is_replayed(self, tenant: Tenant, event_bridge: EventBridge) -> None:
        for number in range(5):
            write(tenant, str(number), f"old {number}")
        publishing.drain()
        replay(Selection(tenant))
        write(tenant, "9", "new")
        next_two = outbox.batch(range(lanes.LANES), at_most=2, at=timezone.now())
        assert [event.item_urn.rpartition(":")[2] for event in next_two] == ["9", "0"]

    def test_a_replayed_event_has_a_stream_of_its_own_and_the_lane_of_it_however_often_it_is_replayed(
        self, tenant: Tenant, event_bridge: EventBridge
    ) -> None:
        for number in range(20):
            write(tenant, str(number), "x")
        before = dict(OutboxEvent.objects.values_list("pk", "stream"))
        streams = []
        for _ in range(2):
            publishing.drain()
            assert replay(Selection(tenant)).events == 20
            assert all(event.lane == lanes.lane_of(event.stream) for event in OutboxEvent.objects.all())
            streams.append(dict(OutboxEvent.objects.values_list("pk", "stream")))
        assert streams[0] == streams[1]
        assert not set(before.values()) & set(streams[0].values())

    @pytest.mark.parametrize("stream", [-(2**63), -65, -64, -1, 0, 63, 64, 2**63 - 1])
    def test_the_streams_of_replays_are_in_range(self, tenant: Tenant, stream: int) -> None:
        write(tenant, "1", "x")
        bury(named("x"))
        OutboxEvent.objects.update(stream=stream, lane=lanes.lane_of(stream))
        replay(Selection(tenant))
        event = OutboxEvent.objects.get()
        assert (event.stream, event.lane) == (~stream, lanes.lane_of(~stream))


class TestSelection:
    @pytest.fixture
    def events(self, tenant: Tenant, event_bridge: EventBridge) -> None:
        """a1, a2 of item a; b1 of item b, which is dead; each for two buses."""
        a_rule(tenant, eventbridge_arn=OTHER_BUS, position=1)
        write(tenant, "a", "a1", "a2")
        write(tenant, "b", "b1")
        publishing.drain()
        for event in OutboxEvent.objects.filter(item_key="b"):
            bury(event)
        for days_ago, sequence in ((3, 1), (2, 2), (1, 3)):
            OutboxEvent.objects.filter(sequence=sequence).update(time=timezone.now() - timedelta(days=days_ago))

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, {"a1", "a2", "b1"}),
            ({"item": ("petstore", "a")}, {"a1", "a2"}),
            ({"item": ("petstore", "none")}, set()),
            ({"item": ("other", "a")}, set()),
            ({"status": OutboxStatus.DEAD}, {"b1"}),
            ({"status": OutboxStatus.DELIVERED}, {"a1", "a2"}),
            ({"status": OutboxStatus.PENDING}, set()),
            ({"since": timezone.now() - timedelta(hours=60)}, {"a2", "b1"}),
            ({"until": timezone.now() - timedelta(hours=60)}, {"a1"}),
            (
                {"since": timezone.now() - timedelta(hours=60), "until": timezone.now() - timedelta(hours=36)},
                {"a2"},
            ),
            ({"item": ("petstore", "a"), "status": OutboxStatus.DEAD}, set()),
        ],
    )
    @pytest.mark.usefixtures("events")
    def test_every_filter_must_pass(self, tenant: Tenant, filters: dict[str, Any], expected: Collection[str]) -> None:
        selection = Selection(tenant, **filters)
        assert replays.count(selection).replayable == 2 * len(expected)
        assert replay(selection).events == 2 * len(expected)
        pending = OutboxEvent.objects.filter(status=OutboxStatus.PENDING)
        assert {json.loads(event.detail)["payload"]["name"] for event in pending} == expected

    @pytest.mark.usefixtures("events")
    def test_by_id_rule_and_bus(self, tenant: Tenant) -> None:
        chosen = OutboxEvent.objects.filter(sequence=2, bus_arn=OTHER_BUS).get()
        for selection, expected in [
            (Selection(tenant, ids=(chosen.pk, uuid.uuid4())), 1),
            (Selection(tenant, rule=chosen.rule_id), 3),
            (Selection(tenant, bus=OTHER_BUS), 3),
            (Selection(tenant, bus=BUS, rule=chosen.rule_id), 0),
        ]:
            assert replays.count(selection).replayable == expected
        assert replay(Selection(tenant, ids=(chosen.pk, uuid.uuid4()))).events == 1
        assert OutboxEvent.objects.get(status=OutboxStatus.PENDING) == chosen

    @pytest.mark.usefixtures("events")
    def test_the_count_says_what_was_delivered_what_is_dead_and_what_is_left_alone(self, tenant: Tenant) -> None:
        write(tenant, "c", "c1")
        assert replays.count(Selection(tenant)) == Counts(delivered=4, dead=2, pending=2)
        assert replays.count(Selection(tenant, status=OutboxStatus.DEAD)) == Counts(dead=2, pending=2)
        assert replays.count(Selection(tenant, item=("petstore", "c"))) == Counts(pending=2)

    def test_a_selection_is_recorded_so_that_it_can_be_read_again(self, tenant: Tenant) -> None:
        selection = Selection(
            tenant,
            ids=(uuid.uuid4(), uuid.uuid4()),
            item=("petstore", "a/b"),
            rule=7,
            bus=BUS,
            status=OutboxStatus.DEAD,
            since=datetime(2026, 1, 1, tzinfo=UTC),
            until=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        )
        begun = replays.begin(selection, who="ops", why="they asked")
        assert replays.selection_of(Replay.objects.get(pk=begun.pk)) == selection
        assert not selection.is_everything

    @pytest.mark.parametrize("scoped", [True, False])
    def test_without_a_filter_it_is_everything(self, tenant: Tenant, scoped: bool) -> None:
        selection = Selection(tenant if scoped else Scope.EVERY_TENANT)
        assert selection.is_everything
        begun = replays.begin(selection, who="ops", why="they asked")
        assert replays.selection_of(Replay.objects.get(pk=begun.pk)) == selection


class TestTenants:
    @pytest.fixture(autouse=True)
    def _events_of_both(self, tenant: Tenant, other: Tenant, event_bridge: EventBridge) -> None:
        write(tenant, "1", "mine")
        write(other, "1", "theirs")
        publishing.drain()

    @pytest.mark.parametrize("by", ["id", "item", "rule", "bus", "status", "time", "nothing"])
    def test_a_tenants_selection_never_touches_anothers_events(self, tenant: Tenant, other: Tenant, by: str) -> None:
        theirs = named("theirs")
        choices: dict[str, dict[str, Any]] = {
            "id": {"ids": (theirs.pk,)},
            "item": {"item": ("petstore", "1")},
            "rule": {"rule": theirs.rule_id},
            "bus": {"bus": theirs.bus_arn},
            "status": {"status": theirs.status},
            "time": {"since": theirs.time - timedelta(days=1), "until": theirs.time + timedelta(days=1)},
            "nothing": {},
        }
        filters = choices[by]
        mine = 0 if by in {"id", "rule"} else 1
        before = OutboxEvent.objects.values().get(pk=theirs.pk)
        assert replays.count(Selection(tenant, **filters)) == Counts(delivered=mine)
        assert replay(Selection(tenant, **filters)).events == mine
        assert OutboxEvent.objects.values().get(pk=theirs.pk) == before

    def test_no_tenant_at_all_selects_nothing(self) -> None:
        assert replays.count(Selection(None)) == Counts()  # type: ignore[arg-type]

    def test_an_operator_may_select_every_tenants_events(self) -> None:
        record = replay(Selection(Scope.EVERY_TENANT, item=("petstore", "1")))
        assert (record.tenant, record.events) == (None, 2)

    def test_a_replay_goes_with_its_tenant_but_not_without_its_events(self) -> None:
        tenant = Tenant.objects.create(name="empty")
        OutboxEvent.objects.update(tenant=tenant)
        record = replay(Selection(tenant))
        with pytest.raises(RestrictedError):
            record.delete()
        tenant.delete()
        assert not Replay.objects.exists()


class TestRecord:
    def test_it_says_who_why_what_how_many_and_when(self, tenant: Tenant, event_bridge: EventBridge) -> None:
        write(tenant, "1", "first", "second")
        publishing.drain()
        record = Replay.objects.get(pk=replay(Selection(tenant, bus=BUS)).pk)
        assert (record.tenant, record.who, record.why) == (tenant, "ops", "they asked")
        assert (record.selection, record.events) == ({"bus": BUS}, 2)
        assert record.finished_at is not None
        assert record.created_at <= record.finished_at

    @pytest.mark.parametrize(("who", "why"), [("", "they asked"), ("ops", "")])
    def test_none_without_who_and_why(self, tenant: Tenant, who: str, why: str) -> None:
        with pytest.raises(IntegrityError):
            replays.begin(Selection(tenant), who=who, why=why)

    def test_the_last_replay_of_a_selection_is_known_while_it_is_unfinished(self, tenant: Tenant) -> None:
        selection = Selection(tenant, bus=BUS, rule=1)
        begun = replays.begin(selection, who="ops", why="they asked")
        assert replays.unfinished(Selection(tenant, rule=1, bus=BUS)) == begun
        assert replays.unfinished(Selection(tenant, bus=BUS)) is None
        assert replays.unfinished(Selection(Scope.EVERY_TENANT, bus=BUS, rule=1)) is None
        replays.carry_on(begun, per_second=FAST)
        assert replays.unfinished(selection) is None


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
