"""What a replay sends, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from eventing import lanes, outbox, publishing
from eventing.models import OutboxEvent, OutboxStatus
from eventing.outbox import Tally
from eventing.replays import Selection
from tests.eventing.event_bridge import EventBridge, event_bridge
from tests.eventing.replaying import (
    bury,
    delays_are_long,
    failing,
    named,
    replay,
    sent_names,
    tenant,
    write,
)

if TYPE_CHECKING:
    from tenants.models import Tenant

__all__ = ["delays_are_long", "event_bridge", "tenant"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged", "delays_are_long")]


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
