"""Output rules over REST."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from eventing import rule_checks, rule_documents, rule_lists
from eventing.models import AllowedBus, OutboxEvent, OutputRule
from tenants.models import LedgerEntry, Permission, Tenant
from tests.cast import BUS, FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.test_concurrency import at_once

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

RULES = "/api/mytenant/$rules"


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    return tenant


@pytest.fixture
def client(tenant: Tenant) -> APIClient:
    return APIClient(headers={"X-API-Key": a_key(tenant, permissions=[Permission.MANAGE_RULES])})


def put(client: APIClient, body: Any, **headers: str) -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return client.generic("PUT", RULES, text, content_type="application/json", headers=headers)


def rules(*sources: str, schemas: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"rules": [{"eventbridge_arn": BUS, "source": source} for source in sources], "schemas": schemas or {}}


def ids(answer: Any) -> dict[str, int]:
    return {rule["source"]: rule["id"] for rule in answer.json()["rules"]}


def test_rules_are_shown_in_their_order_the_tenants_and_each_schemas(client: APIClient, tenant: Tenant) -> None:
    second = a_rule(tenant, source="second", position=2)
    first = a_rule(tenant, source="first", position=1, operations=["POST"])
    own = a_rule(tenant, source="own", schema=tenant.schemas.get(), detail_type="x")
    a_rule(a_tenant("other"), source="theirs")
    common = {"eventbridge_arn": BUS, "detail_type": "{schema_id}.{operation}"}
    assert client.get(RULES).json() == {
        "rules": [
            {"id": first.pk, **common, "source": "first", "operations": ["POST"]},
            {"id": second.pk, **common, "source": "second"},
        ],
        "schemas": {"petstore": [{"id": own.pk, "eventbridge_arn": BUS, "source": "own", "detail_type": "x"}]},
    }


def test_all_rules_are_replaced_and_in_force_at_once(client: APIClient, tenant: Tenant) -> None:
    a_rule(tenant, source="old")
    a_rule(tenant, source="old", schema=tenant.schemas.get())
    writer = APIClient(headers={"X-API-Key": a_key(tenant)})
    writer.post("/api/mytenant/petstore", {**FLUFFY, "id": "before"}, format="json")
    own = {"petstore": [{"eventbridge_arn": BUS, "source": "own"}]}
    assert put(client, rules("a", "b", schemas=own)).status_code == 200
    writer.post("/api/mytenant/petstore", FLUFFY, format="json")
    sent = OutboxEvent.objects.order_by("sequence", "place").values_list("source", flat=True)
    assert list(sent) == ["old", "old", "a", "b", "own"]


def test_rules_in_another_order_stay_the_rules_that_they_are(client: APIClient) -> None:
    before = ids(put(client, rules("a", "b", "c", "d")))
    after = put(client, rules("d", "a", "new", "c"))
    assert [rule["source"] for rule in after.json()["rules"]] == ["d", "a", "new", "c"]
    assert {name: pk for name, pk in ids(after).items() if name != "new"} == {name: before[name] for name in "dac"}
    assert ids(after)["new"] not in before.values()


def test_rules_that_say_the_same_are_told_apart(client: APIClient) -> None:
    put(client, rules("a", "a", "b"))
    before = set(OutputRule.objects.values_list("pk", flat=True))
    answer = put(client, rules("b", "a", "a"))
    assert [rule["source"] for rule in answer.json()["rules"]] == ["b", "a", "a"]
    assert set(OutputRule.objects.values_list("pk", flat=True)) == before


def test_what_was_read_can_be_sent_again_and_changes_nothing(client: APIClient, tenant: Tenant) -> None:
    a_rule(tenant, source="first", position=5)
    a_rule(tenant, source="own", schema=tenant.schemas.get(), position=3)
    read = client.get(RULES)
    before = list(OutputRule.objects.order_by("pk").values())
    again = put(client, read.json())
    assert (again.json(), again["ETag"]) == (read.json(), read["ETag"])
    assert list(OutputRule.objects.order_by("pk").values()) == before


def test_everything_that_is_wrong_is_told_and_nothing_changes(client: APIClient, tenant: Tenant) -> None:
    a_rule(tenant)
    AllowedBus.objects.create(tenant=tenant, arn_pattern=BUS)
    other_bus = BUS.replace("default", "other")
    wrong = {
        "rules": [
            {"eventbridge_arn": BUS},
            {"eventbridge_arn": "x", "operations": ["GET"]},
            {"eventbridge_arn": BUS, "colour": 1},
            7,
        ],
        "schemas": {"petstore": [{"eventbridge_arn": other_bus}], "no/thing": [], "": 1},
    }
    before = list(OutputRule.objects.values())
    answer = put(client, wrong)
    assert (answer.status_code, answer.json()["code"]) == (400, "document-invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == [
        *("/rules/1/eventbridge_arn", "/rules/1/operations", "/rules/2/colour", "/rules/3"),
        *("/schemas/petstore/0/eventbridge_arn", "/schemas/no~1thing", "/schemas/"),
    ]
    assert list(OutputRule.objects.values()) == before


def test_a_tenant_has_so_many_rules_at_the_most_those_of_its_schemas_included(
    client: APIClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_checks, "MAX_RULES", 3)
    own = {"petstore": [{"eventbridge_arn": BUS}]}
    assert put(client, rules("a", "b", schemas=own)).status_code == 200
    refused = put(client, rules("a", "b", "c", schemas=own))
    assert (refused.status_code, refused.json()["code"]) == (400, "document-invalid")
    assert refused.json()["errors"] == [
        {
            "pointer": "",
            "detail": "These are 4 rules; a tenant has 3 at the most, those of its schemas included. Remove some, or "
            "make one of several: one rule can be for many schemas and operations.",
        }
    ]
    assert tenant.output_rules.count() == 3


def test_a_body_without_a_length_is_asked_for_one(client: APIClient, tenant: Tenant) -> None:
    a_rule(tenant)
    answer = client.put(RULES, headers={"Transfer-Encoding": "chunked"}, CONTENT_LENGTH="")
    assert (answer.status_code, answer.json()["code"]) == (411, "length-missing")
    assert OutputRule.objects.exists()


def test_a_tenant_that_has_more_rules_keeps_them_and_adds_none(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert put(client, rules("a", "b", "c", "d")).status_code == 200
    monkeypatch.setattr(rule_checks, "MAX_RULES", 2)
    assert put(client, rules("a", "b", "c", "d", "e")).status_code == 400
    assert put(client, rules("d", "c", "b", "z")).status_code == 200
    assert put(client, rules("d", "c", "b")).status_code == 200
    assert put(client, rules("d", "c", "b", "a")).status_code == 400


@pytest.mark.parametrize(
    "body",
    ["[]", "null", "", "{}", '{"rules": []}', '{"rules": [], "schemas": []}', '{"rules": [], "schemas": {}, "x": 1}'],
)
def test_a_document_of_another_form_takes_no_rules_away(client: APIClient, tenant: Tenant, body: str) -> None:
    a_rule(tenant)
    assert put(client, body).status_code == 400
    assert OutputRule.objects.count() == 1


def test_a_list_that_is_none_is_told_with_its_place(client: APIClient) -> None:
    answer = put(client, {"rules": {}, "schemas": {"petstore": None}})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/rules", "/schemas/petstore"]


def test_a_change_can_ask_for_the_rules_that_it_is_about(client: APIClient) -> None:
    first = client.get(RULES)["ETag"]
    second = put(client, rules("a"), **{"If-Match": first})
    assert second.status_code == 200
    refused = put(client, rules("b"), **{"If-Match": first})
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition-failed")
    assert client.get(RULES, headers={"If-None-Match": second["ETag"]}).status_code == 304
    assert list(OutputRule.objects.values_list("source", flat=True)) == ["a"]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks the whole database")
def test_of_changes_at_the_same_moment_one_is_whole(client: APIClient, tenant: Tenant) -> None:
    etag = client.get(RULES)["ETag"]
    answers = at_once([partial(put, client, rules(*names), **{"If-Match": etag}) for names in ("ab", "cd", "ef")])
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412]
    (done,) = [answer for answer in answers if answer.status_code == 200]
    assert client.get(RULES).json() == done.json()


def test_only_the_permission_opens_it_and_a_stranger_learns_nothing(tenant: Tenant) -> None:
    a_rule(tenant)
    others = [permission for permission in Permission if permission != Permission.MANAGE_RULES]
    without = APIClient(headers={"X-API-Key": a_key(tenant, permissions=others)})
    stranger = APIClient(headers={"X-API-Key": a_key(a_tenant("other"), permissions=list(Permission))})
    for client, status in [(without, 403), (stranger, 401), (APIClient(), 401)]:
        assert [client.get(RULES).status_code, put(client, rules()).status_code, put(client, "{").status_code] == [
            status
        ] * 3
    assert OutputRule.objects.count() == 1


def test_another_tenants_schema_and_rules_are_out_of_reach(client: APIClient, tenant: Tenant) -> None:
    other = a_tenant("other")
    theirs = a_rule(other, schema=a_schema(other, "theirs"))
    answer = put(client, rules(schemas={"theirs": [{"eventbridge_arn": BUS}]}))
    assert answer.json()["errors"][0]["pointer"] == "/schemas/theirs"
    assert put(client, {"rules": [{"id": theirs.pk, "eventbridge_arn": BUS}], "schemas": {}}).status_code == 200
    assert OutputRule.objects.get(tenant=other) == theirs
    assert OutputRule.objects.get(tenant=tenant) != theirs


def test_it_costs_no_tokens_and_few_statements(client: APIClient, tenant: Tenant) -> None:
    for position in range(5):
        a_rule(tenant, position=position)
    client.get(RULES)
    with CaptureQueriesContext(connection) as queries:
        client.get(RULES)
    assert len(queries) == 2
    assert not LedgerEntry.objects.filter(kind="debit").exists()


def test_a_plan_tells_what_moves(tenant: Tenant) -> None:
    rows = [a_rule(tenant, source=name, position=place) for place, name in enumerate("abc")]
    wanted = [rule_documents.of_row(row) for row in (rows[2], rows[1], rows[0])]
    plan = rule_lists.RulesPlan.of(rows, wanted)
    assert (plan.removed, plan.added, plan.is_empty) == ([], [], False)
    assert [line.partition(":")[0] for line in plan.lines()] == [
        "~ rule 3 becomes rule 1",
        "~ rule 1 becomes rule 3",
    ]
