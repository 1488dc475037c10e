"""What an output rule may say. Every message names the remedy, for it is all that the reader gets.

The same checks serve the admin's form and the files, so they take the values as they come, of whatever type.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, TypeGuard, cast

from django.conf import settings

from blockforger.backend import item_paths, json_values
from blockforger.backend.json_values import NotPortable
from blockforger.backend.models import WRITES, is_schema_name
from eventing import patterns, projections
from eventing.models import DEFAULT_SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from blockforger.backend.json_values import JsonValue

COLUMNS = (
    *("eventbridge_arn", "source", "detail_type", "operations", "schema_names"),
    *("enabled", "filter", "on_change", "fields"),
)
INPUT_SOURCE = "blockforger-input"
MAX_SOURCE = 256
MAX_DETAIL_TYPE = 128
MAX_SCHEMA_NAME = 64
MAX_PATHS = 50
MAX_PATH = 500
MAX_RULES = 500
"""Of a tenant, those of its schemas included: each write asks all of them, and each that matches makes an event."""

_ARN_FORM = "arn:aws:events:{region}:{account}:event-bus/{name}"
_ARN = re.compile(
    r"arn:(?:aws|aws-cn|aws-us-gov):events:[a-z]+(?:-[a-z0-9]+){2,}:[0-9]{12}:event-bus/[A-Za-z0-9._-]{1,256}"
)
_PLACEHOLDER = re.compile(r"\{(schema_id|operation)\}")


def schema_name_of(text: str) -> str:
    """A schema's name as rules may write it: a trailing '.json' is dropped."""
    return text.removesuffix(".json")


@lru_cache(maxsize=1024)
def rendered(detail_type: str, *, schema_name: str, operation: str) -> str:
    """The detail-type with {schema_id} and {operation} replaced; all other text, braces too, is literal."""
    values = {"schema_id": schema_name, "operation": operation}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], detail_type)


def problems_of(
    values: Mapping[str, object], *, own_schema: str | None = None, tenant_patterns: Sequence[str] = ()
) -> dict[str, list[str]]:
    """What is wrong with the values of a rule, by column; empty if nothing is.

    `own_schema` is the name of the schema whose rule it is, None for a tenant's rule. `tenant_patterns` fit the
    buses that the tenant may name; none: every bus that the operator allows.
    """
    schema_names, operations = values["schema_names"], values["operations"]
    found = {
        "eventbridge_arn": problems_of_arn(values["eventbridge_arn"], tenant_patterns),
        "source": _problems_of_source(values["source"]),
        "detail_type": _problems_of_detail_type(
            values["detail_type"],
            schema_names=[own_schema] if own_schema else schema_names,
            operations=operations,
        ),
        "operations": _problems_of_operations(operations),
        "schema_names": _problems_of_schema_names(schema_names),
        "enabled": [] if isinstance(values["enabled"], bool) else ["Write true, or false for a rule that rests."],
        "filter": [
            f"{pointer}: {message}" if pointer else message for pointer, message in problems_of_filter(values["filter"])
        ],
        "on_change": _problems_of_paths(values["on_change"]),
        "fields": _problems_of_fields(values["fields"]),
    }
    return {column: problems for column, problems in found.items() if problems}


def problem_of_bus_arn(arn: str) -> str | None:
    """What is wrong with the form of a bus ARN, if anything is."""
    if ":event-busv2/" in arn:
        return (
            f"'{arn}' is of the newer kind of bus with another API, to which Blockforger does not publish. "
            f"Name a classic bus: {_ARN_FORM}."
        )
    if ":rule/" in arn:
        return f"'{arn}' is a rule. Events are published to buses, not rules: name the rule's bus, {_ARN_FORM}."
    if not _ARN.fullmatch(arn):
        return (
            f"'{arn}' is not the ARN of an event bus. Write {_ARN_FORM}, with an account of 12 digits and "
            "a name of 1 to 256 letters, digits, '.', '_' or '-'."
        )
    return None


def problem_of_number(number: int, *, before: int = 0) -> str | None:
    """What is wrong with a tenant's having that many rules, if anything is: it keeps those that it had before."""
    if number <= max(MAX_RULES, before):
        return None
    return (
        f"These are {number:,} rules; a tenant has {MAX_RULES:,} at the most, those of its schemas included. "
        "Remove some, or make one of several: one rule can be for many schemas and operations."
    )


