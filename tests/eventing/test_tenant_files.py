"""Which files of a tenant are read, what they say, and what is told about those that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blockforger.backend import json_schemas
from eventing import tenant_files
from eventing.tenant_files import TenantDocument
from tests.cast import BUS, UNCONDITIONAL
from tests.eventing import spec_examples
from tests.eventing.tenant_folders import ONE_RULE, a_folder

RULE: dict[str, Any] = {
    "eventbridge_arn": BUS,
    "source": "blockforger-output",
    "detail_type": "{schema_id}.{operation}",
    "operations": [],
    "schema_names": [],
    **UNCONDITIONAL,
}


def read(folder: Path) -> TenantDocument:
    [found], problems = tenant_files.find([folder])
    assert problems == []
    return tenant_files.read(found)


def problems_of(folder: Path) -> list[str]:
    """What is wrong with the files of a folder, with paths as seen from there."""
    return [str(problem).replace(f"{folder}/", "") for problem in read(folder).problems]


def found_in(*paths: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The names of the schemas' files by tenant, and the problems."""
    folders, problems = tenant_files.find(paths)
    return {folder.tenant: [path.name for path in folder.schemas] for folder in folders}, [*map(str, problems)]


class TestFinding:
    def test_a_file_stands_for_itself(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path, "shop", petstore={})
        assert found_in(folder / "tenant.properties") == ({"shop": []}, [])

    def test_a_tenants_folder_stands_for_its_files(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path, "shop", orders={}, petstore={})
        (folder / "README.md").touch()
        (folder / ".petstore.json").touch()
        assert found_in(folder) == ({"shop": ["orders.json", "petstore.json"]}, [])

    def test_a_tree_stands_for_the_folders_in_it(self, tmp_path: Path) -> None:
        a_folder(tmp_path, "shop", petstore={})
        a_folder(tmp_path, "farm")
        (tmp_path / ".git").mkdir()
        (tmp_path / "README.md").touch()
        assert found_in(tmp_path) == ({"farm": [], "shop": ["petstore.json"]}, [])

    def test_the_folder_one_stands_in_has_a_name_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(a_folder(tmp_path, "shop", petstore={}))
        here = Path()
        assert found_in(here) == ({"shop": ["petstore.json"]}, [])
        assert found_in(here / "tenant.properties") == ({"shop": []}, [])

    def test_the_same_files_may_be_named_twice(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path, "shop", petstore={})
        expected: tuple[object, object] = ({"shop": ["petstore.json"]}, [])
        assert found_in(folder / "tenant.properties", folder, tmp_path) == expected
        assert found_in(folder, tmp_path / "shop/../shop/tenant.properties") == expected

    def test_two_folders_of_one_tenant_are_a_problem(self, tmp_path: Path) -> None:
        one, other = a_folder(tmp_path / "a", "shop"), a_folder(tmp_path / "b", "shop")
        assert found_in(one, other)[1] == [
            (
                f"{other}/tenant.properties: The tenant 'shop' is read from {one}/tenant.properties already. "
                "Leave one of them out."
            )
        ]

    def test_what_cannot_be_found_is_told(self, tmp_path: Path) -> None:
        stray = tmp_path / "other.properties"
        stray.touch()
        empty = tmp_path / "empty"
        empty.mkdir()
        assert found_in(tmp_path / "nowhere", stray, empty, tmp_path)[1] == [
            f"{tmp_path}/nowhere: This is neither a folder nor a tenant.properties. Name one that exists.",
            f"{stray}: This is neither a folder nor a tenant.properties. Name one that exists.",
            f"{empty}: Neither the folder nor a folder in it has a tenant.properties. Add one.",
            f"{empty}: The folder has no tenant.properties. Add one; it may be empty.",
        ]

    def test_the_name_of_the_folder_must_do_as_the_name_of_a_tenant(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path, "my shop")
        assert found_in(folder)[1] == [
            (
                f"{folder}: 'my shop' cannot be the name of a tenant. Name the folder with 1 to 64 letters, digits, "
                "'_' or '-', beginning with a letter or digit."
            )
        ]


