"""What the admin's sidebar and account menu lead to, for whoever may go there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin
from django.urls import reverse

if TYPE_CHECKING:
    from django.http import HttpRequest

# By group: each list's title, its model and its icon (of Material Symbols, which unfold brings along).
GROUPS = {
    "Configuration": [
        ("Tenants", "tenants.Tenant", "apartment"),
        ("Schemas", "backend.Schema", "schema"),
        ("Output rules", "eventing.OutputRule", "alt_route"),
        ("Rule history", "eventing.RuleChange", "history"),
        ("API keys", "tenants.ApiKey", "key"),
    ],
    "Data": [("Items", "backend.Item", "database")],
    "Events": [
        ("Outbox", "eventing.OutboxEvent", "outbox"),
        ("Inbox", "backend.OperationRecord", "inbox"),
        ("Replays", "eventing.Replay", "replay"),
    ],
    "Account": [
        ("Tokens", "tenants.TokenAccount", "toll"),
        ("Ledger", "tenants.LedgerEntry", "receipt_long"),
        ("Members", "tenants.Membership", "group"),
    ],
    "Platform": [
        ("Event buses", "eventing.EventBus", "directions_bus"),
        ("Lanes", "eventing.Lane", "splitscreen"),
        ("Users", "auth.User", "person"),
    ],
}


def groups(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: the lists that the user may see, in their groups."""
    overview = {"items": [{"title": "Overview", "icon": "space_dashboard", "link": reverse("admin:index")}]}
    found = [{"title": title, "items": _links(lists, request)} for title, lists in GROUPS.items()]
    return [overview, *(group for group in found if group["items"])]


def account(request: HttpRequest) -> list[dict[str, str]]:  # noqa: ARG001 - unfold's
    """The menu of the user's own things."""
    return [
        {"title": "Two-factor sign-in", "link": reverse("admin:two_factor")},
        {"title": "Change password", "link": reverse("admin:password_change")},
    ]


def _links(lists: list[tuple[str, str, str]], request: HttpRequest) -> list[dict[str, str]]:
    links = []
    for title, label, icon in lists:
        model = apps.get_model(label)
        if admin.site.get_model_admin(model).has_view_permission(request):
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"  # noqa: SLF001 - Django's way
            links.append({"title": title, "icon": icon, "link": reverse(name)})
    return links
