"""What a tenant's dashboard shows, to whom, and at what cost."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from blockforger.backend.models import OperationRecord, Origin
from eventing import dashboards, troubles
from eventing.models import EventBus, OutboxEvent, OutboxStatus, Replay
from eventing.replays import first_id_of
from tenants.models import EntryKind, LedgerEntry, Membership, Role, Tenant, TokenAccount
from tests.admin_pages import text_of
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle, write
from tests.eventing.test_admin import an_event
from tests.tenants.test_members import a_member

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

NOW = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)
DEAD, DELIVERED, PENDING = OutboxStatus.DEAD, OutboxStatus.DELIVERED, OutboxStatus.PENDING


def sent(tenant: Tenant, at: datetime, **fields: Any) -> OutboxEvent:
    """An event of a write at that time."""
    pk = UUID(int=first_id_of(at).int | (7 << 76) | (2 << 62) | (uuid4().int & (2**62 - 1)))
    number = OutboxEvent.objects.count() + 1
    return an_event(tenant, **{"id": pk, "time": at, "sequence": number, **fields})


def came_in(tenant: Tenant, at: datetime, status: int = 201, origin: str = Origin.EVENT) -> OperationRecord:
    return OperationRecord.objects.create(
        tenant=tenant,
        origin=origin,
        idempotency_key=str(uuid4()),
        operation=uuid4(),
        request_hash="0" * 64,
        status=status,
        received_at=at,
    )


def booked(tenant: Tenant, amount: int, at: datetime) -> None:
    """A debit or top-up at that time."""
    account, _ = TokenAccount.objects.get_or_create(tenant=tenant)
    account.balance += amount
    account.save()
    LedgerEntry.objects.create(
        account=account,
        kind=EntryKind.TOP_UP if amount > 0 else EntryKind.DEBIT,
        amount=amount,
        balance_after=account.balance,
        reference=str(at),
        created_at=at,
    )


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_rule(tenant)
    return tenant


class TestHours:
    def test_each_hour_of_the_day_has_what_passed_in_it(self, tenant: Tenant) -> None:
        other = a_tenant("other")
        for at in (NOW - timedelta(hours=24), NOW - timedelta(hours=2), NOW - timedelta(minutes=20), NOW):
            sent(tenant, at)
            sent(other, at)
            came_in(tenant, at)
            came_in(other, at)
        came_in(tenant, NOW, 404)
        came_in(tenant, NOW, origin=Origin.API)
        hours = dashboards.of(tenant, at=NOW).hours
        assert [hour.begin.hour for hour in (hours[0], hours[-1])] == [13, 12]
        assert [(hour.out, hour.received, hour.refused) for hour in hours[-3:]] == [(1, 1, 0), (0, 0, 0), (2, 3, 1)]
        assert sum(hour.out for hour in hours) == 3

    def test_events_have_died_in_the_hour_in_which_they_were_given_up(self, tenant: Tenant) -> None:
        sent(tenant, NOW - timedelta(hours=30), status=DEAD, next_attempt_at=NOW - timedelta(hours=6))
        sent(tenant, NOW - timedelta(days=40), status=DEAD, next_attempt_at=NOW - timedelta(days=39))
        figures = dashboards.of(tenant, at=NOW)
        assert [hour.begin.hour for hour in figures.hours if hour.dead] == [6]
        assert figures.dead == 2

    def test_they_are_counted_only_so_far(self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dashboards, "MOST", 3)
        for _ in range(5):
            sent(tenant, NOW, status=DEAD, next_attempt_at=NOW)
            came_in(tenant, NOW)
        figures = dashboards.of(tenant, at=NOW)
        assert (figures.hours[-1].out, figures.hours[-1].received, figures.dead) == (3, 3, 3)


class TestTimesToBus:
    def test_are_those_of_the_newest_that_arrived(self, tenant: Tenant) -> None:
        for number in range(1, 21):
            at = NOW - timedelta(seconds=number)
            sent(tenant, at, status=DELIVERED, delivered_at=at + timedelta(milliseconds=100 * number))
        sent(tenant, NOW)
        times = dashboards.of(tenant, at=NOW).times
        assert times
        assert (times.p50, times.p95, times.of) == (1.0, 2.0, 20)

    def test_a_replay_says_nothing_of_them(self, tenant: Tenant) -> None:
        replay = Replay.objects.create(tenant=tenant, who="ada", why="because", selection={})
        sent(tenant, NOW - timedelta(hours=3), status=DELIVERED, delivered_at=NOW, replay=replay)
        assert dashboards.of(tenant, at=NOW).times is None


class TestTheQueue:
    def test_has_what_waits_and_since_when(self, tenant: Tenant) -> None:
        EventBus.objects.create(arn=BUS, paused_until=NOW + timedelta(minutes=1), pause_reason="It is gone.")
        sent(tenant, NOW - timedelta(minutes=3), lane=7)
        sent(tenant, NOW - timedelta(minutes=1), lane=9)
        sent(tenant, NOW - timedelta(minutes=9), status=DELIVERED)
        sent(a_tenant("other"), NOW - timedelta(minutes=30))
        queue = dashboards.of(tenant, at=NOW).queue
        assert (queue.depth, queue.retried, queue.oldest) == (2, 0, NOW - timedelta(minutes=3))
        assert [bus.pause_reason for bus in queue.paused] == ["It is gone."]
        sent(tenant, NOW - timedelta(minutes=5), next_attempt_at=NOW)
        queue = dashboards.of(tenant, at=NOW).queue
        assert (queue.depth, queue.retried, queue.oldest) == (3, 1, NOW - timedelta(minutes=5))

    def test_has_feedback_and_what_is_for_buses_that_no_rule_names_any_more(self, tenant: Tenant) -> None:
        tenant.output_rules.all().delete()
        fields: dict[str, Any] = {"sequence": None, "rule_id": None, "bus_arn": f"{BUS}-of-once"}
        sent(tenant, NOW - timedelta(minutes=3), **fields)
        queue = dashboards.of(tenant, at=NOW).queue
        assert (queue.depth, queue.oldest) == (1, NOW - timedelta(minutes=3))

    def test_what_is_replayed_has_not_waited_since_it_was_written(self, tenant: Tenant) -> None:
        replay = Replay.objects.create(tenant=tenant, who="ada", why="because", selection={})
        sent(tenant, NOW - timedelta(hours=3), replay=replay)
        queue = dashboards.of(tenant, at=NOW).queue
        assert (queue.depth, queue.oldest) == (1, None)


class TestTheBalance:
    def test_runs_out_at_the_pace_of_the_last_days(self) -> None:
        tenant = Tenant.objects.create(name="mytenant")
        for days, amount in ((40, 1000), (30, -100), (7, -500), (6, -70), (3, 310), (1, -140)):
            booked(tenant, amount, NOW - timedelta(days=days))
        balance = dashboards.balance_of(tenant, NOW)
        assert (balance.tokens, balance.spent, balance.days) == (500, 710, 7)
        assert balance.runs_out
        assert (balance.runs_out - NOW).days == 4

    def test_of_an_account_that_is_young_runs_out_at_the_pace_of_its_own_time(self) -> None:
        tenant = Tenant.objects.create(name="mytenant")
        for hours, amount in ((24, 1000), (1, -100)):
            booked(tenant, amount, NOW - timedelta(hours=hours))
        assert dashboards.balance_of(tenant, NOW).runs_out == NOW + timedelta(days=9)

    def test_is_not_said_to_run_out_because_something_was_spent_a_moment_ago(self) -> None:
        tenant = Tenant.objects.create(name="mytenant")
        booked(tenant, 110, NOW - timedelta(days=40))
        booked(tenant, -10, NOW - timedelta(minutes=1))
        assert dashboards.balance_of(tenant, NOW).runs_out == NOW + timedelta(days=70)

    def test_lasts_where_nothing_is_spent(self, tenant: Tenant) -> None:
        balance = dashboards.balance_of(tenant, timezone.now())
        assert (balance.tokens, balance.runs_out) == (1000, None)

    def test_is_nothing_where_there_is_no_account(self) -> None:
        balance = dashboards.balance_of(Tenant.objects.create(name="new"), NOW)
        assert (balance.tokens, balance.runs_out) == (0, None)


class TestThePage:
    def test_shows_each_member_the_figures_of_its_tenant(self, tenant: Tenant) -> None:
        a_schema(tenant)
        key = a_key(tenant)
        write(tenant, key, "POST", "1")
        handle(json.dumps(envelope(Ask("PUT", {"id": "none", "name": "x"}, api_key=key))))
        for role in Role.values:
            client = a_member(tenant, role)
            for url in ("/admin/", "/admin/dashboard/mytenant/"):
                text = text_of(client.get(url))
                assert "Events out per hour (UTC), 1 in 24 hours, 0 died." in text
                assert "Events in per hour (UTC), 1 in 24 hours, 1 refused." in text
                assert "1 refused" in text

    def test_says_what_to_do_where_there_is_nothing(self) -> None:
        tenant = a_tenant(tokens=0, accepts_events=False)
        text = text_of(a_member(tenant, Role.VIEWER).get("/admin/"))
        for said in (
            "Nothing went out in the last 24 hours. Write an item that an output rule matches.",
            "They are refused: tick “accepts events” in the configuration.",
            "Requests are refused with 402: have tokens added.",
            "Nothing waits.",
        ):
            assert said in text

    def test_says_when_the_tokens_run_out_and_why_a_bus_gets_nothing(self, tenant: Tenant) -> None:
        a_schema(tenant)
        soon = timezone.now() + timedelta(minutes=1)
        EventBus.objects.create(arn=BUS, paused_until=soon, pause_reason="There is no such bus.")
        write(tenant, a_key(tenant), "POST", "1")
        text = text_of(a_member(tenant, Role.VIEWER).get("/admin/"))
        assert "it runs out on" in text
        assert f"Nothing is sent to {BUS} now." in text
        assert "There is no such bus." in text

    @pytest.mark.parametrize("tokens", [0, 1000])
    def test_leads_to_lists_of_what_it_counts(self, tokens: int, admin_client: Client) -> None:
        a_tenant(tokens=tokens)
        page = text_of(admin_client.get("/admin/dashboard/mytenant/"))
        links = re.findall(r'href="([^"]+)"', page.split('<div class="dashboard">')[1])
        assert len(links) >= 7
        for link in links:
            answer: Any = admin_client.get(link)
            assert answer.status_code == 200, link

    def test_is_for_members_and_operators_alone(self, tenant: Tenant, admin_client: Client) -> None:
        stranger = a_member(a_tenant("other"), Role.OWNER)
        for page in ("dashboard", "live_tail", "live_tail_events"):
            url, nowhere = (reverse(f"admin:{page}", args=[name]) for name in ("mytenant", "nobody"))
            answers = [stranger.get(url), stranger.get(nowhere)]
            assert [answer.status_code for answer in answers] == [403, 403]
            assert text_of(answers[0]) == text_of(answers[1])
            assert Client().get(url).status_code == 302
            assert admin_client.get(url).status_code == 200
            assert admin_client.post(url).status_code == 405

    def test_costs_the_same_however_much_there_is(self, tenant: Tenant) -> None:
        client = a_member(tenant, Role.VIEWER)
        sent(tenant, NOW)
        came_in(tenant, timezone.now())
        counts = []
        for _ in range(2):
            with CaptureQueriesContext(connection) as captured:
                assert client.get("/admin/").status_code == 200
            counts.append(len([query for query in captured if "tenants_ledgerentry" not in query["sql"]]))
            for number in range(30):
                at = timezone.now() - timedelta(hours=number)
                sent(tenant, at, status=DEAD, next_attempt_at=at)
                came_in(tenant, at)
        assert counts == [AT_MOST, AT_MOST]


AT_MOST = 25


class TestTenantsInTrouble:
    def test_an_operator_sees_the_worst_first(self, admin_client: Client) -> None:
        names = ["fine", "late", "retrying", "paused", "dead"]
        tenants = {name: a_tenant(name) for name in names}
        now = timezone.now()
        a_rule(tenants["paused"], eventbridge_arn=f"{BUS}-paused")
        EventBus.objects.create(arn=f"{BUS}-paused", paused_until=now + timedelta(hours=1))
        sent(tenants["fine"], now)
        sent(tenants["late"], now - timedelta(minutes=7))
        sent(tenants["retrying"], now - timedelta(minutes=9), next_attempt_at=now + timedelta(minutes=1))
        for _ in range(2):
            sent(tenants["dead"], now - timedelta(days=2), status=DEAD, next_attempt_at=now)
        found = troubles.of_the_platform(now)
        assert [trouble.tenant.name for trouble in found] == ["dead", "paused", "retrying", "late"]
        assert [(found[0].dead, found[2].retried)] == [(2, 1)]
        text = text_of(admin_client.get("/admin/"))
        assert "Tenants in trouble" in text
        assert f"{BUS}-paused" in text
        assert "7\u00a0min" in text
        assert "/admin/dashboard/fine/" not in text

    def test_an_operator_is_told_when_there_are_none(self, admin_client: Client) -> None:
        assert "No tenant is in trouble" in text_of(admin_client.get("/admin/"))

    def test_a_member_of_several_tenants_sees_them_and_no_other(self) -> None:
        tenants = [a_tenant(name) for name in ("first", "second", "third")]
        client = a_member(tenants[0], Role.VIEWER)
        Membership.objects.create(tenant=tenants[1], user=User.objects.get(), role=Role.OWNER)
        for one in tenants:
            sent(one, NOW, status=DEAD, next_attempt_at=NOW)
        text = text_of(client.get("/admin/"))
        assert "/admin/dashboard/first/" in text
        assert "/admin/dashboard/second/" in text
        assert "third" not in text

    def test_the_staff_without_a_tenant_is_told_whom_to_ask(self) -> None:
        client = Client()
        client.force_login(User.objects.create_user("new", is_staff=True))
        text = text_of(client.get("/admin/"))
        assert "You are no member of a tenant yet" in text
        assert "by your user name, new" in text

    def test_costs_the_same_for_many_tenants(self, admin_client: Client) -> None:
        counts = []
        for round_ in range(2):
            for number in range(1 + 9 * round_):
                one = a_tenant(f"tenant-{round_}-{number}")
                sent(one, NOW, status=DEAD, next_attempt_at=NOW)
            with CaptureQueriesContext(connection) as captured:
                assert admin_client.get("/admin/").status_code == 200
            texts = [query["sql"] for query in captured]
            # SQLite, to which there is no way, walks step by step.
            counts.append(len([text for text in texts if "this.lane" not in text]))
        assert counts[0] == counts[1]
        assert counts[0] <= 12


def plan_of(rows: Any) -> str:
    return str(rows.explain())


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Plans are PostgreSQL's")
@pytest.mark.parametrize(
    ("status", "index"), [(DEAD, "outbox_dead_of_a_tenant"), (PENDING, "outbox_retried_of_a_tenant")]
)
def test_events_in_trouble_are_found_by_their_own_index(tenant: Tenant, status: OutboxStatus, index: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert index in plan_of(dashboards.troubled(tenant, status).order_by("-pk")[:10])


def test_no_account_is_needed_to_look(admin_client: Client) -> None:
    TokenAccount.objects.all().delete()
    Tenant.objects.create(name="new")
    assert admin_client.get("/admin/dashboard/new/").status_code == 200
