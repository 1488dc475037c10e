"""What a rule may say, and what its author is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ValidationError

from eventing import rule_checks
from eventing.models import AllowedBus, OutputRule
from tests.cast import BUS, a_schema, a_tenant

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries, Settings

GOOD: dict[str, Any] = {
    "eventbridge_arn": BUS,
    "source": "blockforger-output",
    "detail_type": "{schema_id}.{operation}",
    "operations": [],
    "schema_names": [],
    "enabled": True,
    "filter": None,
    "on_change": [],
    "fields": None,
}
FORM = "arn:aws:events:{region}:{account}:event-bus/{name}"
NOT_A_BUS = (
    f"is not the ARN of an event bus. Write {FORM}, with an account of 12 digits and a name of 1 to 256 letters, "
    "digits, '.', '_' or '-'."
)


def problems(*, own_schema: str | None = None, tenant_patterns: tuple[str, ...] = (), **values: object) -> object:
    return rule_checks.problems_of({**GOOD, **values}, own_schema=own_schema, tenant_patterns=tenant_patterns)


@pytest.mark.parametrize(
    "arn",
    [
        BUS,
        "arn:aws:events:eu-central-1:123456789012:event-bus/orders",
        "arn:aws-cn:events:cn-north-1:123456789012:event-bus/default",
        "arn:aws-us-gov:events:us-gov-west-1:123456789012:event-bus/default",
        "arn:aws:events:us-east-1:000000000000:event-bus/a.b-c_D9",
        "arn:aws:events:us-east-1:000000000000:event-bus/" + "x" * 256,
    ],
)
def test_the_arn_of_a_classic_bus_is_good(arn: str) -> None:
    assert problems(eventbridge_arn=arn) == {}


@pytest.mark.parametrize(
    "arn",
    [
        "default",
        "arn:aws:events:us-east-1:720291373173:event-bus/",
        "arn:aws:events:us-east-1:720291373173:event-bus",
        "arn:aws:events:us-east-1:72029137317:event-bus/default",
        "arn:aws:events:us-east-1:7202913731733:event-bus/default",
        "arn:aws:events:us-east-1:٧٢٠٢٩١٣٧٣١٧٣:event-bus/default",
        "arn:aws:events::720291373173:event-bus/default",
        "arn:aws:events:useast1:720291373173:event-bus/default",
        "arn:aws:sqs:us-east-1:720291373173:event-bus/default",
        "arn:aws-iso:events:us-iso-east-1:720291373173:event-bus/default",
        "arn:aws:events:us-east-1:720291373173:event-bus/aws.partner/shop",
        "arn:aws:events:us-east-1:720291373173:event-bus/*",
        "arn:aws:events:us-east-1:720291373173:event-bus/default\n",
        " arn:aws:events:us-east-1:720291373173:event-bus/default",
        "arn:aws:events:us-east-1:720291373173:event-bus/" + "x" * 257,
    ],
)
def test_any_other_text_is_not_an_arn(arn: str) -> None:
    assert problems(eventbridge_arn=arn) == {"eventbridge_arn": [f"'{arn}' {NOT_A_BUS}"]}


@pytest.mark.parametrize("arn", ["", None, 5, ["x"]])
def test_a_rule_must_name_its_bus(arn: object) -> None:
    assert problems(eventbridge_arn=arn) == {"eventbridge_arn": [f"Name the bus by its ARN, a text: {FORM}."]}


def test_a_bus_of_the_newer_kind_is_told_apart() -> None:
    arn = "arn:aws:events:us-east-1:720291373173:event-busv2/orders/0123456789abcdefghijklmno"
    assert problems(eventbridge_arn=arn) == {
        "eventbridge_arn": [
            (
                f"'{arn}' is of the newer kind of bus with another API, to which Blockforger does not publish. "
                f"Name a classic bus: {FORM}."
            )
        ]
    }


def test_the_arn_of_a_rule_is_told_apart() -> None:
    arn = "arn:aws:events:us-east-1:720291373173:rule/orders"
    assert problems(eventbridge_arn=arn) == {
        "eventbridge_arn": [
            f"'{arn}' is a rule. Events are published to buses, not rules: name the rule's bus, {FORM}."
        ]
    }


def test_the_operator_can_limit_the_buses(settings: Settings) -> None:
    settings.BLOCKFORGER_ALLOWED_BUS_ARNS = ["arn:aws:events:*:111111111111:event-bus/*", BUS]
    assert problems() == {}
    assert problems(eventbridge_arn="arn:aws:events:eu-west-1:111111111111:event-bus/any") == {}
    arn = "arn:aws:events:eu-west-1:222222222222:event-bus/any"
    assert problems(eventbridge_arn=arn) == {
        "eventbridge_arn": [
            (
                f"The operator does not allow the bus '{arn}'. Name another, or ask for it to be added to "
                "BLOCKFORGER_ALLOWED_BUS_ARNS."
            )
        ]
    }


def test_a_tenant_can_be_limited_to_buses() -> None:
    patterns = ("arn:aws:events:*:111111111111:*", "arn:aws:events:eu-west-1:222222222222:event-bus/orders-?")
    assert (
        problems(eventbridge_arn="arn:aws:events:eu-west-1:222222222222:event-bus/orders-1", tenant_patterns=patterns)
        == {}
    )
    assert problems(tenant_patterns=patterns) == {
        "eventbridge_arn": [
            (
                f"The tenant may not name the bus '{BUS}'. Name one of its allowed buses "
                "(arn:aws:events:*:111111111111:*, arn:aws:events:eu-west-1:222222222222:event-bus/orders-?), or ask "
                "the operator to add it to them."
            )
        ]
    }


@pytest.mark.parametrize(
    ("operators", "tenants", "count"),
    [
        # Both must allow the bus.
        ([BUS], (BUS,), 0),
        ([BUS], ("arn:aws:events:eu-*",), 1),
        (["arn:aws:events:eu-*"], (BUS,), 1),
        (["arn:aws:events:eu-*"], ("arn:aws:events:eu-*",), 2),
        # A pattern is a matter of case.
        ([BUS.upper()], (), 1),
    ],
)
def test_operator_and_tenant_must_both_allow_a_bus(
    settings: Settings, operators: list[str], tenants: tuple[str, ...], count: int
) -> None:
    settings.BLOCKFORGER_ALLOWED_BUS_ARNS = operators
    found = rule_checks.problems_of(GOOD, tenant_patterns=tenants)
    assert len(found.get("eventbridge_arn", [])) == count


@pytest.mark.parametrize("source", ["myapp.backend-output", "x", "x" * 256, "aws", "awsome.shop", "Quelle für alles"])
def test_a_source_of_ones_own_is_good(source: str) -> None:
    assert problems(source=source) == {}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "Use a text of 1 to 256 characters."),
        ("x" * 257, "Use a text of 1 to 256 characters."),
        (None, "Use a text of 1 to 256 characters."),
        (7, "Use a text of 1 to 256 characters."),
        (
            "aws.events",
            (
                "EventBridge keeps sources that begin with 'aws.' for AWS itself. "
                "Use another, such as 'blockforger-output'."
            ),
        ),
        (
            "blockforger-input",
            (
                "'blockforger-input' marks events that come in; an output could be taken for one. "
                "Use another, such as 'blockforger-output'."
            ),
        ),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(source: object, message: str) -> None:
    assert problems(source=source) == {"source": [message]}


@pytest.mark.parametrize("detail_type", ["", "x" * 129, None, {}])
def test_a_detail_type_has_1_to_128_characters(detail_type: object) -> None:
    assert problems(detail_type=detail_type) == {"detail_type": ["Use a text of 1 to 128 characters."]}


@pytest.mark.parametrize(
    ("values", "own_schema", "length"),
    [
        # The default fits the longest name that a schema can have, and the longest operation.
        ({}, None, None),
        ({"detail_type": "{schema_id}" + "x" * 64}, None, None),
        ({"detail_type": "{schema_id}" + "x" * 65}, None, 129),
        ({"detail_type": "{schema_id}{schema_id}{operation}"}, None, 134),
        # Short names leave more room; the longest of them counts.
        ({"detail_type": "{schema_id}{schema_id}{operation}", "schema_names": ["pets", "orders.json"]}, None, None),
        ({"detail_type": "x" * 117 + "{schema_id}", "schema_names": ["a", "petstore.json"]}, None, None),
        ({"detail_type": "x" * 117 + "{schema_id}", "schema_names": ["a", "analytics-of-pets"]}, None, 134),
        # So do short operations.
        ({"detail_type": "x" * 117 + "{operation}"}, None, None),
        ({"detail_type": "x" * 106 + "{operation}" * 2, "operations": ["PUT", "DELETE"]}, None, None),
        # A schema's own rule is for that schema.
        ({"detail_type": "{schema_id}{schema_id}{operation}"}, "petstore", None),
        ({"detail_type": "x" * 117 + "{schema_id}", "schema_names": ["a"]}, "analytics-of-pets", 134),
    ],
)
def test_a_detail_type_must_fit_when_it_is_filled_in(
    values: dict[str, Any], own_schema: str | None, length: int | None
) -> None:
    found = rule_checks.problems_of({**GOOD, **values}, own_schema=own_schema)
    if length is None:
        assert found == {}
    else:
        assert found == {
            "detail_type": [
                (
                    f"For the longest schema name and operation this comes to {length} characters, and EventBridge "
                    "takes 128. Shorten it, or limit the rule's schemas."
                )
            ]
        }


@pytest.mark.parametrize(
    ("operations", "messages"),
    [
        (["POST", "PUT", "PATCH", "DELETE"], []),
        (["GET"], ["'GET' is not an operation that is published. Use POST, PUT, PATCH or DELETE."]),
        (["post"], ["'post' is not an operation that is published. Use POST, PUT, PATCH or DELETE."]),
        (
            ["POST", "", "POST"],
            [
                "'' is not an operation that is published. Use POST, PUT, PATCH or DELETE.",
                "'POST' stands there more than once. Name it once.",
            ],
        ),
        ("POST", ['Use a list of operations, such as ["POST", "DELETE"]; an empty one means all four.']),
        ([1], ['Use a list of operations, such as ["POST", "DELETE"]; an empty one means all four.']),
        (None, ['Use a list of operations, such as ["POST", "DELETE"]; an empty one means all four.']),
    ],
)
def test_operations_are_checked(operations: object, messages: list[str]) -> None:
    assert problems(operations=operations) == ({"operations": messages} if messages else {})


@pytest.mark.parametrize(
    ("schema_names", "messages"),
    [
        (["petstore", "orders.json", "a.b_c-D", "x" * 64, "x" * 64 + ".json"], []),
        (["pet store"], ["'pet store' cannot be the name of a schema. Use 1 to 64 letters, digits, '_', '.' or '-'."]),
        (["*"], ["'*' cannot be the name of a schema. Use 1 to 64 letters, digits, '_', '.' or '-'."]),
        ([".json"], ["'.json' cannot be the name of a schema. Use 1 to 64 letters, digits, '_', '.' or '-'."]),
        (
            ["a.json.json"],
            ["'a.json.json' cannot be the name of a schema. Use 1 to 64 letters, digits, '_', '.' or '-'."],
        ),
        ("petstore", ['Use a list of names of schemas, such as ["petstore"]; an empty one means all schemas.']),
        ([None], ['Use a list of names of schemas, such as ["petstore"]; an empty one means all schemas.']),
    ],
)
def test_schema_names_are_checked(schema_names: object, messages: list[str]) -> None:
    assert problems(schema_names=schema_names) == ({"schema_names": messages} if messages else {})


NOT_A_PATH = (
    "is no path. Use names with a dot between them and a backslash before each dot, comma, bracket or backslash in one"
    ", 500 characters at the most."
)
FIELDS_FORM = 'Use an object such as {"keep": ["status"]} or {"drop": ["notes"], "mask": ["owner.mail"]}.'


@pytest.mark.parametrize(
    ("column", "value", "messages"),
    [
        ("enabled", False, []),
        ("enabled", 1, ["Write true, or false for a rule that rests."]),
        ("filter", {"status": ["sold"]}, []),
        (
            "filter",
            {},
            ['Without a condition it says nothing. Leave it out, or write one, such as {"status": ["available"]}.'],
        ),
        ("filter", {"a": [{"prefix": 1}]}, ['/a/0/prefix: Write a text, or {"equals-ignore-case": "text"}.']),
        ("filter", {"a": [2**80]}, ["/a/0: An integer does not fit into 64 bits."]),
        ("on_change", ["status", "owner.city", "a\\.b"], []),
        ("on_change", "status", ['Use a list of paths, such as ["status", "owner.city"].']),
        ("on_change", ["", "a..b"], [f"'' {NOT_A_PATH}", f"'a..b' {NOT_A_PATH}"]),
        ("on_change", ["/a"], ["'/a' looks like a JSON Pointer. Write the path with dots, such as owner.city."]),
        ("on_change", ["a", "a"], ["'a' stands there more than once. Name it once."]),
        (
            "on_change",
            [f"a{number}" for number in range(51)],
            ["Use 50 paths at the most, or outer ones: 'owner' stands for all that is in it."],
        ),
        ("fields", {"keep": ["a"], "mask": ["b"]}, []),
        ("fields", {}, [FIELDS_FORM]),
        ("fields", ["a"], [FIELDS_FORM]),
        ("fields", {"hide": ["a"]}, [FIELDS_FORM]),
        ("fields", {"keep": ["a"], "drop": ["b"]}, ["Use keep or drop, not both: what is not kept is dropped."]),
        ("fields", {"mask": []}, ["mask: Name a path, or leave it out."]),
        ("fields", {"drop": "a"}, ['drop: Use a list of paths, such as ["status", "owner.city"].']),
    ],
)
def test_conditions_and_fields_are_checked(column: str, value: object, messages: list[str]) -> None:
    values: dict[str, Any] = {column: value}
    assert problems(**values) == ({column: messages} if messages else {})


def test_all_problems_are_told_at_once() -> None:
    found = rule_checks.problems_of(dict.fromkeys(rule_checks.COLUMNS, 7))
    assert set(found) == set(rule_checks.COLUMNS)


@pytest.mark.django_db
class TestTheModel:
    def test_a_good_rule_is_clean(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        tenant = a_tenant()
        with django_assert_num_queries(1):
            OutputRule(tenant=tenant).clean()

    def test_a_bad_rule_is_refused_field_by_field(self) -> None:
        with pytest.raises(ValidationError) as error:
            OutputRule(tenant=a_tenant(), source="aws.x", operations=["GET"]).clean()
        assert error.value.message_dict == {
            "source": [
                (
                    "EventBridge keeps sources that begin with 'aws.' for AWS itself. "
                    "Use another, such as 'blockforger-output'."
                )
            ],
            "operations": ["'GET' is not an operation that is published. Use POST, PUT, PATCH or DELETE."],
        }

    def test_the_tenants_allowed_buses_bind_its_rules_alone(self) -> None:
        ours, theirs = a_tenant("ours"), a_tenant("theirs")
        AllowedBus.objects.create(tenant=ours, arn_pattern="arn:aws:events:*:111111111111:*")
        OutputRule(tenant=theirs).clean()
        with pytest.raises(ValidationError, match="The tenant may not name the bus"):
            OutputRule(tenant=ours).clean()

    def test_the_schema_of_a_rule_is_its_tenants(self) -> None:
        ours, theirs = a_tenant("ours"), a_tenant("theirs")
        OutputRule(tenant=ours, schema=a_schema(ours)).clean()
        with pytest.raises(ValidationError) as error:
            OutputRule(tenant=ours, schema=a_schema(theirs)).clean()
        assert error.value.message_dict == {
            "schema": ["The schema is another tenant's. Choose one of the rule's own tenant."]
        }

    def test_a_rule_without_a_tenant_yet_is_checked_all_the_same(self) -> None:
        OutputRule().clean()
        with pytest.raises(ValidationError):
            OutputRule(eventbridge_arn="").clean()
