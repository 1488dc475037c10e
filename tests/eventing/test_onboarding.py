"""How a new tenant is led to its first event."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from eventing import onboarding
from eventing.models import EventBus, OutboxEvent, OutboxStatus
from tenants import api_keys, balances
from tenants.models import ApiKey, Role, Tenant
from tests.admin_pages import text_of
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import write
from tests.tenants.test_members import a_member

if TYPE_CHECKING:
    from eventing.onboarding import Step

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]


def steps_of(tenant: Tenant) -> list[Step]:
    return onboarding.steps(onboarding.of(tenant))


def next_of(tenant: Tenant) -> Step:
    return next(step for step in steps_of(tenant) if not step.is_done)


def arrive() -> None:
    OutboxEvent.objects.update(status=OutboxStatus.DELIVERED, delivered_at=timezone.now())


def carry_out(command: str, key: str) -> Any:
    """What a shell would do with the command, once the key is in it."""
    setting, curl = command.split("\n", 1)
    assert setting == "KEY='…'"
    words = shlex.split(curl.replace("\\\n", ""))
    headers = [words[place + 1].replace("$KEY", key) for place, word in enumerate(words) if word == "-H"]
    named = dict(header.split(": ") for header in headers)
    return APIClient().post(
        urlsplit(words[2]).path, words[words.index("-d") + 1], content_type=named.pop("Content-Type"), headers=named
    )


def test_the_way_from_schema_to_first_event() -> None:
    tenant = a_tenant()
    assert next_of(tenant).title == "Make a schema"
    a_schema(tenant)
    assert next_of(tenant).title == "Make an API key"
    key = a_key(tenant)
    assert next_of(tenant).title == "Make an output rule"
    a_rule(tenant)
    request = next_of(tenant)
    assert request.title == "Send the first request"
    assert carry_out(request.command, key).status_code == 201
    assert next_of(tenant).title == "See the first event arrive"
    assert [step.is_done for step in steps_of(tenant)] == [True, True, True, True, False]
    arrive()
    assert steps_of(tenant) == []


def test_the_command_holds_the_right_values(settings: Any) -> None:
    settings.SITE_URL = urlsplit("https://api.example/")
    tenant = a_tenant("shop")
    a_schema(tenant, "customers")
    a_schema(
        tenant,
        "orders",
        {
            "type": "object",
            "required": ["who"],
            "properties": {"who": {"const": 'Ada\'s "own"'}, "n": {"type": "number"}},
        },
        key="number",
    )
    key = a_key(tenant)
    a_rule(tenant, schema_names=["orders"])
    command = next_of(tenant).command
    assert ApiKey.objects.get().prefix in next_of(tenant).text
    assert "https://api.example/api/shop/orders" in command
    assert '-H "X-API-Key: $KEY"' in command
    answer = carry_out(command, key)
    assert answer.status_code == 201
    assert answer.json()["who"] == 'Ada\'s "own"'


def test_keys_that_may_not_call_or_no_more_do_not_count() -> None:
    tenant = a_tenant()
    a_schema(tenant)
    a_key(tenant, permissions=[])
    a_key(tenant)
    api_keys.revoke(ApiKey.objects.latest("pk"))
    a_key(tenant)
    ApiKey.objects.filter(pk=ApiKey.objects.latest("pk").pk).update(expires_at=timezone.now() - timedelta(hours=1))
    assert next_of(tenant).title == "Make an API key"


def test_a_rule_that_is_off_does_not_count() -> None:
    tenant = a_tenant()
    a_schema(tenant)
    a_key(tenant)
    a_rule(tenant, enabled=False)
    assert next_of(tenant).title == "Make an output rule"


def test_without_tokens_it_says_who_adds_them() -> None:
    tenant = a_tenant(tokens=0)
    a_schema(tenant)
    a_key(tenant)
    a_rule(tenant)
    step = next_of(tenant)
    assert step.command == ""
    assert "ask the platform's operator to add some" in step.text
    balances.top_up(tenant, amount=100, reference="first")
    assert next_of(tenant).command


def test_a_payload_that_is_only_a_guess_says_so() -> None:
    tenant = a_tenant()
    a_schema(tenant, "codes", {"properties": {"code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{9}$"}}})
    a_key(tenant)
    a_rule(tenant)
    assert "The payload is a guess from the schema: mend what the answer names." in next_of(tenant).text


@pytest.mark.parametrize(
    ("fields", "bus", "said"),
    [
        ({}, {}, f"The event is on its way to {BUS}."),
        ({"error_code": "ThrottlingException", "error_message": "Slow down."}, {}, "ThrottlingException Slow down."),
        ({"status": "dead", "error_code": "MalformedDetail"}, {}, "is dead: MalformedDetail"),
        ({}, {"pause_reason": "There is no such bus."}, f"Nothing is sent to {BUS} now: There is no such bus."),
    ],
)
def test_it_says_why_no_event_has_arrived_yet(fields: dict[str, Any], bus: dict[str, Any], said: str) -> None:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    write(tenant, a_key(tenant), "POST", "1")
    OutboxEvent.objects.update(**fields)
    if bus:
        EventBus.objects.create(arn=BUS, paused_until=timezone.now() + timedelta(hours=1), **bus)
    assert said in next_of(tenant).text


def test_a_write_that_no_rule_matched_is_said_to_be_the_reason() -> None:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant, operations=["DELETE"])
    write(tenant, a_key(tenant), "POST", "1")
    assert "The write matched no rule" in next_of(tenant).text


def test_it_does_not_come_back_when_old_events_have_had_their_time() -> None:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    write(tenant, a_key(tenant), "POST", "1")
    OutboxEvent.objects.all().delete()
    Tenant.objects.update(created_at=timezone.now() - timedelta(days=365))
    assert steps_of(Tenant.objects.get()) == []


def test_the_page_shows_it_until_it_is_done_and_offers_viewers_no_change() -> None:
    tenant = a_tenant()
    owner, viewer = a_member(tenant, Role.OWNER), a_member(tenant, Role.VIEWER)
    assert f"/admin/backend/schema/add/?tenant={tenant.pk}" in text_of(owner.get("/admin/"))
    text = text_of(viewer.get("/admin/"))
    assert "/schema/add/" not in text
    assert "An owner or admin of the tenant can do it." in text
    a_schema(tenant)
    a_rule(tenant)
    write(tenant, a_key(tenant), "POST", "1")
    assert "Watch events as they pass" in text_of(viewer.get("/admin/"))
    arrive()
    assert "To your first event" not in text_of(owner.get("/admin/"))


def test_the_links_fill_in_the_forms() -> None:
    tenant = a_tenant()
    owner = a_member(tenant, Role.OWNER)
    steps = steps_of(tenant)
    assert steps[0].link
    assert f'<option value="{tenant.pk}" selected>' in text_of(owner.get(steps[0].link[0]))
    a_schema(tenant)
    step = next_of(tenant)
    assert step.link
    text = text_of(owner.get(step.link[0]))
    assert f'<option value="{tenant.pk}" selected>' in text
    assert "checked" in text.split('value="backend_calls"')[1].split(">")[0]
    assert json.dumps(text)
