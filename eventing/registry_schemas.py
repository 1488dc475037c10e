"""A tenant's output events as schemas of the EventBridge Schema Registry, in its form JSONSchemaDraft4.

The registry takes OpenAPI 3.0 and JSON Schema Draft 4 (user guide, "Creating an Amazon EventBridge schema"). Draft 4
can say nearly all that our schemas do, types of several kinds and null included, which OpenAPI 3.0 cannot.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from blockforger.backend.openapi_types import PLACE
from blockforger.backend.schema_parts import parts, subschemas
from eventing import output_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.json_values import JsonObject
    from eventing.output_events import OutputEvents, OutputMessage
    from tenants.models import Tenant

TYPE = "JSONSchemaDraft4"
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
# Those of 2020-12 that mean something else in Draft 4, or nothing, and are left out there.
_LEFT_OUT = ("if", "then", "else", "contains", "minContains", "maxContains", "propertyNames", "unevaluatedProperties",
             "unevaluatedItems", "contentSchema", "$comment")  # fmt: skip


def of_tenant(tenant: Tenant) -> dict[str, JsonObject]:
    """The schemas by the names that the registry gives to those it discovers: `{source}@{detail-type}`."""
    events = output_events.of_tenant(tenant)
    alike: dict[tuple[str, str], list[OutputMessage]] = {}
    for message in events.messages:
        alike.setdefault((message.source, message.detail_type), []).append(message)
    found: dict[str, JsonObject] = {}
    for (source, detail_type), messages in alike.items():
        name = re.sub(r"[^A-Za-z0-9_.@-]", "-", f"{source}@{detail_type}")
        while name in found:
            name += "-"
        found[name] = _schema(events, source, detail_type, messages)
    return found


def _schema(events: OutputEvents, source: str, detail_type: str, messages: Sequence[OutputMessage]) -> JsonObject:
    event: Any = events.event_of(messages[0])
    details = {json.dumps(_detail(events, message)): None for message in messages}
    if len(details) > 1:
        event["properties"]["detail"] = {"anyOf": [json.loads(detail) for detail in details]}
    # A copy: definitions are changed for each schema that has them.
    text = json.dumps({**event, "definitions": _needed(events.types, event)})
    schema: JsonObject = json.loads(text.replace(PLACE, "#/definitions/"))
    for inner in [*subschemas(schema).values()][::-1]:
        if isinstance(inner, dict):
            _translate(inner)
    return {
        "$schema": DRAFT_4,
        "title": detail_type,
        "x-amazon-events-source": source,
        "x-amazon-events-detail-type": detail_type,
        **schema,
    }


def _detail(events: OutputEvents, message: OutputMessage) -> Any:
    event: Any = events.event_of(message)
    return event["properties"]["detail"]


def _needed(types: dict[str, Any], event: JsonObject) -> dict[str, Any]:
    """The types that the event refers to, and those that these do."""
    found: dict[str, Any] = {}
    waiting: list[Any] = [event]
    for value in waiting:
        for name in re.findall(rf'"{re.escape(PLACE)}([^"/]+)', json.dumps(value)):
            if name not in found:
                found[name] = types[name]
                waiting.append(types[name])
    return found


def _translate(schema: JsonObject) -> None:
    """Say in Draft 4 what the schema says in 2020-12; the schemas in it are translated already."""
    for part in list(parts(schema)):
        if isinstance(part.schema, bool) and part.keyword != "additionalProperties":
            _put(schema, part.keyword, part.name, {} if part.schema else {"not": {}})
    for keyword in _LEFT_OUT:
        schema.pop(keyword, None)
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    for keyword, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        _translate_bound(schema, keyword, bound)
    _translate_items(schema)
    dependencies = {**_map(schema.pop("dependentSchemas", {})), **_map(schema.pop("dependentRequired", {}))}
    if dependencies:
        schema["dependencies"] = dependencies
    if "$ref" in schema and len(schema) > 1:
        # There, nothing beside a reference counts.
        schema.setdefault("allOf", [])
        schema["allOf"] = [{"$ref": schema.pop("$ref")}, *_list(schema["allOf"])]


def _translate_items(schema: JsonObject) -> None:
    if "prefixItems" in schema:
        if "items" in schema:
            schema["additionalItems"] = schema.pop("items")
        schema["items"] = schema.pop("prefixItems")


def _translate_bound(schema: JsonObject, keyword: str, bound: str) -> None:
    exclusive, inclusive = schema.get(keyword), schema.get(bound)
    if not isinstance(exclusive, int | float):
        return
    pick = max if bound == "minimum" else min
    if isinstance(inclusive, int | float) and pick(exclusive, inclusive) != exclusive:
        del schema[keyword]
        return
    schema[bound], schema[keyword] = exclusive, True


def _put(schema: JsonObject, keyword: str, name: str | int | None, value: JsonObject) -> None:
    container: Any = schema if name is None else schema[keyword]
    container[keyword if name is None else name] = value


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
