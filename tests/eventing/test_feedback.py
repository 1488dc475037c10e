"""Feedback: what the sender of an event is told, on which bus, and what it costs those who did not ask."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import javaproperties
import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from blockforger.backend import operations
from blockforger.backend.models import OperationRecord
from blockforger.backend.problems import problem
from blockforger.backend.signals import EventSettled
from eventing import entries, feedback, lanes, publishing, replays, tenant_export
from eventing.consuming import Disposition
from eventing.models import AllowedBus, FeedbackBus, OutboxEvent, OutboxStatus
from tenants.models import ApiKey, Tenant
from tests.admin_pages import Page, errors_of, saved, url_of
from tests.cast import BUS, FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle, over_rest
from tests.eventing.event_bridge import EventBridge, event_bridge
from tests.eventing.tenant_folders import a_folder
from tests.eventing.test_import_command import import_, refusal_of

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client

__all__ = ["event_bridge"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

RESULTS = "arn:aws:events:eu-central-1:111111111111:event-bus/results"
EVENT_ID = "9f1c2f6e-0000-4000-8000-000000000001"


def wants_feedback(tenant: Tenant, bus: str = RESULTS) -> FeedbackBus:
    return FeedbackBus.objects.create(tenant=tenant, eventbridge_arn=bus)


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    wants_feedback(tenant)
    return tenant


@pytest.fixture
def key(tenant: Tenant) -> str:
    return a_key(tenant)


def send(key: str | None, method: str = "POST", payload: Any = None, **changes: Any) -> Disposition:
    ask = Ask(method, FLUFFY if payload is None else payload, api_key=key)
    event = envelope(ask, event_id=changes.pop("event_id", EVENT_ID))
    event["detail"].update(changes)
    return handle(json.dumps(event))


def details() -> list[dict[str, Any]]:
    return [json.loads(event.detail) for event in OutboxEvent.objects.filter(sequence=None).order_by("pk")]


class TestWhatTheSenderIsTold:
    def test_an_event_that_was_carried_out(self, tenant: Tenant, key: str) -> None:
        assert send(key) is Disposition.CARRIED_OUT
        event = OutboxEvent.objects.get()
        assert (event.tenant, event.bus_arn, event.source) == (tenant, RESULTS, "blockforger-output")
        assert event.detail_type == "petstore.input-result"
        assert event.detail == (
            '{"tenant":"mytenant","rootSchema":"petstore","operation":"POST",'
            f'"event_id":"{EVENT_ID}","status":201,"key":"123"}}'
        )
        assert event.resources == [
            f"urn:blockforger:input:mytenant:{EVENT_ID}",
            f"urn:blockforger:event:{event.id}",
        ]
        assert (event.sequence, event.place, event.rule_id, event.item_key) == (None, 0, None, "")
        assert event.lane == lanes.lane_of(event.stream)

    def test_a_refused_event_with_its_problem(self, key: str) -> None:
        assert send(key, "PUT") is Disposition.REFUSED
        (detail,) = details()
        assert (detail["status"], detail["operation"], detail["event_id"], detail["key"]) == (
            404,
            "PUT",
            EVENT_ID,
            "123",
        )
        assert detail["problem"] == OperationRecord.objects.get().problem

    def test_an_event_that_comes_again_once(self, key: str) -> None:
        send(key)
        assert send(key) is Disposition.REPEATED
        assert len(details()) == 1

    @pytest.mark.parametrize(
        ("changes", "status"),
        [({"accepts_events": False}, 403), ({"account__balance": 9}, 402)],
    )
    def test_a_refusal_that_only_the_tenants_admins_can_mend(
        self, tenant: Tenant, key: str, changes: dict[str, Any], status: int
    ) -> None:
        if "accepts_events" in changes:
            Tenant.objects.update(**changes)
        else:
            type(tenant.account).objects.update(balance=9)
        assert send(key) is Disposition.REFUSED
        assert [detail["status"] for detail in details()] == [status]

    @pytest.mark.parametrize("api_key", [None, "", "bf_000000000000_" + "x" * 43])
    def test_nothing_if_the_sender_has_not_proved_to_be_of_the_tenant(self, tenant: Tenant, api_key: str) -> None:
        assert send(api_key) is Disposition.REFUSED
        assert details() == []

    def test_nothing_if_the_key_lacks_the_permission(self, key: str) -> None:
        ApiKey.objects.update(permissions=[])
        assert send(key) is Disposition.REFUSED
        assert details() == []

    def test_nothing_over_rest(self, key: str) -> None:
        assert over_rest(Ask("POST", FLUFFY, api_key=key)).status == 201
        assert over_rest(Ask("POST", FLUFFY, api_key=key)).status == 409
        assert details() == []

    @pytest.mark.django_db(transaction=True)
    def test_nothing_of_an_event_whose_transaction_fails(self, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(operations, "_carry_out", lambda *_, **__: 1 / 0)
        assert send(key) is Disposition.FAILED
        assert details() == []


class TestWhatTheSenderSendsMustNotMatter:
    @pytest.mark.parametrize(
        ("name", "detail_type"),
        [
            ("orders", "orders.input-result"),
            ("x" * 64, f"{'x' * 64}.input-result"),
            # no schema can have these names
            ("", ".input-result"),
            (None, ".input-result"),
            (7, ".input-result"),
            ("no pe", ".input-result"),
            ("é\0\ud800" * 100, ".input-result"),
            ("x" * 200_000, f"{'x' * 64}.input-result"),
            ("petstore.json", ".input-result"),
        ],
    )
    def test_the_schemas_name(self, key: str, name: object, detail_type: str) -> None:
        assert send(key, rootSchema=name) is Disposition.REFUSED
        event = OutboxEvent.objects.get()
        assert event.detail_type == detail_type
        assert details()[0]["status"] in (400, 404)

    @pytest.mark.parametrize("operation", ["GET", "EAT", "x" * 200_000, "", None, ["POST"], "é\0\ud800"])
    def test_the_operation(self, key: str, operation: object) -> None:
        assert send(key, operation=operation) is Disposition.REFUSED
        assert OutboxEvent.objects.get().operation == ""
        assert details()[0]["problem"]["code"] in ("operation-unknown", "malformed")

    def test_its_key_in_a_wrong_place_does_not_go_out(self, key: str) -> None:
        send(key, rootSchema=key, event_id="1")
        send(key, operation=key, event_id="2")
        send(key, "PUT", {"id": key, "name": "x"}, event_id="3")
        assert len(details()) == 3
        for event in OutboxEvent.objects.all():
            assert key.split("_", 2)[2] not in "".join(map(str, vars(event).values()))

    def test_a_long_problem_is_cut_and_says_so(self, tenant: Tenant, key: str) -> None:
        numbers = {"type": "object", "additionalProperties": {"type": "integer"}, "properties": {"id": {}}}
        a_schema(tenant, "numbers", numbers)
        payload = {"id": "1", **{f"{'é' * 200}{number}": "é" * 5_000 for number in range(50)}}
        assert send(key, payload=payload, rootSchema="numbers") is Disposition.REFUSED
        event = OutboxEvent.objects.get()
        problem = details()[0]["problem"]
        assert problem["code"] == "payload-invalid"
        assert problem["errors"]
        recorded = OperationRecord.objects.values_list("problem", flat=True).get()
        assert recorded
        assert len(problem["errors"]) + problem["errors_left_out"] == len(recorded["errors"])
        assert entries.size_of(event) < 40_000

    def test_the_longest_problem_fits_into_the_smallest_event(self, tenant: Tenant) -> None:
        text = "\x01\ud800é🐾" * 5_000
        document: Any = problem(400, "payload-invalid", text)
        document |= dict.fromkeys(("pointer", "field", "limit"), text)
        document["errors"] = [{"pointer": text, "detail": text}] * 10_000
        settled = EventSettled(tenant, "!" * 128, "x" * 16, "x" * 64, 400, document, "", timezone.now())
        (event,) = feedback.events_of(settled)
        assert entries.size_of(event) < 256 * 1024 - 16_384
        assert json.loads(event.detail)["problem"]["errors_left_out"] > 9_900


class TestWhatItCosts:
    def test_those_who_did_not_ask_pay_no_query(self, tenant: Tenant, key: str) -> None:
        FeedbackBus.objects.get().delete()
        send(key, event_id="first")
        with CaptureQueriesContext(connection) as captured:
            send(key, "PUT", event_id="second")
        assert not [query for query in captured.captured_queries if "feedbackbus" in query["sql"].lower()]
        assert details() == []

    def test_those_who_did_pay_one_row_in_a_statement_of_its_own(self, tenant: Tenant, key: str) -> None:
        send(key, event_id="first")
        with CaptureQueriesContext(connection) as captured:
            send(key, "PUT", event_id="second")
        assert not [query for query in captured.captured_queries if "feedbackbus" in query["sql"].lower()]
        assert len([query for query in captured.captured_queries if "eventing_outboxevent" in query["sql"]]) == 1

    def test_a_change_of_the_bus_holds_from_the_next_event_on(self, tenant: Tenant, key: str) -> None:
        send(key, event_id="1")
        row = FeedbackBus.objects.get()
        row.eventbridge_arn = BUS
        row.save()
        send(key, event_id="2")
        row.delete()
        send(key, event_id="3")
        assert list(OutboxEvent.objects.order_by("pk").values_list("bus_arn", flat=True)) == [RESULTS, BUS]


class TestHowItIsSent:
    def test_it_goes_out_while_its_items_events_wait_and_they_go_out_while_it_waits(
        self, tenant: Tenant, key: str, event_bridge: EventBridge
    ) -> None:
        a_rule(tenant)
        send(key, event_id="1")
        send(key, "PUT", event_id="2")
        later = timezone.now() + timedelta(hours=1)
        OutboxEvent.objects.filter(sequence=1).update(next_attempt_at=later)
        OutboxEvent.objects.filter(item_urn__endswith=":1").update(next_attempt_at=later)
        publishing.drain()
        assert [entry["DetailType"] for entry in event_bridge.entries] == ["petstore.input-result"]
        OutboxEvent.objects.filter(sequence__isnull=False).update(next_attempt_at=None)
        publishing.drain()
        assert sorted(entry["DetailType"] for entry in event_bridge.entries) == [
            "petstore.POST",
            "petstore.PUT",
            "petstore.input-result",
        ]
        assert OutboxEvent.objects.get(status=OutboxStatus.PENDING).item_urn.endswith(":1")

    def test_a_bus_that_the_tenant_may_no_longer_name_gets_none(
        self, tenant: Tenant, key: str, event_bridge: EventBridge
    ) -> None:
        AllowedBus.objects.create(tenant=tenant, arn_pattern=BUS)
        send(key)
        publishing.drain()
        assert event_bridge.entries == []
        assert OutboxEvent.objects.get().status == OutboxStatus.DEAD

    def test_it_is_replayed_by_bus_and_by_id_but_not_as_an_event_of_its_item_or_of_a_rule(
        self, tenant: Tenant, key: str, event_bridge: EventBridge
    ) -> None:
        rule = a_rule(tenant)
        send(key)
        publishing.drain()
        of_item = OutboxEvent.objects.get(sequence=1)
        ours = OutboxEvent.objects.get(sequence=None)
        for selection, expected in [
            (replays.Selection(tenant), 2),
            (replays.Selection(tenant, item=("petstore", "123")), 1),
            (replays.Selection(tenant, rule=rule.pk), 1),
            (replays.Selection(tenant, bus=RESULTS), 1),
            (replays.Selection(tenant, ids=(ours.pk,)), 1),
        ]:
            assert replays.count(selection).delivered == expected, selection
        begun = replays.begin(replays.Selection(tenant, bus=RESULTS), who="me", why="test")
        OutboxEvent.objects.update(delivered_at=begun.created_at)
        FeedbackBus.objects.get().delete()
        # As carry_on would, but that has transactions of its own.
        OutboxEvent.objects.filter(pk=ours.pk).update(**lanes.of_replays(), replay=begun, status=OutboxStatus.PENDING)
        publishing.drain()
        assert [entry["Resources"][1] for entry in event_bridge.entries].count(ours.resources[1]) == 2
        assert [entry["Resources"][1] for entry in event_bridge.entries].count(of_item.resources[1]) == 1

    def test_it_has_its_time_as_every_event_has(self, key: str) -> None:
        send(key)
        long_ago = timezone.now() - timedelta(days=31)
        first_id = int(long_ago.timestamp() * 1000) << 80
        OutboxEvent.objects.update(
            id=f"{first_id:032x}", status=OutboxStatus.DELIVERED, delivered_at=long_ago, time=long_ago
        )
        call_command("prune")
        assert details() == []


class TestTheProperty:
    def test_it_is_imported_changed_and_removed(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path, properties=f"eventbridge-feedback={RESULTS}\n")
        assert f"  + eventbridge-feedback={RESULTS}\n" in import_(folder)
        assert FeedbackBus.objects.get().eventbridge_arn == RESULTS
        assert import_(folder).startswith("tenant mytenant: unchanged\n")

        a_folder(tmp_path, properties=f"eventbridge-feedback={BUS}\n")
        line = f"  ~ eventbridge-feedback: {RESULTS} becomes {BUS}\n"
        assert line in import_(folder, dry_run=True)
        assert FeedbackBus.objects.get().eventbridge_arn == RESULTS
        assert line in import_(folder)
        assert FeedbackBus.objects.get().eventbridge_arn == BUS

        a_folder(tmp_path, properties="")
        version = Tenant.objects.get().configuration_version
        assert f"  - eventbridge-feedback={BUS}\n" in import_(folder)
        assert not FeedbackBus.objects.exists()
        assert Tenant.objects.get().configuration_version > version

    def test_it_is_exported_as_an_import_reads_it(self, tenant: Tenant, tmp_path: Path) -> None:
        assert javaproperties.loads(tenant_export.properties_text(tenant))["eventbridge-feedback"] == RESULTS
        tenant_export.write(tenant, tmp_path)
        assert import_(tmp_path / "mytenant").startswith("tenant mytenant: unchanged\n")

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            ("", "Name the bus by its ARN"),
            ("true", "'true' is not the ARN of an event bus"),
            (f"{RESULTS[:-7]}v2/results", "not the ARN"),
            (RESULTS.replace("event-bus", "event-busv2"), "newer kind of bus"),
        ],
    )
    def test_it_must_be_the_arn_of_a_bus(self, tmp_path: Path, value: str, problem: str) -> None:
        folder = a_folder(tmp_path, properties=f"color=red\neventbridge-feedback={value}\n")
        refusal = refusal_of(folder)
        assert problem in refusal
        assert f"{folder / 'tenant.properties'}:2:22: " in refusal

    def test_it_must_be_a_bus_that_the_tenant_may_name(self, tenant: Tenant, tmp_path: Path) -> None:
        AllowedBus.objects.create(tenant=tenant, arn_pattern=BUS)
        folder = a_folder(tmp_path, properties=f"eventbridge-feedback={RESULTS}\n")
        assert f"The tenant may not name the bus '{RESULTS}'." in refusal_of(folder)


class TestTheAdmin:
    def test_the_bus_is_named_and_removed_on_the_tenants_page(self, admin_client: Client) -> None:
        tenant = a_tenant()
        page = Page(admin_client, url_of(Tenant, "change", tenant.pk))
        page.add_row("feedback_bus", eventbridge_arn=RESULTS)
        version = tenant.configuration_version
        assert saved(page.submit())
        assert FeedbackBus.objects.get().eventbridge_arn == RESULTS
        assert Tenant.objects.get().configuration_version > version
        page = Page(admin_client, url_of(Tenant, "change", tenant.pk))
        page.fill_in("feedback_bus-0-", DELETE="on")
        assert saved(page.submit())
        assert not FeedbackBus.objects.exists()

    @pytest.mark.parametrize(
        ("arn", "problem"), [("mybus", "is not the ARN of an event bus"), (RESULTS, "The tenant may not name the bus")]
    )
    def test_it_is_checked_against_the_allowed_buses_of_the_same_page(
        self, admin_client: Client, arn: str, problem: str
    ) -> None:
        tenant = a_tenant()
        page = Page(admin_client, url_of(Tenant, "change", tenant.pk))
        page.add_row("allowed_buses", arn_pattern=BUS)
        page.add_row("feedback_bus", eventbridge_arn=arn)
        response = page.submit()
        assert not saved(response)
        assert any(problem in text for text in errors_of(response)["feedback_bus-0-eventbridge_arn"])

    def test_feedback_stands_among_the_outgoing_events(self, admin_client: Client, key: str) -> None:
        send(key)
        event = OutboxEvent.objects.get()
        assert admin_client.get(url_of(OutboxEvent, "changelist"), {"tenant": "mytenant"}).status_code == 200
        page = Page(admin_client, url_of(OutboxEvent, "change", event.pk))
        assert event.item_urn in page.text
        assert str(event) == f"petstore.input-result of {event.item_urn} for {RESULTS}"


def test_an_event_is_a_writes_or_feedback_and_nothing_between(tenant: Tenant, key: str) -> None:
    a_rule(tenant)
    send(key)
    for changes in ({"sequence": None}, {"rule_id": None}, {"operation": ""}):
        with pytest.raises(IntegrityError), transaction.atomic():
            OutboxEvent.objects.filter(sequence=1).update(**changes)


@pytest.mark.django_db(transaction=True)
def test_the_migration_goes_back_without_the_feedback_and_forward_again(tenant: Tenant, key: str) -> None:
    a_rule(tenant)
    send(key)
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes("eventing")
    try:
        MigrationExecutor(connection).migrate([("eventing", "0003_bus_verification")])
        with connection.cursor() as cursor:
            cursor.execute("SELECT sequence FROM eventing_outboxevent")
            assert cursor.fetchall() == [(1,)]
    finally:
        MigrationExecutor(connection).migrate(latest)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT convalidated FROM pg_constraint WHERE conname = 'outbox_event_is_a_write_or_feedback'"
            )
            assert cursor.fetchall() == [(True,)]
    send(key, event_id="again")
    assert [detail["status"] for detail in details()] == [409]
