"""Who changed what of a tenant's rules, by which door, and how it is brought back."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from rest_framework.test import APIClient

from eventing import rule_checks, rule_documents, rule_edits, rule_history, rule_lists
from eventing.models import AllowedBus, OutputRule, RuleChange
from eventing.rule_edits import EditRefused
from eventing.rule_history import Difference
from eventing.rule_lists import OrderOutdated
from tenants.models import ApiKey, Permission, Tenant
from tests.cast import BUS, a_key, a_rule, a_schema, a_tenant
from tests.eventing.tenant_folders import a_folder
from tests.eventing.test_concurrency import at_once

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)

OTHER = f"{BUS}-other"


def told() -> list[tuple[str, str, Any, Any]]:
    """The history, the oldest first."""
    return list(RuleChange.objects.order_by("id").values_list("what", "who", "before", "after"))


def said(**members: Any) -> dict[str, Any]:
    """The JSON of a rule that says this."""
    return {
        "eventbridge_arn": BUS,
        "source": "blockforger-output",
        "detail_type": "{schema_id}.{operation}",
        **members,
    }


def version_of(tenant: Tenant) -> int:
    return Tenant.objects.get(pk=tenant.pk).configuration_version


def three_rules(tenant: Tenant, **fields: Any) -> list[int]:
    return [a_rule(tenant, position=place * 10, source=f"s{place}", **fields).pk for place in range(3)]


def in_order(tenant: Tenant) -> list[int]:
    return list(tenant.output_rules.order_by("schema_id", "position", "id").values_list("pk", flat=True))


class TestEdits:
    def test_a_new_rule_is_the_last_of_its_list(self) -> None:
        tenant = a_tenant()
        schema = a_schema(tenant)
        a_rule(tenant, position=7)
        for owner, position in ((None, 8), (schema, 0)):
            row = OutputRule(tenant=tenant, schema=owner, eventbridge_arn=BUS)
            rule_edits.add(row, who="ada")
            assert OutputRule.objects.get(pk=row.pk).position == position
        assert told() == [("added", "ada", None, said())] * 2
        assert RuleChange.objects.get(schema_name="petstore").rule_id == row.pk

    def test_a_change_is_told_with_what_was_before(self) -> None:
        tenant = a_tenant()
        row = a_rule(tenant)
        version = version_of(tenant)
        row.operations = ["POST"]
        rule_edits.change(row, who="ada")
        rule_edits.change(row, who="ada")  # it says the same
        rule_edits.switch(row, on=False, who="grace")
        before = said(operations=["POST"])
        assert told() == [
            ("changed", "ada", said(), before),
            ("changed", "grace", before, {**before, "enabled": False}),
        ]
        assert version_of(tenant) == version + 2

    def test_a_change_leaves_the_place_that_others_gave_meanwhile(self) -> None:
        row = a_rule(a_tenant())
        OutputRule.objects.update(position=5)
        row.source = "shop"
        rule_edits.change(row, who="ada")
        assert list(OutputRule.objects.values_list("position", "source")) == [(5, "shop")]

    def test_a_rule_that_goes_is_told(self) -> None:
        tenant = a_tenant()
        row = a_rule(tenant, schema=a_schema(tenant))
        pk = row.pk
        rule_edits.remove(row, who="ada")
        assert not OutputRule.objects.exists()
        [entry] = RuleChange.objects.all()
        assert (entry.what, entry.rule_id, entry.schema_name, entry.before) == ("removed", pk, "petstore", said())

    def test_a_rule_goes_once_and_as_it_was_then(self) -> None:
        row = a_rule(a_tenant())
        seen, seen_too = OutputRule.objects.get(), OutputRule.objects.get()
        row.source = "shop"
        rule_edits.change(row, who="ada")
        rule_edits.remove(seen, who="grace")
        rule_edits.remove(seen_too, who="ada")
        assert told()[1:] == [("removed", "grace", said(source="shop"), None)]


class TestOrder:
    def test_rules_are_put_into_another_order(self) -> None:
        tenant = a_tenant()
        first, second, third = three_rules(tenant)
        version = version_of(tenant)
        wanted = [third, first, second]
        rule_lists.reorder(tenant, schema=None, seen=[first, second, third], wanted=wanted, who="ada")
        assert in_order(tenant) == wanted
        assert told() == [("moved", "ada", [first, second, third], wanted)]
        assert version_of(tenant) == version + 1

    def test_the_same_order_is_no_change(self) -> None:
        tenant = a_tenant()
        seen = three_rules(tenant)
        version = version_of(tenant)
        rule_lists.reorder(tenant, schema=None, seen=seen, wanted=seen, who="ada")
        assert (told(), version_of(tenant)) == ([], version)

    def test_a_schemas_list_is_one_of_its_own(self) -> None:
        tenant = a_tenant()
        schema = a_schema(tenant)
        own = three_rules(tenant)
        of_schema = three_rules(tenant, schema=schema)
        rule_lists.reorder(tenant, schema=schema, seen=of_schema, wanted=of_schema[::-1], who="ada")
        assert [pk for pk in in_order(tenant) if pk in own] == own
        assert [pk for pk in in_order(tenant) if pk in of_schema] == of_schema[::-1]

    @pytest.mark.parametrize("change", ["moved", "added", "removed", "not its rules"])
    def test_an_order_of_a_list_that_is_not_what_was_seen_is_refused(self, change: str) -> None:
        tenant = a_tenant()
        first, second, third = seen = three_rules(tenant)
        wanted = [second, first, third]
        match change:
            case "moved":
                OutputRule.objects.filter(pk=third).update(position=1)
            case "added":
                a_rule(tenant, position=50)
            case "removed":
                OutputRule.objects.filter(pk=third).delete()
            case _:
                wanted = [first, second, a_rule(a_tenant("theirs")).pk]
        before = in_order(tenant)
        with pytest.raises(OrderOutdated):
            rule_lists.reorder(tenant, schema=None, seen=seen, wanted=wanted, who="ada")
        assert in_order(tenant) == before
        assert told() == []

    def test_of_two_orders_at_the_same_moment_one_is_refused(self) -> None:
        tenant = a_tenant()
        first, second, third = seen = three_rules(tenant)

        def move(wanted: list[int]) -> str:
            try:
                rule_lists.reorder(tenant, schema=None, seen=seen, wanted=wanted, who="ada")
            except OrderOutdated:
                return "refused"
            return "done"

        wishes = [[second, first, third], [third, second, first]]
        answers = at_once([partial(move, wanted) for wanted in wishes])
        assert sorted(answers) == ["done", "refused"]
        assert in_order(tenant) == wishes[answers.index("done")]
        assert len(told()) == 1


class TestRestoring:
    def restore(self, entry: RuleChange | None = None) -> OutputRule | None:
        return rule_edits.restore(entry or RuleChange.objects.latest("id"), who="grace")

    def test_what_a_rule_said_before_is_brought_back_and_told(self) -> None:
        row = a_rule(a_tenant(), filter={"status": ["sold"]}, on_change=["status"])
        before = rule_documents.of_row(row)
        row.filter, row.source = None, "shop"
        rule_edits.change(row, who="ada")
        assert self.restore() == row
        assert rule_documents.of_row(OutputRule.objects.get()) == before
        changed, restored = told()
        assert restored == ("restored", "grace", changed[3], changed[2])

    def test_a_rule_that_was_removed_comes_back_as_the_last(self) -> None:
        tenant = a_tenant()
        row = a_rule(tenant, schema=a_schema(tenant), operations=["PUT"])
        rule_edits.remove(row, who="ada")
        a_rule(tenant, schema=tenant.schemas.get(), position=3)
        back = self.restore()
        assert back is not None
        assert (back.schema, back.position, back.operations) == (tenant.schemas.get(), 4, ["PUT"])
        assert told()[-1] == ("restored", "grace", None, said(operations=["PUT"]))

    def test_a_rule_that_is_restored_twice_is_one_rule(self) -> None:
        row = a_rule(a_tenant())
        pk = row.pk
        rule_edits.remove(row, who="ada")
        entry = RuleChange.objects.get()
        assert [self.restore(entry), self.restore(entry)] == [OutputRule.objects.get(pk=pk)] * 2
        assert [what for what, *_ in told()] == ["removed", "restored"]
        assert OutputRule.objects.count() == 1

    def test_an_order_is_brought_back_as_far_as_its_rules_are_there(self) -> None:
        tenant = a_tenant()
        first, second, third = three_rules(tenant)
        rule_lists.reorder(tenant, schema=None, seen=[first, second, third], wanted=[third, second, first], who="ada")
        entry = RuleChange.objects.get()
        OutputRule.objects.get(pk=second).delete()
        later = a_rule(tenant, position=9).pk
        assert self.restore(entry) is None
        assert in_order(tenant) == [first, third, later]

    def test_what_may_not_be_said_any_more_is_refused_and_says_why(self) -> None:
        tenant = a_tenant()
        row = a_rule(tenant)
        row.eventbridge_arn = OTHER
        rule_edits.change(row, who="ada")
        AllowedBus.objects.create(tenant=tenant, arn_pattern=OTHER)
        with pytest.raises(EditRefused, match=f"The tenant may not name the bus '{BUS}'"):
            self.restore()
        assert OutputRule.objects.get().eventbridge_arn == OTHER

    def test_a_tenant_with_as_many_rules_as_it_may_have_gets_none_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tenant = a_tenant()
        rule_edits.remove(a_rule(tenant), who="ada")
        a_rule(tenant, schema=a_schema(tenant))
        monkeypatch.setattr(rule_checks, "MAX_RULES", 1)
        with pytest.raises(EditRefused, match="These are 2 rules; a tenant has 1 at the most"):
            self.restore()
        assert tenant.output_rules.count() == 1

    def test_nothing_is_restored_where_nothing_was(self) -> None:
        rule_edits.add(OutputRule(tenant=a_tenant(), eventbridge_arn=BUS), who="ada")
        with pytest.raises(EditRefused, match="There was no rule before"):
            self.restore()

    def test_a_rule_of_a_schema_that_is_gone_is_refused(self) -> None:
        tenant = a_tenant()
        row = a_rule(tenant, schema=a_schema(tenant))
        rule_edits.remove(row, who="ada")
        tenant.schemas.all().delete()
        with pytest.raises(EditRefused, match="no schema 'petstore' any more"):
            self.restore()


class TestOtherDoors:
    def test_rest_is_told_with_the_keys_name(self) -> None:
        tenant = a_tenant("mytenant")
        first, second, _ = three_rules(tenant)
        key = a_key(tenant, permissions=[Permission.MANAGE_RULES])
        document = {"rules": [said(source="new"), said(source="s1"), said(source="s0")], "schemas": {}}
        answer = APIClient().put("/api/mytenant/$rules", document, "json", headers={"X-API-Key": key})
        assert answer.status_code == 200
        who = f"API key {ApiKey.objects.get()}"
        assert told() == [
            ("removed", who, said(source="s2"), None),
            ("moved", who, [first, second], [second, first]),
            ("added", who, None, said(source="new")),
        ]

    def test_an_import_is_told_with_the_commands_name(self, tmp_path: Path) -> None:
        properties = f"eventbridge-output={json.dumps([{'eventbridge_arn': BUS}])}\n"
        folder = a_folder(tmp_path, "mytenant", properties=properties)
        for _ in range(2):
            call_command("import_tenant_properties", str(folder))
        assert told() == [("added", "import_tenant_properties", None, said())]


def test_the_differences_of_two_documents_are_told_as_texts() -> None:
    before = said(operations=["POST", "PUT"], filter={"status": ["sold"]})
    after = said(source="shop", on_change=["a", "b"], fields={"drop": ["x"]}, enabled=False)
    assert rule_history.differences(before, after) == [
        Difference("source", "blockforger-output", "shop"),
        Difference("operations", "POST, PUT", "all"),
        Difference("enabled", "true", "false"),
        Difference("filter", '{"status":["sold"]}', "none"),
        Difference("on_change", "none", "a, b"),
        Difference("fields", "all", '{"drop":["x"]}'),
    ]
    assert rule_history.differences(None, said())[0] == Difference("eventbridge_arn", "", BUS)
    assert rule_history.differences(before, before) == []
