"""Draws the pictures of docs/admin.md: `make screenshots`. No test, so it has no name of one."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone

from eventing import rule_edits
from eventing.admin_timeline import url as timeline
from eventing.models import EventBus, OutboxEvent, OutboxStatus, OutputRule
from tenants import api_keys
from tenants.models import ApiKey, Membership, Permission, Tenant, TokenAccount
from tests.admin_pages import url_of
from tests.browser.test_admin import DESKTOP, PHONE, opened, press, signed_in
from tests.browser.test_dashboard import _streams_end, a_day
from tests.browser.test_rule_pages import a_file
from tests.cast import BUS, PET, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle, write
from tests.eventing.event_bridge import EventBridge, event_bridge, failed
from tests.eventing.tenant_folders import rules_property

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

TALL = (1280, 1000)

__all__ = ["_streams_end", "event_bridge"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


def a_shop() -> Tenant:
    """A tenant with something of everything."""
    tenant = a_tenant("petstore_demo", tokens=20_000)
    for name in ("orders", "petstore", "reviews"):
        a_schema(tenant, name)
    a_rule(tenant, operations=["POST", "PUT"], schema_names=["orders"], eventbridge_arn=BUS)
    a_rule(tenant, position=1, source="petstore", detail_type="{schema_id}.{operation}")
    EventBus.objects.create(arn=BUS, verified_at=timezone.now())
    a_day(tenant)
    key = a_key(tenant, permissions=[Permission.BACKEND_CALLS, Permission.READ_EVENTS])
    api_keys.create(tenant, name="warehouse", permissions=[Permission.BACKEND_CALLS])
    for number, name in enumerate(["Fluffy", "Rex", "Whiskers", "Bubbles", "Coco"], start=1):
        write(tenant, key, "POST", f"pet-{number}", name=name)
    handle(json.dumps(envelope(Ask("PUT", {"id": "pet-1", "name": "Fluffy II"}, "petstore_demo", "petstore", key))))
    handle(json.dumps(envelope(Ask("PUT", {"id": "pet-9", "name": "Nobody"}, "petstore_demo", "petstore", key))))
    shown = OutboxEvent.objects.filter(item_key__startswith="pet-")
    shown.filter(sequence__lte=4).update(
        status=OutboxStatus.DELIVERED, delivered_at=F("time") + timedelta(milliseconds=84), attempts=1
    )
    shown.filter(sequence=5, place=0).update(
        status=OutboxStatus.DEAD, attempts=1, error_code="MalformedDetail", error_message="Detail is malformed."
    )
    return tenant


def a_new_shop() -> Tenant:
    """A tenant that is one request away from its first event."""
    tenant = a_tenant("new_shop")
    a_schema(tenant, "orders")
    a_rule(tenant)
    a_key(tenant)
    return tenant


def pages_of(tenant: Tenant) -> dict[str, str]:
    """By name: a page of the shop."""
    key = tenant.api_keys.get(name="warehouse")
    return {
        "tenant": url_of(Tenant, "change", tenant.pk),
        "keys": url_of(ApiKey, "changelist"),
        "revoke": f"{url_of(ApiKey, 'changelist')}{key.pk}/revoke/",
        "tokens": url_of(TokenAccount, "change", tenant.pk),
        "outbox": f"{url_of(OutboxEvent, 'changelist')}?schema=petstore",
        "event": url_of(OutboxEvent, "change", OutboxEvent.objects.get(error_code="MalformedDetail").pk),
        "timeline": timeline(tenant.name, "petstore", "pet-1"),
        "replay": f"{url_of(OutboxEvent, 'changelist')}replay/?tenant={tenant.name}&status=dead",
        "second-factor": "/admin/two-factor/set-up/",
        "dashboard": "/admin/dashboard/petstore_demo/",
        "live": "/admin/live/petstore_demo/",
        "first-event": "/admin/dashboard/new_shop/",
    }


def test_draw_rule_pages(chromium: Browser, live_server: LiveServer, event_bridge: EventBridge) -> None:
    tenant = a_shop()
    a_rule(tenant, position=2, filter={"status": ["sold"]}, on_change=["status"])
    admin = User.objects.create_user("ada", is_staff=True)
    Membership.objects.create(tenant=tenant, user=admin, role="admin")
    page_of = f"{url_of(Tenant, 'changelist')}{tenant.pk}/{{}}/"
    event_bridge.account = "111122223333"
    event_bridge.answering = lambda _: failed(400, "AccessDeniedException")
    with signed_in(chromium, live_server, admin, TALL) as page:

        def draw(name: str) -> None:
            page.wait_for_selector("#result")
            page.wait_for_function("!document.querySelector('[x-cloak]')")
            page.evaluate("document.getElementById('result').scrollIntoView()")
            page.screenshot(path=IMAGES / f"admin-{name}.png")

        opened(page, live_server, page_of.format("explain"))
        page.select_option("#id_schema", "petstore")
        page.fill("#id_payload", '{"id": "pet-9", "name": "Nemo", "status": "available"}')
        press(page, "button:text-is('Explain')")
        draw("explain")
        opened(page, live_server, page_of.format("backtest"))
        listed = [{"eventbridge_arn": BUS, "operations": ["POST"], "filter": {"name": [{"prefix": "R"}]}}]
        page.fill("#id_rules", json.dumps({"rules": listed, "schemas": {}}, indent=2))
        press(page, "text=Compare")
        draw("backtest")
        opened(page, live_server, page_of.format("test-rule"))
        press(page, "text=Send the sample")
        draw("test-rule")
        opened(page, live_server, page_of.format("import"))
        properties = rules_property({"operations": ["POST"]}, {"source": "petstore"}) + "eventbridge-feedbak=no\n"
        files = {"tenant.properties": properties, "petstore.json": json.dumps(PET), "toys.json": json.dumps(PET)}
        page.set_input_files("#id_upload", [a_file(name, text) for name, text in files.items()])
        press(page, "text=Show the plan")
        draw("import")


def test_draw(chromium: Browser, live_server: LiveServer, settings: Settings) -> None:
    settings.BLOCKFORGER_ENVIRONMENT = "staging"
    tenant = a_shop()
    owner = User.objects.create_user("ada", is_staff=True)
    Membership.objects.create(tenant=tenant, user=owner, role="owner")
    Membership.objects.create(tenant=a_new_shop(), user=owner, role="owner")
    pages = pages_of(tenant)
    for size, theme, suffix, names in (
        (DESKTOP, "light", "", pages.keys()),
        (DESKTOP, "dark", "-dark", ["tenant", "dashboard"]),
        (PHONE, "light", "-phone", ["keys", "timeline", "dashboard"]),
    ):
        with signed_in(chromium, live_server, owner, size, theme) as page:
            for name in names:
                opened(page, live_server, pages[name])
                if name == "live":
                    page.wait_for_selector("#rows tr")
                page.screenshot(path=IMAGES / f"admin-{name}{suffix}.png")


def some_rules(tenant: Tenant) -> OutputRule:
    """More rules of the shop: the one that is given has a history."""
    sold = a_rule(tenant, position=2, schema_names=["petstore"], operations=["PUT", "PATCH"])
    sold.source = "shop"
    rule_edits.change(sold, who="grace")
    sold.filter, sold.on_change, sold.fields = {"status": ["sold"]}, ["status"], {"mask": ["name"]}
    rule_edits.change(sold, who="ada")
    a_rule(tenant, position=3, schema_names=["invoices"], operations=["DELETE"])
    rule_edits.switch(a_rule(tenant, position=4, source="audit"), on=False, who="ada")
    a_rule(tenant, schema=tenant.schemas.get(name="reviews"), eventbridge_arn=f"{BUS}-reviews", source="reviews")
    return sold


def test_draw_rules(chromium: Browser, live_server: LiveServer, settings: Settings) -> None:
    settings.BLOCKFORGER_ENVIRONMENT = "staging"
    tenant = a_shop()
    rule = some_rules(tenant)
    admin = User.objects.create_user("ada", is_staff=True)
    Membership.objects.create(tenant=tenant, user=admin, role="admin")
    pages = {
        "rules": f"{url_of(OutputRule, 'changelist')}?tenant={tenant.name}",
        "rule": url_of(OutputRule, "change", rule.pk),
        "rule-history": url_of(OutputRule, "history", rule.pk),
    }
    with signed_in(chromium, live_server, admin) as page:
        for name, path in pages.items():
            opened(page, live_server, path)
            if name == "rule":
                page.wait_for_selector(".preview-entry:not(:empty)")
            page.screenshot(path=IMAGES / f"admin-{name}.png")
