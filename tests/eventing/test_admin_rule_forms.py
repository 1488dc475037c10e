"""The admin of output rules: a rule beside what it sends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from blockforger.backend.models import Item
from eventing import rule_checks, rule_documents, rule_edits
from eventing.models import AllowedBus, EventBus, OutputRule
from tenants.models import Role
from tests.admin_pages import errors_of, saved, text_of, url_of
from tests.cast import BUS, FLUFFY, UNCONDITIONAL, a_rule, a_schema, a_tenant
from tests.eventing.rule_pages import (
    ORDERS,
    PREVIEW,
    a_member,
    history,
    new_page,
    page_of,
    version_of,
)

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django import Settings

pytestmark = pytest.mark.django_db


class TestForm:
    def test_a_new_rule_is_filled_in_and_comes_last(self, admin_client: Client, settings: Settings) -> None:
        settings.BLOCKFORGER_DEFAULT_BUS_ARN = ORDERS
        tenant = a_tenant()
        a_rule(tenant, position=4)
        assert saved(new_page(admin_client, tenant).submit())
        rule = OutputRule.objects.latest("id")
        assert (rule.tenant, rule.schema, rule.position) == (tenant, None, 5)
        assert rule_documents.of_row(rule) == {
            "eventbridge_arn": ORDERS,
            "source": "blockforger-output",
            "detail_type": "{schema_id}.{operation}",
            "operations": [],
            "schema_names": [],
            **UNCONDITIONAL,
        }
        assert history() == [("added", "admin")]

    def test_everything_that_a_rule_can_say_is_written_and_read(self, admin_client: Client) -> None:
        tenant = a_tenant()
        schema = a_schema(tenant)
        page = new_page(admin_client, tenant)
        said = {
            "schema": schema.pk,
            "operations": ["POST", "DELETE"],
            "schema_names": ["petstore"],
            "filter": '{"status": ["sold"]}',
            "on_change": "status\r\n\r\n owner.city ",
            "drop": "notes",
            "mask": "name\nowner",
        }
        assert saved(page.submit(**said))
        rule = OutputRule.objects.get()
        assert rule.schema == schema
        assert (rule.operations, rule.schema_names) == (["POST", "DELETE"], ["petstore"])
        assert (rule.filter, rule.on_change) == ({"status": ["sold"]}, ["status", "owner.city"])
        assert rule.fields == {"drop": ["notes"], "mask": ["name", "owner"]}
        version = version_of(tenant)
        assert saved(page_of(admin_client, rule).submit())
        assert rule_documents.of_row(rule) == rule_documents.of_row(OutputRule.objects.get())
        assert version_of(tenant) == version

    def test_a_rule_chooses_among_the_schemas_of_its_tenant(self, admin_client: Client) -> None:
        tenant = a_tenant("ours")
        a_schema(tenant)
        theirs = a_schema(a_tenant("theirs"), "secrets")
        page = new_page(admin_client, tenant)
        assert "secrets" not in page.text
        assert errors_of(page.submit(schema=theirs.pk, schema_names=["secrets"])).keys() == {"schema", "schema_names"}

    def test_the_name_of_a_schema_that_is_not_there_yet_is_kept(self, admin_client: Client) -> None:
        rule = a_rule(a_tenant(), schema_names=["later"])
        assert saved(page_of(admin_client, rule).submit(source="shop"))
        rule.refresh_from_db()
        assert (rule.source, rule.schema_names) == ("shop", ["later"])

    @pytest.mark.parametrize(
        ("values", "problems"),
        [
            ({"eventbridge_arn": "arn:aws:sqs"}, {"eventbridge_arn": "'arn:aws:sqs' is not the ARN of an event bus."}),
            ({"source": "aws.x"}, {"source": "EventBridge keeps sources that begin with 'aws.'"}),
            ({"detail_type": "{schema_id}" * 5}, {"detail_type": "For the longest schema name and operation"}),
            ({"operations": ["GET"]}, {"operations": "Select a valid choice."}),
            ({"filter": "{"}, {"filter": ""}),
            ({"filter": '{"a": 1}'}, {"filter": "/a: "}),
            ({"on_change": "/a"}, {"on_change": "'/a' looks like a JSON Pointer. Write the path with dots"}),
            ({"keep": "a", "drop": "b"}, {"drop": "Use keep or drop, not both"}),
            ({"mask": "a\na"}, {"mask": "'a' stands there more than once. Name it once."}),
        ],
    )
    def test_what_is_wrong_is_told_at_its_field(
        self, admin_client: Client, values: dict[str, Any], problems: dict[str, str]
    ) -> None:
        rule = a_rule(a_tenant())
        page = page_of(admin_client, rule)
        errors = errors_of(page.submit(**values))
        assert errors.keys() == problems.keys()
        for name, problem in problems.items():
            assert errors[name][0].startswith(problem)
        told = admin_client.post(f"{PREVIEW}?rule={rule.pk}", {**page.values, **values}).json()
        assert told == {"errors": errors}
        assert history() == []

    def test_a_bus_that_the_tenant_may_not_name_is_refused_and_others_are_offered(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_rule(tenant)
        for pattern in (ORDERS, "arn:aws:events:eu-west-1:*"):
            AllowedBus.objects.create(tenant=tenant, arn_pattern=pattern)
        page = new_page(admin_client, tenant)
        assert f'<option value="{ORDERS}">' in page.text
        assert "orders (eu-central-1, 111111111111)" in page.text
        assert f'<option value="{BUS}">' not in page.text
        assert f"Allowed: {ORDERS}, arn:aws:events:eu-west-1:*" in page.text
        [problem] = errors_of(page.submit(eventbridge_arn=BUS))["eventbridge_arn"]
        assert problem.startswith("The tenant may not name the bus")
        assert saved(page.submit(eventbridge_arn=ORDERS))

    def test_what_somebody_else_has_saved_meanwhile_is_not_overwritten(self, admin_client: Client) -> None:
        rule = a_rule(a_tenant())
        page = page_of(admin_client, rule)
        rule.source = "hers"
        rule_edits.change(rule, who="ada")
        [problem] = errors_of(page.submit(source="mine"))["__all__"]
        assert problem.startswith("ada has changed this rule since you opened it.")
        assert OutputRule.objects.get().source == "hers"

    def test_a_new_order_does_not_get_in_the_way(self, admin_client: Client) -> None:
        rule = a_rule(a_tenant())
        page = page_of(admin_client, rule)
        OutputRule.objects.update(position=7)
        assert saved(page.submit(source="mine"))
        assert OutputRule.objects.values_list("source", "position").get() == ("mine", 7)

    def test_a_clone_begins_as_the_other_and_is_saved_by_a_person(self, admin_client: Client) -> None:
        tenant = a_tenant("ours")
        schema = a_schema(tenant)
        rule = a_rule(
            tenant, schema=schema, source="shop", schema_names=["later"], fields={"mask": ["name"]}, on_change=["a"]
        )
        page = new_page(admin_client, tenant, like=rule)
        assert OutputRule.objects.count() == 1
        assert saved(page.submit(source="other"))
        clone = OutputRule.objects.latest("id")
        assert (clone.schema, clone.position) == (schema, 1)
        assert rule_documents.of_row(clone) == {**rule_documents.of_row(rule), "source": "other"}

    def test_a_tenant_with_as_many_rules_as_it_may_have_gets_no_other(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rule_checks, "MAX_RULES", 1)
        tenant = a_tenant()
        rule = a_rule(tenant)
        for page in (new_page(admin_client, tenant), new_page(admin_client, tenant, like=rule)):
            answer = page.submit(eventbridge_arn=ORDERS)
            assert "These are 2 rules; a tenant has 1 at the most" in text_of(answer)
        assert saved(page_of(admin_client, rule).submit(source="shop"))
        assert OutputRule.objects.get().source == "shop"

    def test_a_rule_of_another_tenant_is_not_cloned(self) -> None:
        ours = a_tenant("ours")
        theirs = a_rule(a_tenant("theirs"), source="secret")
        assert "secret" not in new_page(a_member(ours, Role.ADMIN), ours, like=theirs).text

    def test_who_does_not_say_for_which_tenant_is_told_where_to_begin(self, admin_client: Client) -> None:
        a_tenant()
        for query in ("", "?tenant=nobody"):
            answer = admin_client.get(url_of(OutputRule, "add") + query, follow=True)
            assert "Open the tenant that the rule is for" in text_of(answer)

    def test_a_rule_is_deleted(self, admin_client: Client) -> None:
        rule = a_rule(a_tenant())
        assert admin_client.post(url_of(OutputRule, "delete", rule.pk), {"post": "yes"}).status_code == 302
        assert not OutputRule.objects.exists()
        assert history() == [("removed", "admin")]

    def test_many_rules_and_schemas_cost_no_more_queries_than_one(self, admin_client: Client) -> None:
        tenant = a_tenant()
        counts = []
        for name in ("a", "b"):
            rule = a_rule(tenant, schema_names=[name])
            a_schema(tenant, name)
            values = page_of(admin_client, rule).values
            with CaptureQueriesContext(connection) as queries:
                page_of(admin_client, rule)
                admin_client.post(f"{PREVIEW}?rule={rule.pk}", values)
            counts.append(len(queries))
        assert counts[0] == counts[1]

    def test_a_viewer_sees_all_of_it(self) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant, source="shop", on_change=["status"], fields={"keep": ["name"]}, filter={"a": ["b"]})
        AllowedBus.objects.create(tenant=tenant, arn_pattern=BUS)
        page = page_of(a_member(tenant, Role.VIEWER), rule)
        for shown in (BUS, "shop", "status", "keep"):
            assert shown in page.text
        assert "csrfmiddlewaretoken" in page.values
        assert "source" not in page.values


class TestPreview:
    def ask(self, client: Client, rule: OutputRule, **values: Any) -> Any:
        page = page_of(client, rule)
        return client.post(f"{PREVIEW}?rule={rule.pk}", {**page.values, **values})

    def test_it_is_the_event_of_the_form_and_nothing_is_saved(self, admin_client: Client) -> None:
        tenant = a_tenant("mytenant")
        Item.objects.create(schema=a_schema(tenant), key="123", payload=FLUFFY)
        rule = a_rule(tenant)
        told = self.ask(admin_client, rule, source="shop", mask="name", sample_key="123", sample_operation="PUT").json()
        entry = json.loads(told["entry"])
        assert (entry["Source"], entry["DetailType"], entry["EventBusName"]) == ("shop", "petstore.PUT", BUS)
        assert entry["Detail"]["payload"] == {**FLUFFY, "name": "***"}
        assert (told["errors"], told["mismatch"], told["key"]) == ({}, None, "123")
        assert "has got no event yet" in told["warnings"][0]
        assert OutputRule.objects.get().source == "blockforger-output"
        assert history() == []

    def test_it_tells_why_a_sample_sends_nothing(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        rule = a_rule(tenant)
        filtered = {"filter": '{"status": ["sold"]}'}
        assert "filter is not met" in self.ask(admin_client, rule, **filtered).json()["mismatch"]
        sold = '{"id": "1", "status": "sold"}'
        told = self.ask(admin_client, rule, **filtered, sample_payload=sold).json()
        assert told["mismatch"] is None
        told = self.ask(admin_client, rule, sample_payload="[]").json()
        assert told["errors"]["sample_payload"] == ['Write a JSON object, such as {"id": "123"}.']

    def test_a_new_rules_is_told_before_it_is_saved(self) -> None:
        tenant = a_tenant("mytenant")
        EventBus.objects.create(arn=BUS, verified_at="2026-01-01T00:00:00Z")
        a_rule(tenant)
        browser = a_member(tenant, Role.ADMIN)
        values = new_page(browser, tenant).values
        told = browser.post(f"{PREVIEW}?tenant=mytenant", {**values, "enabled": "on"}).json()
        assert json.loads(told["entry"])["DetailType"] == "sample.POST"
        assert told["title"] == "Every write of all schemas"

    def test_a_viewer_asks_of_a_rule_as_it_is(self) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant, source="shop")
        browser = a_member(tenant, Role.VIEWER)
        told = browser.post(f"{PREVIEW}?rule={rule.pk}", {"source": "other"}).json()
        assert json.loads(told["entry"])["Source"] == "shop"
        assert browser.post(f"{PREVIEW}?tenant={tenant.name}", {}).status_code == 403

    def test_nobody_else_asks(self) -> None:
        rule = a_rule(a_tenant())
        browser = a_member(a_tenant("other"), Role.OWNER)
        for query, status in ((f"rule={rule.pk}", 404), ("tenant=mytenant", 403), ("", 403)):
            assert browser.post(f"{PREVIEW}?{query}", {}).status_code == status
