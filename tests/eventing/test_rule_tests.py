"""Sample events of a rule: what its bus says, and what to do about it."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from eventing import aws
from eventing.models import AllowedBus, OutboxEvent
from tenants import rate_limits
from tenants.models import LedgerEntry, Permission, Tenant
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing.event_bridge import EventBridge, each, event_bridge, failed

__all__ = ["event_bridge"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tenant() -> Tenant:
    rate_limits.forget()
    tenant = a_tenant()
    a_schema(tenant)
    return tenant


@pytest.fixture
def client(tenant: Tenant) -> APIClient:
    return APIClient(headers={"X-API-Key": a_key(tenant, permissions=[Permission.MANAGE_RULES])})


def send(client: APIClient, rule: Any, body: Any = None) -> Any:
    return client.post(f"/api/mytenant/$rules/{rule.pk}/test", body, format="json")


def test_a_sample_is_sent_as_the_rule_would_and_marked(
    client: APIClient, tenant: Tenant, event_bridge: EventBridge
) -> None:
    rule = a_rule(tenant, source="shop", operations=["PUT"], filter={"status": ["sold"]}, fields={"mask": ["name"]})
    answer = send(client, rule, {"payload": {"name": "Rex", "status": "new"}}).json()
    [entry] = event_bridge.entries
    assert (entry["Source"], entry["DetailType"], entry["EventBusName"]) == ("shop", "petstore.PUT", BUS)
    assert entry["Resources"][0] == "urn:blockforger:item:mytenant:petstore:sample"
    assert entry["Resources"][1].startswith("urn:blockforger:test:")
    assert json.loads(entry["Detail"])["payload"] == {"id": "sample", "name": "***", "status": "new"}
    assert (answer["accepted"], answer["code"], answer["hint"]) == (True, None, None)
    assert answer["event_id"]
    assert not OutboxEvent.objects.exists()
    assert not LedgerEntry.objects.filter(kind="debit").exists()


def test_a_bus_that_is_missing_is_told_and_nothing_is_sent(
    client: APIClient, tenant: Tenant, event_bridge: EventBridge
) -> None:
    event_bridge.account = "720291373173"
    event_bridge.describing = lambda _: failed(400, "ResourceNotFoundException")
    answer = send(client, a_rule(tenant)).json()
    assert (answer["accepted"], answer["code"]) == (False, "ResourceNotFoundException")
    assert "aws events create-event-bus --name default" in answer["hint"]
    assert event_bridge.calls == []


def test_an_acceptance_that_proves_nothing_is_told(
    client: APIClient, tenant: Tenant, event_bridge: EventBridge
) -> None:
    event_bridge.describing = lambda _: failed(400, "AccessDeniedException")
    answer = send(client, a_rule(tenant)).json()
    assert answer["accepted"] is True
    assert "see whether the sample has arrived" in answer["hint"]


@pytest.mark.parametrize(("own", "has_principal"), [("111122223333", True), ("720291373173", False)])
def test_a_lack_of_permission_comes_with_the_policy_that_grants_it(
    client: APIClient, tenant: Tenant, event_bridge: EventBridge, own: str, has_principal: bool
) -> None:
    event_bridge.account = own
    event_bridge.answering = lambda _: failed(400, "AccessDeniedException")
    answer = send(client, a_rule(tenant)).json()
    [statement] = answer["policy"]["Statement"]
    assert statement["Resource"] == BUS
    assert "events:PutEvents" in statement["Action"]
    assert statement.get("Principal") == ({"AWS": f"arn:aws:iam::{own}:root"} if has_principal else None)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("ThrottlingException", "limits our calls"),
        ("ExpiredTokenException", "have expired"),
        ("UnrecognizedClientException", "does not accept Blockforger's credentials"),
        ("InternalFailure", "may pass"),
        ("ValidationException", "as it is"),
    ],
)
def test_other_refusals_come_with_a_hint(
    client: APIClient, tenant: Tenant, event_bridge: EventBridge, code: str, hint: str
) -> None:
    event_bridge.answering = lambda _: failed(400, code)
    answer = send(client, a_rule(tenant)).json()
    assert (answer["accepted"], answer["code"], answer["policy"]) == (False, code, None)
    assert hint in answer["hint"]


def test_an_entry_can_be_refused_in_a_good_answer(client: APIClient, tenant: Tenant, event_bridge: EventBridge) -> None:
    event_bridge.answering = lambda entries: each(entries, lambda _: "NotAuthorizedForSourceException")
    answer = send(client, a_rule(tenant)).json()
    assert "other sources or detail-types" in answer["hint"]


def test_an_endpoint_that_is_not_there_is_told(
    client: APIClient, tenant: Tenant, event_bridge: EventBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    aws.reset()
    answer = send(client, a_rule(tenant)).json()
    assert (answer["accepted"], answer["code"]) == (False, "EndpointConnectionError")
    assert "cannot be reached" in answer["hint"]


def test_a_bus_that_is_no_longer_allowed_gets_nothing(
    client: APIClient, tenant: Tenant, event_bridge: EventBridge
) -> None:
    rule = a_rule(tenant)
    AllowedBus.objects.create(tenant=tenant, arn_pattern=f"{BUS}-other")
    assert send(client, rule).json()["code"] == "BusNotAllowed"
    assert (event_bridge.calls, event_bridge.described) == ([], [])


def test_a_tenant_sends_ten_samples_a_minute(client: APIClient, tenant: Tenant, event_bridge: EventBridge) -> None:
    rule = a_rule(tenant)
    answers = [send(client, rule) for _ in range(12)]  # a minute may end in between
    assert {answer.status_code for answer in answers} <= {200, 429}
    if answers[-1].status_code == 429:
        assert int(answers[-1]["Retry-After"]) <= 60
    assert len(event_bridge.calls) >= 10


def test_what_is_not_there_cannot_be_tested(client: APIClient, tenant: Tenant, event_bridge: EventBridge) -> None:
    theirs = a_rule(a_tenant("other"))
    assert send(client, theirs).status_code == 404
    assert send(client, a_rule(tenant), {"payload": 1}).status_code == 400
    assert event_bridge.calls == []


def test_the_command_prints_the_sample_and_the_answer(tenant: Tenant, event_bridge: EventBridge) -> None:
    rule = a_rule(tenant)
    output = StringIO()
    call_command("test_rule", "mytenant", rule.pk, stdout=output)
    assert "urn:blockforger:test:" in output.getvalue()
    assert "Accepted as " in output.getvalue()
    event_bridge.answering = lambda _: failed(400, "AccessDeniedException")
    with pytest.raises(CommandError, match="events:PutEvents"):
        call_command("test_rule", "mytenant", rule.pk, stdout=output)
    with pytest.raises(CommandError, match="no rule with the id 0"):
        call_command("test_rule", "mytenant", 0, stdout=output)
    with pytest.raises(CommandError, match="no tenant"):
        call_command("test_rule", "nobody", rule.pk, stdout=output)
