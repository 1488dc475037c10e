"""The paths of schemas, usage and descriptions in an OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockforger.backend import usage
from blockforger.backend.errors import (
    ItemsViolateSchema,
    KeyFieldSettled,
    SchemaInvalid,
    SchemaNotEmpty,
    SchemaUnknown,
)
from blockforger.backend.models import SCHEMA_NAME_CHARACTERS
from blockforger.backend.openapi_parts import (
    IF_MATCH,
    IF_NONE_MATCH,
    JSON,
    LIMITED,
    Endpoint,
    answer,
    body,
    headers,
    in_path,
    in_query,
    list_of,
    next_cursor,
    object_of,
    optional,
    paging,
)
from tenants.models import EntryKind, Permission

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.openapi_parts import Place

READERS = (Permission.BACKEND_CALLS, Permission.MANAGE_SCHEMAS)
# In two parts, because not all engines of patterns can look ahead.
SCHEMA_NAME: JsonObject = {
    "type": "string",
    "pattern": f"^{SCHEMA_NAME_CHARACTERS}$",
    "not": {"pattern": r"^\.{1,2}$|\.json$"},
}
_TIME: JsonObject = {"type": "string", "format": "date-time"}
_INTEGER: JsonObject = {"type": "integer"}
_TEXT: JsonObject = {"type": "string"}
_JSON_SCHEMA: JsonObject = {"$ref": "#/components/schemas/JsonSchema"}
SUMMARY = object_of(
    {
        "name": _TEXT,
        "version": _INTEGER,
        "key": {"type": "string", "description": "The member that holds an item's key."},
        "updated_at": _TIME,
        "items": {"type": "string", "description": "The URL of its items."},
        "schema": {"type": "string", "description": "The URL of its document."},
    }
)
_BURNT: dict[str, JsonObject] = {"tokens": _INTEGER, "operations": _INTEGER}
USAGE = object_of(
    {
        "balance": _INTEGER,
        "cost": {"type": "integer", "description": "Tokens for an operation."},
        "days": list_of(object_of({"day": {"type": "string", "format": "date"}, **_BURNT})),
        "schemas": list_of(object_of({"schema": _TEXT, **_BURNT})),
    }
)
LEDGER_ENTRY = object_of(
    {
        "id": _INTEGER,
        "kind": {"enum": [*EntryKind.values]},
        "amount": _INTEGER,
        "balance_after": _INTEGER,
        "operation": {"type": "string", "format": "uuid"},
        "sequence": optional("integer"),
        "api_key": optional("string", description="The visible beginning of the key."),
        "reference": _TEXT,
        "created_at": _TIME,
    }
)


def paths(place: Place) -> JsonObject:
    schema = in_path("schema", "The name of a schema.", SCHEMA_NAME)
    return {
        place.root: {
            "parameters": [*place.parameters],
            "get": Endpoint(
                "list_schemas",
                "The tenant's schemas, by name",
                "schemas",
                READERS,
                {200: answer("Schemas.", object_of({"schemas": list_of(SUMMARY), "next": next_cursor()}))},
                parameters=paging(SCHEMA_NAME_CHARACTERS),
            ).written(),
        },
        f"{place.root}/{{schema}}/$schema": {
            "parameters": [*place.parameters, schema],
            "get": _read().written(),
            "put": _put().written(),
            "delete": _delete().written(),
        },
        f"{place.root}/$usage": {"parameters": [*place.parameters], "get": _usage().written()},
        f"{place.root}/$usage/entries": {"parameters": [*place.parameters], "get": _entries().written()},
        f"{place.root}/openapi.json": {"parameters": [*place.parameters], "get": _openapi().written()},
    }


def described(endpoint_id: str, summary: str, permissions: tuple[Permission, ...]) -> Endpoint:
    """What gives a document that describes."""
    return Endpoint(
        endpoint_id,
        summary,
        "descriptions",
        permissions,
        {
            200: answer("The document.", {"type": "object"}, "ETag"),
            304: {"description": "The ETag is the one that was sent.", "headers": headers("ETag", *LIMITED)},
        },
        parameters=(IF_NONE_MATCH,),
    )


def of_any_tenant() -> JsonObject:
    """The path of the document for whoever has no key yet."""
    endpoint = described("read_openapi_of_any_tenant", "This document", ())
    return {"get": {**endpoint.written(), "security": []}}


def _openapi() -> Endpoint:
    return described("read_openapi", "The tenant's OpenAPI document", READERS)


def _read() -> Endpoint:
    return Endpoint(
        "read_schema",
        "A schema's document, as it was sent",
        "schemas",
        READERS,
        {
            200: answer("The JSON Schema, with `meta`.", _JSON_SCHEMA, "ETag", "Schema-Version"),
            304: {
                "description": "The ETag is the one that was sent.",
                "headers": headers("ETag", "Schema-Version", *LIMITED),
            },
        },
        (SchemaUnknown,),
        (IF_MATCH, IF_NONE_MATCH),
    )


def _put() -> Endpoint:
    stored = answer("What is stored now.", SUMMARY, "ETag", "Schema-Version")
    return Endpoint(
        "put_schema",
        "Make a schema, or change it",
        "schemas",
        (Permission.MANAGE_SCHEMAS,),
        {200: stored, 201: stored},
        (SchemaInvalid, KeyFieldSettled, ItemsViolateSchema),
        (in_query("force", "Change it though items do not fit.", {"type": "boolean"}), IF_MATCH, IF_NONE_MATCH),
        body(_JSON_SCHEMA, JSON, "application/schema+json"),
    )


def _delete() -> Endpoint:
    return Endpoint(
        "delete_schema",
        "Delete a schema that has no items",
        "schemas",
        (Permission.MANAGE_SCHEMAS,),
        {204: answer("It is gone.")},
        (SchemaUnknown, SchemaNotEmpty),
        (IF_MATCH, IF_NONE_MATCH),
    )


def _usage() -> Endpoint:
    days: JsonObject = {"type": "integer", "minimum": 1, "maximum": usage.MAX_DAYS, "default": 7}
    return Endpoint(
        "read_usage",
        "The balance, and what the last days' operations cost",
        "usage",
        (Permission.BACKEND_CALLS,),
        {200: answer("The usage.", USAGE)},
        parameters=(in_query("days", "How many, today (UTC) included; fewer if it takes too long.", days),),
    )


def _entries() -> Endpoint:
    return Endpoint(
        "list_ledger_entries",
        "The ledger, the newest entry first",
        "usage",
        (Permission.BACKEND_CALLS,),
        {200: answer("Entries.", object_of({"entries": list_of(LEDGER_ENTRY), "next": next_cursor()}))},
        parameters=paging("[0-9]{1,18}"),
    )
