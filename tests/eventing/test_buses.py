from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from blockforger.backend.models import Method
from eventing import aws, buses, lanes, outbox, publishing
from eventing.models import EventBus, Lane, OutboxEvent, OutboxStatus
from eventing.outbox import Tally
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing import doors
from tests.eventing.event_bridge import EventBridge, accepted, each, event_bridge, exists, failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenants.models import Tenant

__all__ = ["event_bridge"]

OTHER_BUS = "arn:aws:events:eu-west-1:210987654321:event-bus/audit"


@pytest.fixture(autouse=True)
def _delays_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventing.backoff.random.random", lambda: 0.9)


@pytest.fixture
def tenant(nudged: list[None]) -> Tenant:
    tenant = a_tenant(tokens=100_000)
    a_schema(tenant)
    return tenant


@pytest.fixture
def post(tenant: Tenant) -> Callable[..., None]:
    def some(*item_keys: str) -> None:
        for key in item_keys:
            doors.write(tenant, a_key(tenant), Method.POST, key)

    return some


def pass_time(**span: float) -> None:
    """Move everything that waits for a time that much nearer."""
    by = timedelta(**span)
    OutboxEvent.objects.exclude(next_attempt_at=None).update(next_attempt_at=F("next_attempt_at") - by)
    for bus in EventBus.objects.all():
        for name in ("paused_until", "next_check_at", "missing_since", "verified_at"):
            if value := getattr(bus, name):
                setattr(bus, name, value - by)
        bus.save()


def missing(arn: str) -> tuple[int, dict[str, Any]]:
    return failed(400, "ResourceNotFoundException")


def denied(arn: str) -> tuple[int, dict[str, Any]]:
    return failed(400, "AccessDeniedException")


