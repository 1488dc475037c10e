"""Items: read and written, each under a lock, with the payload checked against its schema."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import IntegrityError
from django.utils import timezone

from blockforger.backend import json_schemas, json_values, keys, lists
from blockforger.backend.errors import (
    ItemExists,
    ItemUnknown,
    KeyFieldInvalid,
    KeyMismatch,
    PayloadInvalid,
    PayloadNotObject,
    PayloadTooLarge,
)
from blockforger.backend.merge_patch import merged
from blockforger.backend.models import Item, Method

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema

# What an output event adds to its payload, in bytes, at the most: names, key and types at their full lengths
# (eventing's tests compute it).
EVENT_OVERHEAD = 6_144


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed request for one item, or (a GET without key) for a page of a list."""

    schema: Schema
    method: Method
    key: str | None
    # The payload as sent; a POST's holds the key, generated if need be.
    payload: JsonObject

    @classmethod
    def read(cls, schema: Schema, method: Method, *, key: str | None, payload: JsonValue) -> Self:
        """Check form, size and key. `key` is that of the URL, if it names one. Raises a Refusal."""
        if method == Method.GET:
            return cls(schema, method, key, {})
        if not isinstance(payload, dict):
            raise PayloadNotObject
        if method == Method.POST:
            payload = _with_some_key(schema, payload)
        _check_size(payload)
        return cls(schema, method, _key_named(schema.key_field, key, payload), payload)


@dataclass(frozen=True, slots=True)
class Done:
    """What was done to an item: the answer to the caller, and what an event about it says."""

    status: HTTPStatus
    body: JsonValue
    item_key: str
    event_payload: JsonObject


def perform(request: Request, page: lists.Page | None) -> Done:
    """Read or write the item in the transaction of the caller. Raises a Refusal."""
    match request.method:
        case Method.GET:
            return _read(request) if request.key is not None else _read_page(request, page or lists.Page())
        case Method.POST:
            return _create(request)
        case Method.DELETE:
            return _delete(request)
        case _:
            return _change(request)


def _read(request: Request) -> Done:
    item = _stored(request.schema, request.key or "").first()
    if item is None:
        raise ItemUnknown(request.key or "")
    return Done(HTTPStatus.OK, item.payload, item.key, {})


def _read_page(request: Request, page: lists.Page) -> Done:
    return Done(HTTPStatus.OK, lists.read(request.schema, page), "", {})


def _create(request: Request) -> Done:
    key = request.key or ""
    _check_fit(request.schema, request.payload)
    try:
        Item(schema=request.schema, key=key, payload=request.payload).save(force_insert=True)
    except IntegrityError as error:
        raise ItemExists(key) from error
    return Done(HTTPStatus.CREATED, request.payload, key, request.payload)


def _change(request: Request) -> Done:
    item, field = _locked(request), request.schema.key_field
    key_value = item.payload.get(field, item.key)
    sent = keys.with_key(request.payload, field=field, value=key_value)
    if request.method == Method.PUT:
        item.payload = sent
    else:
        sent = {**sent, field: key_value}
        item.payload = merged(item.payload, sent)
        _check_size(item.payload)
    _check_fit(request.schema, item.payload)
    item.version += 1
    item.updated_at = timezone.now()
    item.save(update_fields=["payload", "version", "updated_at"])
    return Done(HTTPStatus.OK, item.payload, item.key, sent)


def _delete(request: Request) -> Done:
    item = _locked(request)
    item.delete()
    key_field = request.schema.key_field
    return Done(HTTPStatus.NO_CONTENT, None, item.key, {key_field: item.payload.get(key_field, item.key)})


def _locked(request: Request) -> Item:
    item = _stored(request.schema, request.key or "").select_for_update().first()
    if item is None:
        raise ItemUnknown(request.key or "")
    return item


def _stored(schema: Schema, key: str) -> QuerySet[Item]:
    items = Item.objects.filter(schema=schema, key=key).order_by()
    return items if keys.is_possible(key) else items.none()


def _with_some_key(schema: Schema, payload: JsonObject) -> JsonObject:
    field = schema.key_field
    if field not in payload and "string" not in json_schemas.compiled(schema).key_types:
        raise KeyFieldInvalid(f"The key '{field}' is an integer in this schema: send one.", field=field)
    return keys.with_key(payload, field=field, value=str(uuid.uuid7()))


def _key_named(field: str, key: str | None, payload: JsonObject) -> str:
    """The key that the URL and the payload agree on."""
    if key is None and field not in payload:
        raise KeyFieldInvalid(f"Send the item's key in the member '{field}' of the payload.", field=field)
    if field not in payload:
        return key or ""
    sent = keys.text_of(payload[field], field=field)
    if key is not None and key != sent:
        raise KeyMismatch(field=field)
    return sent


def _check_size(payload: JsonObject) -> None:
    limit = settings.BLOCKFORGER_MAX_EVENT_BYTES - EVENT_OVERHEAD
    if len(json_values.compact(payload).encode()) > limit:
        raise PayloadTooLarge(limit=limit)


def _check_fit(schema: Schema, payload: JsonObject) -> None:
    if violations := json_schemas.compiled(schema).violations(payload):
        raise PayloadInvalid(violations)
