from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from blockforger.backend.models import Schema
from eventing import rule_documents
from eventing.models import AllowedBus, EventBus, Lane, OutboxEvent, OutboxStatus, OutputRule
from tenants.models import Tenant
from tests.admin_pages import (
    Page,
    act,
    check_superusers_alone_see,
    errors_of,
    listed,
    saved,
    text_of,
    url_of,
)
from tests.cast import BUS, FLUFFY, UNCONDITIONAL, a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from django.db.models import Model
    from django.test import Client
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

READ_ONLY = {"add": 403, "delete": 403}
RULES, BUSES = "output_rules", "allowed_buses"
ORDERS = "arn:aws:events:eu-central-1:111111111111:event-bus/orders"
NOT_ALLOWED = "The tenant may not name the bus"


def an_event(tenant: Tenant, **fields: Any) -> OutboxEvent:
    made_up: dict[str, Any] = {
        "schema_name": "petstore",
        "item_key": "123",
        "operation": "POST",
        "sequence": 1,
        "place": 0,
        "rule_id": 1,
        "bus_arn": BUS,
        "source": "blockforger-output",
        "detail_type": "petstore.POST",
        "item_urn": "urn:blockforger:item:mytenant:petstore:123",
        "detail": json.dumps({"payload": FLUFFY}),
        "time": timezone.now(),
        "stream": 0,
        "lane": 0,
    }
    return OutboxEvent.objects.create(tenant=tenant, **{**made_up, **fields})


def page_of(client: Client, tenant: Tenant) -> Page:
    return Page(client, url_of(Tenant, "change", tenant.pk))


def version_of(tenant: Tenant) -> int:
    return Tenant.objects.get(pk=tenant.pk).configuration_version


def test_superusers_alone_see_the_pages(admin_client: Client) -> None:
    tenant = a_tenant()
    bus = EventBus.objects.create(arn=BUS)
    rows: dict[Model, dict[str, int]] = {
        a_rule(tenant): {"add": 403},
        bus: READ_ONLY,
        an_event(tenant): READ_ONLY,
        Lane.objects.get(pk=0): READ_ONLY,
    }
    check_superusers_alone_see(rows, admin_client)