def broken(entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    return failed(503, "ServiceUnavailable")


def pending(arn: str) -> int:
    return OutboxEvent.objects.filter(bus_arn=arn, status=OutboxStatus.PENDING).count()


@pytest.mark.django_db
def test_a_bus_is_described_before_its_first_event_and_not_again_for_ten_minutes(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant, eventbridge_arn=OTHER_BUS)
    sent_before: list[int] = []

    def describing(arn: str) -> tuple[int, dict[str, Any]]:
        sent_before.append(len(event_bridge.calls))
        return exists(arn)

    event_bridge.describing = describing
    post("1")
    assert publishing.drain() == Tally(delivered=1)
    pass_time(minutes=9)
    post("2")
    assert publishing.drain() == Tally(delivered=1)
    assert event_bridge.described == [OTHER_BUS]
    assert sent_before == [0]
    bus = EventBus.objects.get()
    assert bus.verified_at is not None
    assert (bus.paused_until, bus.pause_reason, bus.verification_note) == (None, "", "")

    pass_time(minutes=2)
    post("3")
    assert publishing.drain() == Tally(delivered=1)
    assert event_bridge.described == [OTHER_BUS] * 2


@pytest.mark.django_db
def test_a_missing_bus_holds_its_events_visibly_and_they_flow_when_it_appears(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    a_rule(tenant, eventbridge_arn=OTHER_BUS, position=1)
    event_bridge.describing = lambda arn: missing(arn) if arn == OTHER_BUS else exists(arn)
    post("1", "2")
    assert publishing.drain() == Tally(delivered=2)
    assert {entry["EventBusName"] for entry in event_bridge.entries} == {BUS}
    assert pending(OTHER_BUS) == 2
    bus = EventBus.objects.get(paused_until__isnull=False)
    assert (bus.arn, bus.missing_since is not None) == (OTHER_BUS, True)
    assert bus.pause_reason.startswith("The bus does not exist")
    assert "In account 210987654321" in bus.pause_reason
    assert "aws events create-event-bus --name audit --region eu-west-1" in bus.pause_reason
    assert not outbox.lanes_with_work(at=timezone.now())

    pass_time(seconds=20)
    assert publishing.drain() == Tally()
    assert event_bridge.described.count(OTHER_BUS) == 2
    event_bridge.describing = exists
    pass_time(seconds=50)
    assert publishing.drain() == Tally(delivered=2)
    bus.refresh_from_db()
    assert (bus.missing_since, bus.paused_until, bus.pause_reason) == (None, None, "")


@pytest.mark.django_db
def test_resuming_a_missing_bus_by_hand_asks_again_and_sends_nothing_into_the_void(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    event_bridge.describing = missing
    post("1")
    publishing.drain()
    EventBus.objects.update(paused_until=None)
    assert publishing.drain() == Tally()
    assert (event_bridge.calls, event_bridge.described) == ([], [BUS, BUS])


@pytest.mark.django_db
def test_without_the_permission_to_describe_events_flow_and_the_bus_says_what_is_lacking(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    event_bridge.describing = denied
    post("1")
    assert publishing.drain() == Tally(delivered=1)
    bus = EventBus.objects.get()
    assert bus.verified_at is not None
    assert "events:DescribeEventBus" in bus.verification_note

    event_bridge.describing = exists
    pass_time(minutes=11)
    post("2")
    publishing.drain()
    assert EventBus.objects.get().verification_note == ""


@pytest.mark.django_db
def test_a_bus_of_another_account_that_is_not_seen_is_not_taken_for_missing(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant, eventbridge_arn=OTHER_BUS)
    event_bridge.describing, event_bridge.account = missing, "111111111111"
    post("1")
    assert publishing.drain() == Tally(delivered=1)
    assert "another account" in EventBus.objects.get().verification_note


@pytest.mark.django_db
def test_a_bus_is_missing_if_nobody_can_say_whose_account_we_are(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> str:
        raise EndpointConnectionError(endpoint_url="http://x")

    monkeypatch.setattr(aws, "own_account", unreachable)
    a_rule(tenant)
    event_bridge.describing = missing
    post("1")
    assert publishing.drain() == Tally()
    assert EventBus.objects.get().missing_since is not None


@pytest.mark.django_db
def test_a_describe_that_fails_does_not_hold_up_events_and_is_repeated_soon(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    event_bridge.describing = lambda arn: failed(500, "InternalException")
    post("1")
    assert publishing.drain() == Tally(delivered=1)
    bus = EventBus.objects.get()
    assert bus.verified_at is None
    assert "InternalException" in bus.verification_note

    event_bridge.describing = exists
    pass_time(seconds=31)
    post("2")
    assert publishing.drain() == Tally(delivered=1)
    bus.refresh_from_db()
    assert (bus.verified_at is not None, bus.verification_note) == (True, "")


@pytest.mark.django_db
def test_a_bus_that_was_deleted_is_noticed_by_the_next_check(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    post("1")
    publishing.drain()
    event_bridge.describing = missing
    pass_time(minutes=11)
    post("2")
    publishing.drain()
    post("3")
    assert publishing.drain() == Tally()
    bus = EventBus.objects.get()
    assert bus.missing_since is not None
    assert bus.verified_at is not None  # what was delivered since then may be lost
    assert bus.verified_at < bus.missing_since
    assert pending(BUS) == 1


@pytest.mark.django_db
def test_a_bus_that_the_operator_does_not_allow_is_not_even_described(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge, settings: Any
) -> None:
    a_rule(tenant)
    post("1")
    settings.BLOCKFORGER_ALLOWED_BUS_ARNS = [OTHER_BUS]
    assert publishing.drain() == Tally(held=1)
    assert event_bridge.described == []


@pytest.mark.django_db
def test_calls_that_keep_failing_open_the_breaker_which_probes_with_one_event_and_closes(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    event_bridge.answering = broken
    post(*map(str, range(4)))
    for failures in range(1, 5):
        assert publishing.drain() == Tally(retried=4)
        bus = EventBus.objects.get()
        assert (bus.failures, bus.paused_until) == (failures, None)
        pass_time(minutes=15)
    publishing.drain()
    bus = EventBus.objects.get()
    assert bus.failures == 5
    assert bus.paused_until is not None
    assert bus.pause_reason.startswith("Its calls keep failing, 5 in a row")
    assert "ServiceUnavailable" in bus.pause_reason
    OutboxEvent.objects.update(next_attempt_at=timezone.now())
    assert publishing.drain() == Tally()
    assert not outbox.lanes_with_work(at=timezone.now())

    pauses = []
    for _ in range(2):
        pass_time(minutes=5)
        event_bridge.calls.clear()
        assert publishing.drain() == Tally(retried=1)
        assert [len(call) for call in event_bridge.calls] == [1]
        paused_until = EventBus.objects.get().paused_until
        assert paused_until is not None
        pauses.append((paused_until - timezone.now()).total_seconds())
    assert pauses == pytest.approx([10, 20], abs=3)

    event_bridge.answering = accepted
    event_bridge.calls.clear()
    pass_time(minutes=15)
    assert publishing.drain() == Tally(delivered=4)
    assert [len(call) for call in event_bridge.calls] == [1, 3]
    bus = EventBus.objects.get()
    assert (bus.failures, bus.paused_until, bus.pause_reason) == (0, None, "")


@pytest.mark.django_db
def test_a_call_that_gets_through_begins_the_count_anew(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    post("1")
    event_bridge.answering = broken
    publishing.drain()
    assert EventBus.objects.get().failures == 1
    event_bridge.answering = lambda entries: each(entries, lambda entry: "ThrottlingException")
    pass_time(minutes=1)
    publishing.drain()
    assert EventBus.objects.get().failures == 0


@pytest.mark.django_db
def test_throttling_of_single_entries_does_not_open_the_breaker(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    post("1")
    event_bridge.answering = lambda entries: each(entries, lambda entry: "ThrottlingException")
    for _ in range(8):
        publishing.drain()
        pass_time(minutes=15)
    assert len(event_bridge.calls) == 8
    assert EventBus.objects.get().failures == 0


@pytest.mark.django_db
def test_a_malformed_event_is_no_probe_and_the_next_one_goes_at_once(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    post("1", "2")
    EventBus.objects.create(arn=BUS, refusals=1, verified_at=timezone.now())
    first = iter([lambda entries: each(entries, lambda entry: "MalformedDetail")])
    event_bridge.answering = lambda entries: next(first, accepted)(entries)
    assert publishing.drain() == Tally(dead=1, delivered=1)


@pytest.mark.django_db
def test_a_failing_bus_gets_few_of_the_calls_that_a_round_had_for_it(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "SENDING_THREADS", 1)
    a_rule(tenant)
    post(*map(str, range(150)))
    monkeypatch.setattr(publishing, "LEAST_LANES", lanes.LANES)
    event_bridge.answering = broken
    assert publishing.drain() == Tally(retried=50)
    assert [len(call) for call in event_bridge.calls] == [10] * 5
    assert OutboxEvent.objects.filter(attempts=0).count() == 100


@pytest.mark.django_db
def test_a_bus_in_order_costs_one_query_and_no_row_is_written(tenant: Tenant) -> None:
    EventBus.objects.create(arn=BUS, verified_at=timezone.now(), next_check_at=timezone.now() + timedelta(minutes=5))
    with CaptureQueriesContext(connection) as queries:
        turns = buses.take_turns({BUS}, checked={BUS})
    assert turns.sends == {BUS}
    assert len(queries) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("trouble", ["probe", "check", "wave"])
def test_another_bus_does_not_wait_for_one_that_hangs(tenant: Tenant, event_bridge: EventBridge, trouble: str) -> None:
    a_rule(tenant)
    a_rule(tenant, eventbridge_arn=OTHER_BUS, position=1)
    well = {"verified_at": timezone.now(), "next_check_at": timezone.now() + timedelta(minutes=5)}
    EventBus.objects.create(arn=BUS, **well)
    if trouble != "check":
        EventBus.objects.create(arn=OTHER_BUS, failures=buses.OPEN_AFTER if trouble == "probe" else 0, **well)
    others_are_through = threading.Event()
    answered_in_time: list[bool] = []

    def answering(entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if entries[0]["EventBusName"] == OTHER_BUS:
            answered_in_time.append(others_are_through.wait(5))
        elif [entry["EventBusName"] for entry in event_bridge.entries].count(BUS) == 3:
            others_are_through.set()
        return accepted(entries)

    def describing(arn: str) -> tuple[int, dict[str, Any]]:
        answered_in_time.append(others_are_through.wait(3))  # the client gives up after four seconds
        return exists(arn)

    event_bridge.answering, event_bridge.describing = answering, describing
    for method in (Method.POST, Method.PUT, Method.PUT):  # three waves for the bus that is well
        doors.write(tenant, a_key(tenant), method, "1")
    assert publishing.drain() == Tally(delivered=6)
    assert answered_in_time[0]


@pytest.mark.django_db
def test_the_lane_of_a_probe_is_kept_until_its_answer_and_then_given_back(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    EventBus.objects.create(arn=BUS, verified_at=timezone.now(), failures=buses.OPEN_AFTER)
    post("1")
    lane = OutboxEvent.objects.get().lane
    with ThreadPoolExecutor(1) as threads:
        asides = publishing._Asides(threads)
        publishing.publish_some(threads, asides, at=timezone.now())
        assert list(Lane.objects.exclude(holder="").values_list("pk", flat=True)) == [lane]
        assert asides.settle(wait_seconds=None) == Tally(delivered=1)
    assert not Lane.objects.exclude(holder="").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("fields", [{}, {"verified_at": timezone.now(), "refusals": 1}])
def test_of_several_publishers_one_takes_the_turn_and_one_that_died_does_not_keep_it(
    tenant: Tenant, fields: dict[str, Any]
) -> None:
    EventBus.objects.create(arn=BUS, next_check_at=timezone.now() + timedelta(minutes=1) if fields else None, **fields)
    first = buses.take_turns({BUS}, checked={BUS})
    assert first.probes | first.checks == {BUS}
    second = buses.take_turns({BUS}, checked={BUS})
    assert second == buses.Turns()
    pass_time(seconds=31)
    third = buses.take_turns({BUS}, checked={BUS})
    assert BUS in third.probes | third.checks


@pytest.mark.django_db(transaction=True)
def test_publishers_at_the_same_moment_describe_a_bus_once_and_probe_it_once(
    tenant: Tenant, post: Callable[..., None], event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "LEAST_LANES", 1)
    a_rule(tenant)
    post(*map(str, range(20)))
    event_bridge.describing = slowly(exists)
    event_bridge.answering = broken
    at_once(4)
    assert event_bridge.described == [BUS]
    while EventBus.objects.get().failures < buses.OPEN_AFTER:
        pass_time(minutes=5)
        at_once(4)

    event_bridge.calls.clear()
    pass_time(minutes=5)
    event_bridge.answering = slowly(broken)
    at_once(4)
    assert [len(call) for call in event_bridge.calls] == [1]

    event_bridge.answering = accepted
    pass_time(minutes=15)
    at_once(4)
    publishing.drain()
    assert set(OutboxEvent.objects.values_list("status", flat=True)) == {OutboxStatus.DELIVERED}
    assert EventBus.objects.get().failures == 0


def slowly(answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def answering(asked: Any) -> Any:
        time.sleep(0.2)
        return answer(asked)

    return answering


def at_once(publishers: int) -> None:
    barrier = threading.Barrier(publishers)

    def drain(_: int) -> None:
        barrier.wait(30)
        try:
            publishing.drain()
        finally:
            connection.close()

    with ThreadPoolExecutor(publishers) as threads:
        list(threads.map(drain, range(publishers)))


@pytest.mark.django_db(transaction=True)
def test_the_migration_goes_back_and_forth_and_old_processes_can_write_meanwhile() -> None:
    call_command("migrate", "eventing", "0002", verbosity=0)
    try:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO eventing_eventbus (arn, pause_reason, refusals) VALUES ('a', '', 0)")
        call_command("migrate", "eventing", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO eventing_eventbus (arn, pause_reason, refusals) VALUES ('b', '', 0)")
    finally:
        call_command("migrate", "eventing", verbosity=0)
    assert list(EventBus.objects.values_list("failures", "verification_note")) == [(0, "")] * 2
