"""The pages that explain rules, try them, and import and export a tenant's files, as people meet them."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User

from eventing.models import OutputRule
from tenants import rate_limits
from tenants.models import Membership, Tenant
from tests.admin_pages import url_of
from tests.browser.test_admin import DESKTOP, PHONE, opened, press, problems, signed_in
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import write
from tests.eventing.event_bridge import EventBridge, accepted, event_bridge, failed
from tests.eventing.tenant_folders import ONE_RULE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page
    from pytest_django.live_server_helper import LiveServer

__all__ = ["event_bridge"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

# Of the account that moto is.
LOCAL_BUS, NO_BUS = (f"arn:aws:events:us-east-1:123456789012:event-bus/{name}" for name in ("default", "nowhere"))
PAYLOAD = '{"id": "1", "name": "Fluffy", "status": "sold"}'


@pytest.fixture
def tenant() -> Tenant:
    rate_limits.forget()
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant, eventbridge_arn=LOCAL_BUS, source="shop")
    a_rule(tenant, position=1, eventbridge_arn=NO_BUS, filter={"status": ["pending"]}, on_change=["status"])
    return tenant


@pytest.fixture
def admin(tenant: Tenant) -> User:
    user = User.objects.create_user("ada", is_staff=True)
    Membership.objects.create(tenant=tenant, user=user, role="admin")
    return user


def page_of(tenant: Tenant, name: str) -> str:
    return f"{url_of(Tenant, 'changelist')}{tenant.pk}/{name}/"


def a_file(name: str, text: str | bytes) -> FilePayload:
    data = text.encode() if isinstance(text, str) else text
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def looked_at(page: Page) -> list[str]:
    """The problems of the page, in both widths."""
    found = problems(page)
    size = page.viewport_size
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    found += problems(page)
    if size:
        page.set_viewport_size(size)
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_and_answer_is_accessible_at_every_width(
    chromium: Browser, live_server: LiveServer, tenant: Tenant, admin: User, theme: str, event_bridge: EventBridge
) -> None:
    event_bridge.account = "111122223333"
    write(tenant, a_key(tenant), "POST", "1", name="Rex", status="sold")
    found: list[str] = []
    with signed_in(chromium, live_server, admin, DESKTOP, theme) as page:
        for name in ("explain", "backtest", "test-rule", "import"):
            found += looked_at(opened(page, live_server, page_of(tenant, name)))
        opened(page, live_server, page_of(tenant, "explain"))
        page.fill("#id_payload", "{")
        press(page, "button:text-is('Explain')")
        assert "The text is not JSON" in page.inner_text("#content")
        found += looked_at(page)
        page.fill("#id_payload", PAYLOAD)
        press(page, "button:text-is('Explain')")
        assert "1 of 2 rules match" in page.inner_text("#result")
        found += looked_at(page)
        opened(page, live_server, page_of(tenant, "backtest"))
        page.fill("#id_rules", json.dumps({"rules": [{"eventbridge_arn": BUS}], "schemas": {}}))
        press(page, "text=Compare")
        page.click("summary >> nth=0")
        assert '"Source": "blockforger-output"' in page.inner_text("#result")
        found += looked_at(page)
        for answer, told in (
            (accepted, "accepted"),
            (lambda _: failed(400, "AccessDeniedException"), "Copy the policy"),
        ):
            event_bridge.answering = answer
            opened(page, live_server, page_of(tenant, "test-rule"))
            press(page, "text=Send the sample")
            assert told in page.inner_text("#result")
            found += looked_at(page)
        for properties in (ONE_RULE, "eventbridge-input=maybe"):
            opened(page, live_server, page_of(tenant, "import"))
            page.set_input_files("#id_upload", [a_file("tenant.properties", properties)])
            press(page, "text=Show the plan")
            page.wait_for_selector("#result")
            found += looked_at(page)
    with signed_in(chromium, live_server, User.objects.create_superuser("operator"), DESKTOP, theme) as page:
        found += looked_at(opened(page, live_server, f"{url_of(Tenant, 'changelist')}import/"))
    assert found == []


def test_a_rule_that_does_not_match_is_found_and_tested(
    chromium: Browser, live_server: LiveServer, tenant: Tenant, admin: User, stack: dict[str, str]
) -> None:
    with signed_in(chromium, live_server, admin) as page:
        opened(page, live_server, url_of(Tenant, "change", tenant.pk))
        press(page, "a:has-text('Explain')")
        page.select_option("#id_operation", "PUT")
        page.fill("#id_payload", PAYLOAD)
        page.fill("#id_before", PAYLOAD)
        press(page, "button:text-is('Explain')")
        cards = page.locator(".cards > li")
        assert cards.count() == 2
        assert '"DetailType": "petstore.PUT"' in cards.nth(0).inner_text()
        assert "nothing has changed in status" in cards.nth(1).inner_text()
        press(page, cards.nth(0).locator("text=Send a test"))
        page.fill("#id_payload", '{"name": "Fluffy"}')
        press(page, "text=Send the sample")
        assert "The bus accepted the sample" in page.inner_text("#result")
        assert "urn:blockforger:test:" in page.inner_text("#result")
        page.select_option("#id_rule", index=1)
        press(page, "text=Send the sample")
        assert "The sample was refused" in page.inner_text("#result")
        assert "aws events create-event-bus --name nowhere" in page.inner_text("#result")


def test_a_tenants_files_are_exported_changed_and_imported(
    chromium: Browser, live_server: LiveServer, tenant: Tenant, admin: User
) -> None:
    with signed_in(chromium, live_server, admin) as page:
        opened(page, live_server, url_of(Tenant, "change", tenant.pk))
        link = page.get_attribute("a:has-text('Export')", "href")
        exported = page.context.request.get(f"{live_server.url}{link}").body()
        with zipfile.ZipFile(io.BytesIO(exported)) as archive:
            properties = archive.read("mytenant/tenant.properties").decode()
            schema = archive.read("mytenant/petstore.json").decode()
        press(page, "a:has-text('Import')")
        page.set_input_files("#id_upload", [a_file("mytenant.zip", exported)])
        press(page, "text=Show the plan")
        assert "Nothing to change" in page.inner_text("#result")
        press(page, "text=Choose other files")
        changed = [a_file("tenant.properties", properties.replace("shop", "store")), a_file("petstore.json", schema)]
        page.set_input_files("#id_upload", changed)
        press(page, "text=Show the plan")
        assert "+ rule 1" in page.inner_text("#result")
        OutputRule.objects.filter(source="shop").update(source="market")
        press(page, "text=Import this")
        assert "Something changed meanwhile, and nothing was imported." in page.inner_text("#result")
        press(page, "text=Import this")
        page.wait_for_selector("text=Imported.")
    assert OutputRule.objects.filter(position=0).values_list("source", flat=True).get() == "store"
