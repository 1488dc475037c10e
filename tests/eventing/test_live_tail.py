"""The stream of events as they pass: what it tells, to whom, and when it ends. It is stepped, and never waits."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from blockforger.backend.models import OperationRecord
from eventing import live_tail
from eventing.live_tail import Filter, Watch
from eventing.models import OutboxEvent, OutboxStatus
from tenants.models import ApiKey, Membership, Role, Tenant
from tests.admin_pages import text_of
from tests.cast import a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle, write
from tests.eventing.test_dashboards import came_in, sent
from tests.tenants.test_members import a_member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

STREAM = "/admin/live/mytenant/events/"


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return tenant


@pytest.fixture
def key(tenant: Tenant) -> str:
    return a_key(tenant)


@pytest.fixture(autouse=True)
def _rests_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_tail, "rest", lambda: None)


@pytest.fixture(autouse=True)
def _nobody_else_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of other tests that nobody has closed keep their places until they are collected as garbage."""
    monkeypatch.setattr(live_tail, "_watching", threading.BoundedSemaphore(10))


def told(text: str) -> list[dict[str, str]]:
    """The events that a part of a stream tells of."""
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n") if block]
    return [json.loads(block["data"]) for block in blocks if "data" in block and "event" not in block]


def looks(response: Any) -> Iterator[str]:
    """The stream, look by look."""
    parts = (part.decode() for part in response.streaming_content)
    assert next(parts) == "retry: 1000\n\n"
    return parts


def a_watch(tenant: Tenant, **chosen: str) -> Watch:
    return Watch(tenant, Filter(**chosen), timezone.now() - timedelta(minutes=10))


class TestWhatIsTold:
    def test_an_event_is_told_once_and_again_when_it_has_arrived(self, tenant: Tenant, key: str) -> None:
        stream = looks(a_member(tenant, Role.VIEWER).get(STREAM))
        assert told(next(stream)) == []
        write(tenant, key, "POST", "1")
        [event] = told(next(stream))
        assert (event["direction"], event["operation"], event["schema"], event["key"]) == (
            "out",
            "POST",
            "petstore",
            "1",
        )
        assert (event["outcome"], event["note"]) == ("pending", "default")
        assert told(next(stream)) == []
        OutboxEvent.objects.update(status=OutboxStatus.DELIVERED, delivered_at=timezone.now())
        [again] = told(next(stream))
        assert again == {**event, "outcome": "delivered"}
        assert told(next(stream)) == []

    def test_what_came_in_is_told_with_what_became_of_it(self, tenant: Tenant, key: str) -> None:
        tenant.output_rules.all().delete()
        stream = looks(a_member(tenant, Role.VIEWER).get(STREAM))
        for payload in ({"id": "1", "name": "x"}, {"id": "1"}):
            handle(json.dumps(envelope(Ask("POST", payload, api_key=key))))
        events = told(next(stream))
        assert [(event["direction"], event["outcome"], event["note"]) for event in events] == [
            ("in", "done", "201"),
            ("in", "refused", "400 payload-invalid"),
        ]

    def test_no_key_is_told(self, tenant: Tenant, key: str) -> None:
        write(tenant, key, "POST", "1")
        handle(json.dumps(envelope(Ask("PUT", {"id": "1", "name": "y"}, api_key=key))))
        part = next(looks(a_member(tenant, Role.VIEWER).get(STREAM)))
        assert len(told(part)) == 3
        assert ApiKey.objects.get().prefix not in part

    def test_nothing_of_another_tenant_is_told(self, tenant: Tenant) -> None:
        other = a_tenant("other")
        sent(other, timezone.now())
        came_in(other, timezone.now())
        assert told(next(looks(a_member(tenant, Role.VIEWER).get(STREAM)))) == []

    def test_a_filter_chooses_by_schema_operation_and_outcome(self, tenant: Tenant) -> None:
        now = timezone.now()
        sent(tenant, now, schema_name="orders", operation="PUT")
        sent(tenant, now, schema_name="petstore", operation="DELETE", status=OutboxStatus.DEAD)
        came_in(tenant, now, status=404)
        for query, expected in (
            ("?schema=orders", ["PUT"]),
            ("?operation=DELETE", ["DELETE"]),
            ("?outcome=dead", ["DELETE"]),
            ("?outcome=refused", [""]),
            ("?schema=orders&operation=DELETE", []),
            ("?schema=&operation=&outcome=", ["", "DELETE", "PUT"]),
        ):
            username = f"for {query}"
            stream = looks(a_member(tenant, Role.VIEWER, username).get(STREAM + query))
            assert sorted(event["operation"] for event in told(next(stream))) == expected

    def test_what_no_longer_passes_the_filter_is_told_a_last_time(self, tenant: Tenant) -> None:
        sent(tenant, timezone.now())
        watch = a_watch(tenant, outcome="pending")
        assert len(watch.look(timezone.now())) == 1
        OutboxEvent.objects.update(status=OutboxStatus.DELIVERED)
        assert [event.outcome for event in watch.look(timezone.now())] == ["delivered"]

    def test_a_write_that_was_committed_late_is_told_all_the_same(self, tenant: Tenant) -> None:
        watch = a_watch(tenant)
        now = timezone.now()
        sent(tenant, now)
        assert len(watch.look(now)) == 1
        sent(tenant, now - timedelta(seconds=20))
        assert len(watch.look(now + timedelta(seconds=1))) == 1

    def test_of_a_flood_the_newest_are_told(self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_tail, "_SEND", 2)
        now = timezone.now()
        for number in range(5):
            sent(tenant, now - timedelta(seconds=5 - number), item_key=str(number))
        assert [event.key for event in a_watch(tenant).look(now)] == ["3", "4"]

    def test_a_browser_that_comes_back_is_told_what_it_missed(self, tenant: Tenant) -> None:
        now = timezone.now()
        for minutes in (5, 2):
            sent(tenant, now - timedelta(minutes=minutes), item_key=str(minutes))
        client = a_member(tenant, Role.VIEWER)
        for seen, expected in (
            (None, ["5", "2"]),
            ((now - timedelta(minutes=3)).isoformat(), ["2"]),
            ((now - timedelta(days=3)).isoformat(), ["5", "2"]),
            ("nonsense", ["5", "2"]),
        ):
            headers = {"Last-Event-ID": seen} if seen else {}
            stream = looks(client.get(STREAM, headers=headers))
            assert [event["key"] for event in told(next(stream))] == expected
            stream.close()  # type: ignore[attr-defined]