def is_allowed(arn: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns fits the ARN, or there are none."""
    patterns = list(patterns)
    return not patterns or any(fnmatchcase(arn, pattern) for pattern in patterns)


def problems_of_arn(arn: object, tenant_patterns: Sequence[str]) -> list[str]:
    """What is wrong with naming that bus, by its form and by what the operator and the tenant's patterns allow."""
    if not isinstance(arn, str) or not arn:
        return [f"Name the bus by its ARN, a text: {_ARN_FORM}."]
    if problem := problem_of_bus_arn(arn):
        return [problem]
    problems = []
    if not is_allowed(arn, settings.BLOCKFORGER_ALLOWED_BUS_ARNS):
        problems.append(
            f"The operator does not allow the bus '{arn}'. Name another, or ask for it to be added to "
            "BLOCKFORGER_ALLOWED_BUS_ARNS."
        )
    if not is_allowed(arn, tenant_patterns):
        allowed = ", ".join(tenant_patterns)
        problems.append(
            f"The tenant may not name the bus '{arn}'. Name one of its allowed buses ({allowed}), or ask the "
            "operator to add it to them."
        )
    return problems


def problems_of_filter(value: object) -> list[tuple[str, str]]:
    """What is wrong with a filter, as JSON Pointers into it with messages."""
    if value is None:
        return []
    document = cast("JsonValue", value)
    try:
        json_values.check_portable(document)
    except NotPortable as error:
        return [(error.pointer, error.message)]
    return patterns.check(document)


def _problems_of_source(source: object) -> list[str]:
    if not isinstance(source, str) or not 1 <= len(source) <= MAX_SOURCE:
        return [f"Use a text of 1 to {MAX_SOURCE} characters."]
    remedy = f"Use another, such as '{DEFAULT_SOURCE}'."
    if source.startswith("aws."):
        return [f"EventBridge keeps sources that begin with 'aws.' for AWS itself. {remedy}"]
    if source == INPUT_SOURCE:
        return [f"'{INPUT_SOURCE}' marks events that come in; an output could be taken for one. {remedy}"]
    return []


def _problems_of_detail_type(detail_type: object, *, schema_names: object, operations: object) -> list[str]:
    if not isinstance(detail_type, str) or not 1 <= len(detail_type) <= MAX_DETAIL_TYPE:
        return [f"Use a text of 1 to {MAX_DETAIL_TYPE} characters."]
    names = [schema_name_of(name) for name in schema_names] if _is_list_of_texts(schema_names) else []
    named_operations = operations if _is_list_of_texts(operations) else []
    longest = rendered(
        detail_type,
        # A rule for all schemas is also one for the longest name that a schema can get.
        schema_name=max(names, key=len, default="x" * MAX_SCHEMA_NAME),
        operation=max(named_operations or WRITES, key=len),
    )
    if len(longest) <= MAX_DETAIL_TYPE:
        return []
    problem = f"For the longest schema name and operation this comes to {len(longest)} characters"
    return [f"{problem}, and EventBridge takes {MAX_DETAIL_TYPE}. Shorten it, or limit the rule's schemas."]


def _problems_of_operations(operations: object) -> list[str]:
    if not _is_list_of_texts(operations):
        return ['Use a list of operations, such as ["POST", "DELETE"]; an empty one means all four.']
    unknown = [operation for operation in dict.fromkeys(operations) if operation not in WRITES]
    repeated = [operation for operation in WRITES if operations.count(operation) > 1]
    return [
        *(f"'{name}' is not an operation that is published. Use POST, PUT, PATCH or DELETE." for name in unknown),
        *(f"'{name}' stands there more than once. Name it once." for name in repeated),
    ]


def _problems_of_schema_names(names: object) -> list[str]:
    if not _is_list_of_texts(names):
        return ['Use a list of names of schemas, such as ["petstore"]; an empty one means all schemas.']
    remedy = f"Use 1 to {MAX_SCHEMA_NAME} letters, digits, '_', '.' or '-'."
    return [
        f"'{name}' cannot be the name of a schema. {remedy}"
        for name in dict.fromkeys(names)
        if not is_schema_name(schema_name_of(name))
    ]


def _problems_of_paths(paths: object) -> list[str]:
    if not _is_list_of_texts(paths):
        return ['Use a list of paths, such as ["status", "owner.city"].']
    if len(paths) > MAX_PATHS:
        return [f"Use {MAX_PATHS} paths at the most, or outer ones: 'owner' stands for all that is in it."]
    problems = []
    for path in dict.fromkeys(paths):
        shown = path[:100]
        if not path or len(path) > MAX_PATH or not all(item_paths.parsed(path)):
            problems.append(
                f"'{shown}' is no path. Use names with a dot between them and a backslash before each dot, comma, "
                f"bracket or backslash in one, {MAX_PATH} characters at the most."
            )
        elif path.startswith("/"):
            problems.append(f"'{shown}' looks like a JSON Pointer. Write the path with dots, such as owner.city.")
        elif paths.count(path) > 1:
            problems.append(f"'{shown}' stands there more than once. Name it once.")
    return problems


def _problems_of_fields(fields: object) -> list[str]:
    if fields is None:
        return []
    names = (projections.KEEP, projections.DROP, projections.MASK)
    if not isinstance(fields, dict) or not fields or not fields.keys() <= set(names):
        return ['Use an object such as {"keep": ["status"]} or {"drop": ["notes"], "mask": ["owner.mail"]}.']
    if projections.KEEP in fields and projections.DROP in fields:
        return ["Use keep or drop, not both: what is not kept is dropped."]
    return [
        f"{name}: {problem}"
        for name, paths in fields.items()
        for problem in (_problems_of_paths(paths) or ([] if paths else ["Name a path, or leave it out."]))
    ]


def _is_list_of_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(element, str) for element in value)
