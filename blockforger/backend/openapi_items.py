"""The paths of a schema's items in an OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blockforger.backend import bulk, idempotency_keys, json_schemas, list_filters, list_queries
from blockforger.backend.errors import (
    EventsTooLarge,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    ItemExists,
    ItemsTooLarge,
    ItemUnknown,
    KeyFieldInvalid,
    KeyMismatch,
    KeyRepeated,
    PayloadInvalid,
    PayloadNotObject,
    PayloadTooLarge,
    PreconditionMissing,
    SchemaUnknown,
)
from blockforger.backend.item_columns import COLUMNS
from blockforger.backend.item_paths import SCALARS
from blockforger.backend.openapi_parts import (
    BILLED,
    IF_MATCH,
    IF_NONE_MATCH,
    JSON,
    LIMITED,
    Endpoint,
    answer,
    headers,
    in_header,
    in_path,
    in_query,
    list_in_query,
    list_of,
    next_cursor,
    object_of,
)
from tenants.errors import NotEnoughTokens
from tenants.models import Permission

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockforger.backend.item_paths import ItemPath, Types
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.models import Schema
    from blockforger.backend.openapi_parts import Place
    from blockforger.backend.openapi_types import ItemTypes

NDJSON = "application/x-ndjson"
MERGE_PATCH = "application/merge-patch+json"
MAX_PATHS = 40
"""Of which a list's filters are described. The others of a schema can be asked for all the same."""

_CALLS = (Permission.BACKEND_CALLS,)
_READS = (SchemaUnknown, NotEnoughTokens)
_WRITES = (*_READS, PayloadTooLarge, EventsTooLarge, IdempotencyKeyInUse, IdempotencyKeyReused, PreconditionMissing)
_PAYLOADS = (PayloadNotObject, PayloadInvalid, KeyFieldInvalid)
_IDEMPOTENCY_KEY = in_header(
    idempotency_keys.HEADER,
    "Makes it safe to send the same request again, for 24 hours.",
    {"type": "string", "pattern": '^("[!#-\\[\\]-~]{1,200}"|[!#-+.-:<-\\[\\]-~-]{1,255})$'},
)
_FIELDS = "Paths of what is shown of the items; the key always is"
_NUMBER: JsonObject = {"type": "number", "minimum": -(2**53), "maximum": 2**53}


class Names(NamedTuple):
    """What a schema's operations are called, and where its paths begin."""

    name: str
    url: str
    parameters: tuple[JsonObject, ...]


def of_schema(place: Place, schema: Schema, types: ItemTypes) -> JsonObject:
    """The paths of a tenant's schema."""
    names = Names(schema.name, f"{place.root}/{schema.name}", place.parameters)
    paths = json_schemas.compiled(schema).paths
    known = [path for text in paths.told()[:MAX_PATHS] if (path := paths.find(text))]
    return _paths(names, types, (*_sort_and_fields(known), *_filters(known)))


