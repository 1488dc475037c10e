"""The admin as people meet it: accessible, usable on a small screen, complete without an outside network."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client

from blockforger.backend.models import Schema
from eventing.models import Replay
from tenants.models import ApiKey, Membership, Tenant, TokenAccount
from tests.admin_pages import url_of
from tests.cast import a_key, a_tenant, the_caller
from tests.isolation import world
from tests.isolation.attempts import ADMIN_MODELS
from tests.tenants.test_sign_in import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import Model
    from playwright.sync_api import Browser, Locator, Page, Request
    from pytest_django.live_server_helper import LiveServer

    from tests.isolation.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

DESKTOP, PHONE = (1280, 900), (390, 844)
SERIOUS = ("serious", "critical")


@contextmanager
def signed_in(
    chromium: Browser, server: LiveServer, user: User | None, size: tuple[int, int] = DESKTOP, theme: str = "light"
) -> Iterator[Page]:
    """A page of a browser in which the user is signed in. Nothing on it may have failed when it is left."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
    )
    if user:
        client = Client()
        client.force_login(user)
        cookie = client.cookies["sessionid"].value
        context.add_cookies([{"name": "sessionid", "value": cookie, "domain": "localhost", "path": "/admin/"}])
    context.set_default_timeout(15_000)
    page = context.new_page()
    said: list[str] = []
    page.on(
        "console",
        lambda message: (
            said.append(f"{message.text} {message.location}") if message.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url}") if failed(request) else None)
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith(own(server)) else None)
    yield page
    context.close()
    assert said == [], "\n".join(said)


def failed(request: Request) -> bool:
    """Whether it was not the page itself that broke the request off, by leaving or by closing a stream."""
    return request.failure != "net::ERR_ABORTED"


def own(server: LiveServer) -> tuple[str, ...]:
    return (server.url, "data:")


def opened(page: Page, server: LiveServer, path: str) -> Page:
    page.goto(server.url + path)
    page.wait_for_function("!document.querySelector('[x-cloak]')")
    return page


def press(page: Page, what: str | Locator) -> None:
    """Press what leads to another page, and see that page whole. A bare click may return before it is there."""
    with page.expect_navigation(wait_until="load"):
        (page.locator(what).first if isinstance(what, str) else what).click()
    page.wait_for_function("!document.querySelector('[x-cloak]')")


def problems(page: Page) -> list[str]:
    """What axe finds that keeps people out, and whether the page is wider than the screen."""
    found = Axe().run(page).response["violations"]
    texts = [
        f"{page.url}: {violation['id']}: {node['target']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        texts.append(f"{page.url}: wider than the screen")
    return texts


def paths_of(both: World, label: str) -> list[str]:
    """The pages of a model that there are for an operator."""
    model = apps.get_model(label)
    row: Any = both.of_victim(model) or User.objects.create_user("somebody")
    pages = [url_of(model, "changelist"), url_of(model, "change", row.pk), url_of(model, "history", row.pk)]
    site: Any = admin.site.get_model_admin(model)
    request = type("Request", (), {"user": User(pk=0, is_superuser=True)})()
    if site.has_add_permission(request):
        pages.append(url_of(model, "add"))
    if site.has_delete_permission(request, row):
        pages.append(url_of(model, "delete", row.pk))
    if model is ApiKey:
        pages += [f"{url_of(model, 'changelist')}{row.pk}/{verb}/" for verb in ("rotate", "revoke")]
    return [*pages, f"{url_of(model, 'changelist')}?q=nothing-of-the-kind"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("label", ADMIN_MODELS)
def test_every_page_of_a_model_is_accessible_at_every_width(
    chromium: Browser, live_server: LiveServer, label: str, theme: str
) -> None:
    both = world.make()
    operator = User.objects.create_superuser("operator")
    paths = paths_of(both, label)
    found: list[str] = []
    with signed_in(chromium, live_server, operator, DESKTOP, theme) as page:
        for path in paths:
            found += problems(opened(page, live_server, path))
            page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
            found += problems(page)
            page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    assert found == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_every_other_page_is_too(chromium: Browser, live_server: LiveServer, size: tuple[int, int], theme: str) -> None:
    owner = User.objects.create_user("owner", is_staff=True)
    Membership.objects.create(tenant=Tenant.objects.create(name="new"), user=owner, role="owner")
    found: list[str] = []
    with signed_in(chromium, live_server, None, size, theme) as page:
        found += problems(opened(page, live_server, "/admin/login/"))
    with signed_in(chromium, live_server, owner, size, theme) as page:
        for path in ("/admin/", "/admin/password_change/", "/admin/two-factor/set-up/", "/admin/tenants/"):
            found += problems(opened(page, live_server, path))
        # Lists in which there is nothing yet say what to do.
        empty: tuple[type[Model], ...] = (ApiKey, TokenAccount, Schema, Replay)
        for model in empty:
            shown: Any = admin.site.get_model_admin(model)
            found += problems(opened(page, live_server, url_of(model, "changelist")))
            assert shown.empty_text in page.inner_text("#content")
    assert found == []


def test_a_person_sets_up_a_second_factor_and_is_asked_for_it(chromium: Browser, live_server: LiveServer) -> None:
    user = User.objects.create_superuser("operator")
    with signed_in(chromium, live_server, user) as page:
        opened(page, live_server, "/admin/two-factor/set-up/")
        page.fill("#id_code", code_of(user))
        press(page, "text=Turn it on")
        assert len(page.inner_text("#recovery-codes").split()) == 10
        found = problems(page)
        found += problems(opened(page, live_server, "/admin/two-factor/"))
    with signed_in(chromium, live_server, user) as page:
        opened(page, live_server, "/admin/")
        assert "Enter the code that your authenticator app shows" in page.inner_text("body")
        found += problems(page)
        page.fill("#id_code", code_of(user, ahead=1))
        press(page, "text=Go on")
        assert page.url == f"{live_server.url}/admin/"
    assert found == []


def test_a_new_key_is_copied(chromium: Browser, live_server: LiveServer) -> None:
    user = User.objects.create_superuser("operator")
    a_key(a_tenant())
    with signed_in(chromium, live_server, user) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        opened(page, live_server, f"/admin/tenants/apikey/{ApiKey.objects.get().pk}/rotate/")
        press(page, "button:has-text('Rotate')")
        found = problems(page)
        page.click("text=Copy >> nth=-1")
        page.wait_for_selector("text=Copied")
        key = page.evaluate("navigator.clipboard.readText()")
    assert the_caller(key).name == "test"
    assert found == []
