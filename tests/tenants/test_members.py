"""What a role is for, in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tenants.models import ApiKey, LedgerEntry, Membership, Role, Tenant
from tests.admin_pages import Page, errors_of, listed, saved, text_of, url_of
from tests.cast import a_key, a_schema, a_tenant

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.django_db


def a_member(tenant: Tenant, role: str, name: str = "") -> Client:
    user = User.objects.create_user(name or f"the {role}", is_staff=True)
    Membership.objects.create(tenant=tenant, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def groups_of(client: Client) -> dict[str, list[str]]:
    """What the sidebar leads to."""
    response: Any = client.get("/admin/")
    navigation: Iterable[dict[str, Any]] = response.context["sidebar_navigation"]
    return {group.get("title", ""): [item["title"] for item in group["items"]] for group in navigation}


@pytest.mark.parametrize("role", Role.values)
def test_a_member_is_led_to_what_is_the_tenants_and_not_to_the_platforms(role: str) -> None:
    assert groups_of(a_member(a_tenant(), role)) == {
        "": ["Overview"],
        "Configuration": ["Tenants", "Schemas", "Output rules", "Rule history", "API keys"],
        "Data": ["Items"],
        "Events": ["Outbox", "Inbox", "Replays"],
        "Account": ["Tokens", "Ledger", "Members"],
    }


def test_operators_are_led_to_the_platform_too(admin_client: Client) -> None:
    assert groups_of(admin_client)["Platform"] == ["Event buses", "Lanes", "Users"]


def test_staff_that_is_no_member_is_led_nowhere() -> None:
    client = Client()
    client.force_login(User.objects.create_user("new", is_staff=True))
    assert groups_of(client) == {"": ["Overview"]}


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
def test_owners_and_admins_change_the_configuration(role: str) -> None:
    tenant = a_tenant()
    client = a_member(tenant, role)
    assert saved(Page(client, url_of(Tenant, "change", tenant.pk)).submit(accepts_events=[]))
    assert not Tenant.objects.get().accepts_events
    page = Page(client, url_of(ApiKey, "add"))
    assert saved(page.submit(tenant=tenant.pk, name="shop", permissions=["backend_calls"]))
    assert ApiKey.objects.get().name == "shop"
    schema = a_schema(tenant)
    assert saved(Page(client, url_of(type(schema), "change", schema.pk)).submit(meta='{"key": "id"}'))


@pytest.mark.parametrize("role", Role.values)
def test_no_member_makes_tenants_or_tokens(role: str) -> None:
    client = a_member(a_tenant(), role)
    assert client.get(url_of(Tenant, "add")).status_code == 403
    assert client.get(url_of(LedgerEntry, "add")).status_code == 403
    assert client.post(url_of(LedgerEntry, "add"), {"amount": 1, "reference": "gift"}).status_code == 403


def test_an_owner_makes_members_by_their_names() -> None:
    tenant, other = a_tenant("ours"), a_tenant("theirs")
    owner = a_member(tenant, Role.OWNER)
    User.objects.create_user("ada")
    page = Page(owner, url_of(Membership, "add"))
    assert "theirs" not in page.text
    assert saved(page.submit(tenant=tenant.pk, user="ada", role=Role.VIEWER))
    assert tenant.memberships.get(user__username="ada").role == Role.VIEWER
    page = Page(owner, url_of(Membership, "add"))
    assert errors_of(page.submit(tenant=tenant.pk, user="nobody", role=Role.VIEWER)).keys() == {"user"}
    assert errors_of(page.submit(tenant=other.pk, user="ada", role=Role.OWNER)).keys() == {"tenant"}
    page = Page(owner, url_of(Tenant, "change", tenant.pk))
    page.add_row("memberships", user="nobody", role=Role.OWNER)
    assert not saved(page.submit())


@pytest.mark.parametrize("role", [Role.ADMIN, Role.VIEWER])
def test_others_see_the_members_and_leave_them(role: str) -> None:
    tenant = a_tenant()
    a_member(tenant, Role.OWNER)
    client = a_member(tenant, role)
    assert len(listed(client, Membership)) == 2
    own = tenant.memberships.get(role=role)
    assert client.post(url_of(Membership, "change", own.pk), {"role": "owner"}).status_code == 403
    assert client.post(url_of(Membership, "delete", own.pk), {"post": "yes"}).status_code == 403
    assert client.get(url_of(Membership, "add")).status_code == 403
    # Nor by the tenant's page, whatever is sent to it.
    client.post(
        url_of(Tenant, "change", tenant.pk),
        {
            "accepts_events": "on",
            "memberships-TOTAL_FORMS": 1,
            "memberships-INITIAL_FORMS": 1,
            "memberships-0-id": own.pk,
            "memberships-0-tenant": tenant.pk,
            "memberships-0-role": "owner",
            "memberships-0-user": f"the {role}",
        },
    )
    own.refresh_from_db()
    assert own.role == role


def test_a_tenant_keeps_an_owner() -> None:
    tenant = a_tenant()
    client = a_member(tenant, Role.OWNER)
    a_member(tenant, Role.VIEWER)
    own = tenant.memberships.get(role=Role.OWNER)
    refused = Page(client, url_of(Membership, "change", own.pk)).submit(role=Role.VIEWER)
    assert "Make somebody else the owner first." in text_of(refused)
    assert client.post(url_of(Membership, "delete", own.pk), {"post": "yes"}).status_code == 403
    page = Page(client, url_of(Tenant, "change", tenant.pk))
    place = next(name for name, value in page.values.items() if value == [str(own.pk)] and name.endswith("-id"))
    for change in ({place.replace("-id", "-role"): Role.VIEWER}, {place.replace("-id", "-DELETE"): "on"}):
        refused = Page(client, url_of(Tenant, "change", tenant.pk)).submit(**change)
        assert "Make somebody else the owner first." in text_of(refused)
    own.refresh_from_db()
    assert own.role == Role.OWNER
    second = a_member(tenant, Role.OWNER, "second")
    assert saved(Page(second, url_of(Membership, "change", own.pk)).submit(role=Role.VIEWER))


def test_who_is_no_member_any_more_sees_nothing_from_then_on() -> None:
    tenant = a_tenant()
    a_key(tenant)
    client = a_member(tenant, Role.OWNER)
    assert len(listed(client, ApiKey)) == 1
    Membership.objects.all().delete()
    assert client.get(url_of(ApiKey, "changelist")).status_code == 403
