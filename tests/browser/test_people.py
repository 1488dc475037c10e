"""Who sees what, and who pays, as people meet it in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from tenants.models import LedgerEntry, Membership, Role, Tenant, TokenAccount
from tests.admin_pages import url_of
from tests.browser.test_admin import opened, press, problems, signed_in
from tests.cast import a_schema, a_tenant

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from pytest_django.live_server_helper import LiveServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


def test_a_viewer_sees_his_tenant_alone_and_can_change_nothing(chromium: Browser, live_server: LiveServer) -> None:
    ours, theirs = a_tenant("ours"), a_tenant("theirs")
    a_schema(ours, "pets")
    a_schema(theirs, "secrets")
    viewer = User.objects.create_user("viewer", is_staff=True)
    Membership.objects.create(tenant=ours, user=viewer, role=Role.VIEWER)
    with signed_in(chromium, live_server, viewer) as page:
        opened(page, live_server, url_of(Tenant, "changelist"))
        expect(page.locator("#result_list")).to_contain_text("ours")
        expect(page.locator("body")).not_to_contain_text("theirs")
        opened(page, live_server, "/admin/backend/schema/")
        expect(page.locator("#result_list")).to_contain_text("pets")
        expect(page.locator("body")).not_to_contain_text("secrets")
        opened(page, live_server, url_of(Tenant, "change", ours.pk))
        expect(page.get_by_role("button", name="Save")).to_have_count(0)
        # A guessed URL tells as much as that of a tenant that never was.
        opened(page, live_server, url_of(Tenant, "change", theirs.pk))
        expect(page.locator("body")).not_to_contain_text("theirs")


def test_an_operator_adds_tokens_with_a_reference(chromium: Browser, live_server: LiveServer) -> None:
    tenant = a_tenant("ours", tokens=0)
    operator = User.objects.create_superuser("operator")
    with signed_in(chromium, live_server, operator) as page:
        opened(page, live_server, url_of(TokenAccount, "change", tenant.pk))
        press(page, "#content a[href*='ledgerentry/add']")
        page.fill("#id_amount", "500")
        page.fill("#id_reference", "invoice 7")
        found = problems(page)
        press(page, "button:text-is('Save')")
        expect(page.locator("#result_list")).to_contain_text("invoice 7")
        opened(page, live_server, url_of(TokenAccount, "change", tenant.pk))
        expect(page.locator("#content")).to_contain_text("500")
    assert LedgerEntry.objects.get(reference="invoice 7").balance_after == 500
    assert found == []
