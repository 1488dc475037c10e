"""Events over REST: what went out, what came in, and replays."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from blockforger.backend.models import OperationRecord
from eventing import event_lists, replay_requests, replays, tasks
from eventing.models import OutboxEvent, OutboxStatus, Replay
from tenants.models import LedgerEntry, Permission, Tenant
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle, write

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

EVENTS = "/api/mytenant/$events"
OUT, IN, REPLAY = f"{EVENTS}/out", f"{EVENTS}/in", f"{EVENTS}/out/replay"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def tenant() -> Tenant:
    return full("mytenant")


@pytest.fixture
def client(tenant: Tenant) -> APIClient:
    return APIClient(headers={"X-API-Key": a_key(tenant, permissions=[Permission.READ_EVENTS])})


def full(name: str) -> Tenant:
    """A tenant with three events out, of the items 0, 1 and 2, and three in, of which the last was refused."""
    tenant = a_tenant(name)
    a_schema(tenant)
    a_rule(tenant)
    key = a_key(tenant)
    for number in range(3):
        write(tenant, key, "POST", str(number))
    OutboxEvent.objects.filter(tenant=tenant).update(status=OutboxStatus.DELIVERED, delivered_at=timezone.now())
    for number in range(3):
        ask = Ask("PUT", {"id": str(number) if number < 2 else "none", "name": "x"}, name, "petstore", key)
        handle(json.dumps(envelope(ask, event_id=f"{name}-{number}")))
    OutboxEvent.objects.filter(tenant=tenant, operation="PUT").delete()
    return tenant


def keys(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json()
    return [event["key"] for event in answer.json()["events"]]


class TestOut:
    def test_events_are_listed_newest_first_page_by_page(self, client: APIClient) -> None:
        first = client.get(f"{OUT}?limit=2")
        assert keys(first) == ["2", "1"]
        second = client.get(f"{OUT}?limit=2&cursor={first.json()['next']}")
        assert (keys(second), second.json()["next"]) == (["0"], None)

    def test_one_is_shown_with_its_attempts_errors_and_detail(self, client: APIClient) -> None:
        row = OutboxEvent.objects.earliest("pk")
        OutboxEvent.objects.filter(pk=row.pk).update(
            status="dead", attempts=3, error_code="MalformedDetail", error_message="why", failing_since=LONG_AGO
        )
        shown = client.get(f"{OUT}/{row.pk}").json()
        assert shown["detail"]["payload"] == {"id": "0", "name": "x"}
        assert (shown["status"], shown["attempts"], shown["failing_since"]) == ("dead", 3, "2020-01-01T00:00:00+00:00")
        assert shown["error"] == {"code": "MalformedDetail", "message": "why"}
        assert (shown["bus"], shown["resources"]) == (BUS, row.resources)

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("schema=petstore&key=1", ["1"]),
            ("schema=other&key=1", []),
            ("schema=petstore", ["2", "1", "0"]),
            ("schema=other", []),
            ("status=dead", ["0"]),
            ("status=pending", ["1"]),
            ("status=delivered", ["2"]),
            (f"bus={BUS}", ["2", "1", "0"]),
            ("bus=other", []),
            ("rule=999999", []),
            ("since=2020-01-01T00:00:00Z", ["2", "1", "0"]),
            ("since=2999-01-01T00:00:00Z", []),
            ("until=2020-01-01T00:00:00Z", []),
            ("status=delivered&since=2020-01-01T00:00:00%2B01:00&until=2999-01-01T00:00:00Z", ["2"]),
        ],
    )
    def test_filters(self, client: APIClient, query: str, found: list[str]) -> None:
        OutboxEvent.objects.filter(item_key="0").update(status="dead")
        OutboxEvent.objects.filter(item_key="1").update(status="pending")
        assert keys(client.get(f"{OUT}?{query}")) == found

    def test_a_page_looks_at_so_many_events_and_the_next_one_goes_on(
        self, client: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_lists, "LOOK", 2)
        OutboxEvent.objects.filter(item_key="0").update(rule_id=7)
        first = client.get(f"{OUT}?rule=7")
        assert (keys(first), first.json()["next"]) == ([], str(OutboxEvent.objects.get(item_key="1").pk))
        second = client.get(f"{OUT}?rule=7&cursor={first.json()['next']}")
        assert (keys(second), second.json()["next"]) == (["0"], None)

    def test_what_an_index_knows_is_found_however_old_it_is(
        self, client: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_lists, "LOOK", 2)
        oldest = f"{OUT}?schema=petstore&key=0"
        assert (keys(client.get(oldest)), client.get(oldest).json()["next"]) == (["0"], None)
        for status in ("dead", "pending"):
            OutboxEvent.objects.filter(item_key="0").update(status=status)
            for query in (oldest, f"{OUT}?status={status}"):
                assert (keys(client.get(query)), client.get(query).json()["next"]) == (["0"], None)


class TestIn:
    def test_events_are_listed_newest_first_page_by_page(self, client: APIClient) -> None:
        first = client.get(f"{IN}?limit=2")
        assert [event["id"] for event in first.json()["events"]] == ["mytenant-2", "mytenant-1"]
        second = client.get(f"{IN}?limit=2&cursor={first.json()['next']}")
        assert ([event["id"] for event in second.json()["events"]], second.json()["next"]) == (["mytenant-0"], None)

    def test_one_is_shown_with_its_outcome_and_payload(self, client: APIClient) -> None:
        done, refused = (client.get(f"{IN}/mytenant-{number}").json() for number in (0, 2))
        assert (done["status"], done["tokens"], done["problem"]) == (200, 10, None)
        assert done["payload"] == {"id": "0", "name": "x"}
        assert (refused["status"], refused["tokens"]) == (404, 0)
        assert refused["problem"]["code"] == "item-unknown"

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("schema=petstore&key=1", ["1"]),
            ("status=refused", ["none"]),
            ("status=done", ["1", "0"]),
            ("status=404", ["none"]),
            ("status=402", []),
            ("since=2020-01-01T00:00:00Z&until=2999-01-01T00:00:00Z", ["none", "1", "0"]),
            ("since=2999-01-01T00:00:00Z", []),
            ("until=2020-01-01T00:00:00Z", []),
        ],
    )
    def test_filters(self, client: APIClient, query: str, found: list[str]) -> None:
        assert keys(client.get(f"{IN}?{query}")) == found

    def test_a_time_is_found_among_many_without_reading_them(self, client: APIClient, tenant: Tenant) -> None:
        OperationRecord.objects.all().delete()
        begin = timezone.now() - timedelta(days=100)
        OperationRecord.objects.bulk_create(
            OperationRecord(
                origin="event",
                idempotency_key=str(day),
                tenant=tenant,
                operation=uuid.uuid4(),
                item_key=str(day),
                status=200,
                received_at=begin + timedelta(days=day),
                payload="null",
            )
            for day in range(100)
        )
        since, until = (f"{(begin + timedelta(days=day)).isoformat()[:19]}Z" for day in (10, 13))
        assert keys(client.get(f"{IN}?since={since}&until={until}")) == ["12", "11", "10"]

    def test_a_request_with_an_idempotency_key_is_no_event(self, client: APIClient, tenant: Tenant) -> None:
        OperationRecord.objects.filter(idempotency_key="mytenant-0").update(origin="api")
        assert keys(client.get(IN)) == ["none", "1"]
        assert client.get(f"{IN}/mytenant-0").status_code == 404


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        (f"{OUT}?limit=0", "limit"),
        (f"{OUT}?cursor=1", "cursor"),
        (f"{OUT}?key=1", "schema"),
        (f"{OUT}?schema=%00&key=1", "schema"),
        (f"{OUT}?status=lost", "status"),
        (f"{OUT}?rule=x", "rule"),
        (f"{OUT}?since=yesterday", "since"),
        (f"{OUT}?until=2026-01-01", "until"),
        (f"{OUT}?since=0001-01-01T00:00:00Z", "since"),
        (f"{OUT}?item=1", "item"),
        (f"{IN}?cursor=x", "cursor"),
        (f"{IN}?status=lost", "status"),
        (f"{IN}?bus=x", "bus"),
    ],
)
def test_a_bad_parameter_is_named(client: APIClient, path: str, parameter: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)


@pytest.mark.parametrize("path", [f"{OUT}/{uuid.UUID(int=1)}", f"{IN}/nothing", f"{IN}/%00", f"{REPLAY}/1"])
def test_what_is_not_there_is_a_404(client: APIClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "resource-unknown")


class TestReplays:
    def test_a_dry_run_counts_and_does_nothing(self, client: APIClient) -> None:
        OutboxEvent.objects.filter(item_key="0").update(status="dead")
        OutboxEvent.objects.filter(item_key="1").update(status="pending")
        answer = client.post(REPLAY, {"all": True, "dry_run": True}, format="json")
        assert (answer.status_code, answer.json()) == (200, {"delivered": 1, "dead": 1, "pending": 1})
        assert not Replay.objects.exists()

    def test_a_replay_is_recorded_and_the_sweep_carries_it_out(self, client: APIClient, tenant: Tenant) -> None:
        wanted = {"item": {"schema": "petstore", "key": "1"}, "why": "INC-42"}
        answer = client.post(REPLAY, wanted, format="json")
        assert (answer.status_code, answer.json()["events"], answer.json()["finished_at"]) == (202, 0, None)
        assert answer.json()["who"].startswith("API key test (")
        assert client.defaults["HTTP_X_API_KEY"] not in str(answer.json())
        assert not OutboxEvent.objects.filter(status="pending").exists()
        tasks.carry_on_replays()
        assert [event.item_key for event in OutboxEvent.objects.filter(status="pending")] == ["1"]
        shown = client.get(answer["Location"]).json()
        assert (shown["events"], shown["why"]) == (1, "INC-42")
        assert shown["finished_at"]

    def test_a_replay_goes_on_in_slices_and_no_event_goes_twice(
        self, client: APIClient, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.BLOCKFORGER_REPLAYS_PER_SECOND = 1
        monkeypatch.setattr(replay_requests, "SLICE_SECONDS", 0.0)
        client.post(REPLAY, {"all": True, "why": "INC-42"}, format="json")
        monkeypatch.setattr(replays, "pace", lambda _: (1, 0.0))
        monkeypatch.setattr(replay_requests, "SLICE_SECONDS", 0.001)
        replay_requests.carry_on(seconds=20)
        replay = Replay.objects.get()
        assert (replay.events, replay.finished_at is not None, replay.per_second) == (3, True, 1)

    def test_nobody_carries_on_what_another_has_in_hand_until_its_lease_is_over(self, client: APIClient) -> None:
        client.post(REPLAY, {"all": True, "why": "INC-42"}, format="json")
        Replay.objects.update(leased_until=timezone.now() + timedelta(minutes=1))
        replay_requests.carry_on(seconds=1)
        assert Replay.objects.get().events == 0
        Replay.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
        replay_requests.carry_on(seconds=1)
        assert Replay.objects.get().events == 3

    def test_what_a_command_began_is_left_to_it(self, tenant: Tenant) -> None:
        replays.begin(replays.Selection(tenant, status=OutboxStatus.DELIVERED), who="me", why="x")
        replay_requests.carry_on(seconds=1)
        assert Replay.objects.get().events == 0

    def test_to_ask_again_while_it_goes_on_begins_no_other(self, client: APIClient) -> None:
        wanted = {"status": "delivered", "why": "INC-42"}
        first, second = (client.post(REPLAY, wanted, format="json").json()["replay"] for _ in range(2))
        assert first == second
        replay_requests.carry_on(seconds=1)
        assert client.post(REPLAY, wanted, format="json").json()["replay"] != first

    @pytest.mark.parametrize(
        ("body", "pointers"),
        [
            ([], [""]),
            ({"why": "x"}, [""]),
            ({"why": "x", "all": False}, [""]),
            ({"all": True}, ["/why"]),
            ({"all": True, "why": " "}, ["/why"]),
            ({"all": 1, "why": 1, "dry_run": "yes"}, ["/all", "/why", "/dry_run"]),
            ({"why": "x", "ids": []}, ["/ids"]),
            ({"why": "x", "ids": ["x"]}, ["/ids"]),
            ({"why": "x", "ids": [str(uuid.uuid4()), 1]}, ["/ids"]),
            ({"why": "x", "item": {"schema": "petstore"}}, ["/item"]),
            ({"why": "x", "item": {"schema": "petstore", "key": "1", "x": 1}}, ["/item"]),
            ({"why": "x", "rule": True, "bus": "", "status": "pending"}, ["/rule", "/bus", "/status"]),
            ({"why": "x", "since": "2026-01-01", "until": 5}, ["/since", "/until"]),
            ({"why": "x", "all": True, "tenant": "other", "a/b": 1}, ["/tenant", "/a~1b"]),
        ],
    )
    def test_a_slip_replays_nothing(self, client: APIClient, body: Any, pointers: list[str]) -> None:
        answer = client.post(REPLAY, body, format="json")
        assert answer.status_code == 400
        assert [error["pointer"] for error in answer.json()["errors"]] == pointers
        assert not Replay.objects.exists()


def test_only_the_permission_opens_it(tenant: Tenant) -> None:
    others = [permission for permission in Permission if permission != Permission.READ_EVENTS]
    client = APIClient(headers={"X-API-Key": a_key(tenant, permissions=others)})
    event = OutboxEvent.objects.earliest("pk")
    for path in (OUT, IN, f"{OUT}/{event.pk}", f"{IN}/mytenant-0", f"{REPLAY}/1"):
        assert client.get(path).json()["permission"] == "read_events"
    assert client.post(REPLAY, {"all": True, "why": "x"}, format="json").status_code == 403
    assert not Replay.objects.exists()


def test_another_tenants_events_are_out_of_reach(client: APIClient) -> None:
    other = full("other")
    theirs = OutboxEvent.objects.filter(tenant=other).earliest("pk")
    replay = Replay.objects.create(tenant=other, who="x", why="x", selection={})
    for path in (f"{OUT}/{theirs.pk}", f"{IN}/other-0", f"{REPLAY}/{replay.pk}"):
        assert client.get(path).json()["code"] == "resource-unknown"
        assert client.get(path.replace("mytenant", "other")).json()["code"] == "api-key-invalid"
    assert keys(client.get(f"{OUT}?rule={theirs.rule_id}")) == []
    assert keys(client.get(f"{OUT}?cursor={uuid.UUID(int=2**128 - 1)}")) == ["2", "1", "0"]
    assert len(keys(client.get(IN))) == 3
    client.post(REPLAY, {"ids": [str(theirs.pk)], "why": "x"}, format="json")
    replay_requests.carry_on(seconds=1)
    assert not OutboxEvent.objects.filter(tenant=other, status="pending").exists()


def test_it_costs_no_tokens_and_few_statements(client: APIClient) -> None:
    debits = LedgerEntry.objects.filter(kind="debit").count()
    client.get(OUT)
    event = OutboxEvent.objects.earliest("pk")
    for path, count in [(OUT, 3), (IN, 3), (f"{OUT}/{event.pk}", 2), (f"{IN}/mytenant-0", 2)]:
        with CaptureQueriesContext(connection) as queries:
            client.get(path)
        assert len(queries) == count, path
    assert LedgerEntry.objects.filter(kind="debit").count() == debits


@pytest.mark.parametrize("query", ["status=dead&status=delivered", "limit=1&cursor=&limit=1"])
@pytest.mark.parametrize("url", [OUT, IN])
def test_a_parameter_that_is_repeated_is_refused(client: APIClient, url: str, query: str) -> None:
    answer = client.get(f"{url}?{query}")
    name = query.partition("=")[0]
    assert (answer.status_code, answer.json()["code"], answer.json()["parameter"]) == (400, "malformed", name)
    assert answer.json()["detail"] == f"The parameter '{name}' stands there more than once. Send it once."
