from __future__ import annotations

import json
import os
import threading
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from blockforger.backend.models import Origin
from blockforger.backend.operations import Operation, execute
from eventing import aws, lanes, outbox, publishing
from eventing.models import AllowedBus, EventBus, OutboxEvent, OutboxStatus, OutputRule
from eventing.outbox import Tally
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing import doors
from tests.eventing.event_bridge import EventBridge, each, event_bridge, failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenants.models import Tenant

__all__ = ["event_bridge"]

# Publishing threads touch no database, so a test's own transaction does.
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

OTHER_BUS = "arn:aws:events:eu-west-1:210987654321:event-bus/audit"


@pytest.fixture(autouse=True)
def _delays_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventing.backoff.random.random", lambda: 0.9)
    monkeypatch.setattr(outbox, "_RETRY_BASE", timedelta(minutes=5))


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant(tokens=100_000)
    a_schema(tenant)
    return tenant


@pytest.fixture
def write(tenant: Tenant) -> Callable[..., None]:
    key = a_key(tenant)

    return partial(doors.write, tenant, key)


def sent_names(bridge: EventBridge) -> list[str]:
    return [json.loads(entry["Detail"])["payload"]["name"] for entry in bridge.entries]


def later(seconds: float) -> None:
    """Let that much time pass for everything that waits."""
    OutboxEvent.objects.filter(next_attempt_at__isnull=False).update(
        next_attempt_at=timezone.now() - timedelta(seconds=seconds)
    )
    EventBus.objects.filter(paused_until__isnull=False).update(paused_until=timezone.now() - timedelta(seconds=seconds))


