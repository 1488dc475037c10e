"""The admin's pages of output rules, as a member's browser asks for them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from eventing.models import OutputRule, RuleChange
from tenants.models import Membership, Role, Tenant
from tests.admin_pages import Page, url_of

ORDERS = "arn:aws:events:eu-central-1:111111111111:event-bus/orders"
PREVIEW, ORDER = "/admin/eventing/outputrule/preview/", "/admin/eventing/outputrule/order/"
OUTSIDE = [Role.VIEWER, None]


def a_member(tenant: Tenant, role: Role | None) -> Client:
    """The browser of a member; of nobody's, without a role."""
    user = User.objects.create_user(f"the {role}", is_staff=True)
    if role:
        Membership.objects.create(tenant=tenant, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def version_of(tenant: Tenant) -> int:
    return Tenant.objects.get(pk=tenant.pk).configuration_version


def page_of(client: Client, rule: OutputRule) -> Page:
    return Page(client, url_of(OutputRule, "change", rule.pk))


def new_page(client: Client, tenant: Tenant, like: OutputRule | None = None) -> Page:
    clone = f"&like={like.pk}" if like else ""
    return Page(client, f"{url_of(OutputRule, 'add')}?tenant={tenant.name}{clone}")


def order(client: Client, tenant: Tenant, seen: list[int], wanted: list[int], schema: object = "") -> Any:
    sent = {"tenant": tenant.name, "schema": schema, "seen": str(seen)[1:-1], "wanted": str(wanted)[1:-1]}
    return client.post(ORDER, {name: str(value).replace(" ", "") for name, value in sent.items()})


def switch(client: Client, rule: OutputRule, on: str) -> Any:
    return client.post(f"/admin/eventing/outputrule/{rule.pk}/switch/", {"on": on})


def restore(client: Client, entry: RuleChange) -> Any:
    return client.post(f"/admin/eventing/rulechange/{entry.pk}/restore/", follow=True)


def in_order(tenant: Tenant) -> list[int]:
    return list(tenant.output_rules.order_by("position", "id").values_list("pk", flat=True))


def history() -> list[tuple[str, str]]:
    return list(RuleChange.objects.order_by("id").values_list("what", "who"))
