"""The admin of output rules: lists in their order, a rule beside what it sends, and the history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from blockforger.backend.models import Item
from eventing import admin_rules, rule_documents, rule_edits
from eventing.models import AllowedBus, EventBus, OutputRule, RuleChange
from tenants.models import Membership, Role, Tenant
from tests.admin_pages import Page, check_superusers_alone_see, errors_of, listed, saved, text_of, url_of
from tests.cast import BUS, FLUFFY, UNCONDITIONAL, a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

ORDERS = "arn:aws:events:eu-central-1:111111111111:event-bus/orders"
PREVIEW, ORDER = "/admin/eventing/outputrule/preview/", "/admin/eventing/outputrule/order/"
OUTSIDE = [Role.VIEWER, None]


def a_member(tenant: Tenant, role: Role | None) -> Client:
    """The browser of a member; of nobody's, without a role."""
    user = User.objects.create_user(f"the {role}", is_staff=True)
    if role:
        Membership.objects.create(tenant=tenant, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def version_of(tenant: Tenant) -> int:
    return Tenant.objects.get(pk=tenant.pk).configuration_version


def page_of(client: Client, rule: OutputRule) -> Page:
    return Page(client, url_of(OutputRule, "change", rule.pk))


def new_page(client: Client, tenant: Tenant, like: OutputRule | None = None) -> Page:
    clone = f"&like={like.pk}" if like else ""
    return Page(client, f"{url_of(OutputRule, 'add')}?tenant={tenant.name}{clone}")


def order(client: Client, tenant: Tenant, seen: list[int], wanted: list[int], schema: object = "") -> Any:
    sent = {"tenant": tenant.name, "schema": schema, "seen": str(seen)[1:-1], "wanted": str(wanted)[1:-1]}
    return client.post(ORDER, {name: str(value).replace(" ", "") for name, value in sent.items()})


def switch(client: Client, rule: OutputRule, on: str) -> Any:
    return client.post(f"/admin/eventing/outputrule/{rule.pk}/switch/", {"on": on})


def restore(client: Client, entry: RuleChange) -> Any:
    return client.post(f"/admin/eventing/rulechange/{entry.pk}/restore/", follow=True)


def in_order(tenant: Tenant) -> list[int]:
    return list(tenant.output_rules.order_by("position", "id").values_list("pk", flat=True))


def history() -> list[tuple[str, str]]:
    return list(RuleChange.objects.order_by("id").values_list("what", "who"))


def test_superusers_alone_see_the_pages(admin_client: Client) -> None:
    rule = a_rule(a_tenant())
    rule_edits.switch(rule, on=False, who="ada")
    check_superusers_alone_see(
        {rule: {"add": 302}, RuleChange.objects.get(): {"add": 403, "delete": 403}}, admin_client
    )


class TestLists:
    def test_a_tenants_rules_are_in_the_order_of_their_events_in_words(self, admin_client: Client) -> None:
        tenant = a_tenant("mytenant")
        a_rule(tenant, schema=a_schema(tenant), operations=["PUT"])
        a_rule(tenant, position=5, source="second")
        a_rule(tenant, position=2, operations=["POST", "DELETE"], filter={"status": ["sold"]}, enabled=False)
        a_rule(a_tenant("theirs"), source="foreign")
        for url in (admin_rules.url_of_list(tenant), url_of(Tenant, "change", tenant.pk)):
            text = text_of(admin_client.get(url))
            places = [text.index(words) for words in ("POST and DELETE of all schemas", "second", "PUT of petstore")]
            assert places == sorted(places)
            assert '{"status":["sold"]}' in text
            assert "off" in text
            assert "foreign" not in text

    def test_warnings_stand_beside_the_rule_that_they_are_about(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_schema(tenant)
        a_rule(tenant)
        twice = a_rule(tenant, position=1)
        never = a_rule(tenant, position=2, schema_names=["nothing"])
        text = text_of(admin_client.get(admin_rules.url_of_list(tenant)))
        assert text.count("has got no event yet") == 1
        of_twice, of_never = (text.index(f'data-rule="{rule.pk}"') for rule in (twice, never))
        sent_twice = text.index("sends the same kind of event to the same bus as rule 1")
        assert of_twice < sent_twice < of_never < text.index("matches nothing until there is a schema that it names")
        assert "goes out after the events of rule 1 for the same write; all are sent" in text

    def test_who_has_one_tenant_need_not_choose_it(self) -> None:
        tenant = a_tenant("ours")
        a_rule(tenant, source="shop")
        a_rule(a_tenant("theirs"), source="foreign")
        text = text_of(a_member(tenant, Role.ADMIN).get(url_of(OutputRule, "changelist")))
        assert "Rules of the tenant" in text
        assert "shop" in text
        assert "foreign" not in text

    def test_the_list_of_all_tenants_leads_to_each(self, admin_client: Client) -> None:
        ours, theirs = a_tenant("ours"), a_tenant("theirs")
        second, first, other = a_rule(ours, position=5), a_rule(ours, position=2), a_rule(theirs)
        assert listed(admin_client, OutputRule) == [first, second, other]
        assert "?tenant=theirs" in text_of(admin_client.get(url_of(OutputRule, "changelist")))
        assert listed(admin_client, OutputRule, tenant="ours", q="default") == [first, second]

    def test_a_viewer_is_offered_nothing(self) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant)
        browser = a_member(tenant, Role.VIEWER)
        for url in (admin_rules.url_of_list(tenant), url_of(Tenant, "change", tenant.pk)):
            text = text_of(browser.get(url))
            assert f'data-rule="{rule.pk}"' in text
            for offered in ("data-move", 'role="switch"', "Clone", "Add rule", "x-sort"):
                assert offered not in text

    @pytest.mark.parametrize("page", ["list", "tenant"])
    def test_many_rules_cost_no_more_queries_than_one(self, admin_client: Client, page: str) -> None:
        tenant = a_tenant()
        url = admin_rules.url_of_list(tenant) if page == "list" else url_of(Tenant, "change", tenant.pk)
        admin_client.get(url)  # what a process keeps is there then
        counts = []
        for name in ("a", "b"):
            a_rule(tenant)
            a_rule(tenant, schema=a_schema(tenant, name))
            with CaptureQueriesContext(connection) as queries:
                admin_client.get(url)
            counts.append(len(queries))
        assert counts[0] == counts[1]


class TestOrder:
    @pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
    def test_rules_are_moved_and_drawn_anew(self, role: Role) -> None:
        tenant = a_tenant()
        first, second, third = seen = [a_rule(tenant, position=place, source=f"s{place}").pk for place in range(3)]
        answer = order(a_member(tenant, role), tenant, seen, [third, first, second])
        assert answer.status_code == 200
        assert in_order(tenant) == [third, first, second]
        html = answer.json()["html"]
        assert html.index("s2") < html.index("s0") < html.index("s1")
        assert history() == [("moved", f"the {role}")]

    def test_so_are_those_of_a_schema(self, admin_client: Client) -> None:
        tenant = a_tenant()
        schema = a_schema(tenant)
        seen = [a_rule(tenant, position=place, schema=schema).pk for place in range(2)]
        assert order(admin_client, tenant, seen, seen[::-1], schema.pk).status_code == 200
        assert in_order(tenant) == seen[::-1]

    def test_whoever_is_second_is_told_and_changes_nothing(self) -> None:
        tenant = a_tenant()
        first, second = seen = [a_rule(tenant, position=place).pk for place in range(2)]
        ada, grace = a_member(tenant, Role.ADMIN), a_member(tenant, Role.OWNER)
        assert order(ada, tenant, seen, [second, first]).status_code == 200
        late = order(grace, tenant, seen, [second, first])
        assert (late.status_code, late.json()["problem"]) == (409, admin_rules.OUTDATED)
        html = late.json()["html"]
        assert html.index(f'data-rule="{second}"') < html.index(f'data-rule="{first}"')
        assert in_order(tenant) == [second, first]

    @pytest.mark.parametrize("role", OUTSIDE)
    def test_nobody_else_moves_them(self, role: Role | None) -> None:
        tenant = a_tenant()
        seen = [a_rule(tenant, position=place).pk for place in range(2)]
        assert order(a_member(tenant, role), tenant, seen, seen[::-1]).status_code == 403
        assert in_order(tenant) == seen

    @pytest.mark.parametrize("ids", ["", "x", "1,,2", "9" * 30, "²"])
    def test_nonsense_is_refused(self, admin_client: Client, ids: str) -> None:
        tenant = a_tenant()
        a_rule(tenant)
        sent = {"tenant": tenant.name, "schema": ids, "seen": ids, "wanted": ids}
        assert admin_client.post(ORDER, sent).status_code == 409
        assert admin_client.post(ORDER, {"tenant": "nobody\0"}).status_code == 403
        assert admin_client.get(ORDER).status_code == 405


class TestSwitches:
    def test_a_rule_rests_and_works_again(self) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant, position=3)
        browser = a_member(tenant, Role.ADMIN)
        for on, state in (("false", False), ("true", True)):
            answer = switch(browser, rule, on)
            assert f'aria-checked="{on}"' in answer.json()["html"]
            assert OutputRule.objects.values_list("enabled", "position").get() == (state, 3)
        assert "The rule is on." in answer.json()["message"]
        assert history() == [("changed", "the admin")] * 2

    @pytest.mark.parametrize("role", OUTSIDE)
    def test_nobody_else_switches_it(self, role: Role | None) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant)
        assert switch(a_member(tenant, role), rule, "false").status_code == (403 if role else 404)
        assert OutputRule.objects.get().enabled


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