def test_an_event_is_sent_as_the_specification_prints_it(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    write("POST", "123", name="Fluffy", status="available")
    assert publishing.drain() == Tally(delivered=1)

    event = OutboxEvent.objects.get()
    (entry,) = event_bridge.entries
    assert entry.pop("Time") == pytest.approx(event.time.timestamp(), abs=1)
    assert entry == {
        "Source": "blockforger-output",
        "DetailType": "petstore.POST",
        "EventBusName": BUS,
        "Resources": ["urn:blockforger:item:mytenant:petstore:123", f"urn:blockforger:event:{event.id}:1"],
        "Detail": '{"tenant":"mytenant","rootSchema":"petstore","operation":"POST",'
        '"payload":{"id":"123","name":"Fluffy","status":"available"}}',
    }
    assert event.status == OutboxStatus.DELIVERED
    assert event.eventbridge_id
    assert event.delivered_at is not None


def test_ten_entries_go_into_a_call_and_one_bus(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    a_rule(tenant, eventbridge_arn=OTHER_BUS, position=1)
    for number in range(25):
        write("POST", str(number))
    while publishing.drain() != Tally():
        pass
    assert len(event_bridge.entries) == 50
    for call in event_bridge.calls:
        assert len(call) <= 10
        assert len({entry["EventBusName"] for entry in call}) == 1


def test_a_call_holds_no_more_bytes_than_allowed(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge, settings: Any
) -> None:
    a_rule(tenant)
    for number in range(6):
        write("POST", str(number), name="x" * 300)
    settings.BLOCKFORGER_MAX_EVENT_BYTES = 1200
    assert publishing.drain() == Tally(delivered=6)
    assert max(map(len, event_bridge.calls)) == 2


def test_no_more_is_in_memory_than_fits_there_however_much_waits(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_rule(tenant)
    for number in range(6):
        write("POST", str(number), name="ä" * 400)
    all_lanes = range(lanes.LANES)
    at_once = [outbox.batch(all_lanes, at_most=100, at=timezone.now())]
    for limit in (2_000, 1):
        monkeypatch.setattr(outbox, "MAX_BYTES", limit)
        at_once.append(outbox.batch(all_lanes, at_most=100, at=timezone.now()))
    whole, *parts = at_once
    assert [len(events) for events in at_once] == [6, 2, 1]
    assert all(events == whole[: len(events)] for events in parts)
    assert publishing.drain() == Tally(delivered=6)


def test_events_of_one_item_never_share_a_call_and_keep_their_order(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    write("POST", "1", name="first")
    write("PUT", "1", name="second")
    write("PATCH", "1", name="third")
    assert publishing.drain() == Tally(delivered=3)
    assert [len(call) for call in event_bridge.calls] == [1, 1, 1]
    assert sent_names(event_bridge) == ["first", "second", "third"]


def test_two_rules_for_one_bus_send_two_events_the_earlier_rule_first(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant, source="second", position=2)
    a_rule(tenant, source="first", position=1)
    write("POST", "1")
    publishing.drain()
    assert [entry["Source"] for entry in event_bridge.entries] == ["first", "second"]


def test_an_entry_that_fails_waits_and_its_items_later_events_with_it_but_no_others(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    write("POST", "slow", name="slow 1")
    write("PUT", "slow", name="slow 2")
    write("POST", "quick", name="quick 1")
    write("PUT", "quick", name="quick 2")
    event_bridge.answering = lambda entries: each(
        entries, lambda entry: "ThrottlingException" if "slow" in entry["Detail"] else None
    )
    assert publishing.drain() == Tally(delivered=2, retried=1)
    write("PUT", "slow", name="slow 3")
    assert publishing.drain() == Tally()

    event_bridge.answering = lambda entries: each(entries, lambda entry: None)
    event_bridge.calls.clear()
    later(1)
    assert publishing.drain() == Tally(delivered=3)
    assert sent_names(event_bridge) == ["slow 1", "slow 2", "slow 3"]
    first = OutboxEvent.objects.get(detail__contains="slow 1")
    assert first.failing_since is None
    assert first.attempts >= 2


@pytest.mark.parametrize("status", [500, 503, 400])
def test_a_call_that_fails_as_a_whole_is_sent_again(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge, status: int
) -> None:
    a_rule(tenant)
    write("POST", "1")
    code = {500: "InternalException", 503: "ServiceUnavailable", 400: "ThrottlingException"}[status]
    event_bridge.answering = lambda entries: failed(status, code)
    assert publishing.drain() == Tally(retried=1)
    event = OutboxEvent.objects.get()
    assert (event.status, event.error_code) == (OutboxStatus.PENDING, code)
    assert event.failing_since is not None


def test_a_bus_that_nobody_can_reach_keeps_its_events(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    write("POST", "1")
    event_bridge.server.shutdown()
    event_bridge.server.server_close()
    assert publishing.drain() == Tally(retried=1)
    event = OutboxEvent.objects.get()
    assert (event.status, event.error_code) == (OutboxStatus.PENDING, "EndpointConnectionError")


def test_after_a_day_of_failures_an_event_is_dead_and_the_next_goes(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    write("POST", "1", name="first")
    write("PUT", "1", name="second")
    OutboxEvent.objects.filter(sequence=1).update(failing_since=timezone.now() - timedelta(hours=25))
    event_bridge.answering = lambda entries: each(
        entries, lambda entry: "InternalFailure" if "first" in entry["Detail"] else None
    )
    assert publishing.drain() == Tally(delivered=1, dead=1)
    assert OutboxEvent.objects.get(sequence=1).error_message == "InternalFailure happened"


def test_a_malformed_entry_is_dead_at_once_with_its_reason_and_the_next_goes(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    write("POST", "1", name="first")
    write("PUT", "1", name="second")
    event_bridge.answering = lambda entries: each(
        entries, lambda entry: "MalformedDetail" if "first" in entry["Detail"] else None
    )
    assert publishing.drain() == Tally(delivered=1, dead=1)
    dead = OutboxEvent.objects.get(sequence=1)
    assert (dead.status, dead.error_code, dead.error_message) == (
        OutboxStatus.DEAD,
        "MalformedDetail",
        "MalformedDetail happened",
    )


def test_a_call_that_is_refused_whole_is_halved_until_the_culprit_is_alone(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    for number in range(10):
        write("POST", str(number), name="bad" if number == 7 else "good")

    def answering(entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if any("bad" in entry["Detail"] for entry in entries):
            return failed(400, "ValidationException")
        return each(entries, lambda entry: None)

    event_bridge.answering = answering
    assert publishing.drain() == Tally(delivered=9, dead=1)
    assert OutboxEvent.objects.get(status=OutboxStatus.DEAD).item_key == "7"


@pytest.mark.parametrize("whole", [True, False])
def test_a_bus_that_refuses_us_is_paused_and_no_other(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge, *, whole: bool
) -> None:
    a_rule(tenant)
    a_rule(tenant, eventbridge_arn=OTHER_BUS, position=1)
    for number in range(3):
        write("POST", str(number))

    def refusing(entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if entries[0]["EventBusName"] != OTHER_BUS:
            return each(entries, lambda entry: None)
        code = "AccessDeniedException"
        return failed(400, code) if whole else each(entries, lambda entry: code)

    event_bridge.answering = refusing
    tally = publishing.drain()
    assert tally.delivered == 3
    assert tally.held >= 1
    bus = EventBus.objects.get(paused_until__isnull=False)
    assert (bus.arn, bus.refusals, bus.pause_reason) == (
        OTHER_BUS,
        1,
        "AccessDeniedException: AccessDeniedException happened",
    )
    assert bus.paused_until is not None
    assert OutboxEvent.objects.filter(status=OutboxStatus.PENDING, bus_arn=OTHER_BUS).count() == 3
    assert publishing.drain() == Tally()  # nothing is tried while the pause lasts


def test_a_paused_bus_is_probed_with_one_event_at_growing_intervals_and_then_trusted_again(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    for number in range(30):
        write("POST", str(number))
    event_bridge.answering = lambda entries: failed(400, "AccessDeniedException")
    publishing.drain()
    intervals = []
    for _ in range(3):
        later(1)
        event_bridge.calls.clear()
        assert publishing.drain() == Tally(held=1)
        assert [len(call) for call in event_bridge.calls] == [1]
        paused_until = EventBus.objects.get().paused_until
        assert paused_until is not None
        intervals.append((paused_until - timezone.now()).total_seconds())
    assert intervals == pytest.approx([30, 60, 120], abs=5)

    event_bridge.answering = lambda entries: each(entries, lambda entry: None)
    later(1)
    assert publishing.drain() == Tally(delivered=30)
    bus = EventBus.objects.get()
    assert (bus.refusals, bus.paused_until, bus.pause_reason) == (0, None, "")


def test_a_bus_that_the_operator_no_longer_allows_gets_nothing(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge, settings: Any
) -> None:
    a_rule(tenant)
    write("POST", "1")
    settings.BLOCKFORGER_ALLOWED_BUS_ARNS = [OTHER_BUS]
    assert publishing.drain() == Tally(held=1)
    assert event_bridge.calls == []
    assert EventBus.objects.get().pause_reason.startswith("BusNotAllowed")


def test_a_bus_that_its_tenant_may_no_longer_name_gets_nothing_and_is_not_paused_for_others(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    write("POST", "1")
    AllowedBus.objects.create(tenant=tenant, arn_pattern=OTHER_BUS)
    assert publishing.drain() == Tally(dead=1)
    assert event_bridge.calls == []
    assert OutboxEvent.objects.get().error_code == "BusNotAllowed"
    assert not EventBus.objects.exists()


def test_an_answer_that_cannot_be_read_costs_the_other_calls_nothing(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    a_rule(tenant, eventbridge_arn=OTHER_BUS, position=1)
    write("POST", "1")

    def answering(entries: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if entries[0]["EventBusName"] == OTHER_BUS:
            return 200, {"FailedEntryCount": 0}
        return each(entries, lambda entry: None)

    event_bridge.answering = answering
    assert publishing.drain() == Tally(delivered=1, retried=1)
    assert OutboxEvent.objects.get(bus_arn=OTHER_BUS).error_code == "KeyError"


def test_a_long_pause_does_not_count_towards_the_day_of_failures(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    write("POST", "1")
    OutboxEvent.objects.update(failing_since=timezone.now() - timedelta(hours=25))
    event_bridge.answering = lambda entries: failed(400, "AccessDeniedException")
    assert publishing.drain() == Tally(held=1)
    event_bridge.answering = lambda entries: failed(400, "ThrottlingException")
    later(1)
    assert publishing.drain() == Tally(retried=1)


def test_a_publisher_that_is_told_to_stop_does_so_however_much_waits(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(publishing, "close_old_connections", lambda: None)

    def endless(*args: object, **options: object) -> Tally:
        stopping.set()
        return Tally(delivered=1)

    monkeypatch.setattr(publishing, "_drain", endless)
    publishing.run(stopping, interval=60)


def test_a_hot_item_is_chosen_without_reading_its_stream_over_and_over(
    tenant: Tenant, write: Callable[..., None], django_assert_max_num_queries: Any
) -> None:
    a_rule(tenant)
    write("POST", "1")
    event = OutboxEvent.objects.get()
    stream = {"stream": event.stream, "lane": event.lane, "bus_arn": event.bus_arn, "tenant": tenant}
    OutboxEvent.objects.bulk_create(
        OutboxEvent(sequence=number, place=0, rule_id=1, time=event.time, operation="PUT", **stream)
        for number in range(2, 3000)
    )
    with django_assert_max_num_queries(9):
        chosen = outbox.batch([event.lane], at_most=5, at=timezone.now())
    assert [one.sequence for one in chosen] == [1, 2, 3, 4, 5]


def test_the_region_of_the_bus_decides_which_client_sends(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_rule(tenant, eventbridge_arn=OTHER_BUS)
    regions = []
    events_calls = aws.events_calls

    def noting(region: str) -> object:
        regions.append(region)
        return events_calls(region)

    monkeypatch.setattr(aws, "events_calls", noting)
    write("POST", "1")
    publishing.drain()
    assert regions == ["eu-west-1"]


def test_a_rule_that_is_edited_or_deleted_changes_nothing_that_waits(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    rule = a_rule(tenant, source="before")
    write("POST", "1")
    rule.source = "after"
    rule.save()
    write("POST", "2")
    OutputRule.objects.all().delete()
    write("POST", "3")
    assert publishing.drain() == Tally(delivered=2)
    assert Counter(entry["Source"] for entry in event_bridge.entries) == {"before": 1, "after": 1}


def test_tenants_take_turns_however_much_one_of_them_writes(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge
) -> None:
    a_rule(tenant)
    for number in range(40):
        write("POST", str(number))
    small = a_tenant("small")
    a_schema(small)
    a_rule(small)
    execute(
        Operation(
            origin=Origin.API, method="POST", tenant="small", schema="petstore", api_key=a_key(small),
            payload={"id": "1", "name": "small"},
        )
    )  # fmt: skip
    lane = OutboxEvent.objects.get(tenant=small).lane
    OutboxEvent.objects.update(lane=lane)
    assert small.pk in [event.tenant_id for event in outbox.batch([lane], at_most=4, at=timezone.now())]


def test_publish_events_once_says_what_became_of_the_events(
    tenant: Tenant, write: Callable[..., None], event_bridge: EventBridge, capsys: pytest.CaptureFixture[str]
) -> None:
    a_rule(tenant)
    write("POST", "1")
    call_command("publish_events", "--once")
    assert capsys.readouterr().out == "delivered 1, to be retried 0, dead 0, held for a paused bus 0\n"


def test_a_forked_process_makes_clients_of_its_own(event_bridge: EventBridge) -> None:
    client = aws.events_client("us-east-1")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"own" if aws.events_client("us-east-1") is not client else b"shared")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"own"
