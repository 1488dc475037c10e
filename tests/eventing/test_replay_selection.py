"""Which events a replay is of, whose they are, and what is told of it."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import IntegrityError
from django.db.models import RestrictedError
from django.utils import timezone

from eventing import publishing, replays
from eventing.models import OutboxEvent, OutboxStatus, Replay
from eventing.replays import Counts, Scope, Selection
from tenants.models import Tenant
from tests.cast import BUS, a_rule
from tests.eventing.event_bridge import EventBridge, event_bridge
from tests.eventing.replaying import (
    FAST,
    OTHER_BUS,
    bury,
    delays_are_long,
    named,
    other,
    replay,
    tenant,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["delays_are_long", "event_bridge", "other", "tenant"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged", "delays_are_long")]


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
