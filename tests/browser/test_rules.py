"""The editor of output rules as people meet it: moved by mouse and keyboard, previewed, cloned, switched, restored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import expect

from blockforger.backend.models import Item
from eventing import admin_rules, rule_edits, rule_lists
from eventing.models import EventBus, OutputRule, RuleChange
from tenants.models import Membership, Tenant
from tests.admin_pages import url_of
from tests.browser.test_admin import DESKTOP, PHONE, opened, press, problems, signed_in
from tests.cast import BUS, FLUFFY, a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from pytest_django.live_server_helper import LiveServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


def a_member(tenant: Tenant, role: str = "admin") -> User:
    user = User.objects.create_user("ada", is_staff=True)
    Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


def three_rules() -> Tenant:
    tenant = a_tenant("mytenant")
    EventBus.objects.create(arn=BUS, verified_at=timezone.now())
    for place, operation in enumerate(["POST", "PUT", "DELETE"]):
        a_rule(tenant, position=place, operations=[operation])
    return tenant


def stored(tenant: Tenant) -> list[str]:
    return [rule.operations[0] for rule in tenant.output_rules.order_by("position", "id")]


def titles(page: Page) -> list[str]:
    return [text.split()[0] for text in page.locator(".rule h4").all_inner_texts()]


def said(page: Page, text: str) -> None:
    """Wait for what those hear, too, who do not see the page."""
    expect(page.locator(".rules-said[aria-live=polite]")).to_have_text(text)


def entry(page: Page) -> Any:
    return json.loads(page.inner_text(".preview-entry"))


def has_entry(page: Page, text: str) -> Any:
    """The preview, once it has that text."""
    expect(page.locator(".preview-entry")).to_contain_text(text)
    return entry(page)


@pytest.mark.parametrize("place", ["list", "tenant"])
def test_a_rule_is_dragged_to_its_place(chromium: Browser, live_server: LiveServer, place: str) -> None:
    tenant = three_rules()
    url = admin_rules.url_of_list(tenant) if place == "list" else url_of(Tenant, "change", tenant.pk)
    with signed_in(chromium, live_server, a_member(tenant)) as page:
        opened(page, live_server, url)
        page.locator(".rule-place").nth(2).drag_to(page.locator(".rule").nth(0), target_position={"x": 30, "y": 5})
        said(page, "DELETE of all schemas is now rule 1 of 3.")
        assert titles(page) == ["DELETE", "POST", "PUT"]
        page.reload()
        assert titles(page) == ["DELETE", "POST", "PUT"]
    assert stored(tenant) == ["DELETE", "POST", "PUT"]


def test_a_rule_is_moved_by_the_keyboard_and_keeps_the_focus(chromium: Browser, live_server: LiveServer) -> None:
    tenant = three_rules()
    with signed_in(chromium, live_server, a_member(tenant)) as page:
        opened(page, live_server, admin_rules.url_of_list(tenant))
        page.get_by_role("button", name="Move rule 1 down").press("Enter")
        said(page, "POST of all schemas is now rule 2 of 3.")
        page.keyboard.press("Enter")  # the same button, on the rule where it is now
        said(page, "POST of all schemas is now rule 3 of 3.")
        assert titles(page) == ["PUT", "DELETE", "POST"]
        page.get_by_role("link", name="POST of all schemas").focus()
        page.keyboard.press("Alt+ArrowUp")
        said(page, "POST of all schemas is now rule 2 of 3.")
        page.keyboard.press("Alt+ArrowUp")
        said(page, "POST of all schemas is now rule 1 of 3.")
        page.keyboard.press("Alt+ArrowUp")  # it is the first
        assert titles(page) == ["POST", "PUT", "DELETE"]
        assert page.evaluate("document.activeElement.textContent") == "POST of all schemas"
    assert stored(tenant) == ["POST", "PUT", "DELETE"]


def test_who_is_second_sees_what_the_first_has_made_of_the_order(chromium: Browser, live_server: LiveServer) -> None:
    tenant = three_rules()
    seen = list(OutputRule.objects.order_by("position").values_list("pk", flat=True))
    user = a_member(tenant)

    def second() -> None:
        with signed_in(chromium, live_server, user) as page:
            opened(page, live_server, admin_rules.url_of_list(tenant))
            rule_lists.reorder(tenant, schema=None, seen=seen, wanted=seen[::-1], who="grace")
            page.get_by_role("button", name="Move rule 1 down").click()
            expect(page.get_by_role("alert")).to_contain_text("Somebody else has changed these rules")
            assert titles(page) == ["DELETE", "PUT", "POST"]
            assert problems(page) == []

    # All is as it should be, but for the 409, of which browsers write into the console.
    with pytest.raises(AssertionError, match="409"):
        second()
    assert stored(tenant) == ["DELETE", "PUT", "POST"]


def test_a_rule_is_switched_off_and_on(chromium: Browser, live_server: LiveServer) -> None:
    tenant = three_rules()
    with signed_in(chromium, live_server, a_member(tenant)) as page:
        opened(page, live_server, admin_rules.url_of_list(tenant))
        switch = page.get_by_role("switch", name="Rule 2 on")
        switch.press("Space")
        said(page, "The rule is off: it sends nothing, and keeps its place.")
        expect(switch).to_have_attribute("aria-checked", "false")
        assert [rule.enabled for rule in tenant.output_rules.order_by("position")] == [True, False, True]
        expect(switch).to_be_focused()
        page.keyboard.press("Space")
        said(page, "The rule is on.")
        expect(switch).to_have_attribute("aria-checked", "true")
    assert all(rule.enabled for rule in tenant.output_rules.all())


def test_the_event_and_what_is_wrong_are_shown_as_one_types(chromium: Browser, live_server: LiveServer) -> None:
    tenant = a_tenant("mytenant")
    Item.objects.create(schema=a_schema(tenant), key="123", payload=FLUFFY)
    a_schema(tenant, "orders")
    EventBus.objects.create(arn=BUS, verified_at=timezone.now())
    with signed_in(chromium, live_server, a_member(tenant)) as page:
        opened(page, live_server, f"{url_of(OutputRule, 'add')}?tenant=mytenant")
        assert has_entry(page, "orders.POST")["EventBusName"] == BUS
        page.get_by_label("petstore").check()
        page.get_by_label("PUT").check()
        assert has_entry(page, "petstore.PUT")["Source"] == "blockforger-output"
        page.get_by_label("Source").fill("aws.shop")
        expect(page.locator("#error_source")).to_contain_text("EventBridge keeps sources that begin with 'aws.'")
        expect(page.get_by_label("Source")).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Source").fill("shop")
        assert has_entry(page, '"Source": "shop"')["DetailType"] == "petstore.PUT"
        expect(page.locator("#error_source")).to_be_empty()
        page.get_by_label("Sample", exact=True).select_option("123")
        assert has_entry(page, "Fluffy")["Detail"]["payload"] == FLUFFY
        page.get_by_label("Mask").fill("name")
        assert has_entry(page, "***")["Detail"]["payload"]["name"] == "***"
        page.get_by_label("Only if the item is like this").fill('{"status": ["sold"]}')
        expect(page.locator(".preview-verdict")).to_contain_text("Not sent for this sample: its filter is not met")
        page.get_by_text("The item of the sample").click()
        page.get_by_label("The item of the sample, which you can change").fill('{"id": "7", "status": "sold"}')
        expect(page.locator(".preview-verdict")).to_have_text("Sent for this sample:")
        assert entry(page)["Detail"]["payload"] == {"id": "7", "status": "sold"}
        page.get_by_label("Event bus ARN").fill(f"{BUS}-old")
        page.get_by_role("button", name="default (us-east-1").click()
        assert has_entry(page, f'"{BUS}"')["Source"] == "shop"
        page.get_by_label("Event bus ARN").fill(f"{BUS}-new")
        expect(page.locator(".rule-preview .rule-warnings")).to_contain_text("has got no event yet")
        assert problems(page) == []
        press(page, page.get_by_role("button", name="Save", exact=True))
        expect(page.locator(".rule h4")).to_have_text("PUT of petstore")
    rule = OutputRule.objects.get()
    assert (rule.source, rule.filter, rule.fields) == ("shop", {"status": ["sold"]}, {"mask": ["name"]})


def test_a_rule_is_cloned(chromium: Browser, live_server: LiveServer) -> None:
    tenant = three_rules()
    a_schema(tenant)
    with signed_in(chromium, live_server, a_member(tenant)) as page:
        opened(page, live_server, admin_rules.url_of_list(tenant))
        press(page, page.get_by_role("link", name="Clone rule 2"))
        expect(page.locator(".rule-preview .rule-warnings")).to_contain_text("sends the same kind of event to the same")
        page.get_by_label("Source").fill("copy")
        has_entry(page, '"Source": "copy"')
        expect(page.locator(".rule-preview .rule-warnings")).to_be_hidden()
        press(page, page.get_by_role("button", name="Save", exact=True))
        page.wait_for_selector(".rules-list")
        assert titles(page) == ["POST", "PUT", "DELETE", "PUT"]
    assert OutputRule.objects.latest("id").source == "copy"


def test_what_a_rule_said_before_is_restored_with_one_click(chromium: Browser, live_server: LiveServer) -> None:
    tenant = three_rules()
    rule = tenant.output_rules.get(position=0)
    rule.source = "mistake"
    rule_edits.change(rule, who="grace")
    with signed_in(chromium, live_server, a_member(tenant)) as page:
        opened(page, live_server, admin_rules.url_of_list(tenant))
        press(page, page.get_by_role("link", name="History of rule 1"))
        assert "Changed by grace" in page.inner_text("#content")
        assert page.inner_text("ins") == "mistake"
        page.get_by_text("As JSON").click()
        assert '"source": "mistake"' in page.inner_text(".documents")
        assert problems(page) == []
        press(page, page.get_by_role("button", name="Restore what was before"))
        expect(page.locator("h3").first).to_have_text("Restored by ada")
    rule.refresh_from_db()
    assert rule.source == "blockforger-output"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_every_page_is_accessible_at_every_width(
    chromium: Browser, live_server: LiveServer, size: tuple[int, int], theme: str
) -> None:
    tenant = three_rules()
    schema = a_schema(tenant)
    rule = a_rule(
        tenant, schema=schema, filter={"colour": ["red"]}, eventbridge_arn=BUS + "-long-name" * 5, enabled=False
    )
    rule_edits.switch(rule, on=True, who="ada")
    pages = [
        admin_rules.url_of_list(tenant),
        url_of(Tenant, "change", tenant.pk),
        url_of(OutputRule, "change", rule.pk),
        f"{url_of(OutputRule, 'add')}?tenant=mytenant",
        url_of(OutputRule, "history", rule.pk),
        url_of(RuleChange, "changelist"),
        url_of(RuleChange, "change", RuleChange.objects.get().pk),
    ]
    found: list[str] = []
    with signed_in(chromium, live_server, a_member(tenant), size, theme) as page:
        for path in pages:
            opened(page, live_server, path)
            if page.locator(".rule-preview").count():
                expect(page.locator(".preview-verdict")).not_to_be_empty()
            found += problems(page)
    assert found == []
