"""The dashboard, the way to the first event and the live tail, as people meet them."""

from __future__ import annotations

import shlex
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone
from playwright.sync_api import expect
from rest_framework.test import APIClient

from eventing import live_tail
from eventing.models import EventBus, OutboxEvent, OutboxStatus
from tenants.models import Membership, Role, Tenant
from tests.browser.test_admin import DESKTOP, PHONE, opened, press, problems, signed_in
from tests.cast import BUS, PET, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import write
from tests.eventing.test_dashboards import came_in, sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page
    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


@pytest.fixture(autouse=True)
def _streams_end(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Streams look more often than once a second, and end, each at its next look, before their database does."""
    is_over, places = threading.Event(), 8
    watching = threading.BoundedSemaphore(places)

    def rest() -> None:
        connections.close_all()
        is_over.wait(0.2)

    monkeypatch.setattr(live_tail, "_watching", watching)
    monkeypatch.setattr(live_tail, "rest", rest)
    yield
    monkeypatch.setattr(live_tail, "is_let_in", lambda *_: False)
    is_over.set()
    for _ in range(places):
        assert watching.acquire(timeout=30)


def a_user(tenant: Tenant, role: str = Role.OWNER, name: str = "ada") -> User:
    user = User.objects.create_user(name, is_staff=True)
    Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


def a_day(tenant: Tenant) -> None:
    """Events of each of the last hours, some of which died, and some that came in."""
    now = timezone.now()
    for hours in range(23, -1, -1):
        at = now - timedelta(hours=hours)
        for number in range(1 + (hours * 7) % 5):
            is_dead = hours % 6 == 1 and number == 0
            sent(
                tenant,
                at,
                status=OutboxStatus.DEAD if is_dead else OutboxStatus.DELIVERED,
                next_attempt_at=at if is_dead else None,
                delivered_at=None if is_dead else at + timedelta(milliseconds=80 + 9 * hours),
                attempts=1,
            )
        for number in range(1 + hours % 3):
            came_in(tenant, at, status=422 if hours % 5 == 2 and number == 0 else 201)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_pages_are_accessible(
    chromium: Browser, live_server: LiveServer, size: tuple[int, int], theme: str
) -> None:
    new, busy = a_tenant("new"), a_tenant("busy")
    user = a_user(new)
    Membership.objects.create(tenant=busy, user=user, role=Role.VIEWER)
    a_schema(new)
    a_rule(busy)
    EventBus.objects.create(
        arn=BUS, paused_until=timezone.now() + timedelta(hours=1), pause_reason="There is no such bus."
    )
    a_day(busy)
    found: list[str] = []
    with signed_in(chromium, live_server, user, size, theme) as page:
        for path in ("/admin/", "/admin/dashboard/new/", "/admin/dashboard/busy/", "/admin/live/new/"):
            found += problems(opened(page, live_server, path))
            for summary in page.locator("#content summary").all():
                summary.click()
            found += problems(page)
        opened(page, live_server, "/admin/live/busy/")
        page.wait_for_selector("#rows tr")
        found += problems(page)
    with signed_in(chromium, live_server, User.objects.create_superuser("operator"), size, theme) as page:
        found += problems(opened(page, live_server, "/admin/"))
        assert "busy" in page.inner_text("#content")
        OutboxEvent.objects.all().delete()
        EventBus.objects.all().delete()
        found += problems(opened(page, live_server, "/admin/"))
        assert "No tenant is in trouble" in page.inner_text("#content")
    with signed_in(chromium, live_server, User.objects.create_user("nobody", is_staff=True), size, theme) as page:
        found += problems(opened(page, live_server, "/admin/"))
    assert found == []


def copied(page: Page) -> str:
    page.click("button:has-text('Copy')")
    page.wait_for_selector("text=Copied")
    return str(page.evaluate("navigator.clipboard.readText()"))


def carry_out(command: str, key: str) -> Any:
    """What a shell would do with the command that was copied, once the key is in it."""
    setting, curl = command.strip().split("\n", 1)
    assert setting == "KEY='…'"
    words = shlex.split(curl.replace("\\\n", ""))
    headers = [words[place + 1].replace("$KEY", key) for place, word in enumerate(words) if word == "-H"]
    named = dict(header.split(": ") for header in headers)
    body = words[words.index("-d") + 1]
    return APIClient().post(urlsplit(words[2]).path, body, content_type=named.pop("Content-Type"), headers=named)


def test_a_new_tenant_is_led_to_its_first_event(chromium: Browser, live_server: LiveServer, settings: Settings) -> None:
    settings.SITE_URL = urlsplit(live_server.url)
    user = a_user(a_tenant("shop"))
    with signed_in(chromium, live_server, user) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        opened(page, live_server, "/admin/")
        press(page, "text=Add a schema")
        page.fill("[name=name]", "pets")
        page.fill("[name=document]", str(PET).replace("'", '"'))
        press(page, "[name=_save]")

        opened(page, live_server, "/admin/")
        press(page, "text=Add an API key")
        page.fill("[name=name]", "first")
        press(page, "[name=_save]")
        key = page.inner_text("#new-key")

        opened(page, live_server, "/admin/")
        press(page, "text=Add an output rule")
        press(page, "[name=_save]")

        opened(page, live_server, "/admin/")
        command = copied(page)
        assert f"{live_server.url}/api/shop/pets" in command
        assert carry_out(command, key).status_code == 201

        opened(page, live_server, "/admin/")
        press(page, "text=Watch events as they pass")
        page.wait_for_selector("#rows tr.pending")
        OutboxEvent.objects.update(status=OutboxStatus.DELIVERED, delivered_at=timezone.now())
        page.wait_for_selector("#rows tr.delivered")

        opened(page, live_server, "/admin/")
        assert "To your first event" not in page.inner_text("#content")
        assert "Time to bus" in page.inner_text("#content")


def test_events_are_watched_as_they_pass(chromium: Browser, live_server: LiveServer) -> None:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    key = a_key(tenant)
    with signed_in(chromium, live_server, a_user(tenant, Role.VIEWER)) as page:
        opened(page, live_server, "/admin/live/mytenant/")
        page.wait_for_selector("text=Watching.")
        expect(page.get_by_text("Nothing has passed in the last 10 minutes.")).to_be_visible()
        write(tenant, key, "POST", "one")
        page.wait_for_selector("text=POST petstore / one")
        expect(page.get_by_text("Nothing has passed")).to_be_hidden()

        page.click("text=Pause")
        page.wait_for_selector("text=Paused.")
        write(tenant, key, "PUT", "one")
        page.click("text=Go on")
        page.wait_for_selector("text=PUT petstore / one")
        expect(page.locator("#rows tr")).to_have_count(2)
        assert page.inner_text("#rows tr:first-child").count("PUT") == 1

        page.select_option("[name=operation]", "PUT")
        expect(page.locator("#rows tr")).to_have_count(1)
        expect(page.locator("#rows tr")).to_contain_text("PUT petstore / one")
        expect(page).to_have_url(f"{live_server.url}/admin/live/mytenant/?operation=PUT")
        page.select_option("[name=operation]", "")
        page.wait_for_selector("text=POST petstore / one")

        Membership.objects.all().delete()
        page.wait_for_selector("text=You may not watch any more.")


def test_a_bounded_number_of_events_is_kept(chromium: Browser, live_server: LiveServer) -> None:
    tenant = a_tenant()
    with signed_in(chromium, live_server, a_user(tenant)) as page:
        opened(page, live_server, "/admin/live/mytenant/")
        page.wait_for_selector("text=Watching.")
        for round_ in range(3):
            for number in range(90):
                sent(tenant, timezone.now(), item_key=f"{round_}-{number}")
            page.wait_for_selector(f"text=petstore / {round_}-89")
        assert page.locator("#rows tr").count() == 200