class TestProperties:
    def test_the_examples_of_the_specification_are_read(self, tmp_path: Path) -> None:
        single = read(a_folder(tmp_path, "single", properties=spec_examples.SINGLE_RULE_FOR_ALL_SCHEMAS))
        assert single.rules == [{**RULE, "operations": ["POST", "PUT", "DELETE"]}]
        text = spec_examples.INPUT_ENABLED + spec_examples.MULTIPLE_RULES_WITH_SCHEMA_FILTERING
        multiple = read(a_folder(tmp_path, "multiple", properties=text))
        assert multiple.accepts_events
        assert multiple.rules == [
            {**RULE, "operations": ["POST", "PUT", "PATCH", "DELETE"], "schema_names": ["petstore", "orders"]},
            {**RULE, "operations": ["POST", "DELETE"], "schema_names": ["analytics", "events"]},
            {**RULE, "operations": ["DELETE"]},
        ]
        assert single.problems == multiple.problems == []

    def test_an_empty_file_means_no_input_and_no_rules(self, tmp_path: Path) -> None:
        tenant = read(a_folder(tmp_path))
        assert tenant == TenantDocument("mytenant")

    @pytest.mark.parametrize(
        ("text", "accepts"),
        [("true", True), ("TRUE", True), (" True \t", True), ("false", False), ("False", False)],
    )
    def test_input_is_true_or_false(self, tmp_path: Path, text: str, accepts: bool) -> None:
        tenant = read(a_folder(tmp_path, properties=f"eventbridge-input={text}"))
        assert (tenant.accepts_events, tenant.problems) == (accepts, [])

    @pytest.mark.parametrize("text", ["yes", "1", "", "on", "truee"])
    def test_any_other_input_is_a_problem(self, tmp_path: Path, text: str) -> None:
        folder = a_folder(tmp_path, properties=f"# input\neventbridge-input = {text}")
        assert problems_of(folder) == [
            f"tenant.properties:2:21: '{text}' is neither true nor false. Write one of them."
        ]

    def test_unknown_properties_are_kept_and_those_that_look_like_ours_are_warned_of(self, tmp_path: Path) -> None:
        tenant = read(a_folder(tmp_path, properties="color=é\neventbridge_output=[]\n".encode("latin-1")))
        assert tenant.extra_properties == {"color": "é", "eventbridge_output": "[]"}
        assert [warning.message for warning in tenant.warnings] == [
            "Blockforger does not know the property 'eventbridge_output'. It is kept, and does nothing."
        ]

    def test_every_problem_is_told_with_its_place(self, tmp_path: Path) -> None:
        properties = (
            "color=\\u0000\n"
            "eventbridge-input=maybe\n"
            "color=red\n"
            "eventbridge-output=[\n"
            f'  {{"eventbridge_arn": "{BUS}"}},\n'
            '  {"source": "aws.x", "operations": ["GET"],\n'
            '   "schemas": []}\n'
            "]\n"
        )
        assert problems_of(a_folder(tmp_path, properties=properties)) == [
            "tenant.properties:1:1: 'color' cannot be kept. A text holds the character U+0000.",
            "tenant.properties:2:19: 'maybe' is neither true nor false. Write one of them.",
            "tenant.properties:3:1: The key 'color' is set on line 1 already. Remove one of the two.",
            (
                "tenant.properties:6:3: $[1]: Name the bus by its ARN, a text: "
                "arn:aws:events:{region}:{account}:event-bus/{name}."
            ),
            (
                "tenant.properties:6:14: $[1].source: EventBridge keeps sources that begin with 'aws.' for AWS itself. "
                "Use another, such as 'blockforger-output'."
            ),
            (
                "tenant.properties:6:37: $[1].operations: 'GET' is not an operation that is published. "
                "Use POST, PUT, PATCH or DELETE."
            ),
            (
                "tenant.properties:7:15: $[1].schemas: A rule has no member 'schemas'. Remove it, or use one of "
                "eventbridge_arn, source, detail_type, operations, schema_names, enabled, filter, on_change, fields."
            ),
        ]

    def test_places_are_right_in_the_form_with_backslashes(self, tmp_path: Path) -> None:
        properties = (
            "eventbridge-output=[ \\\n"
            f'  {{"eventbridge_arn": "{BUS}", \\\n'
            '   "detail_type": "\\u00e9\\\\"\\\\"", "source": "" \\\n'
            "  } \\\n"
            "]\n"
        )
        assert problems_of(a_folder(tmp_path, properties=properties)) == [
            "tenant.properties:3:45: $[0].source: Use a text of 1 to 256 characters."
        ]

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            ("", "1:20: This is not JSON: Expecting value."),
            ("[}", "1:21: This is not JSON: Expecting value."),
            ("[[", "1:22: The value of 'eventbridge-output' is not JSON: Expecting value."),
            ('{"eventbridge_arn": "x"}', "1:20: $: Write an array of rules: [{…}, {…}]."),
            (
                '[{"source": "a", "source": "b"}]',
                '1:20: $: The member "source" stands twice in one object.',
            ),
        ],
    )
    def test_output_is_an_array_of_rules(self, tmp_path: Path, value: str, problem: str) -> None:
        folder = a_folder(tmp_path, properties=f"eventbridge-output={value}\n")
        assert problems_of(folder) == [f"tenant.properties:{problem}"]

    def test_a_file_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path)
        [found], _ = tenant_files.find([folder])
        (folder / "tenant.properties").unlink()
        assert [str(problem) for problem in tenant_files.read(found).problems] == [
            f"{folder}/tenant.properties: The file cannot be read: No such file or directory."
        ]

    def test_the_tenants_buses_are_limited(self, tmp_path: Path) -> None:
        [found], _ = tenant_files.find([a_folder(tmp_path, properties=ONE_RULE)])
        assert tenant_files.read(found, tenant_patterns=[BUS]).problems == []
        [problem] = tenant_files.read(found, tenant_patterns=["arn:aws:events:eu-*"]).problems
        assert problem.json_path == "$[0].eventbridge_arn"
        assert problem.message.startswith("The tenant may not name the bus")