def of_any_schema(place: Place, types: ItemTypes) -> JsonObject:
    """The paths of whatever schema."""
    parameter = in_path("schema", "The name of a schema.", {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"})
    names = Names("items", f"{place.root}/{{schema}}", (*place.parameters, parameter))
    described = "Which items; `filter[path][operator]=value` for another operator than `eq`."
    text: JsonObject = {"type": "string"}
    return _paths(
        names,
        types,
        (_sort(text), list_in_query("fields", _FIELDS, text), in_query("filter[path]", described)),
    )


def _paths(names: Names, types: ItemTypes, of_paths: tuple[JsonObject, ...]) -> JsonObject:
    key = in_path("key", f"The item's key: its member `{types.key_field}`, percent-encoded.", types.key_in_url)
    return {
        names.url: {
            "parameters": [*names.parameters],
            "get": _list(names, types, of_paths).written(),
            "post": _create(names, types).written(),
            "patch": _change_many(names, types).written(),
            "delete": _delete_many(names, types).written(),
        },
        f"{names.url}/{{key}}": {
            "parameters": [*names.parameters, key],
            "get": _read(names, types).written(),
            "put": _replace(names, types).written(),
            "patch": _change(names, types).written(),
            "delete": _delete(names).written(),
        },
    }


def _list(names: Names, types: ItemTypes, of_paths: tuple[JsonObject, ...]) -> Endpoint:
    size: JsonObject = {"type": "integer", "minimum": 1, "maximum": list_queries.MAX_LIMIT, "default": 100}
    page = object_of({"items": list_of({"anyOf": [types.item, types.part]}), "next": next_cursor()})
    return Endpoint(
        f"list_{names.name}",
        "A page of the items",
        names.name,
        _CALLS,
        {200: answer("Items, in order; parts of them with `fields`.", page, "Link", *BILLED)},
        _READS,
        (
            in_query("limit", "How many at the most.", size),
            in_query("cursor", "The member `next` of the page before."),
            *of_paths,
        ),
    )


def _create(names: Names, types: ItemTypes) -> Endpoint:
    many: JsonObject = {**list_of(types.item), "minItems": 1, "maxItems": bulk.MAX_ITEMS}
    made: JsonObject = {"anyOf": [types.item, object_of({"items": list_of(types.item)})]}
    return Endpoint(
        f"create_{names.name}",
        "Make an item, or those of an array: all or none",
        names.name,
        _CALLS,
        {
            200: _stream("Of a stream: a line of JSON for each line."),
            201: answer("The item, or `items`.", made, "Location", "ETag", "Idempotent-Replayed", *BILLED),
        },
        (*_WRITES, *_PAYLOADS, KeyRepeated, ItemExists),
        (_IDEMPOTENCY_KEY,),
        _body({"anyOf": [types.item, many]}, JSON, streams=True),
    )


def _change_many(names: Names, types: ItemTypes) -> Endpoint:
    many: JsonObject = {**list_of(types.change), "minItems": 1, "maxItems": bulk.MAX_ITEMS}
    changed = answer(
        "The items as they are then; of a stream, a line of JSON for each line.",
        object_of({"items": list_of(types.item)}),
        *("Idempotent-Replayed", *BILLED),
    )
    changed["content"] = {**_content(changed), **_content(_stream(""))}
    return Endpoint(
        f"change_many_{names.name}",
        "Change many items by merge patches, each with its key: all or none",
        names.name,
        _CALLS,
        {200: changed},
        (*_WRITES, *_PAYLOADS, KeyRepeated, ItemUnknown, ItemsTooLarge),
        (_IDEMPOTENCY_KEY,),
        _body(many, JSON, MERGE_PATCH, streams=True),
    )


def _delete_many(names: Names, types: ItemTypes) -> Endpoint:
    many: JsonObject = {**list_of(types.key), "minItems": 1, "maxItems": bulk.MAX_ITEMS}
    return Endpoint(
        f"delete_many_{names.name}",
        "Delete the items of many keys: all or none",
        names.name,
        _CALLS,
        {
            200: _stream("Of a stream: a line of JSON for each line."),
            204: answer("They are gone.", None, "Idempotent-Replayed", *BILLED),
        },
        (*_WRITES, KeyRepeated, ItemUnknown, ItemsTooLarge),
        (_IDEMPOTENCY_KEY,),
        _body(many, JSON, streams=True),
    )


def _read(names: Names, types: ItemTypes) -> Endpoint:
    return Endpoint(
        f"read_{names.name}",
        "An item",
        names.name,
        _CALLS,
        {
            200: answer("The item.", types.item, "ETag", *BILLED),
            304: {"description": "The ETag is the one that was sent.", "headers": headers("ETag", *BILLED)},
        },
        (*_READS, ItemUnknown),
        (IF_MATCH, IF_NONE_MATCH),
    )


def _replace(names: Names, types: ItemTypes) -> Endpoint:
    return Endpoint(
        f"replace_{names.name}",
        "Put another item in the place of one that is there",
        names.name,
        _CALLS,
        {200: answer("The item as it is then.", types.item, "ETag", "Idempotent-Replayed", *BILLED)},
        (*_WRITES, *_PAYLOADS, KeyMismatch, ItemUnknown),
        (IF_MATCH, IF_NONE_MATCH, _IDEMPOTENCY_KEY),
        _body(types.item, JSON),
    )


def _change(names: Names, types: ItemTypes) -> Endpoint:
    return Endpoint(
        f"change_{names.name}",
        "Change an item by a merge patch",
        names.name,
        _CALLS,
        {200: answer("The item as it is then.", types.item, "ETag", "Idempotent-Replayed", *BILLED)},
        (*_WRITES, *_PAYLOADS, KeyMismatch, ItemUnknown),
        (IF_MATCH, IF_NONE_MATCH, _IDEMPOTENCY_KEY),
        _body(types.patch, JSON, MERGE_PATCH),
    )


def _delete(names: Names) -> Endpoint:
    return Endpoint(
        f"delete_{names.name}",
        "Delete an item",
        names.name,
        _CALLS,
        {204: answer("It is gone.", None, "Idempotent-Replayed", *BILLED)},
        (*_WRITES, ItemUnknown),
        (IF_MATCH, IF_NONE_MATCH, _IDEMPOTENCY_KEY),
    )


def _body(schema: JsonObject, *media_types: str, streams: bool = False) -> JsonObject:
    content: JsonObject = {media_type: {"schema": schema} for media_type in media_types}
    if streams:
        content[NDJSON] = {"schema": {"description": "Lines of JSON, an operation each."}}
    return {"required": True, "content": content}


def _stream(description: str) -> JsonObject:
    content: JsonObject = {NDJSON: {"schema": {"type": "string"}}}
    return {"description": description, "headers": headers(*LIMITED), "content": content}


def _content(response: JsonObject) -> JsonObject:
    content = response["content"]
    return content if isinstance(content, dict) else {}


def _sort(path: JsonObject) -> JsonObject:
    return list_in_query(
        "sort", "Paths to sort by; `-` before one descends", path, maxItems=list_queries.MAX_SORTS, uniqueItems=True
    )


def _sort_and_fields(paths: list[ItemPath]) -> Iterator[JsonObject]:
    sortable = [str(path) for path in paths if path.types & COLUMNS.keys()]
    if sortable:
        yield _sort({"enum": [*sortable, *(f"-{path}" for path in sortable)]})
    yield list_in_query(
        "fields", _FIELDS, {"enum": [*map(str, paths)]}, maxItems=list_queries.MAX_FIELDS, uniqueItems=True
    )


def _filters(paths: list[ItemPath]) -> Iterator[JsonObject]:
    """A parameter for each path and operator, with the type of what it takes."""
    for path in paths:
        for operator in list_filters.operators(path):
            name = f"filter[{path}]" if operator == "eq" else f"filter[{path}][{operator}]"
            described = f"`{operator}` of `{path}`"
            if operator == "in":
                most = list_filters.MAX_VALUES
                yield list_in_query(name, described, _value(path.types & SCALARS), minItems=1, maxItems=most)
            else:
                yield in_query(name, described, _type_of_value(path, operator))


def _type_of_value(path: ItemPath, operator: str) -> JsonObject:
    if operator == "exists":
        return {"type": "boolean"}
    if operator == "contains" and "string" not in path.types:
        return _value(path.element_types & SCALARS)
    if operator in {"eq", "ne", "contains"}:
        return _value(path.types & SCALARS)
    return _value(path.types & {"string", "number"})


def _value(types: Types) -> JsonObject:
    """What is read as one of these types. Whatever may be a string may be any text."""
    match sorted(types):
        case ["number"]:
            return _NUMBER
        case ["boolean"]:
            return {"type": "boolean"}
        case _:
            return {"type": "string"}
