"""The timeline of an item: what was written, what went out and came in for it, and what it cost."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from blockforger.backend.models import OperationRecord
from eventing import timelines
from eventing.admin_timeline import url
from eventing.models import OutboxEvent, OutboxStatus
from tenants.models import LedgerEntry
from tests.admin_pages import text_of
from tests.cast import a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle, over_rest, write
from tests.eventing.test_deliveries import a_member

if TYPE_CHECKING:
    from django.test import Client

    from tenants.models import Tenant

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


@pytest.fixture
def tenant() -> Tenant:
    """One whose writes of pets go to two buses."""
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    a_rule(tenant, position=1)
    return tenant


@pytest.fixture
def key(tenant: Tenant) -> str:
    return a_key(tenant)


def a_life(key: str, tenant: Tenant) -> None:
    """Made over REST, changed by an event, refused once, deleted by a request that may be repeated."""
    write(tenant, key, "POST", "1")
    handle(json.dumps(envelope(Ask("PUT", {"id": "1", "name": "x"}, api_key=key))))
    handle(json.dumps(envelope(Ask("POST", {"id": "1", "name": "x"}, api_key=key))))
    over_rest(Ask("DELETE", {"id": "1"}, api_key=key, headers={"Idempotency-Key": "once"}))
    write(tenant, key, "POST", "2")


def test_it_tells_writes_events_out_events_in_and_the_bill(tenant: Tenant, key: str) -> None:
    a_life(key, tenant)
    moments = timelines.of(tenant, "petstore", "1").moments
    told = [
        (
            moment.method,
            moment.sequence,
            moment.record.origin if moment.record else None,
            moment.record.status if moment.record else None,
            moment.tokens,
            len(moment.events),
        )
        for moment in moments
    ]
    assert told == [
        ("DELETE", 3, "api", 204, 10, 2),
        ("POST", None, "event", 409, 0, 0),
        ("PUT", 2, "event", 200, 10, 2),
        ("POST", 1, None, None, 10, 2),
    ]
    assert [moment.entry and moment.entry.sequence for moment in moments] == [3, None, 2, None]
    assert moments[1].problem.startswith("item-exists: ")


def test_the_page_leads_to_everything(admin_client: Client, tenant: Tenant, key: str) -> None:
    a_life(key, tenant)
    OutboxEvent.objects.filter(sequence=1, place=0).update(
        status=OutboxStatus.DEAD, error_code="MalformedDetail", error_message="So bad."
    )
    text = text_of(admin_client.get(url("mytenant", "petstore", "1")))
    for shown in (
        "There is no item petstore/1 of mytenant now.",
        "write 3",
        "answered 204",
        "nothing written",
        "item-exists: ",
        "MalformedDetail: So bad.",
        "10 tokens",
        f"/admin/backend/operationrecord/{OperationRecord.objects.earliest('pk').pk}/change/",
        f"/admin/eventing/outboxevent/{OutboxEvent.objects.earliest('pk').pk}/change/",
        f"/admin/tenants/ledgerentry/{LedgerEntry.objects.get(sequence=2).pk}/change/",
    ):
        assert shown in text


def test_what_no_record_names_is_the_last_entry_at_its_time(admin_client: Client, tenant: Tenant, key: str) -> None:
    write(tenant, key, "POST", "1")
    paid = LedgerEntry.objects.get(sequence=1)
    OutboxEvent.objects.update(time=paid.created_at)
    response: Any = admin_client.get(url("mytenant", "petstore", "1"))
    [shown] = response.context["moments"]
    ledger: Any = admin_client.get(shown["bill_link"])
    assert ledger.context["cl"].result_list[0] == paid


def test_pages_show_each_moment_once(
    admin_client: Client, tenant: Tenant, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timelines, "ROWS", 4)
    write(tenant, key, "POST", "1")
    for number in range(6):
        write(tenant, key, "PUT", "1", name=str(number))
        handle(json.dumps(envelope(Ask("DELETE", {"id": "1", "x": number}, api_key="wrong"))))
    seen: list[int | None] = []
    link, counts = url("mytenant", "petstore", "1"), []
    while link:
        with CaptureQueriesContext(connection) as queries:
            response: Any = admin_client.get(link)
        counts.append(len(queries))
        seen += [shown["moment"].sequence for shown in response.context["moments"]]
        link = response.context["older"]
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert max(counts) - min(counts) <= 1


def test_an_item_of_which_nothing_is_known(admin_client: Client, tenant: Tenant) -> None:
    assert "Nothing is known of the item" in text_of(admin_client.get(url("mytenant", "petstore", "nothing")))


def test_members_see_the_items_of_their_tenants_alone(tenant: Tenant, key: str) -> None:
    write(tenant, key, "POST", "1")
    there, not_there = url("mytenant", "petstore", "1"), url("nobody", "petstore", "1")
    assert "write 1" in text_of(a_member(tenant, "viewer").get(there))
    stranger = a_member(a_tenant("other"), "owner")
    assert stranger.get(there).status_code == stranger.get(not_there).status_code == 404


def test_lists_lead_to_it(admin_client: Client, tenant: Tenant, key: str) -> None:
    handle(json.dumps(envelope(Ask("POST", {"id": "a/b ü", "name": "x"}, api_key=key))))
    wanted = {"tenant": "mytenant", "schema": "petstore", "key": "a/b ü"}
    assert dict(parse_qsl(urlsplit(url(**wanted)).query)) == wanted
    for page in ("/admin/eventing/outboxevent/", "/admin/backend/operationrecord/"):
        assert url(**wanted) in text_of(admin_client.get(page))


def test_events_that_wait_belong_to_it_too(tenant: Tenant, key: str) -> None:
    write(tenant, key, "POST", "1")
    OutboxEvent.objects.filter(place=1).update(status=OutboxStatus.DELIVERED, delivered_at=timezone.now())
    OutboxEvent.objects.filter(place=0).update(next_attempt_at=timezone.now() + timedelta(hours=1))
    [moment] = timelines.of(tenant, "petstore", "1").moments
    assert [event.status for event in moment.events] == ["pending", "delivered"]
