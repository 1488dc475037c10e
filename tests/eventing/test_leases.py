"""Leases of lanes: one publisher at a time, until it gives its lanes back or its time is over."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from eventing import lanes, outbox, publishing
from eventing.answers import Answer, Verdict
from eventing.models import EventBus, Lane, OutboxEvent, OutboxStatus
from eventing.outbox import Tally
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing import doors
from tests.eventing.event_bridge import EventBridge, event_bridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventing.entries import Ready

__all__ = ["event_bridge"]

# Publishing threads touch no database, so a test's own transaction does.
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]


@pytest.fixture
def write() -> Callable[..., None]:
    """Writes items of a tenant that has a rule."""
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return partial(doors.write, tenant, a_key(tenant))


def test_a_lane_is_leased_to_one_publisher_at_a_time(write: Callable[..., None]) -> None:
    write("POST", "1")
    assert lanes.lease(outbox.lanes_with_work(at=timezone.now()), at_most=16, holder="one") is not None
    assert lanes.lease(outbox.lanes_with_work(at=timezone.now()), at_most=16, holder="two") is None


def test_the_lease_of_a_publisher_that_died_ends_by_itself(
    write: Callable[..., None], event_bridge: EventBridge
) -> None:
    write("POST", "1")
    lanes.lease(outbox.lanes_with_work(at=timezone.now()), at_most=16, holder="dead")
    assert publishing.drain() == Tally()
    Lane.objects.filter(holder="dead").update(leased_until=timezone.now() - timedelta(seconds=1))
    assert publishing.drain() == Tally(delivered=1)


def slow_and_successor() -> tuple[lanes.Lease, lanes.Lease, Ready]:
    """A publisher whose lease has ended, the one that has its lanes now, and the event that both have read."""
    slow = lanes.lease(outbox.lanes_with_work(at=timezone.now()), at_most=16, holder="slow")
    assert slow is not None
    (seen_by_both,) = outbox.batch(slow.fences, at_most=10, at=timezone.now())
    Lane.objects.filter(holder="slow").update(leased_until=timezone.now() - timedelta(seconds=1))
    successor = lanes.lease(outbox.lanes_with_work(at=timezone.now()), at_most=16, holder="successor")
    assert successor is not None
    return slow, successor, seen_by_both


@pytest.mark.parametrize(
    "late", [Answer(Verdict.REFUSED, code="MalformedDetail"), Answer(Verdict.ACCEPTED, event_id="mine")], ids=str
)
def test_a_publisher_that_lost_its_lease_cannot_overwrite_its_successors_results(
    write: Callable[..., None], late: Answer
) -> None:
    write("POST", "1")
    slow, successor, event_read = slow_and_successor()
    outbox.record(successor, [(event_read, Answer(Verdict.ACCEPTED, event_id="theirs"))])

    assert outbox.record(slow, [(event_read, late)]) == Tally()
    event = OutboxEvent.objects.get()
    assert (event.status, event.eventbridge_id) == (OutboxStatus.DELIVERED, "theirs")
    lanes.release(slow)
    assert Lane.objects.filter(holder="successor").exists()


def test_a_publisher_that_lost_its_lease_has_nothing_to_say_of_its_bus(write: Callable[..., None]) -> None:
    write("POST", "1")
    slow, successor, event_read = slow_and_successor()
    outbox.record(successor, [(event_read, Answer(Verdict.BUS_REFUSED, code="AccessDenied"))])

    assert outbox.record(slow, [(event_read, Answer(Verdict.ACCEPTED, event_id="mine"))]) == Tally()
    bus = EventBus.objects.get()
    assert bus.refusals == 1
    assert bus.paused_until is not None


def test_a_bus_whose_event_is_recorded_is_trusted_and_no_other(write: Callable[..., None]) -> None:
    for arn in (BUS, f"{BUS}-other"):
        EventBus.objects.create(arn=arn, failures=2)
    write("POST", "1")
    lease = lanes.lease(outbox.lanes_with_work(at=timezone.now()), at_most=16, holder="one")
    assert lease is not None
    (event,) = outbox.batch(lease.fences, at_most=10, at=timezone.now())
    assert outbox.record(lease, [(event, Answer(Verdict.ACCEPTED, event_id="x"))]) == Tally(delivered=1)
    assert set(EventBus.objects.filter(failures=0).values_list("arn", flat=True)) == {BUS}


def test_a_call_that_did_not_begin_leaves_nothing_to_record(write: Callable[..., None]) -> None:
    write("POST", "1")
    lease = lanes.lease(outbox.lanes_with_work(at=timezone.now()), at_most=16, holder="one")
    assert lease is not None
    assert outbox.record(lease, []) == Tally()
    (event,) = outbox.batch(lease.fences, at_most=10, at=timezone.now())
    assert outbox.record(lease.without(lease.fences), [(event, Answer(Verdict.ACCEPTED, event_id="x"))]) == Tally()


@pytest.mark.parametrize("is_probe", [False, True])
def test_no_call_begins_when_the_lease_may_end_before_it(
    write: Callable[..., None], event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch, is_probe: bool
) -> None:
    write("POST", "1")
    later = timezone.now() + timedelta(hours=1)
    EventBus.objects.create(arn=BUS, verified_at=timezone.now(), next_check_at=later, refusals=int(is_probe))
    monkeypatch.setattr(lanes.Lease, "seconds_left", lambda self: 5.0)
    assert publishing.drain(seconds=0.3) == Tally()
    assert event_bridge.calls == []
