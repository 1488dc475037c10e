"""What other rules would have sent for the writes of the past."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from eventing import backtests
from eventing.models import OutboxEvent
from tenants.models import Permission, Tenant
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

PETS = "/api/mytenant/petstore"


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    return tenant


@pytest.fixture
def client(tenant: Tenant) -> APIClient:
    return APIClient(headers={"X-API-Key": a_key(tenant, permissions=list(Permission))})


def write(client: APIClient) -> None:
    """A pet comes, is renamed, sold and taken away."""
    client.post(PETS, {"id": "1", "name": "Rex", "status": "available"}, format="json")
    client.patch(f"{PETS}/1", {"name": "Max"}, format="json")
    client.patch(f"{PETS}/1", {"status": "sold"}, format="json")
    client.delete(f"{PETS}/1")


def backtest(client: APIClient, *rules: dict[str, Any], **members: Any) -> Any:
    body = {"rules": [{"eventbridge_arn": BUS, **rule} for rule in rules], "schemas": {}, **members}
    answer = client.post("/api/mytenant/$rules/backtest", body, format="json")
    assert answer.status_code == 200, answer.json()
    return answer.json()


def numbers(events: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(event["sequence"], event["DetailType"]) for event in events]


def test_gains_and_losses_are_told_by_write(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant)
    write(client)
    sent = OutboxEvent.objects.count()
    found = backtest(client, {"filter": {"status": ["sold"]}}, {"source": "new", "operations": ["POST"]})
    assert (found["writes"], found["from"], found["to"], found["undecided"]) == (4, 1, 4, 0)
    assert found["events"] == {"today": 4, "then": 3}
    assert numbers(found["lost"]) == [(1, "petstore.POST"), (2, "petstore.PATCH")]
    assert numbers(found["gained"]) == [(1, "petstore.POST")]
    assert (found["gains"], found["losses"]) == (1, 2)
    assert OutboxEvent.objects.count() == sent


def test_the_same_rules_change_nothing(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant, on_change=["name"])
    a_rule(tenant, position=1)
    write(client)
    found = backtest(client, {"on_change": ["name"]}, {})
    assert (found["gains"], found["losses"], found["undecided"]) == (0, 0, 0)
    assert found["events"] == {"today": 7, "then": 7}


def test_what_is_not_known_is_counted_and_not_guessed(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant, operations=["POST", "DELETE"])
    write(client)  # the two between are not known
    found = backtest(client, {"filter": {"status": ["sold"]}})
    assert (found["writes"], found["undecided"]) == (2, 1)
    assert (found["events"], numbers(found["lost"])) == ({"today": 1, "then": 0}, [(1, "petstore.POST")])
    assert any("not known" in limit for limit in found["limits"])
    # Without conditions nothing is undecided.
    assert backtest(client, {})["undecided"] == 0


def test_a_payload_that_is_known_in_part_decides_no_condition(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant, fields={"drop": ["status"]})
    write(client)
    assert backtest(client, {"filter": {"status": ["sold"]}})["undecided"] == 4


def test_the_last_writes_are_as_many_as_were_asked_for(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant)
    write(client)
    found = backtest(client, {}, last=2)
    assert (found["writes"], found["from"], found["to"]) == (2, 3, 4)


def test_what_would_be_too_much_leaves_out_the_oldest_writes_and_says_so(
    tenant: Tenant, client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_rule(tenant)
    write(client)
    monkeypatch.setattr(backtests, "MAX_BYTES", 12_000)
    found = backtest(client, {}, {"source": "new"})
    assert (found["writes"], found["from"], found["to"], found["gains"]) == (2, 3, 4, 2)
    assert found["limits"][0].startswith("The oldest 2 of these writes are left out")
    assert not any("left out:" in limit for limit in backtest(client, last=2)["limits"])


def test_a_large_event_is_counted_and_shown_without_its_payload(tenant: Tenant, client: APIClient) -> None:
    a_rule(tenant)
    client.post(PETS, {"id": "1", "name": "R" * 20_000}, format="json")
    client.post(PETS, {"id": "2", "name": "Rex"}, format="json")
    large, small = backtest(client)["lost"]
    assert large["Detail"] == {"tenant": "mytenant", "rootSchema": "petstore", "operation": "POST"}
    assert small["Detail"]["payload"] == {"id": "2", "name": "Rex"}


def test_of_events_no_more_is_in_memory_than_is_compared(tenant: Tenant, client: APIClient) -> None:
    for position in range(3):
        a_rule(tenant, position=position)
    write(client)
    with CaptureQueriesContext(connection) as queries:
        assert backtest(client, {})["writes"] == 4
    of_outbox = [query["sql"] for query in queries if "eventing_outboxevent" in query["sql"]]
    assert len(of_outbox) == 2
    assert '"eventing_outboxevent"."detail",' not in of_outbox[0]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"rules": [{"eventbridge_arn": BUS}] * 400, "schemas": {"petstore": [{"eventbridge_arn": BUS}] * 101}}, ""),
        ({"rules": []}, ""),
        ({"rules": [], "schemas": {}, "last": 0}, "/last"),
        ({"rules": [], "schemas": {}, "last": True}, "/last"),
        ({"rules": [{"eventbridge_arn": "x"}], "schemas": {}}, "/rules/0/eventbridge_arn"),
    ],
)
def test_what_cannot_be_tried_is_told(client: APIClient, body: Any, pointer: str) -> None:
    answer = client.post("/api/mytenant/$rules/backtest", body, format="json")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, pointer)


def test_it_takes_both_permissions(tenant: Tenant) -> None:
    for permission in (Permission.MANAGE_RULES, Permission.READ_EVENTS):
        client = APIClient(headers={"X-API-Key": a_key(tenant, permissions=[permission])})
        body: Any = {"rules": [], "schemas": {}}
        assert client.post("/api/mytenant/$rules/backtest", body, format="json").status_code == 403


def test_the_command_tells_the_same(tenant: Tenant, client: APIClient, tmp_path: Path) -> None:
    a_rule(tenant)
    write(client)
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"rules": [], "schemas": {}}))
    output = StringIO()
    call_command("backtest_rules", "mytenant", "--rules", str(file), "--last", "3", stdout=output)
    assert json.loads(output.getvalue()) == backtest(client, last=3)
    for arguments, message in [
        (("nobody", "--rules", str(file)), "no tenant"),
        (("mytenant", "--rules", str(file), "--last", "0"), "--last must be"),
        (("mytenant", "--rules", str(tmp_path / "none")), "cannot be read"),
    ]:
        with pytest.raises(CommandError, match=message):
            call_command("backtest_rules", *arguments)
    file.write_text('{"rules": [{}], "schemas": {}}')
    with pytest.raises(CommandError, match="/rules/0/eventbridge_arn"):
        call_command("backtest_rules", "mytenant", "--rules", str(file))
