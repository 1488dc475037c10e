"""Leases of lanes: one publisher at a time, until it gives its lanes back or its time is over."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from eventing import lanes, outbox, publishing
from eventing.answers import Answer, Verdict
from eventing.models import Lane, OutboxEvent, OutboxStatus
from eventing.outbox import Tally
from tests.cast import a_key, a_rule, a_schema, a_tenant
from tests.eventing import doors
from tests.eventing.event_bridge import EventBridge, event_bridge

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_a_publisher_that_lost_its_lease_cannot_overwrite_its_successors_results(write: Callable[..., None]) -> None:
    write("POST", "1")
    slow = lanes.lease(outbox.lanes_with_work(at=timezone.now()), at_most=16, holder="slow")
    assert slow is not None
    (seen_by_slow,) = outbox.batch(slow.fences, at_most=10, at=timezone.now())
    Lane.objects.filter(holder="slow").update(leased_until=timezone.now() - timedelta(seconds=1))
    successor = lanes.lease(outbox.lanes_with_work(at=timezone.now()), at_most=16, holder="successor")
    assert successor is not None
    outbox.record(successor, [(seen_by_slow, Answer(Verdict.ACCEPTED, event_id="theirs"))])

    assert outbox.record(slow, [(seen_by_slow, Answer(Verdict.REFUSED, code="MalformedDetail"))]) == Tally()
    event = OutboxEvent.objects.get()
    assert (event.status, event.eventbridge_id) == (OutboxStatus.DELIVERED, "theirs")
    lanes.release(slow)
    assert Lane.objects.filter(holder="successor").exists()


def test_no_call_begins_when_the_lease_may_end_before_it(
    write: Callable[..., None], event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("POST", "1")
    monkeypatch.setattr(lanes.Lease, "seconds_left", lambda self: 5.0)
    assert publishing.drain(seconds=0.3) == Tally()
    assert event_bridge.calls == []
