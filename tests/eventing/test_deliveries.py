"""The outbox and the inbox in the admin: what is found, page by page, and what is told of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from blockforger.backend.models import OperationRecord
from eventing import delivery_words, event_sources
from eventing.models import EventBus, OutboxEvent, OutboxStatus
from tenants import keyset
from tenants.models import Membership, Tenant
from tests.admin_pages import listed, text_of, url_of
from tests.backend.test_admin import a_record
from tests.cast import BUS, a_tenant
from tests.eventing.test_admin import an_event

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

OUTBOX, INBOX = url_of(OutboxEvent, "changelist"), url_of(OperationRecord, "changelist")
DEAD, DELIVERED, PENDING = OutboxStatus.DEAD, OutboxStatus.DELIVERED, OutboxStatus.PENDING


@pytest.fixture
def tenant() -> Tenant:
    return a_tenant()


def a_member(tenant: Tenant, role: str) -> Client:
    user, _ = User.objects.get_or_create(username=f"the {role}", is_staff=True)
    Membership.objects.create(tenant=tenant, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def a_delivered(tenant: Tenant, **fields: Any) -> OutboxEvent:
    return an_event(tenant, **{"status": DELIVERED, "delivered_at": timezone.now(), "attempts": 1, **fields})


def cl_of(client: Client, query: str) -> Any:
    response: Any = client.get(OUTBOX + query)
    assert response.status_code == 200
    return response.context["cl"]


class TestOutbox:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({}, "dcba"),
            ({"status": "dead"}, "b"),
            ({"status": "pending"}, "da"),
            ({"status": "delivered"}, "c"),
            ({"status__exact": "dead"}, "b"),
            ({"schema": "orders"}, "c"),
            ({"schema": "petstore", "key": "2"}, "b"),
            ({"schema": "petstore", "key": "2", "status": "pending"}, ""),
            ({"schema": "petstore", "key": "1"}, "da"),
            ({"schema": "petstore", "key": "1", "rule": "7"}, "d"),
            ({"rule": "7"}, "d"),
            ({"since": "2026-01-02T00:00:00"}, "dcb"),
            ({"since": "2026-01-02T00:00", "until": "2026-01-03T00:00:00+00:00"}, "b"),
            ({"q": "1"}, "dca"),
            ({"q": "nothing"}, ""),
        ],
    )
    @pytest.mark.parametrize("chosen", [True, False])
    def test_filters(
        self, admin_client: Client, tenant: Tenant, query: dict[str, str], found: str, chosen: bool
    ) -> None:
        rows = {
            "a": _on_day(tenant, 1, item_key="1"),
            "b": _on_day(tenant, 2, item_key="2", status=DEAD),
            "c": _on_day(tenant, 3, item_key="1", schema_name="orders", status=DELIVERED),
            "d": _on_day(tenant, 4, item_key="1", rule_id=7, next_attempt_at=timezone.now()),
        }
        query = {**query, **({"tenant": tenant.name} if chosen else {})}
        assert listed(admin_client, OutboxEvent, **query) == [rows[name] for name in found]

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("?key=1", "The parameter 'key' names an item together with 'schema'."),
            ("?status=lost", "The parameter 'status' must be one of pending, delivered, dead."),
            ("?rule=x", "The parameter 'rule' must be the id of a rule."),
            ("?since=yesterday", "The parameter 'since' is no time."),
        ],
    )
    def test_a_filter_that_says_nonsense_is_told(
        self, admin_client: Client, tenant: Tenant, query: str, said: str
    ) -> None:
        an_event(tenant)
        response: Any = admin_client.get(OUTBOX + query)
        assert said in text_of(response)
        assert response.context["cl"].result_list == []

    def test_an_event_is_found_by_its_id_and_by_the_resource_that_names_it(
        self, admin_client: Client, tenant: Tenant
    ) -> None:
        wanted, _ = an_event(tenant), an_event(tenant)
        for term in (str(wanted.pk), wanted.resources[1]):
            assert listed(admin_client, OutboxEvent, q=term) == [wanted]

    @pytest.mark.parametrize("query", ["?", "?schema=petstore&key=123", "?status=delivered", "?tenant=mytenant"])
    def test_pages_show_each_event_once_while_events_are_added(
        self, admin_client: Client, tenant: Tenant, query: str
    ) -> None:
        before = [a_delivered(tenant) for _ in range(120)][::-1]
        seen: list[OutboxEvent] = []
        page = query
        while page:
            cl = cl_of(admin_client, page)
            seen += cl.result_list
            a_delivered(tenant)
            page = cl.older_link
        assert seen == before

    def test_a_member_of_several_tenants_pages_through_all_of_them(self, tenant: Tenant) -> None:
        other, strange = a_tenant("other"), a_tenant("strange")
        client = a_member(tenant, "viewer")
        Membership.objects.create(tenant=other, user=User.objects.get(), role="admin")
        before = [a_delivered((tenant, other, strange)[number % 3]) for number in range(180)][::-1]
        seen: list[OutboxEvent] = []
        page = "?"
        while page:
            cl = cl_of(client, page)
            seen += cl.result_list
            page = cl.older_link
        assert seen == [event for event in before if event.tenant != strange]
        assert {event.tenant for event in cl_of(client, "?tenant=other").result_list} == {other}

    def test_what_is_far_back_is_found_by_going_on(
        self, admin_client: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keyset.page, "__kwdefaults__", {**(keyset.page.__kwdefaults__ or {}), "look": 3})
        wanted = a_delivered(tenant, rule_id=7)
        for _ in range(5):
            a_delivered(tenant)
        cl = cl_of(admin_client, "?rule=7")
        assert cl.result_list == []
        assert cl.sizes.startswith("Nothing among the 10,000 outbox events looked at")
        assert cl_of(admin_client, cl.older_link).result_list == [wanted]

    @pytest.mark.parametrize("few", [True, False])
    def test_what_waits_is_found_whether_it_is_little_or_much(
        self, admin_client: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, few: bool
    ) -> None:
        monkeypatch.setattr(event_sources, "_WAITING_AT_MOST", 10 if few else 1)
        waiting = [an_event(tenant), an_event(tenant, next_attempt_at=timezone.now()), an_event(tenant)][::-1]
        a_delivered(tenant)
        an_event(a_tenant("other"))
        assert listed(admin_client, OutboxEvent, tenant="mytenant", status="pending") == waiting
        both = listed(admin_client, OutboxEvent, tenant="mytenant", schema="petstore", key="123")
        assert set(waiting) < set(both)

    def test_a_list_costs_as_many_queries_for_fifty_events_as_for_one(
        self, admin_client: Client, tenant: Tenant
    ) -> None:
        counts = []
        for number in (1, 49):
            for _ in range(number):
                a_delivered(tenant)
            with CaptureQueriesContext(connection) as queries:
                cl_of(admin_client, "?")
            counts.append(len(queries))
            assert not [query["sql"] for query in queries if "COUNT(" in query["sql"]]
        assert counts[0] == counts[1]

    def test_the_latency_and_the_error_are_shown(self, admin_client: Client, tenant: Tenant) -> None:
        now = timezone.now()
        a_delivered(tenant, time=now, delivered_at=now + timedelta(milliseconds=80))
        an_event(tenant, status=DEAD, error_code="MalformedDetail", error_message="x" * 100)
        text = text_of(admin_client.get(OUTBOX))
        assert "80 ms" in text
        assert f"MalformedDetail: {'x' * 43}…" in text


class TestStory:
    def test_of_what_waits_for_a_paused_bus(self, admin_client: Client, tenant: Tenant) -> None:
        until = timezone.now() + timedelta(hours=1)
        EventBus.objects.create(arn=BUS, paused_until=until, pause_reason="AccessDenied: no")
        event = an_event(tenant)
        text = text_of(admin_client.get(url_of(OutboxEvent, "change", event.pk)))
        assert f"Its bus is paused until {until:%Y-%m-%d %H:%M:%S} UTC, then tried again. AccessDenied: no" in text

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({}, ["Its turn is next in its queue."]),
            (
                {"attempts": 2, "error_code": "ThrottlingException", "error_message": "Rate exceeded"},
                ["Tried in vain: 2 attempts. The last answer: ThrottlingException: Rate exceeded"],
            ),
            (
                {
                    "failing_since": datetime(2026, 1, 1, tzinfo=UTC),
                    "next_attempt_at": datetime(2026, 1, 2, tzinfo=UTC),
                },
                [
                    "Next attempt at about 2026-01-02 00:00:00 UTC.",
                    "If nothing changes, it is given up at 2026-01-02 00:00:00 UTC.",
                ],
            ),
            (
                {"status": DEAD, "attempts": 1, "error_code": "MalformedDetail"},
                ["Given up after 1 attempt.", "The last answer: MalformedDetail", "EventBridge will never take it"],
            ),
            ({"status": DEAD, "error_code": "AccessDenied"}, ["Have the bus's policy allow it, then send"]),
            ({"status": DEAD, "error_code": "InternalFailure"}, ["That may be over: send the event once more."]),
            (
                {
                    "status": DELIVERED,
                    "attempts": 3,
                    "time": datetime(2026, 1, 1, tzinfo=UTC),
                    "delivered_at": datetime(2026, 1, 1, 0, 2, 5, tzinfo=UTC),
                },
                ["Accepted by EventBridge at 2026-01-01 00:02:05 UTC, 2 min 5 s after the write, at attempt 3."],
            ),
        ],
    )
    def test_it_says_what_became_of_the_event_and_what_to_do(
        self, tenant: Tenant, fields: dict[str, Any], said: list[str]
    ) -> None:
        told = " ".join(delivery_words.story(an_event(tenant, **fields)))
        for sentence in said:
            assert sentence in told

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(-1, "0 ms"), (0.25, "250 ms"), (3.26, "3.3 s"), (3700, "1 h 1 min"), (260_000, "3 days")],
    )
    def test_durations(self, seconds: float, text: str) -> None:
        assert delivery_words.duration(timedelta(seconds=seconds)) == text


class TestInbox:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({}, "cba"),
            ({"status": "refused"}, "b"),
            ({"status": "404"}, "b"),
            ({"status": "done"}, "ca"),
            ({"origin": "api"}, "c"),
            ({"schema": "orders"}, "c"),
            ({"schema": "petstore", "key": "2"}, "b"),
            ({"schema": "petstore", "key": "2", "status": "done"}, ""),
            ({"since": "2026-01-02T00:00:00"}, "cb"),
            ({"since": "2026-01-02T00:00", "until": "2026-01-03T00:00"}, "b"),
            ({"until": "2026-01-01T00:00"}, ""),
        ],
    )
    @pytest.mark.parametrize("chosen", [True, False])
    def test_filters(
        self, admin_client: Client, tenant: Tenant, query: dict[str, str], found: str, chosen: bool
    ) -> None:
        def at(day: int) -> datetime:
            return datetime(2026, 1, day, 12, tzinfo=UTC)

        rows = {
            "a": a_record(tenant, received_at=at(1), schema_name="petstore", item_key="1"),
            "b": a_record(tenant, received_at=at(2), schema_name="petstore", item_key="2", status=404),
            "c": a_record(tenant, received_at=at(3), schema_name="orders", item_key="1", origin="api"),
        }
        query = {**query, **({"tenant": tenant.name} if chosen else {})}
        assert listed(admin_client, OperationRecord, **query) == [rows[name] for name in found]

    def test_a_status_that_is_none_is_told(self, admin_client: Client, tenant: Tenant) -> None:
        text = text_of(admin_client.get(f"{INBOX}?status=lost"))
        assert "The parameter 'status' must be done, refused, or an HTTP status." in text

    def test_why_it_was_refused_is_in_the_list(self, admin_client: Client, tenant: Tenant) -> None:
        a_record(tenant, status=404, problem={"code": "item-unknown", "detail": "There is no item."})
        assert "item-unknown: There is no item." in text_of(admin_client.get(INBOX))

    def test_pages_show_each_record_once(self, admin_client: Client, tenant: Tenant) -> None:
        before = [a_record(tenant) for _ in range(60)][::-1]
        first: Any = admin_client.get(INBOX).context["cl"]
        a_record(tenant)
        second: Any = admin_client.get(INBOX + first.older_link).context["cl"]
        assert [*first.result_list, *second.result_list] == before


def _on_day(tenant: Tenant, day: int, **fields: Any) -> OutboxEvent:
    """An event of a write on that day of January, with such an id as it had got then."""
    at = datetime(2026, 1, day, 12, tzinfo=UTC)
    pk = UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | day)
    return an_event(tenant, id=pk, time=at, **fields)