class TestWhoMayWatch:
    def test_access_that_is_taken_away_ends_the_stream(self, tenant: Tenant) -> None:
        ways: list[Callable[[], object]] = [
            Membership.objects.all().delete,
            Session.objects.all().delete,
            partial(Session.objects.update, expire_date=timezone.now()),
            partial(User.objects.update, is_active=False),
            partial(User.objects.update, is_staff=False),
            partial(User.objects.update, password="another"),
        ]
        for number, take_away in enumerate(ways):
            stream = looks(a_member(tenant, Role.VIEWER, f"member {number}").get(STREAM))
            assert len(told(next(stream))) == number
            take_away()
            sent(tenant, timezone.now())
            assert list(stream) == ["event: ended\ndata: {}\n\n"], number

    def test_a_second_factor_that_is_demanded_meanwhile_ends_it_too(self, tenant: Tenant, settings: Any) -> None:
        stream = looks(a_member(tenant, Role.VIEWER).get(STREAM))
        next(stream)
        settings.BLOCKFORGER_REQUIRE_TWO_FACTOR = True
        assert "ended" in next(stream)

    def test_it_is_never_kept(self, tenant: Tenant) -> None:
        response = a_member(tenant, Role.VIEWER).get(STREAM)
        assert response["Content-Type"] == "text/event-stream"
        assert "no-store" in response["Cache-Control"]
        assert "Content-Security-Policy" in response


class TestItsBounds:
    def test_it_ends_so_that_the_browser_comes_back(self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_tail, "LOOKS", 3)
        assert len(list(looks(a_member(tenant, Role.VIEWER).get(STREAM)))) == 3

    def test_only_so_many_may_watch_and_the_next_one_when_one_has_gone(
        self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live_tail, "_watching", threading.BoundedSemaphore(1))
        client = a_member(tenant, Role.VIEWER)
        response: Any = client.get(STREAM)
        stream = looks(response)
        next(stream)
        assert b"event: full" in b"".join(client.get(STREAM).streaming_content)  # type: ignore[attr-defined]
        response._iterator.close()
        next(looks(client.get(STREAM)))

    def test_a_look_costs_the_same_however_much_there_is(self, tenant: Tenant) -> None:
        stream = looks(a_member(tenant, Role.VIEWER).get(STREAM))
        next(stream)
        for _ in range(20):
            sent(tenant, timezone.now())
            came_in(tenant, timezone.now())
        with CaptureQueriesContext(connection) as captured:
            assert len(told(next(stream))) == 40
        # Session, user, second factor and membership; events out and in.
        assert len(captured) == 6

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="Plans are PostgreSQL's")
    def test_it_reads_no_history(self, tenant: Tenant) -> None:
        since = timezone.now()
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
        with CaptureQueriesContext(connection) as captured:
            live_tail.newest(tenant, since)
        with connection.cursor() as cursor:
            plans = []
            for query in captured:
                cursor.execute(f"EXPLAIN {query['sql']}")
                plans.append(str(cursor.fetchall()))
        assert "outbox_of_a_tenant" in plans[0]
        assert "records_by_age" in plans[1]


def test_the_page_offers_what_there_is_to_choose(tenant: Tenant) -> None:
    a_schema(a_tenant("other"), "hidden")
    text = text_of(a_member(tenant, Role.VIEWER).get("/admin/live/mytenant/?schema=petstore&outcome=dead"))
    assert "<option selected>petstore</option>" in text
    assert "<option selected>dead</option>" in text
    assert "hidden</option>" not in text
    assert OperationRecord.objects.count() == 0