class TestRulesOfATenant:
    def test_they_stand_on_its_page_in_the_order_of_their_events(self, admin_client: Client) -> None:
        tenant = a_tenant()
        of_schema = a_rule(tenant, schema=a_schema(tenant), position=0)
        second, first = a_rule(tenant, position=5), a_rule(tenant, position=2)
        page = page_of(admin_client, tenant)
        ids = [page.values[f"{RULES}-{index}-id"] for index in range(3)]
        assert ids == [[str(rule.pk)] for rule in (first, second, of_schema)]

    def test_a_new_rule_is_filled_in_and_comes_last(self, admin_client: Client, settings: Settings) -> None:
        settings.BLOCKFORGER_DEFAULT_BUS_ARN = ORDERS
        tenant = a_tenant()
        a_rule(tenant, position=4)
        page = page_of(admin_client, tenant)
        for _ in range(2):
            page.add_row(RULES)
        assert saved(page.submit())
        for rule in OutputRule.objects.order_by("id")[1:3]:
            assert (rule.tenant, rule.schema, rule.position) == (tenant, None, 5)
            assert rule_documents.of_row(rule) == {
                "eventbridge_arn": ORDERS,
                "source": "blockforger-output",
                "detail_type": "{schema_id}.{operation}",
                "operations": [],
                "schema_names": [],
                **UNCONDITIONAL,
            }
        assert tenant.output_rules.count() == 3

    def test_a_tenant_is_made_with_its_rules(self, admin_client: Client) -> None:
        page = Page(admin_client, url_of(Tenant, "add"))
        page.add_row(RULES, operations=["POST", "DELETE"])
        assert saved(page.submit(name="mytenant"))
        rule = OutputRule.objects.get()
        assert (rule.tenant.name, rule.position, rule.operations) == ("mytenant", 0, ["POST", "DELETE"])

    def test_a_rule_chooses_among_the_schemas_of_its_tenant(self, admin_client: Client) -> None:
        tenant = a_tenant("ours")
        pets, orders = a_schema(tenant), a_schema(tenant, "orders")
        theirs = a_schema(a_tenant("theirs"), "secrets")
        page = page_of(admin_client, tenant)
        assert "secrets" not in page.text
        page.add_row(RULES, schema_names=["orders", "petstore"])
        page.add_row(RULES, schema=pets.pk)
        assert saved(page.submit())
        by_name, of_schema = OutputRule.objects.order_by("id")
        assert (by_name.schema, by_name.schema_names) == (None, [orders.name, pets.name])
        assert (of_schema.schema, of_schema.schema_names) == (pets, [])

        page = page_of(admin_client, tenant)
        foreign = page.add_row(RULES, schema=theirs.pk, schema_names=["secrets"])
        assert set(errors_of(page.submit())) == {f"{foreign}schema", f"{foreign}schema_names"}

    def test_the_name_of_a_schema_that_is_not_there_yet_is_kept(self, admin_client: Client) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant, schema_names=["later"])
        page = page_of(admin_client, tenant)
        assert saved(page.submit(**{f"{RULES}-0-source": "shop"}))
        rule.refresh_from_db()
        assert (rule.source, rule.schema_names) == ("shop", ["later"])

    def test_saving_an_unchanged_page_changes_nothing(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        a_rule(tenant, operations=["DELETE", "POST"], schema_names=["petstore", "later"])
        before, version = list(OutputRule.objects.values()), version_of(tenant)
        assert saved(page_of(admin_client, tenant).submit())
        assert list(OutputRule.objects.values()) == before
        assert version_of(tenant) == version

    def test_only_what_changes_is_saved_and_starts_a_new_configuration(self, admin_client: Client) -> None:
        tenant = a_tenant()
        first, second, _ = (a_rule(tenant, position=position) for position in range(3))
        version = version_of(tenant)
        values = {f"{RULES}-0-position": 7, f"{RULES}-0-operations": ["PUT"], f"{RULES}-2-DELETE": "on"}
        assert saved(page_of(admin_client, tenant).submit(**values))
        first.refresh_from_db()
        assert (first.position, first.operations) == (7, ["PUT"])
        assert list(OutputRule.objects.all()) == [second, first]
        assert version_of(tenant) == version + 2

    @pytest.mark.parametrize("is_new", [True, False])
    def test_what_is_wrong_is_told_at_its_field(self, admin_client: Client, is_new: bool) -> None:
        page = Page(admin_client, url_of(Tenant, "add")) if is_new else page_of(admin_client, a_tenant("mytenant"))
        values = {"eventbridge_arn": "arn:aws:sqs", "source": "aws.x", "detail_type": "{schema_id}" * 5}
        prefix = page.add_row(RULES, operations=["POST", "GET"], **values)
        response = page.submit(name="mytenant")
        errors = errors_of(response)
        assert set(errors) == {f"{prefix}{name}" for name in (*values, "operations")}
        assert errors[f"{prefix}eventbridge_arn"][0].startswith("'arn:aws:sqs' is not the ARN of an event bus.")
        assert "EventBridge keeps sources that begin with 'aws.'" in text_of(response)
        assert not OutputRule.objects.exists()

    def test_many_rules_cost_no_more_queries_than_one(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        counts = []
        for _ in range(2):
            a_rule(tenant)
            with CaptureQueriesContext(connection) as queries:
                page_of(admin_client, tenant)
            counts.append(len(queries))
        assert counts[0] == counts[1]


class TestAllowedBuses:
    def test_a_rule_for_another_bus_is_refused(self, admin_client: Client) -> None:
        tenant = a_tenant()
        AllowedBus.objects.create(tenant=tenant, arn_pattern=ORDERS)
        page = page_of(admin_client, tenant)
        prefix = page.add_row(RULES, eventbridge_arn=BUS)
        [problem] = errors_of(page.submit())[f"{prefix}eventbridge_arn"]
        assert problem.startswith(NOT_ALLOWED)
        page.fill_in(prefix, eventbridge_arn=ORDERS)
        assert saved(page.submit())

    def test_a_new_tenants_rules_are_checked_against_its_new_buses(self, admin_client: Client) -> None:
        page = Page(admin_client, url_of(Tenant, "add"))
        page.add_row(BUSES, arn_pattern="arn:aws:events:eu-*")
        prefix = page.add_row(RULES, eventbridge_arn=BUS)
        [problem] = errors_of(page.submit(name="mytenant"))[f"{prefix}eventbridge_arn"]
        assert problem.startswith(NOT_ALLOWED)
        page.fill_in(prefix, eventbridge_arn=ORDERS)
        assert saved(page.submit())
        assert AllowedBus.objects.get().tenant == OutputRule.objects.get().tenant

    def test_a_bus_that_rules_name_cannot_be_disallowed_under_them(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_rule(tenant, schema=a_schema(tenant))
        page = page_of(admin_client, tenant)
        page.add_row(BUSES, arn_pattern=ORDERS)
        [problem] = errors_of(page.submit())[f"{RULES}-0-eventbridge_arn"]
        assert problem.startswith(NOT_ALLOWED)
        assert not AllowedBus.objects.exists()
        assert saved(page.submit(**{f"{RULES}-0-DELETE": "on"}))
        assert not OutputRule.objects.exists()

    def test_patterns_that_are_deleted_bind_nobody(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_rule(tenant)
        for pattern in (ORDERS, BUS):
            AllowedBus.objects.create(tenant=tenant, arn_pattern=pattern)
        page = page_of(admin_client, tenant)
        assert f"{RULES}-0-eventbridge_arn" in errors_of(page.submit(**{f"{BUSES}-1-DELETE": "on"}))
        assert saved(page.submit(**{f"{BUSES}-0-DELETE": "on"}))
        assert not AllowedBus.objects.exists()

    def test_a_further_bus_is_saved_before_a_rule_may_name_it(self, admin_client: Client) -> None:
        tenant = a_tenant()
        AllowedBus.objects.create(tenant=tenant, arn_pattern=BUS)
        page = page_of(admin_client, tenant)
        page.add_row(BUSES, arn_pattern=ORDERS)
        prefix = page.add_row(RULES, eventbridge_arn=ORDERS)
        [problem] = errors_of(page.submit())[f"{prefix}eventbridge_arn"]
        assert problem.startswith(NOT_ALLOWED)

    def test_a_pattern_stands_there_once(self, admin_client: Client) -> None:
        tenant = a_tenant()
        page = page_of(admin_client, tenant)
        for _ in range(2):
            page.add_row(BUSES, arn_pattern=BUS)
        assert not saved(page.submit())


class TestListOfRules:
    def test_it_shows_one_tenants_rules(self, admin_client: Client) -> None:
        rule, _ = a_rule(a_tenant("ours")), a_rule(a_tenant("theirs"))
        assert listed(admin_client, OutputRule, tenant="ours") == [rule]

    def test_it_is_in_the_order_of_the_events(self, admin_client: Client) -> None:
        tenant = a_tenant()
        of_schema = a_rule(tenant, schema=a_schema(tenant), position=0)
        second, first = a_rule(tenant, position=5), a_rule(tenant, position=2)
        assert listed(admin_client, OutputRule) == [first, second, of_schema]

    def test_a_rule_is_changed_and_checked_as_on_its_tenants_page(self, admin_client: Client) -> None:
        tenant = a_tenant("ours")
        schema = a_schema(tenant)
        a_schema(a_tenant("theirs"), "secrets")
        rule = a_rule(tenant, schema_names=["later"])
        page = Page(admin_client, url_of(OutputRule, "change", rule.pk))
        assert "secrets" not in page.text
        assert errors_of(page.submit(source="aws.x")).keys() == {"source"}
        version = version_of(tenant)
        assert saved(page.submit(source="shop", schema=schema.pk, operations=["PUT"]))
        rule.refresh_from_db()
        assert (rule.source, rule.schema, rule.operations, rule.schema_names) == ("shop", schema, ["PUT"], ["later"])
        assert version_of(tenant) == version + 1

    def test_a_rule_is_deleted(self, admin_client: Client) -> None:
        rule = a_rule(a_tenant())
        assert admin_client.post(url_of(OutputRule, "delete", rule.pk), {"post": "yes"}).status_code == 302
        assert not OutputRule.objects.exists()


def test_a_paused_bus_is_resumed_and_not_yet_trusted(admin_client: Client) -> None:
    until = timezone.now() + timedelta(hours=1)
    bus = EventBus.objects.create(arn=BUS, paused_until=until, pause_reason="AccessDenied", refusals=3)
    other = EventBus.objects.create(arn=ORDERS, paused_until=until, refusals=1)
    assert "Buses resumed: 1." in text_of(act(admin_client, "resume", bus))
    bus.refresh_from_db()
    other.refresh_from_db()
    assert (bus.paused_until, bus.refusals, bus.pause_reason) == (None, 3, "AccessDenied")
    assert other.paused_until == until
    assert [(entry.object_repr, entry.change_message) for entry in LogEntry.objects.all()] == [(BUS, "Resumed.")]


class TestOutbox:
    def test_it_is_listed_by_tenant_and_status_and_searched(self, admin_client: Client) -> None:
        ours, theirs = a_tenant("ours"), a_tenant("theirs")
        pending, dead = an_event(ours), an_event(ours, status=OutboxStatus.DEAD, item_key="456")
        other = an_event(theirs)
        assert listed(admin_client, OutboxEvent) == [other, dead, pending]
        assert listed(admin_client, OutboxEvent, tenant="ours", status__exact="dead") == [dead]
        assert listed(admin_client, OutboxEvent, q=str(pending.pk)) == [pending]
        assert listed(admin_client, OutboxEvent, q="456") == [dead]

    def test_a_list_does_not_read_the_details(self, admin_client: Client) -> None:
        an_event(a_tenant())
        with CaptureQueriesContext(connection) as queries:
            assert len(listed(admin_client, OutboxEvent)) == 1
        assert not [query["sql"] for query in queries if '"detail"' in query["sql"]]

    def test_the_page_tells_what_became_of_an_event(self, admin_client: Client) -> None:
        event = an_event(a_tenant(), status=OutboxStatus.DEAD, attempts=3, error_code="Bad", error_message="So bad.")
        text = text_of(admin_client.get(url_of(OutboxEvent, "change", event.pk)))
        for shown in ("Dead", "Bad", "So bad.", f"urn:blockforger:event:{event.pk}:1", '"name": "Fluffy"'):
            assert shown in text


def test_rules_in_the_meta_of_a_schema_would_do_nothing_and_are_refused(admin_client: Client) -> None:
    page = Page(admin_client, url_of(Schema, "change", a_schema(a_tenant()).pk))
    [problem] = errors_of(page.submit(meta='{"eventbridge-output": []}'))["meta"]
    assert problem.startswith("Leave 'eventbridge-output' out")
