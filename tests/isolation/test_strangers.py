"""No tenant reads or changes what is another's: the table of attempts, and the proof that it leaves no door out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User

from blockforger.backend.models import Schema
from eventing.models import AllowedBus, OutputRule, Replay
from tenants.models import AllowedOrigin, Tenant
from tests.admin_pages import Page, saved, url_of
from tests.eventing.doors import Ask
from tests.eventing.event_bridge import EventBridge, event_bridge
from tests.isolation import doors, world
from tests.isolation.attempts import (
    ACTIONS,
    ADMIN_MODELS,
    ADMIN_SITE,
    AT_THE_VICTIMS_URLS,
    COMMANDS,
    COMMANDS_WITH_AWS,
    EVENTS,
    GUESSES,
    ITEM,
    ITEMS,
    LIST_QUERIES,
    REST,
)
from tests.isolation.world import GUESSED, MARK, OWNED, SHARED, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.db.models import Model
    from django.test import Client

    from tests.isolation.attempts import Attempt

__all__ = ["event_bridge"]

pytestmark = pytest.mark.usefixtures("nudged")


@pytest.fixture
def both(db: None) -> World:
    return world.make()


class TestNoDoorIsLeftOut:
    def test_every_url_has_a_row(self) -> None:
        pages = {f"page admin/{model.replace('.', '/')}/{page}" for model in ADMIN_MODELS for page in PAGES}
        rows = {attempt.door for attempt in REST} | pages | {f"page {route}" for route in ADMIN_SITE}
        assert rows == doors.urls()

    def test_every_command_has_a_row(self) -> None:
        rows = {attempt.door for attempt in COMMANDS} | {door for door, _, _ in COMMANDS_WITH_AWS}
        assert rows == doors.commands()

    def test_every_operation_of_events_has_a_row(self) -> None:
        assert {attempt.door for attempt in EVENTS} == doors.events()

    def test_every_table_is_a_tenants_or_known_to_be_shared(self) -> None:
        ours = {model._meta.label for model in apps.get_models() if model._meta.app_config.name in doors.OURS}
        assert ours == OWNED.keys() | SHARED

    @pytest.mark.django_db
    def test_the_mark_is_in_a_row_of_every_table_that_can_hold_it(self) -> None:
        both = world.make()
        marked = {label for (label, _), text in world.snapshot(both).victims.items() if MARK in text}
        # A membership and an account are numbers alone.
        assert marked == OWNED.keys() - {"tenants.Membership", "tenants.TokenAccount"}


# Of what is no item, where the word is.
READ_BY_THE_VICTIM = [
    *(
        "/api/victim/petstore/$schema",
        "/api/victim/$rules",
        "/api/victim/openapi.json",
        "/api/victim/asyncapi.json",
        "/api/victim/$events/out",
        "/api/victim/$events/in/{event}",
    ),
    *("/api/victim/$events/out/replay/{replay}", "/api/victim/$usage/entries"),
]


class TestRestAndEvents:
    @pytest.mark.parametrize("attempt", [*REST, *EVENTS], ids=str)
    def test_a_stranger_reads_and_changes_nothing(self, both: World, attempt: Attempt) -> None:
        before = world.snapshot(both)
        world.check(both, before, attempt.make(both))

    @pytest.mark.parametrize("row", AT_THE_VICTIMS_URLS, ids=lambda row: f"{row[0]} by {row[1]}")
    def test_a_stranger_cannot_tell_the_victim_from_a_tenant_that_is_not(self, both: World, row: Any) -> None:
        _, _, method, path, body, headers = row
        answer = both.rest(method, path, body, **headers)
        assert answer.status_code == 401
        nobody = both.rest(method, path.replace("victim", "nobody").replace("%76ictim", "%6eobody"), body, **headers)
        assert world.text_of(answer) == world.text_of(nobody)

    def test_the_victim_reads_what_strangers_must_not(self, both: World) -> None:
        """Or the table would prove nothing."""
        for pattern in (ITEM, ITEMS, *READ_BY_THE_VICTIM):
            path = pattern.format(event=both.event_id, replay=both.of_victim(Replay).pk)
            assert MARK in world.text_of(both.rest("GET", path, key=both.victims_key))
        recorded = both.event(Ask("PUT", {"id": GUESSED, "name": MARK}, "victim", "petstore", both.victims_key))
        assert "CARRIED_OUT" in recorded
        assert MARK in recorded
        before = world.snapshot(both)
        assert both.rest("DELETE", ITEM, key=both.victims_key).status_code == 204
        assert world.snapshot(both).victims != before.victims


# As Django routes them; the last redirects to the form.
PAGES = (
    "",
    "add/",
    "<path:object_id>/history/",
    "<path:object_id>/delete/",
    "<path:object_id>/change/",
    "<path:object_id>/",
)


class TestTheAdmin:
    @pytest.mark.parametrize("label", ADMIN_MODELS)
    def test_a_stranger_sees_and_changes_nothing_of_a_model(self, both: World, label: str) -> None:
        row = both.of_victim(apps.get_model(label))
        before = None
        for who, browser in world.browsers(both).items():
            before = before or world.snapshot(both)
            for page in PAGES:
                url = f"/admin/{label.replace('.', '/')}/{page}".replace("<path:object_id>", str((row and row.pk) or 1))
                queries = LIST_QUERIES if page == "" else ("", "?_popup=1&_to_field=id")
                answers: list[Any] = [browser.get(url + query) for query in queries]
                sent = [{"post": "yes", "_continue": "1"}, *map(self._action(row), ACTIONS)]
                answers += [browser.post(url, form) for form in sent]
                allowed = DENIED[who] | OWN[who] if page in ("", "add/") else DENIED[who]
                assert {answer.status_code for answer in answers} <= allowed, url
                world.check(both, before, *map(world.text_of, answers))

    @pytest.mark.parametrize("route", ADMIN_SITE)
    def test_a_stranger_sees_and_changes_nothing_elsewhere_in_the_admin(self, both: World, route: str) -> None:
        for browser in world.browsers(both).values():
            before = world.snapshot(both)
            for url in ADMIN_SITE[route](both):
                answers = browser.get(url, follow=True), browser.post(url, {}, follow=True)
                assert {answer.status_code < 500 for answer in answers} == {True}, url
                world.check(both, before, *map(world.text_of, answers))

    @pytest.mark.parametrize("label", ADMIN_MODELS)
    def test_no_list_answers_guesses_about_what_it_does_not_show(self, admin_client: Client, label: str) -> None:
        url = f"/admin/{label.replace('.', '/')}/"
        answers = {lookup: admin_client.get(url, {lookup: "a"}).status_code for lookup in GUESSES}
        assert answers == dict.fromkeys(GUESSES, 400)

    @pytest.mark.parametrize("model", world.MODELS_WITH_THE_MARK)
    def test_a_superuser_sees_what_strangers_must_not(
        self, both: World, admin_client: Client, model: type[Model]
    ) -> None:
        """Or the table would prove nothing."""
        assert MARK in Page(admin_client, url_of(model, "change", both.of_victim(model).pk)).text

    def test_a_tenants_page_takes_no_row_of_another_tenants(self, both: World, admin_client: Client) -> None:
        inlines = {"allowed_buses": AllowedBus, "allowed_origins": AllowedOrigin}
        for inline, model in inlines.items():
            before = world.snapshot(both)
            page = Page(admin_client, url_of(Tenant, "change", both.stranger.pk))
            page.fill_in(f"{inline}-0-", id=both.of_victim(model).pk)
            world.check(both, before, world.text_of(page.submit()))

    def test_a_stranger_learns_no_origins_by_preflights(self, both: World) -> None:
        headers = {"Origin": f"https://{MARK}s.example", "Access-Control-Request-Method": "GET"}
        victim, nobody = (both.rest("OPTIONS", f"/api/{name}/petstore", **headers) for name in ("victim", "nobody"))
        assert world.text_of(victim) == world.text_of(nobody)

    def test_a_rule_takes_no_schema_of_another_tenants(self, both: World, admin_client: Client) -> None:
        before = world.snapshot(both)
        page = Page(admin_client, f"{url_of(OutputRule, 'add')}?tenant=stranger&like={both.of_victim(OutputRule).pk}")
        response = page.submit(schema=both.of_victim(Schema).pk)
        assert not saved(response)
        world.check(both, before, world.text_of(response))

    def test_a_list_that_is_opened_for_a_tenant_shows_no_row_of_another(
        self, both: World, admin_client: Client
    ) -> None:
        for model in world.MODELS_WITH_THE_MARK:
            if model is not Tenant and model._meta.label not in SHARED:
                answer: Any = admin_client.get(url_of(model, "changelist"), {"tenant": "stranger"})
                assert MARK not in world.text_of(answer)
                assert answer.context["cl"].result_list
                answer = admin_client.get(url_of(model, "changelist"), {"tenant": "stranger", "q": GUESSED})
                assert MARK not in world.text_of(answer)

    def _action(self, row: Any) -> Callable[[str], dict[str, Any]]:
        return lambda name: {"action": name, "_selected_action": [(row and row.pk) or 1], "index": "0", "post": "yes"}


# Strangers are sent to the sign-in. Those on the staff are told so; or sent on, by a URL that names no page or no row
# of theirs; or told that there is no such field to choose by, which they are whoever they are.
DENIED = {"nobody": {302}, "member": {302}, "staff": {403, 302, 400}}
# Pages of no row show the staff what is their own.
OWN: dict[str, set[int]] = {"nobody": set(), "member": set(), "staff": {200}}


@pytest.mark.django_db(transaction=True)
class TestCommands:
    @pytest.mark.parametrize("attempt", COMMANDS, ids=str)
    def test_what_is_asked_for_one_tenant_shows_and_changes_nothing_of_another(
        self, both: World, attempt: Attempt, event_bridge: EventBridge
    ) -> None:
        before = world.snapshot(both)
        world.check(both, before, attempt.make(both))
        assert MARK not in str(event_bridge.calls)

    @pytest.mark.usefixtures("stack")
    @pytest.mark.parametrize("make", [pytest.param(make, id=f"{door} by {by}") for door, by, make in COMMANDS_WITH_AWS])
    def test_nor_does_what_needs_an_aws(self, both: World, make: Callable[[World, Path], str], tmp_path: Path) -> None:
        before = world.snapshot(both)
        world.check(both, before, make(both, tmp_path))


@pytest.mark.django_db
def test_the_staff_cannot_make_superusers_of_themselves(both: World) -> None:
    browser = world.browsers(both)["staff"]
    user = User.objects.get(username="staff")
    answer = browser.post(
        url_of(User, "change", user.pk), {"username": "staff", "is_staff": "on", "is_superuser": "on"}
    )
    assert answer.status_code == 403
    user.refresh_from_db()
    assert not user.is_superuser
