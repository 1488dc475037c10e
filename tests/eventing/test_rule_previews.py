"""What a rule would send that is not saved yet, and how a tenant's rules are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from blockforger.backend.models import Item, Schema
from eventing import rule_overviews, rule_previews
from eventing.models import EventBus, OutputRule
from eventing.rule_previews import Preview, Wish
from tests.cast import BUS, FLUFFY, a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from tenants.models import Tenant

pytestmark = pytest.mark.django_db


def preview(tenant: Tenant, wish: Wish | None = None, **fields: Any) -> Preview:
    return rule_previews.of(OutputRule(tenant=tenant, **{"eventbridge_arn": BUS, **fields}), wish or Wish())


class TestPreviews:
    def test_the_entry_is_that_of_a_write_of_a_sample(self) -> None:
        tenant = a_tenant("mytenant")
        a_schema(tenant)
        found = preview(tenant, source="shop", fields={"mask": ["name"]})
        assert found.entry == {
            "Source": "shop",
            "DetailType": "petstore.POST",
            "EventBusName": BUS,
            "Resources": [
                "urn:blockforger:item:mytenant:petstore:example",
                "urn:blockforger:event:{id}:{sequence}",
            ],
            "Detail": {
                "tenant": "mytenant",
                "rootSchema": "petstore",
                "operation": "POST",
                "payload": {"id": "example", "name": "***", "status": "available"},
            },
        }
        assert (found.mismatch, found.schemas, found.operations) == (
            None,
            ["petstore"],
            ["POST", "PUT", "PATCH", "DELETE"],
        )

    def test_a_stored_item_is_the_sample_that_is_wished(self) -> None:
        tenant = a_tenant()
        item = Item.objects.create(schema=a_schema(tenant), key="123", payload=FLUFFY)
        found: Any = preview(tenant, Wish(operation="PUT", key="123"))
        assert (found.keys, found.key, found.payload) == (["123"], "123", FLUFFY)
        assert found.paths == ["id", "name", "status"]
        assert found.entry["Detail"]["payload"] == item.payload
        found = preview(tenant, Wish(operation="DELETE", key="123"))
        assert found.entry["Detail"]["payload"] == {"id": "123"}
        found = preview(tenant, Wish(payload={"id": "9"}))
        assert found.entry["Detail"]["payload"] == {"id": "9"}

    def test_no_item_of_another_tenants_is(self) -> None:
        Item.objects.create(schema=a_schema(a_tenant("theirs")), key="123", payload=FLUFFY)
        ours = a_tenant("ours")
        a_schema(ours)
        found = preview(ours, Wish(schema="petstore", key="123"))
        assert (found.keys, found.key) == ([], "")

    def test_what_cannot_be_wished_is_replaced(self) -> None:
        tenant = a_tenant()
        for name in ("orders", "petstore"):
            a_schema(tenant, name)
        found = preview(tenant, Wish("orders", "POST", "\0"), operations=["PUT"], schema_names=["petstore"])
        assert (found.schemas, found.schema, found.operations, found.operation) == (
            ["petstore"],
            "petstore",
            ["PUT"],
            "PUT",
        )

    @pytest.mark.parametrize(
        ("fields", "mismatch"),
        [
            ({"enabled": False}, "it is disabled"),
            ({"on_change": ["owner"]}, "nothing has changed in owner"),
            ({"on_change": ["name"]}, None),
        ],
    )
    def test_conditions_that_the_sample_does_not_meet_are_told_beside_the_entry(
        self, fields: dict[str, Any], mismatch: str | None
    ) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        found = preview(tenant, **fields)
        assert found.mismatch == mismatch
        assert found.entry is not None

    def test_so_is_a_filter(self) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        mismatch = preview(tenant, filter={"status": ["sold"]}).mismatch
        assert mismatch is not None
        assert mismatch.startswith("its filter is not met")

    def test_a_rule_for_schemas_to_come_has_one_too(self) -> None:
        tenant = a_tenant()
        found: Any = preview(tenant, schema_names=["later"])
        assert found.entry["DetailType"] == "later.POST"
        found = preview(tenant)
        assert found.entry["DetailType"] == "sample.POST"

    def test_a_rule_of_a_schema_that_names_others_only_has_none(self) -> None:
        tenant = a_tenant()
        schema = a_schema(tenant)
        a_schema(tenant, "orders")
        assert preview(tenant, schema=schema, schema_names=["orders"]).entry is None


class TestOverviews:
    def test_rules_are_shown_list_by_list_in_words(self) -> None:
        tenant = a_tenant()
        petstore, orders = a_schema(tenant), a_schema(tenant, "orders")
        EventBus.objects.create(arn=BUS, verified_at=timezone.now())
        a_rule(tenant, position=5, operations=["POST", "PUT", "DELETE"], schema_names=["orders", "petstore"])
        a_rule(
            tenant,
            position=2,
            source="shop",
            detail_type="x",
            filter={"status": ["sold"]},
            on_change=["status"],
            fields={"keep": ["status"], "mask": ["name"]},
        )
        for schema in (petstore, orders):
            a_rule(tenant, schema=schema)
        lists = rule_overviews.lists_of(tenant)
        assert [one.schema for one in lists] == [None, orders, petstore]
        first, second = lists[0].rules
        assert (first.title, second.title) == (
            "Every write of all schemas",
            "POST, PUT and DELETE of orders or petstore",
        )
        assert first.facts == [
            ("To", BUS),
            ("Source", "shop"),
            ("Detail type", "x"),
            ("Only if", '{"status":["sold"]}'),
            ("On a change of", "status"),
            ("Sends only", "status"),
            ("Masks", "name"),
        ]
        assert second.facts == [("To", BUS)]
        assert second.notes == ["goes out after the events of rule 1 for the same write; all are sent"]
        [of_orders] = lists[1].rules
        assert of_orders.title == "Every write of orders"
        assert of_orders.warnings[0].startswith("sends the same kind of event to the same bus as rule 2")

    def test_a_tenant_without_rules_has_its_own_list(self) -> None:
        [only] = rule_overviews.lists_of(a_tenant())
        assert (only.schema, only.rules) == (None, [])

    def test_many_rules_cost_no_more_queries_than_one(self) -> None:
        tenant = a_tenant()
        for name in ("a", "b"):
            for place in range(3):
                a_rule(tenant, schema=a_schema(tenant, f"{name}{place}"))
                a_rule(tenant, position=place)
            with CaptureQueriesContext(connection) as queries:
                rule_overviews.lists_of(tenant)
            assert len(queries) == 3

    def test_a_draft_is_warned_of_as_if_it_were_saved(self) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        stored = a_rule(tenant, source="shop")
        draft = OutputRule(tenant=tenant, eventbridge_arn=BUS, source="shop", schema_names=["later"])
        shown = rule_overviews.of_draft(draft)
        assert shown.number == 2
        assert shown.warnings[:2] == [
            "the tenant has no schema 'later'",
            "matches nothing until there is a schema that it names",
        ]
        assert "has got no event yet" in shown.warnings[2]
        draft.schema_names = []
        assert rule_overviews.of_draft(draft).warnings[0].startswith("sends the same kind of event")
        changed = OutputRule.objects.get(pk=stored.pk)
        changed.source = "other"
        assert [text[:20] for text in rule_overviews.of_draft(changed).warnings] == [f"{BUS} has got no event"[:20]]
        assert rule_overviews.of_draft(changed).number == 1

    def test_a_draft_does_not_tell_what_others_know_of_a_bus(self) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        EventBus.objects.create(arn=BUS, missing_since=timezone.now(), refusals=1, pause_reason="theirs")
        draft = OutputRule(tenant=tenant, eventbridge_arn=BUS)
        [warned] = rule_overviews.of_draft(draft).warnings
        assert "has got no event yet" in warned
        a_rule(tenant, enabled=False)
        [warned] = rule_overviews.of_draft(draft).warnings
        assert "does not exist" in warned

    def test_a_schema_that_is_made_at_the_same_moment_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tenant = a_tenant()
        read = rule_overviews._schemas_of

        def read_early(tenant: Tenant) -> list[Schema]:
            schemas = read(tenant)
            a_rule(tenant, schema=a_schema(tenant))
            return schemas

        monkeypatch.setattr(rule_overviews, "_schemas_of", read_early)
        [only] = rule_overviews.lists_of(tenant)
        assert (only.schema, only.rules) == (None, [])
