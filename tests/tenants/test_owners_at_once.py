"""A tenant keeps an owner, whatever its owners do to each other at the same moment."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from tenants import members
from tenants.models import Membership, Role, Tenant
from tests.admin_pages import Page, act, text_of, url_of
from tests.cast import a_tenant
from tests.eventing.test_concurrency import at_once
from tests.tenants.test_members import a_member

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


def by_the_members_page(page: Page, of: Membership) -> Any:
    return page.submit(role=Role.VIEWER)


def by_the_tenants_page(page: Page, of: Membership) -> Any:
    place = next(name for name, value in page.values.items() if value == [str(of.pk)] and name.endswith("-id"))
    return page.submit(**{place.replace("-id", "-role"): Role.VIEWER})


def by_deletion(page: Page, of: Membership) -> Any:
    return page.client.post(url_of(Membership, "delete", of.pk), {"post": "yes"})


def by_the_list(page: Page, of: Membership) -> Any:
    data = {"action": "delete_selected", "_selected_action": [of.pk], "index": "0", "post": "yes"}
    return page.client.post(url_of(Membership, "changelist"), data)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (by_the_members_page, by_the_members_page),
        (by_the_tenants_page, by_the_members_page),
        (by_deletion, by_the_list),
        (by_the_list, by_the_tenants_page),
    ],
)
def test_owners_who_remove_each_other_at_the_same_moment_leave_one(
    first: Callable[..., Any], second: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = a_tenant()
    clients = [a_member(tenant, Role.OWNER, name) for name in ("ada", "ben")]
    victims = [tenant.memberships.get(user__username=name) for name in ("ben", "ada")]
    asked, another_asks = members.keeps_an_owner, threading.Event()
    # Only a while: with a lock, the other asks later.
    patience = iter([1])

    def held_up(*args: Any, **kwargs: Any) -> bool:
        """Whoever asks first in a change waits for the other to have asked, too."""
        answer = asked(*args, **kwargs)
        if connection.in_atomic_block:
            if seconds := next(patience, 0):
                another_asks.wait(seconds)
            else:
                another_asks.set()
        return answer

    pages = []
    for way, client, victim in zip((first, second), clients, victims, strict=True):
        model, row = (Tenant, tenant) if way is by_the_tenants_page else (Membership, victim)
        pages.append(Page(client, url_of(model, "change", row.pk)))
    monkeypatch.setattr(members, "keeps_an_owner", held_up)
    at_once([partial(first, pages[0], victims[0]), partial(second, pages[1], victims[1])])
    assert tenant.memberships.filter(role=Role.OWNER).count() == 1


def test_the_last_owners_are_not_deleted_together() -> None:
    tenant = a_tenant()
    client = a_member(tenant, Role.OWNER, "ada")
    a_member(tenant, Role.OWNER, "ben")
    a_member(tenant, Role.VIEWER)
    refused = act(client, "delete_selected", *tenant.memberships.all())
    assert "make somebody else the owner first" in text_of(refused)
    data = {"action": "delete_selected", "_selected_action": list(tenant.memberships.values_list("pk", flat=True))}
    client.post(url_of(Membership, "changelist"), {**data, "index": "0", "post": "yes"})
    assert tenant.memberships.count() == 3
    act(client, "delete_selected", tenant.memberships.get(user__username="ben"))
    client.post(
        url_of(Membership, "changelist"),
        {**data, "_selected_action": [tenant.memberships.get(user__username="ben").pk], "index": "0", "post": "yes"},
    )
    assert tenant.memberships.filter(role=Role.OWNER).count() == 1
