"""import_tenant_properties: a plan, and then all of it or nothing."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from blockforger.backend import json_values
from blockforger.backend.models import Schema
from eventing import rule_checks, rules
from eventing.models import AllowedBus, OutputRule
from tenants.models import Tenant, TokenAccount
from tests.cast import BUS, PET, a_rule, a_schema, a_tenant
from tests.eventing import spec_examples
from tests.eventing.tenant_folders import ONE_RULE, a_folder, rules_property

if TYPE_CHECKING:
    from pathlib import Path

    from blockforger.backend.json_values import JsonValue

pytestmark = pytest.mark.django_db


def import_(*paths: Path, dry_run: bool = False) -> str:
    """What the command prints."""
    output = StringIO()
    call_command("import_tenant_properties", *map(str, paths), dry_run=dry_run, stdout=output)
    return output.getvalue()


def refusal_of(*paths: Path) -> str:
    with pytest.raises(CommandError) as error:
        import_(*paths)
    assert error.value.returncode == 1
    return str(error.value)


def state() -> dict[str, Any]:
    """All rows that an import may touch, ids, versions and times included."""
    models = (Tenant, TokenAccount, Schema, OutputRule)
    return {model.__name__: list(model.objects.order_by("pk").values()) for model in models}


def sources(tenant_name: str = "mytenant", schema: str | None = None) -> list[str]:
    rows = (
        OutputRule.objects.filter(tenant__name=tenant_name, schema__name=schema)
        if schema
        else (OutputRule.objects.filter(tenant__name=tenant_name, schema=None))
    )
    return list(rows.order_by("position", "id").values_list("source", flat=True))


class TestNewTenants:
    def test_a_new_tenant_is_made_with_its_rules_schemas_and_account(self, tmp_path: Path) -> None:
        meta = {"key": "sku", "owner": "desk", "eventbridge-output": [{"eventbridge_arn": BUS, "source": "own"}]}
        folder = a_folder(
            tmp_path,
            "shop",
            properties="eventbridge-input=true\ncolor=red\n" + rules_property({"source": "a"}, {"operations": ["PUT"]}),
            petstore={**PET, "meta": meta},
            orders={"type": "object"},
        )
        assert import_(folder) == (
            "tenant shop: new\n"
            "  + eventbridge-input=true\n"
            "  + property color\n"
            f"  + rule 1: all operations of all schemas to {BUS}, source 'a'\n"
            f"  + rule 2: PUT of all schemas to {BUS}\n"
            "  + schema orders\n"
            "  + schema petstore\n"
            f"  + schema petstore, rule 1: all operations of all schemas to {BUS}, source 'own'\n"
            "Imported.\n"
        )
        tenant = Tenant.objects.get(name="shop")
        assert tenant.accepts_events
        assert tenant.extra_properties == {"color": "red"}
        assert tenant.account.balance == 0
        assert sources("shop") == ["a", "blockforger-output"]
        assert sources("shop", "petstore") == ["own"]
        petstore = tenant.schemas.get(name="petstore")
        assert petstore.parsed_document() == PET
        assert petstore.meta == {"key": "sku", "owner": "desk"}
        assert petstore.version == 1

    def test_the_multiple_rules_example_of_the_specification_is_imported(self, tmp_path: Path) -> None:
        properties = spec_examples.INPUT_ENABLED + spec_examples.MULTIPLE_RULES_WITH_SCHEMA_FILTERING
        schemas: dict[str, Any] = dict.fromkeys(("petstore", "orders", "analytics"), PET)
        output = import_(a_folder(tmp_path, properties=properties, **schemas))
        assert "  ! rule 2: the tenant has no schema 'events'\n" in output
        rows = OutputRule.objects.order_by("position").values_list("position", "operations", "schema_names")
        assert list(rows) == [
            (0, ["POST", "PUT", "PATCH", "DELETE"], ["petstore", "orders"]),
            (1, ["POST", "DELETE"], ["analytics", "events"]),
            (2, ["DELETE"], []),
        ]

    def test_a_tree_brings_all_its_tenants(self, tmp_path: Path) -> None:
        a_folder(tmp_path, "shop", properties=ONE_RULE)
        a_folder(tmp_path, "farm")
        import_(tmp_path)
        assert list(Tenant.objects.values_list("name", flat=True)) == ["farm", "shop"]
        assert TokenAccount.objects.count() == 2

    def test_the_rules_are_in_force_at_once(self, tmp_path: Path) -> None:
        tenant = a_tenant()
        schema = a_schema(tenant)
        assert rules.matching(tenant, schema, "POST") == []
        import_(a_folder(tmp_path, properties=ONE_RULE))
        tenant.refresh_from_db()
        assert len(rules.matching(tenant, schema, "POST")) == 1


class TestASecondImport:
    def test_it_says_so_and_changes_nothing(self, tmp_path: Path) -> None:
        meta: dict[str, JsonValue] = {
            "x": [1e2, 0.1, True, None],
            "eventbridge-output": [{"eventbridge_arn": BUS, "source": "own"}],
        }
        rules = rules_property({}, {"source": "x", "schema_names": ["petstore.json"]})
        folder = a_folder(
            tmp_path,
            properties="eventbridge-input=true\ncolor=é\n" + rules,
            petstore={**PET, "meta": meta},
        )
        import_(folder)
        before = state()
        assert import_(folder) == ("tenant mytenant: unchanged\n  = unchanged: 3 rules, 1 schema\nNothing to change.\n")
        assert state() == before

    def test_another_layout_of_the_files_is_no_change(self, tmp_path: Path) -> None:
        import_(a_folder(tmp_path / "a", properties=ONE_RULE, petstore='{"type": "object", "meta": {"key": "id"}}'))
        before = state()
        properties = (
            f'# rules\neventbridge-output : [\n  {{\n  "eventbridge_arn":\n "{BUS}"}}\n]\neventbridge-input=FALSE'
        )
        again = a_folder(tmp_path / "b", properties=properties, petstore='{"meta":{"key":"id"},\n"type":"object"}')
        assert "Nothing to change." in import_(again)
        assert state() == before

    def test_warnings_are_given_again(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path, properties=rules_property({"schema_names": ["nowhere"]}))
        import_(folder)
        assert "  ! rule 1: the tenant has no schema 'nowhere'\n" in import_(folder)


class TestChanges:
    def test_what_tenant_properties_leaves_out_is_removed(self, tmp_path: Path) -> None:
        properties = "eventbridge-input=true\ncolor=red\nsize=1\n" + rules_property({"source": "a"})
        import_(a_folder(tmp_path, properties=properties))
        assert import_(a_folder(tmp_path, properties="size=2\nshape=round")) == (
            "tenant mytenant: changed\n"
            "  ~ eventbridge-input: true becomes false\n"
            "  - property color\n"
            "  ~ property size\n"
            "  + property shape\n"
            f"  - rule 1: all operations of all schemas to {BUS}, source 'a'\n"
            "Imported.\n"
        )
        tenant = Tenant.objects.get()
        assert not tenant.accepts_events
        assert tenant.extra_properties == {"size": "2", "shape": "round"}
        assert not OutputRule.objects.exists()

    def test_a_rule_that_says_the_same_in_the_same_place_stays_the_same_row(self, tmp_path: Path) -> None:
        import_(a_folder(tmp_path, properties=rules_property(*({"source": source} for source in "abc"))))
        ids = list(OutputRule.objects.order_by("position").values_list("id", flat=True))
        import_(a_folder(tmp_path, properties=rules_property(*({"source": source} for source in "axcd"))))
        rows = list(OutputRule.objects.order_by("position"))
        assert [(row.position, row.source) for row in rows] == [(0, "a"), (1, "x"), (2, "c"), (3, "d")]
        assert (rows[0].pk, rows[2].pk) == (ids[0], ids[2])
        assert rows[1].pk not in ids

    def test_rules_that_change_places_are_replaced(self, tmp_path: Path) -> None:
        import_(a_folder(tmp_path, properties=rules_property({"source": "a"}, {"source": "b"})))
        import_(a_folder(tmp_path, properties=rules_property({"source": "b"}, {"source": "a"})))
        assert sources() == ["b", "a"]

    def test_positions_that_were_given_by_hand_are_no_change_by_themselves(self, tmp_path: Path) -> None:
        tenant = a_tenant(accepts_events=False)
        a_rule(tenant, position=30, source="b")
        a_rule(tenant, position=10, source="a")
        before = state()
        assert "Nothing to change." in import_(
            a_folder(tmp_path, properties=rules_property({"source": "a"}, {"source": "b"}))
        )
        assert state() == before
        import_(a_folder(tmp_path, properties=rules_property({"source": "a"}, {"source": "x"}, {"source": "y"})))
        rows = OutputRule.objects.order_by("position").values_list("position", "source")
        assert list(rows) == [(0, "a"), (1, "x"), (2, "y")]

    def test_a_changed_document_is_a_new_version_of_the_schema(self, tmp_path: Path) -> None:
        import_(a_folder(tmp_path, petstore={"const": 1, "meta": {"x": 1}}))
        before = Schema.objects.get()
        # Python takes true for 1; JSON does not.
        output = import_(a_folder(tmp_path, petstore={"const": True, "meta": {"x": 1}}))
        assert "  ~ schema petstore: document; becomes version 2\n" in output
        after = Schema.objects.get()
        assert (after.pk, after.version, after.parsed_document()) == (before.pk, 2, {"const": True})
        assert after.updated_at > before.updated_at

    def test_a_changed_meta_is_a_new_version_too_for_it_names_the_key_field(self, tmp_path: Path) -> None:
        import_(a_folder(tmp_path, petstore={"meta": {"key": "id", "x": 1}}))
        output = import_(a_folder(tmp_path, petstore={"meta": {"key": "sku", "x": True}}))
        assert "  ~ schema petstore: meta; becomes version 2\n" in output
        assert Schema.objects.get().meta == {"key": "sku", "x": True}

    def test_a_change_of_rules_alone_is_no_new_version_of_the_schema(self, tmp_path: Path) -> None:
        import_(a_folder(tmp_path, petstore={}))
        output = import_(a_folder(tmp_path, petstore={"meta": {"eventbridge-output": [{"eventbridge_arn": BUS}]}}))
        assert f"  + schema petstore, rule 1: all operations of all schemas to {BUS}\n" in output
        assert Schema.objects.get().version == 1
        assert Tenant.objects.get().configuration_version == 1

    def test_rules_that_a_schemas_file_leaves_out_are_removed(self, tmp_path: Path) -> None:
        import_(a_folder(tmp_path, petstore={"meta": {"eventbridge-output": [{"eventbridge_arn": BUS}]}}))
        import_(a_folder(tmp_path, petstore={}))
        assert not OutputRule.objects.exists()

    def test_schemas_without_a_file_are_left_alone(self, tmp_path: Path) -> None:
        tenant = a_tenant(accepts_events=False)
        a_rule(tenant, schema=a_schema(tenant, "orders"), source="own")
        output = import_(a_folder(tmp_path, petstore=PET))
        assert output == (
            "tenant mytenant: changed\n"
            "  + schema petstore\n"
            "  = schema orders: has no file and is left alone\n"
            "Imported.\n"
        )
        assert sources(schema="orders") == ["own"]

    def test_a_file_by_itself_leaves_schemas_and_their_rules_alone(self, tmp_path: Path) -> None:
        tenant = a_tenant()
        a_rule(tenant, schema=a_schema(tenant), source="own")
        folder = a_folder(tmp_path, properties=ONE_RULE, petstore={}, orders={})
        import_(folder / "tenant.properties")
        assert sources() == ["blockforger-output"]
        assert sources(schema="petstore") == ["own"]
        assert [schema.name for schema in tenant.schemas.all()] == ["petstore"]

    def test_other_tenants_are_left_alone(self, tmp_path: Path) -> None:
        other = a_tenant("other")
        a_rule(other, schema=a_schema(other))
        a_rule(other)
        before = state()
        import_(a_folder(tmp_path, properties=ONE_RULE, petstore={}))
        after = state()
        for model, rows in before.items():
            assert all(row in after[model] for row in rows), model

    def test_a_tenants_balance_and_clock_are_not_touched(self, tmp_path: Path) -> None:
        tenant = a_tenant(tokens=500)
        import_(a_folder(tmp_path, properties="eventbridge-input=false"))
        assert TokenAccount.objects.get(tenant=tenant).balance == 500

    def test_a_schemas_rule_for_other_schemas_is_warned_of(self, tmp_path: Path) -> None:
        own = {"eventbridge_arn": BUS, "schema_names": ["orders"]}
        output = import_(a_folder(tmp_path, petstore={"meta": {"eventbridge-output": [own]}}))
        assert "  ! schema petstore, rule 1: matches nothing, for it names other schemas only\n" in output


class TestDryRun:
    def test_it_prints_the_plan_and_changes_nothing(self, tmp_path: Path) -> None:
        tenant = a_tenant()
        a_rule(tenant)
        a_schema(tenant)
        folder = a_folder(tmp_path, properties=rules_property({"source": "x"}), petstore={}, orders={})
        before = state()
        planned = import_(folder, dry_run=True)
        assert planned.endswith("\nDry run: nothing was changed.\n")
        assert state() == before
        told = f"  ! rule 1: {BUS} has got no event yet, so nobody knows whether it takes any; test the rule\n"
        assert import_(folder) == planned.replace(told, "").replace("Dry run: nothing was changed.", "Imported.")

    def test_it_tells_problems_as_well(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="because of 1 problem"):
            import_(a_folder(tmp_path, properties="eventbridge-input=x"), dry_run=True)

    def test_it_says_when_there_is_nothing_to_change(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path)
        import_(folder)
        assert import_(folder, dry_run=True) == "tenant mytenant: unchanged\nNothing to change.\n"


class TestRefusal:
    def test_one_problem_in_one_file_keeps_all_files_out(self, tmp_path: Path) -> None:
        good = a_folder(tmp_path, "good", properties=ONE_RULE, petstore=PET)
        bad = a_folder(tmp_path, "bad", properties="eventbridge-input=x\n", petstore="{")
        before = state()
        assert refusal_of(good, bad, tmp_path / "nowhere") == (
            "Nothing was imported, because of 3 problems.\n"
            f"{tmp_path}/nowhere: This is neither a folder nor a tenant.properties. Name one that exists.\n"
            f"{bad}/tenant.properties:1:19: 'x' is neither true nor false. Write one of them.\n"
            f"{bad}/petstore.json:1:2: This is not JSON: Expecting property name enclosed in double quotes."
        )
        assert state() == before

    def test_a_tenant_has_so_many_rules_at_the_most(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rule_checks, "MAX_RULES", 3)
        own = {**PET, "meta": {"eventbridge-output": [{"eventbridge_arn": BUS}] * 3}}
        folder = a_folder(tmp_path, properties=rules_property({"source": "a"}))
        import_(folder)
        folder = a_folder(tmp_path, properties=rules_property({"source": "a"}), petstore=own)
        before = state()
        assert "mytenant/petstore.json: These are 4 rules; a tenant has 3 at the most" in refusal_of(folder)
        assert state() == before
        monkeypatch.setattr(rule_checks, "MAX_RULES", 4)
        import_(folder)
        monkeypatch.setattr(rule_checks, "MAX_RULES", 3)
        import_(a_folder(tmp_path, properties=rules_property({"source": "b"}), petstore=own))
        more = rules_property({"source": "b"}, {"source": "c"})
        # Those of a schema whose file is not named count, too.
        refusal = refusal_of(a_folder(tmp_path, properties=more) / "tenant.properties")
        assert "mytenant/tenant.properties: These are 5 rules" in refusal

    def test_a_fault_half_way_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        a_folder(tmp_path, "first", properties=ONE_RULE, petstore=PET)
        a_folder(tmp_path, "second", petstore=PET)
        before = state()
        create = TokenAccount.objects.create

        def fail_for_the_second(tenant: Tenant) -> TokenAccount:
            if tenant.name == "second":
                raise ConnectionError("The database went away.")
            return create(tenant=tenant)

        monkeypatch.setattr(TokenAccount.objects, "create", fail_for_the_second)
        with pytest.raises(ConnectionError):
            import_(tmp_path)
        assert state() == before

    def test_a_tenant_may_only_name_its_allowed_buses(self, tmp_path: Path) -> None:
        AllowedBus.objects.create(tenant=a_tenant("limited"), arn_pattern="arn:aws:events:*:111111111111:*")
        a_tenant("free")
        free = a_folder(tmp_path, "free", properties=ONE_RULE)
        limited = a_folder(
            tmp_path,
            "limited",
            properties=ONE_RULE,
            petstore={"meta": {"eventbridge-output": [{"eventbridge_arn": BUS}]}},
        )
        told = (
            f"The tenant may not name the bus '{BUS}'. Name one of its allowed buses "
            "(arn:aws:events:*:111111111111:*), or ask the operator to add it to them."
        )
        message = refusal_of(free, limited)
        assert message.count(told) == 2
        assert f"{limited}/tenant.properties:1:40: $[0].eventbridge_arn: {told}" in message
        import_(free)


def queries_of_an_import(folder: Path) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        import_(folder)
    return len(queries)


def test_the_number_of_queries_does_not_grow_with_new_rules(tmp_path: Path) -> None:
    a_tenant("few")
    a_tenant("many")
    few = a_folder(tmp_path, "few", properties=rules_property({}))
    many = a_folder(tmp_path, "many", properties=rules_property(*({"source": f"{number}"} for number in range(50))))
    assert queries_of_an_import(few) == queries_of_an_import(many)
    assert queries_of_an_import(few) == queries_of_an_import(many)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, True, False),
        (0, False, False),
        (1, 1.0, True),
        (100, 1e2, True),
        (10**23, 1e23, True),
        (2**53, 2**53 + 1, False),
        ("1", 1, False),
        (None, False, False),
        ([1, 2], [2, 1], False),
        ([], {}, False),
        ({"a": [1, {"b": 1.0}]}, {"a": [1.0, {"b": 1}]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ],
)
def test_json_is_the_same_if_it_means_the_same(one: JsonValue, other: JsonValue, same: bool) -> None:
    assert json_values.same(one, other) is same
    assert json_values.same(other, one) is same


def test_the_key_field_of_a_schema_with_items_is_settled(tmp_path: Path) -> None:
    import_(a_folder(tmp_path, petstore={"type": "object"}))
    schema = Schema.objects.get()
    schema.items.create(key="1", payload={"id": "1"})
    with pytest.raises(CommandError):
        import_(a_folder(tmp_path, petstore={"type": "object", "meta": {"key": "sku"}}))
    schema.refresh_from_db()
    assert schema.key_field == "id"
    schema.items.all().delete()
    import_(a_folder(tmp_path, petstore={"type": "object", "meta": {"key": "sku"}}))
    assert Schema.objects.get().key_field == "sku"
