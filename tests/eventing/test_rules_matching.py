"""Which rules a write matches, in which order, and what asking costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend.models import WRITES, Schema
from eventing import rule_checks, rules
from eventing.models import OutputRule
from tests.cast import a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries

    from eventing.rules import Rule
    from tenants.models import Tenant

pytestmark = pytest.mark.django_db


def tenant_now(tenant: Tenant) -> Tenant:
    """The tenant as the next request reads it."""
    tenant.refresh_from_db()
    return tenant


def sources_of(tenant: Tenant, schema: Schema, operation: str = "POST") -> list[str]:
    """The sources of the rules that the next request matches."""
    return [rule.source for rule in rules.matching(tenant_now(tenant), schema, operation)]


@pytest.mark.parametrize(
    ("fields", "schema_name", "operation", "matches"),
    [
        # Nothing is limited.
        ({}, "petstore", "POST", True),
        ({}, "orders", "DELETE", True),
        # Operations.
        ({"operations": ["POST", "DELETE"]}, "petstore", "POST", True),
        ({"operations": ["POST", "DELETE"]}, "petstore", "PATCH", False),
        # Schemas.
        ({"schema_names": ["petstore", "orders"]}, "orders", "PUT", True),
        ({"schema_names": ["petstore", "orders"]}, "analytics", "PUT", False),
        ({"schema_names": ["petstore.json"]}, "petstore", "PUT", True),
        # A name is a name, not a pattern, a beginning or a matter of case.
        ({"schema_names": ["pet"]}, "petstore", "PUT", False),
        ({"schema_names": ["petstor."]}, "petstore", "PUT", False),
        ({"schema_names": ["Petstore"]}, "petstore", "PUT", False),
        # Both.
        ({"operations": ["PUT"], "schema_names": ["petstore"]}, "petstore", "PUT", True),
        ({"operations": ["PUT"], "schema_names": ["petstore"]}, "petstore", "POST", False),
        ({"operations": ["PUT"], "schema_names": ["petstore"]}, "orders", "PUT", False),
    ],
)
def test_a_rule_matches_by_operation_and_schema(
    fields: dict[str, Any], schema_name: str, operation: str, matches: bool
) -> None:
    tenant = a_tenant()
    a_rule(tenant, **fields)
    assert bool(rules.matching(tenant_now(tenant), a_schema(tenant, schema_name), operation)) is matches


def test_the_three_rules_of_the_specification_match_as_it_says() -> None:
    tenant = a_tenant()
    schemas = {name: a_schema(tenant, name) for name in ("petstore", "orders", "analytics", "events", "other")}
    a_rule(tenant, position=0, source="production", schema_names=["petstore", "orders"], operations=list(WRITES))
    a_rule(tenant, position=1, source="analytics", schema_names=["analytics", "events"], operations=["POST", "DELETE"])
    a_rule(tenant, position=2, source="audit", schema_names=[], operations=["DELETE"])

    assert sources_of(tenant, schemas["petstore"], "POST") == ["production"]
    assert sources_of(tenant, schemas["orders"], "PATCH") == ["production"]
    assert sources_of(tenant, schemas["petstore"], "DELETE") == ["production", "audit"]
    assert sources_of(tenant, schemas["analytics"], "POST") == ["analytics"]
    assert sources_of(tenant, schemas["events"], "PUT") == []
    assert sources_of(tenant, schemas["events"], "DELETE") == ["analytics", "audit"]
    assert sources_of(tenant, schemas["other"], "DELETE") == ["audit"]
    assert sources_of(tenant, schemas["other"], "POST") == []


def test_the_tenants_rules_come_first_by_position_and_then_the_schemas_own() -> None:
    tenant = a_tenant()
    schema = a_schema(tenant)
    a_rule(tenant, position=0, source="schema 1", schema=schema)
    a_rule(tenant, position=7, source="tenant 2")
    a_rule(tenant, position=1, source="schema 2", schema=schema)
    a_rule(tenant, position=2, source="tenant 1")
    a_rule(tenant, position=7, source="tenant 3, of the same position but younger")
    assert sources_of(tenant, schema) == [
        "tenant 1",
        "tenant 2",
        "tenant 3, of the same position but younger",
        "schema 1",
        "schema 2",
    ]


def test_a_schemas_own_rule_is_not_for_other_schemas() -> None:
    tenant = a_tenant()
    petstore, orders = a_schema(tenant, "petstore"), a_schema(tenant, "orders")
    a_rule(tenant, schema=petstore, source="of petstore")
    assert sources_of(tenant, petstore) == ["of petstore"]
    assert sources_of(tenant, orders) == []


def test_a_rule_is_not_for_other_tenants() -> None:
    ours, theirs = a_tenant("ours"), a_tenant("theirs")
    a_rule(theirs)
    assert sources_of(ours, a_schema(ours)) == []
    assert sources_of(theirs, a_schema(theirs)) == ["blockforger-output"]


def test_rules_cost_two_queries_after_a_change_and_none_otherwise(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    tenant, other = a_tenant(), a_tenant("other")
    petstore, orders = a_schema(tenant, "petstore"), a_schema(tenant, "orders")
    rule = a_rule(tenant)
    a_rule(other)
    tenant.refresh_from_db()
    with django_assert_num_queries(2):
        first = rules.matching(tenant, petstore, "POST")
    with django_assert_num_queries(0):
        assert rules.matching(tenant, petstore, "POST") == first
        assert rules.matching(tenant, orders, "DELETE") == first
    rule.save()
    tenant.refresh_from_db()
    with django_assert_num_queries(2):
        assert rules.matching(tenant, petstore, "POST") == first


def test_a_tenant_without_rules_is_cached_too(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    tenant = a_tenant()
    schema = a_schema(tenant)
    assert rules.matching(tenant, schema, "POST") == []
    with django_assert_num_queries(0):
        assert rules.matching(tenant, schema, "POST") == []


def test_every_change_of_a_rule_is_seen_by_the_next_request() -> None:
    tenant = a_tenant()
    schema = a_schema(tenant)
    assert sources_of(tenant, schema) == []
    rule = a_rule(tenant, source="first")
    assert sources_of(tenant, schema) == ["first"]
    rule.source = "second"
    rule.save()
    assert sources_of(tenant, schema) == ["second"]
    rule.delete()
    assert sources_of(tenant, schema) == []


def test_deleting_a_schema_takes_its_rules_along() -> None:
    tenant = a_tenant()
    petstore, orders = a_schema(tenant, "petstore"), a_schema(tenant, "orders")
    a_rule(tenant, schema=orders, source="of orders")
    version = tenant_now(tenant).configuration_version
    orders.delete()
    assert sources_of(tenant, petstore) == []
    assert tenant.configuration_version == version + 1


def test_a_bulk_change_is_seen_when_it_is_told() -> None:
    tenant = a_tenant()
    schema = a_schema(tenant)
    rule = a_rule(tenant, source="first")
    assert sources_of(tenant, schema) == ["first"]
    with transaction.atomic():
        OutputRule.objects.filter(pk=rule.pk).update(source="second")
        rules.changed(tenant.pk)
    assert sources_of(tenant, schema) == ["second"]


def test_rules_that_a_query_deletes_are_gone_for_the_next_request() -> None:
    tenant = a_tenant()
    schema = a_schema(tenant)
    a_rule(tenant)
    assert sources_of(tenant, schema) == ["blockforger-output"]
    tenant.output_rules.all().delete()
    assert sources_of(tenant, schema) == []


def test_what_is_cached_cannot_be_changed() -> None:
    tenant = a_tenant()
    a_rule(tenant)
    [rule] = rules.matching(tenant_now(tenant), a_schema(tenant), "POST")
    with pytest.raises(AttributeError):
        rule.source = "another"  # type: ignore[misc]
    rules.matching(tenant, a_schema(tenant, "orders"), "POST").clear()
    assert rules.of_tenant(tenant) == (rule,)


def a_cached_rule(detail_type: str) -> Rule:
    return rules.Rule.of(OutputRule(pk=1, detail_type=detail_type))


@pytest.mark.parametrize(
    ("detail_type", "rendered"),
    [
        ("{schema_id}.{operation}", "petstore.POST"),
        ("petstore.POST", "petstore.POST"),
        ("{operation} of {schema_id}, {schema_id}", "POST of petstore, petstore"),
        # All else is literal.
        ("{tenant}.{schema_id}", "{tenant}.petstore"),
        ("{{schema_id}}", "{petstore}"),
        ("{ schema_id }", "{ schema_id }"),
        ("{schema_id.__class__}", "{schema_id.__class__}"),
        ("{schema_id!r:>10}", "{schema_id!r:>10}"),
        ("{0}{}%s$operation", "{0}{}%s$operation"),
        ("{schema_id", "{schema_id"),
        ("{Schema_Id}", "{Schema_Id}"),
        ("Bestellung \\1 {operation} 🐾", "Bestellung \\1 POST 🐾"),
    ],
)
def test_a_detail_type_replaces_two_placeholders_and_nothing_else(detail_type: str, rendered: str) -> None:
    assert rules.detail_type_of(a_cached_rule(detail_type), "petstore", "POST") == rendered


@given(st.lists(st.sampled_from(["{schema_id}", "{operation}", "{", "}", "x", "\\g<1>", "{}", "é"])))
def test_a_detail_type_is_replaced_part_by_part(parts: list[str]) -> None:
    text = rule_checks.rendered("".join(parts), schema_name="s{operation}", operation="o{schema_id}")
    replaced = "".join({"{schema_id}": "s{operation}", "{operation}": "o{schema_id}"}.get(part, part) for part in parts)
    assert text == replaced
