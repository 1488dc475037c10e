"""A viewer of a tenant sees all that is the tenant's, is offered nothing that changes it, and changes nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client

from eventing.models import EventBus
from tenants.models import Membership, Tenant
from tests.admin_pages import Page, url_of
from tests.isolation import world
from tests.isolation.attempts import ACTIONS, ADMIN_MODELS, ADMIN_SITE
from tests.isolation.test_strangers import PAGES
from tests.isolation.world import MARK, World

if TYPE_CHECKING:
    from django.db.models import Model

pytestmark = pytest.mark.usefixtures("nudged")

# What a page has for those who may change something.
OFFERS = re.compile(
    r'name="_save|name="_addanother|/add/["?]|/delete/["?]|/rotate/"|/revoke/"|/restore/"|/switch/"|data-move|name="action"'
)

SHOWN_AGAIN = ("", "<path:object_id>/history/")


@pytest.fixture
def both(db: None) -> World:
    return world.make()


@pytest.fixture
def viewer(both: World) -> Client:
    user = User.objects.create_user("viewer", is_staff=True)
    Membership.objects.create(tenant=both.victim, user=user, role="viewer")
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("model", [model for model in world.MODELS_WITH_THE_MARK if model is not EventBus])
def test_a_viewer_sees_what_is_the_tenants(both: World, viewer: Client, model: type[Model]) -> None:
    row = both.of_victim(model)
    page = Page(viewer, url_of(model, "change", row.pk))
    assert MARK in page.text
    assert OFFERS.findall(page.text) == []
    listed: Any = viewer.get(url_of(model, "changelist"))
    assert row in listed.context["cl"].result_list
    assert OFFERS.findall(listed.content.decode()) == []
    assert "sparrow" not in listed.content.decode()


@pytest.mark.parametrize("label", ADMIN_MODELS)
def test_a_viewer_changes_nothing_of_a_model(both: World, viewer: Client, label: str) -> None:
    row = both.of_victim(apps.get_model(label))
    before = _rows(both)
    pk = str(row.pk if row else 1)
    for page in PAGES:
        url = f"/admin/{label.replace('.', '/')}/{page}".replace("<path:object_id>", pk)
        filled_in = Page(viewer, url).values if viewer.get(url).status_code == 200 else {}
        for sent in [
            {**filled_in, "post": "yes", "_continue": "1"},
            *({"action": name, "_selected_action": [pk], "index": "0", "post": "yes"} for name in ACTIONS),
        ]:
            answer = viewer.post(url, sent)
            # Lists and histories are shown again.
            assert answer.status_code in ({200, 302, 403} if page in SHOWN_AGAIN else {302, 403}), url
    assert _rows(both) == before


@pytest.mark.parametrize("route", sorted(set(ADMIN_SITE) - {"admin/password_change/", "admin/logout/"}))
def test_a_viewer_changes_nothing_elsewhere_in_the_admin(both: World, viewer: Client, route: str) -> None:
    before = _rows(both)
    for url in ADMIN_SITE[route](both):
        for sent in ({}, {"hours": "1"}):
            assert viewer.get(url).status_code < 500
            assert viewer.post(url, sent).status_code < 500
    assert _rows(both) == before


def test_no_page_of_the_viewers_offers_another_tenant(both: World, viewer: Client) -> None:
    Membership.objects.create(tenant=both.stranger, user=User.objects.get(username="viewer"), role="admin")
    answer: Any = viewer.get("/admin/tenants/apikey/add/")
    choices = answer.context["adminform"].form.fields["tenant"].queryset
    assert list(choices) == [both.stranger]
    sent = {"tenant": both.victim.pk, "name": "mine", "permissions": ["backend_calls"]}
    refused: Any = viewer.post("/admin/tenants/apikey/add/", sent)
    assert refused.context["adminform"].form.errors.keys() == {"tenant"}
    assert Tenant.objects.get(pk=both.victim.pk).api_keys.count() == 1


def _rows(both: World) -> dict[Any, str]:
    """Every row but what signing in, and looking at the set-up of one's own second factor, write."""
    shot = world.snapshot(both)
    own = ("sessions.", "otp_", "auth.User")
    return {place: text for place, text in {**shot.victims, **shot.others}.items() if not place[0].startswith(own)}
