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
from eventing.models import AllowedBus, EventBus, Lane, OutboxEvent, OutboxStatus
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
from tests.cast import BUS, FLUFFY, a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from django.db.models import Model
    from django.test import Client

pytestmark = pytest.mark.django_db

READ_ONLY = {"add": 403, "delete": 403}
BUSES = "allowed_buses"
ORDERS = "arn:aws:events:eu-central-1:111111111111:event-bus/orders"


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


def test_superusers_alone_see_the_pages(admin_client: Client) -> None:
    tenant = a_tenant()
    bus = EventBus.objects.create(arn=BUS)
    rows: dict[Model, dict[str, int]] = {
        bus: READ_ONLY,
        an_event(tenant): READ_ONLY,
        Lane.objects.get(pk=0): READ_ONLY,
    }
    check_superusers_alone_see(rows, admin_client)


class TestAllowedBuses:
    def test_a_bus_that_rules_name_cannot_be_disallowed_under_them(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_rule(tenant, schema=a_schema(tenant))
        page = page_of(admin_client, tenant)
        page.add_row(BUSES, arn_pattern=ORDERS)
        assert f"Output rules name {BUS}. Allow it too, or change those rules first." in text_of(page.submit())
        assert not AllowedBus.objects.exists()
        page.add_row(BUSES, arn_pattern="arn:aws:events:us-east-1:*")
        assert saved(page.submit())

    def test_patterns_that_are_deleted_bind_nobody(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_rule(tenant)
        for pattern in (ORDERS, BUS):
            AllowedBus.objects.create(tenant=tenant, arn_pattern=pattern)
        page = page_of(admin_client, tenant)
        assert not saved(page.submit(**{f"{BUSES}-1-DELETE": "on"}))
        assert saved(page.submit(**{f"{BUSES}-0-DELETE": "on"}))
        assert not AllowedBus.objects.exists()

    def test_a_limit_that_is_narrower_than_the_rules_keeps_nobody_from_saving_the_rest(
        self, admin_client: Client
    ) -> None:
        tenant = a_tenant()
        a_rule(tenant)
        AllowedBus.objects.create(tenant=tenant, arn_pattern=ORDERS)
        assert saved(page_of(admin_client, tenant).submit())

    def test_a_pattern_stands_there_once(self, admin_client: Client) -> None:
        tenant = a_tenant()
        page = page_of(admin_client, tenant)
        for _ in range(2):
            page.add_row(BUSES, arn_pattern=BUS)
        assert not saved(page.submit())


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
