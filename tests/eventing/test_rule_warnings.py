"""What is told of rules that may not mean what they say."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from rest_framework.test import APIClient

from eventing import rule_documents, rule_warnings
from eventing.models import EventBus
from tenants.models import Permission
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing.tenant_folders import a_folder

if TYPE_CHECKING:
    from pathlib import Path

PET: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "price": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
        "owner": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def told(*written: dict[str, Any], schema: str | None = None) -> list[str]:
    """The warnings about rules of a tenant with the schemas `orders` and `pets`."""
    documents, problems = rule_documents.read([{"eventbridge_arn": BUS, **rule} for rule in written])
    assert problems == []
    paths = {name: rule_warnings.paths_of(PET, "id") for name in ("orders", "pets")}
    rules = rule_warnings.owned({schema: documents})
    return list(map(str, [*rule_warnings.of_rules(rules, paths), *rule_warnings.of_pairs(rules, paths)]))


def test_each_bus_is_told_once_in_the_order_of_the_rules() -> None:
    other, third = (f"{BUS}-{name}" for name in ("a", "z"))
    arns = [third, BUS, third, other, BUS]
    documents, _ = rule_documents.read(
        [{"eventbridge_arn": arn, "enabled": place > 0} for place, arn in enumerate(arns)]
    )
    found = rule_warnings.of_buses(rule_warnings.owned({None: documents}), {})
    assert [(warned.rule.place, warned.message.split()[0]) for warned in found] == [(1, BUS), (2, third), (3, other)]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"schema_names": ["pets"]},
        {"filter": {"name": ["x", 1], "price": [{"numeric": [">", 1]}], "tags": [{"prefix": "x"}]}},
        {"filter": {"owner": {"city": [{"anything-but": "Bonn"}]}, "lines": {"sku": ["a"]}, "id": ["1"]}},
        {"filter": {"nothing": [{"exists": False}]}},
        {"on_change": ["price", "owner", "lines.sku"], "fields": {"keep": ["owner.city", "lines.sku.x"]}},
        # One that rests is left in peace.
        {"enabled": False, "schema_names": ["unknown"], "filter": {"colour": ["x"]}},
    ],
)
def test_a_rule_that_means_something_is_not_warned_of(rule: dict[str, Any]) -> None:
    assert told(rule) == []


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"schema_names": ["cats", "pets"]}, "rule 1: the tenant has no schema 'cats'"),
        ({"filter": {"colour": ["x"]}}, "rule 1: filter: no schema that it is for knows the path 'colour'"),
        (
            {"filter": {"price": ["100"]}},
            "rule 1: filter: 'price' never meets its conditions, for the schema has values of another type there",
        ),
        (
            {"filter": {"$or": [{"name": [{"numeric": [">", 1]}, None]}, {"price": [1]}]}},
            "rule 1: filter: 'name' never meets its conditions, for the schema has values of another type there",
        ),
        ({"on_change": ["owner.zip"]}, "rule 1: on_change: no schema that it is for knows the path 'owner.zip'"),
        ({"fields": {"mask": ["pin"]}}, "rule 1: mask: no schema that it is for knows the path 'pin'"),
    ],
)
def test_a_rule_that_may_mean_nothing_is_warned_of(rule: dict[str, Any], message: str) -> None:
    assert told(rule) == [message]


def test_a_rule_for_schemas_that_are_not_there_is_warned_of() -> None:
    assert told({"schema_names": ["cats"]}) == [
        "rule 1: the tenant has no schema 'cats'",
        "rule 1: matches nothing until there is a schema that it names",
    ]


def test_a_rule_is_told_to_be_later_than_those_of_the_same_writes_and_shadowed_by_none() -> None:
    one = {"operations": ["POST"], "schema_names": ["pets"]}
    written: list[dict[str, Any]] = [{}, {"operations": ["PUT"]}, one, {"enabled": False}, {}]
    documents, _ = rule_documents.read([{"eventbridge_arn": BUS, **rule} for rule in written])
    paths = {name: rule_warnings.paths_of(PET, "id") for name in ("orders", "pets")}
    assert list(map(str, rule_warnings.of_order(rule_warnings.owned({None: documents}), paths))) == [
        "rule 2: goes out after the events of rule 1 for the same write; all are sent",
        "rule 3: goes out after the events of rule 1 for the same write; all are sent",
        "rule 5: goes out after the events of rule 1, rule 2, rule 3 for the same write; all are sent",
    ]


def test_a_schemas_rule_for_other_schemas_only_is_warned_of() -> None:
    assert told({"schema_names": ["orders"]}, schema="pets") == [
        "schema pets, rule 1: matches nothing, for it names other schemas only"
    ]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            {},
            {"operations": ["PUT"]},
            "sends the same kind of event to the same bus as rule 1, and later: for PUT of orders",
        ),
        (
            {"filter": {"price": [1]}, "schema_names": ["pets"]},
            {"detail_type": "pets.{operation}"},
            "may send the same kind of event to the same bus as rule 1, and later: for POST of pets",
        ),
        ({}, {"source": "other"}, None),
        ({"operations": ["POST"]}, {"operations": ["PUT"]}, None),
        ({"schema_names": ["orders"]}, {"schema_names": ["pets"]}, None),
        ({}, {"enabled": False}, None),
        ({}, {"eventbridge_arn": f"{BUS}-other"}, None),
    ],
)
def test_what_is_sent_twice_is_warned_of(first: Any, second: Any, message: str | None) -> None:
    assert told(first, second) == ([f"rule 2: {message}, for one"] if message else [])


@pytest.mark.django_db(transaction=True)
class TestWhereTheyAreShown:
    def test_an_explanation_has_them_with_what_is_known_of_the_buses(self) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        a_rule(tenant, source="a", filter={"colour": ["red"]})
        a_rule(tenant, source="b", position=1, eventbridge_arn=f"{BUS}-gone")
        a_rule(tenant, source="c", position=2, eventbridge_arn=f"{BUS}-good")
        EventBus.objects.create(arn=f"{BUS}-gone", missing_since=timezone.now())
        EventBus.objects.create(arn=f"{BUS}-good", verified_at=timezone.now())
        expected = [
            "rule 1: filter: no schema that it is for knows the path 'colour'",
            f"rule 1: {BUS} has got no event yet, so nobody knows whether it takes any; test the rule",
            f"rule 2: {BUS}-gone does not exist; its events wait",
        ]
        client = APIClient(headers={"X-API-Key": a_key(tenant, permissions=[Permission.MANAGE_RULES])})
        body = {"schema": "petstore", "operation": "POST"}
        assert client.post("/api/mytenant/$rules/explain", body, format="json").json()["warnings"] == expected
        errors = StringIO()
        call_command("explain_rules", "mytenant", "petstore", "POST", stdout=StringIO(), stderr=errors)
        assert errors.getvalue().splitlines() == [f"Warning: {message}." for message in expected]

    def test_a_dry_run_of_an_import_has_them(self, tmp_path: Path) -> None:
        rule = {"eventbridge_arn": BUS, "filter": {"price": ["1"]}}
        folder = a_folder(tmp_path, "acme", properties=f"eventbridge-output={json.dumps([rule])}", pets=PET)
        output = StringIO()
        call_command("import_tenant_properties", str(folder), "--dry-run", stdout=output)
        assert "  ! rule 1: filter: 'price' never meets its conditions" in output.getvalue()
        assert f"  ! rule 1: {BUS} has got no event yet" in output.getvalue()
