"""The admin of output rules: lists in their order, and the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from blockforger.backend.models import Schema
from eventing import admin_rule_changes, admin_rules, rule_edits, rule_lists
from eventing.models import AllowedBus, OutputRule, RuleChange
from tenants.models import Role, Tenant
from tests.admin_pages import Page, check_superusers_alone_see, listed, saved, text_of, url_of
from tests.cast import a_rule, a_schema, a_tenant
from tests.eventing.rule_pages import (
    ORDER,
    ORDERS,
    OUTSIDE,
    a_member,
    history,
    in_order,
    order,
    page_of,
    restore,
    switch,
)

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db


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

    def test_one_that_is_removed_at_the_same_moment_is_not_there(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rule = a_rule(a_tenant())
        lock = rule_lists.lock

        def lock_late(tenant_id: int) -> Tenant:
            OutputRule.objects.all().delete()
            return lock(tenant_id)

        monkeypatch.setattr(rule_lists, "lock", lock_late)
        assert switch(admin_client, rule, "false").status_code == 404

    @pytest.mark.parametrize("role", OUTSIDE)
    def test_nobody_else_switches_it(self, role: Role | None) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant)
        assert switch(a_member(tenant, role), rule, "false").status_code == (403 if role else 404)
        assert OutputRule.objects.get().enabled


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

    def test_a_rules_page_tells_no_moves_of_others_and_nothing_is_lost_behind_them(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admin_rule_changes, "MAX_SHOWN", 2)
        tenant = a_tenant()
        first, second, third = (a_rule(tenant, position=place) for place in range(3))
        rule_edits.switch(first, on=False, who="ada")
        for _ in range(3):
            seen = in_order(tenant)
            wanted = [seen[0], seen[2], seen[1]]
            rule_lists.reorder(tenant, schema=None, seen=seen, wanted=wanted, who="grace")
        text = text_of(admin_client.get(url_of(OutputRule, "history", first.pk)))
        assert "Changed by ada" in text
        assert "Moved" not in text
        for moved in (second, third):
            text = text_of(admin_client.get(url_of(OutputRule, "history", moved.pk)))
            assert text.count("Moved by grace") == 2
            assert "are gone" not in text

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

    def test_documents_of_schemas_are_not_read_for_lists_and_histories(self, admin_client: Client) -> None:
        tenant = a_tenant()
        rule = a_rule(tenant, schema=a_schema(tenant))
        rule_edits.switch(rule, on=False, who="ada")
        for url in (
            url_of(OutputRule, "changelist"),
            url_of(RuleChange, "change", RuleChange.objects.get().pk),
            url_of(Schema, "changelist"),
        ):
            with CaptureQueriesContext(connection) as queries:
                assert admin_client.get(url).status_code == 200
            assert not [query["sql"] for query in queries if '"backend_schema"."document"' in query["sql"]]

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