class TestHistory:
    def test_a_rules_page_tells_who_changed_what_and_it_is_brought_back(self) -> None:
        tenant = a_tenant()
        rule, other = a_rule(tenant), a_rule(tenant, position=1)
        browser = a_member(tenant, Role.ADMIN)
        assert saved(page_of(browser, rule).submit(source="shop", operations=["PUT"]))
        order(browser, tenant, [rule.pk, other.pk], [other.pk, rule.pk])
        text = text_of(browser.get(url_of(OutputRule, "history", rule.pk)))
        for shown in ("Changed by the admin", "<del>blockforger-output</del>", "<ins>shop</ins>", "<ins>PUT</ins>"):
            assert shown in text
        assert "Moved by the admin" in text
        assert "<del>place 1</del>" in text

        changed, moved = RuleChange.objects.order_by("id")
        assert "The rule says again what it said before." in text_of(restore(browser, changed))
        rule.refresh_from_db()
        assert (rule.source, rule.operations) == ("blockforger-output", [])
        assert "The order is as it was before." in text_of(restore(browser, moved))
        assert in_order(tenant) == [rule.pk, other.pk]
        assert [what for what, _ in history()] == ["changed", "moved", "restored", "moved"]

    def test_a_rule_that_was_removed_is_brought_back_from_the_history_of_all(self, admin_client: Client) -> None:
        tenant = a_tenant("mytenant")
        rule_edits.remove(a_rule(tenant, source="shop"), who="ada")
        [entry] = listed(admin_client, RuleChange, tenant="mytenant")
        text = Page(admin_client, url_of(RuleChange, "change", entry.pk)).text
        assert "<del>shop</del>" in text
        assert '"source": "shop"' in text
        assert "Restore what was before" in text
        restore(admin_client, entry)
        assert OutputRule.objects.get().source == "shop"

    def test_what_cannot_be_brought_back_says_why(self, admin_client: Client) -> None:
        tenant = a_tenant()
        rule_edits.remove(a_rule(tenant), who="ada")
        AllowedBus.objects.create(tenant=tenant, arn_pattern=ORDERS)
        text = text_of(restore(admin_client, RuleChange.objects.get()))
        assert "The tenant may not name the bus" in text
        assert not OutputRule.objects.exists()

    @pytest.mark.parametrize("role", OUTSIDE)
    def test_nobody_else_brings_anything_back(self, role: Role | None) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant)
        rule_edits.switch(rule, on=False, who="ada")
        browser = a_member(tenant, role)
        entry = RuleChange.objects.get()
        assert restore(browser, entry).status_code == (403 if role else 404)
        assert not OutputRule.objects.get().enabled
        if role:
            for url in (url_of(OutputRule, "history", rule.pk), url_of(RuleChange, "change", entry.pk)):
                assert "Restore" not in text_of(browser.get(url))

    def test_many_entries_cost_no_more_queries_than_one(self, admin_client: Client) -> None:
        rule = a_rule(a_tenant())
        for url in (url_of(OutputRule, "history", rule.pk), url_of(RuleChange, "changelist")):
            admin_client.get(url)
            counts = []
            for on in (False, True):
                rule_edits.switch(rule, on=on, who="ada")
                with CaptureQueriesContext(connection) as queries:
                    admin_client.get(url)
                counts.append(len(queries))
            assert counts[0] == counts[1]
