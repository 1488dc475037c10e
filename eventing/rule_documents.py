"""Output rules as JSON: the arrays in tenant.properties and in a schema's meta."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, cast

from blockforger.backend import json_values
from eventing import rule_checks
from eventing.models import DEFAULT_DETAIL_TYPE, DEFAULT_SOURCE, OutputRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.json_values import JsonObject, JsonValue

_ALWAYS = {"eventbridge_arn", "source", "detail_type"}
_MEMBERS = ", ".join(rule_checks.COLUMNS)


class RuleDocument(TypedDict):
    """What a rule says, under the names of its columns, which are also those of its JSON."""

    eventbridge_arn: str
    source: str
    detail_type: str
    operations: list[str]
    schema_names: list[str]
    enabled: bool
    filter: JsonObject | None
    on_change: list[str]
    fields: dict[str, list[str]] | None


# What a rule says that does not say more than its bus; lists that are empty mean all.
_DEFAULTS: JsonObject = {
    "source": DEFAULT_SOURCE,
    "detail_type": DEFAULT_DETAIL_TYPE,
    "operations": [],
    "schema_names": [],
    "enabled": True,
    "filter": None,
    "on_change": [],
    "fields": None,
}


def read(
    value: JsonValue, *, own_schema: str | None = None, tenant_patterns: Sequence[str] = ()
) -> tuple[list[RuleDocument], list[tuple[str, str]]]:
    """The rules of an array, and what is wrong with them, as JSON Pointers with messages.

    What is optional and left out gets its default. For the other arguments see `rule_checks.problems_of`.
    """
    if not isinstance(value, list):
        return [], [("", "Write an array of rules: [{…}, {…}].")]
    documents = []
    problems = []
    for index, element in enumerate(value):
        if not isinstance(element, dict):
            problems.append((f"/{index}", f"Write an object with the members of a rule: {_MEMBERS}."))
            continue
        for name in (name for name in element if name not in rule_checks.COLUMNS):
            message = f"A rule has no member '{name}'. Remove it, or use one of {_MEMBERS}."
            problems.append((f"/{index}/{json_values.escaped(name)}", message))
        filled: JsonObject = {"eventbridge_arn": None, **_DEFAULTS, **element}
        found = rule_checks.problems_of(filled, own_schema=own_schema, tenant_patterns=tenant_patterns)
        for column, messages in found.items():
            if column == "filter":
                places = rule_checks.problems_of_filter(filled["filter"])
                problems += [(f"/{index}/filter{pointer}", message) for pointer, message in places]
            else:
                problems += [(f"/{index}/{column}", message) for message in messages]
        if not found:
            documents.append(_normalized(filled))
    return documents, problems


def of_row(row: OutputRule) -> RuleDocument:
    """What a stored rule says."""
    return _normalized({column: getattr(row, column) for column in rule_checks.COLUMNS})


def written(document: RuleDocument) -> JsonObject:
    """The JSON of a rule; what is optional and says nothing is left out."""
    said = cast("JsonObject", document)
    return {name: value for name, value in said.items() if name in _ALWAYS or value != _DEFAULTS[name]}


def members_of(written_document: JsonObject | None) -> JsonObject:
    """All that the JSON of a rule says, what it leaves out too; of no rule, nothing."""
    return {} if written_document is None else {"eventbridge_arn": "", **_DEFAULTS, **written_document}


def described(document: RuleDocument) -> str:
    """The rule in a line of text."""
    operations = ", ".join(document["operations"]) or "all operations"
    schemas = ", ".join(document["schema_names"]) or "all schemas"
    text = f"{operations} of {schemas} to {document['eventbridge_arn']}"
    if document["source"] != DEFAULT_SOURCE:
        text += f", source '{document['source']}'"
    if document["detail_type"] != DEFAULT_DETAIL_TYPE:
        text += f", detail-type '{document['detail_type']}'"
    if document["filter"]:
        text += f", if {json_values.compact(document['filter'])}"
    if document["on_change"]:
        text += f", on a change of {', '.join(document['on_change'])}"
    for name, paths in (document["fields"] or {}).items():
        text += f", {name} {', '.join(paths)}"
    return text if document["enabled"] else f"{text} (disabled)"


def _normalized(values: JsonObject) -> RuleDocument:
    document = cast("RuleDocument", {column: values[column] for column in rule_checks.COLUMNS})
    document["schema_names"] = [rule_checks.schema_name_of(name) for name in document["schema_names"]]
    document["filter"] = cast("JsonObject | None", _canonical(values["filter"]))
    document["fields"] = cast("dict[str, list[str]] | None", _canonical(values["fields"]))
    return document


def _canonical(value: JsonValue) -> JsonValue:
    """The value as it reads before and after it was stored: jsonb orders members, and makes 100 of 1e2."""
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in sorted(value.items())}
    if isinstance(value, list):
        return list(map(_canonical, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value
