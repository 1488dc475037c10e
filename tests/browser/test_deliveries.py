"""Deliveries as people meet them: lists by filters, an event, its item's timeline, a replay, the dead-letter queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User

from blockforger.backend.models import OperationRecord
from eventing.admin_timeline import url
from eventing.models import OutboxEvent, OutboxStatus, Replay
from tenants.models import LedgerEntry
from tests.admin_pages import url_of
from tests.browser.test_admin import DESKTOP, PHONE, opened, press, problems, signed_in
from tests.cast import a_tenant
from tests.eventing.test_deliveries import INBOX, OUTBOX, a_delivered
from tests.eventing.test_redrive_input import fill, queues
from tests.eventing.test_timelines import a_life, key, tenant

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from pytest_django.live_server_helper import LiveServer

    from tenants.models import Tenant

__all__ = ["key", "queues", "tenant"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_every_page_is_accessible(
    chromium: Browser,
    live_server: LiveServer,
    operator: User,
    tenant: Tenant,
    key: str,
    queues: tuple[str, str],
    size: tuple[int, int],
    theme: str,
) -> None:
    a_life(key, tenant)
    fill(queues[0], 2)
    OutboxEvent.objects.filter(sequence=1, place=0).update(
        status=OutboxStatus.DEAD, error_code="MalformedDetail", error_message="It is no JSON. " * 20
    )
    OutboxEvent.objects.filter(sequence=2).update(status=OutboxStatus.DELIVERED)
    dead = OutboxEvent.objects.get(status=OutboxStatus.DEAD)
    record = OperationRecord.objects.filter(status=409).get()
    found: list[str] = []
    with signed_in(chromium, live_server, operator, size, theme) as page:
        for path in (
            OUTBOX,
            f"{OUTBOX}?rule=x&status=lost&key=1",
            f"{OUTBOX}?tenant=mytenant&status=dead",
            url_of(OutboxEvent, "change", dead.pk),
            f"{OUTBOX}replay/?tenant=mytenant&schema=petstore",
            url("mytenant", "petstore", "1"),
            url("mytenant", "petstore", "nothing"),
            INBOX,
            url_of(OperationRecord, "change", record.pk),
            f"{INBOX}dead-letters/",
            url_of(LedgerEntry, "changelist"),
        ):
            found += problems(opened(page, live_server, path))
    assert found == []


def test_a_person_pages_to_older_events_and_back(chromium: Browser, live_server: LiveServer, operator: User) -> None:
    owner = a_tenant()
    events = [a_delivered(owner, item_key=f"item-{number}") for number in range(60)]
    with signed_in(chromium, live_server, operator) as page:
        opened(page, live_server, OUTBOX)
        press(page, "nav[aria-label=Pages] >> text=Older")
        assert "item-0" in page.inner_text("#result_list")
        assert page.locator("#result_list tbody tr.data-row").count() == 10
        found = problems(page)
        press(page, "nav[aria-label=Pages] >> text=Newer")
        assert "item-59" in page.inner_text("#result_list")
        page.fill("#id_schema", "petstore")
        page.fill("#id_key", "item-7")
        press(page, "form.delivery-filters >> text=Show >> nth=0")
        assert page.locator("#result_list tbody tr.data-row").count() == 1
        press(page, "#result_list >> text=petstore/item-7")
        assert "write 1" in page.inner_text("ol.timeline")
    assert found == []
    assert len(events) == 60


def test_a_person_sends_dead_events_once_more(
    chromium: Browser, live_server: LiveServer, operator: User, tenant: Tenant, key: str
) -> None:
    a_life(key, tenant)
    OutboxEvent.objects.filter(sequence=1).update(status=OutboxStatus.DEAD, error_code="AccessDenied")
    with signed_in(chromium, live_server, operator) as page:
        opened(page, live_server, f"{OUTBOX}?tenant=mytenant&status=dead")
        press(page, "text=Send all that these filters find once more")
        assert "Send 2 events once more?" in page.inner_text("#content")
        page.fill("#id_why", "INC-42: policy mended")
        press(page, "button:has-text('Send once more')")
        assert f"Replay {Replay.objects.get().pk} has been asked for." in page.inner_text("body")
        found = problems(page)
    assert Replay.objects.get().who == "operator"
    assert found == []


@pytest.mark.usefixtures("stack")
def test_an_operator_moves_messages_back(
    chromium: Browser, live_server: LiveServer, operator: User, queues: tuple[str, str]
) -> None:
    fill(queues[0], 3)
    with signed_in(chromium, live_server, operator) as page:
        opened(page, live_server, INBOX)
        press(page, "text=Dead-letter queue…")
        assert "About 3 messages wait in the dead-letter queue" in page.inner_text("#content")
        page.fill("#id_at_most", "2")
        press(page, "button:has-text('Move them back')")
        assert "2 messages were moved back to the input queue." in page.inner_text("body")
        assert "About 1 message waits in the dead-letter queue" in page.inner_text("#content")