class TestSchemas:
    def test_a_schemas_file_gives_document_meta_and_rules(self, tmp_path: Path) -> None:
        text = (
            '{\n  "type": "object",\n  "meta": {"key": "sku", "owner": "desk", "eventbridge-output": '
            f'[{{"eventbridge_arn": "{BUS}", "operations": ["PUT"]}}]}}\n}}\n'
        )
        tenant = read(a_folder(tmp_path, petstore=text))
        assert (tenant.problems, tenant.warnings) == ([], [])
        [schema] = tenant.schemas
        assert schema.name == "petstore"
        assert schema.document == '{\n  "type": "object"\n}\n'
        assert schema.meta == {"key": "sku", "owner": "desk"}
        assert schema.rules == [{**RULE, "operations": ["PUT"]}]

    def test_a_schema_without_meta_is_taken_as_it_is(self, tmp_path: Path) -> None:
        text = '\ufeff{ "type" : "object" ,\r\n "description": "für 🐾" }'
        [schema] = read(a_folder(tmp_path, petstore=text)).schemas
        assert (schema.document, schema.meta, schema.rules) == (text[1:], {}, [])

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('{"a": 1,\n "b": }', "petstore.json:2:7: This is not JSON: Expecting value."),
            ("[]", "petstore.json:1:1: $: Write a JSON Schema that is an object."),
            ("true", "petstore.json:1:1: $: Write a JSON Schema that is an object."),
            ('{"default":\n"\\ud800"}', "petstore.json:2:1: $.default: A text holds half of a surrogate pair."),
            ('{"meta": []}', 'petstore.json:1:10: $.meta: Write an object, such as {"key": "id"}.'),
            (
                '{"meta": {"key": 1}}',
                "petstore.json:1:18: $.meta.key: Write the name of the member that holds an item's key.",
            ),
            (
                '{"meta": {"key": ""}}',
                "petstore.json:1:18: $.meta.key: Write the name of the member that holds an item's key.",
            ),
            (
                '{"meta": {"indexes": "id"}}',
                'petstore.json:1:22: $.meta.indexes: Write a list of paths, such as ["price", "owner.name"].',
            ),
            (
                '{"meta": {"indexes": ["id",\n "colour"]}}',
                "petstore.json:2:2: $.meta.indexes[1]: 'colour' is no path of the schema. Known are: id.",
            ),
            (
                '{"meta": {"require_if_match": "yes"}}',
                "petstore.json:1:31: $.meta.require_if_match: Write true or false.",
            ),
            (
                '{"meta": {"eventbridge-output": {}}}',
                'petstore.json:1:33: $.meta["eventbridge-output"]: Write an array of rules: [{…}, {…}].',
            ),
            (
                '{"meta": {"eventbridge-output": [{"eventbridge_arn": ""}]}}',
                (
                    'petstore.json:1:54: $.meta["eventbridge-output"][0].eventbridge_arn: Name the bus by its ARN, '
                    "a text: arn:aws:events:{region}:{account}:event-bus/{name}."
                ),
            ),
        ],
    )
    def test_what_is_wrong_is_told_with_its_place(self, tmp_path: Path, text: str, problem: str) -> None:
        assert problems_of(a_folder(tmp_path, petstore=text)) == [problem]

    def test_a_file_that_is_not_utf_8_is_refused(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path)
        (folder / "petstore.json").write_bytes('{"title": "é"}'.encode("latin-1"))
        assert problems_of(folder) == ["petstore.json: The file is not UTF-8. Save it as UTF-8."]

    def test_a_folder_is_no_schema(self, tmp_path: Path) -> None:
        folder = a_folder(tmp_path)
        (folder / "petstore.json").mkdir()
        assert problems_of(folder) == ["petstore.json: The file cannot be read: Is a directory."]

    @pytest.mark.parametrize("name", ["pet store", "a.json", "x" * 65])
    def test_the_name_of_the_file_must_do_as_the_name_of_a_schema(self, tmp_path: Path, name: str) -> None:
        folder = a_folder(tmp_path)
        (folder / f"{name}.json").write_text("{}")
        assert problems_of(folder) == [
            (
                f"{name}.json:1:1: $: '{name}' cannot be the name of a schema. "
                "Name the file with 1 to 64 letters, digits, '_', '.' or '-' and one '.json'."
            )
        ]

    def test_what_the_backend_says_of_a_schema_is_told_with_its_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []

        def problems(document: object, key_field: str) -> list[json_schemas.SchemaProblem]:
            seen.append((document, key_field))
            return [json_schemas.SchemaProblem(pointer="/properties/name/type", message="No such type.")]

        monkeypatch.setattr(json_schemas, "problems", problems)
        text = '{"meta": {"key": "name"},\n "properties": {\n  "name": {"type": "txt"}}}'
        assert problems_of(a_folder(tmp_path, petstore=text)) == [
            "petstore.json:3:20: $.properties.name.type: No such type."
        ]
        assert seen == [({"properties": {"name": {"type": "txt"}}}, "name")]

    def test_members_of_meta_that_look_like_ours_are_warned_of(self, tmp_path: Path) -> None:
        text = '{"meta": {"owner": 1,\n "EventBridge_output": []}}'
        folder = a_folder(tmp_path, petstore=text)
        tenant = read(folder)
        assert [str(warning) for warning in tenant.warnings] == [
            (
                f"{folder}/petstore.json:2:24: $.meta.EventBridge_output: "
                "Blockforger does not know the member 'EventBridge_output'. It is kept, and does nothing."
            )
        ]
        assert tenant.schemas[0].meta == {"owner": 1, "EventBridge_output": []}

    def test_a_schemas_own_rule_is_checked_for_its_own_name(self, tmp_path: Path) -> None:
        rule = {"eventbridge_arn": BUS, "detail_type": "{schema_id}{schema_id}.{operation}"}
        meta = {"eventbridge-output": [rule]}
        assert problems_of(a_folder(tmp_path, petstore={"meta": meta})) == []
        long_name: dict[str, Any] = {"x" * 64: {"meta": meta}}
        [problem] = problems_of(a_folder(tmp_path, **long_name))
        assert "For the longest schema name and operation this comes to 135 characters" in problem


def test_the_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, properties="eventbridge-input=x\neventbridge-output=x", orders="[", petstore="{")
    assert [problem.split(":")[0] for problem in problems_of(folder)] == [
        "tenant.properties",
        "tenant.properties",
        "orders.json",
        "petstore.json",
    ]
