"""Items: read and written, under locks, with the payload checked against its schema."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from http import HTTPStatus
from operator import or_
from typing import TYPE_CHECKING, Self, TypeAlias

import uuid_utils.compat as uuid
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from blockforger.backend import json_schemas, json_values, keys, lists, rows
from blockforger.backend.errors import (
    ItemExists,
    ItemUnknown,
    KeyFieldInvalid,
    KeyMismatch,
    PayloadInvalid,
    PayloadNotObject,
    PayloadTooLarge,
)
from blockforger.backend.lists import Page
from blockforger.backend.merge_patch import merged
from blockforger.backend.models import Item, Method
from tenants.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from django.db.models import QuerySet

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema

# What an output event adds to its payload, in bytes, at the most: names, key and types at their full lengths
# (eventing's tests compute it).
EVENT_OVERHEAD = 6_144


Place: TypeAlias = tuple[int, str]
"""A schema's number and an item's key."""


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed request for one item, or (a GET without key) for a page of a list."""

    schema: Schema
    method: Method
    key: str | None
    # The payload as sent; a POST's holds the key, generated if need be.
    payload: JsonObject
    page: Page | None = None

    @classmethod
    def read(
        cls, schema: Schema, method: Method, *, key: str | None, payload: JsonValue, page: Page | None = None
    ) -> Self:
        """Check form, size and key. `key` is that of the URL, if it names one. Raises a Refusal."""
        if method == Method.GET:
            return cls(schema, method, key, {}, page)
        if not isinstance(payload, dict):
            raise PayloadNotObject
        if method == Method.POST:
            payload = _with_some_key(schema, payload)
        _check_size(payload)
        return cls(schema, method, _key_named(schema.key_field, key, payload), payload)

    @property
    def place(self) -> Place:
        """Where the item is, or would be."""
        return self.schema.pk, self.key or ""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done to an item: the answer to the caller, and what an event about it says."""

    status: HTTPStatus
    body: JsonValue
    item_key: str
    event_payload: JsonObject


def read(request: Request) -> Done:
    """What a GET asks for: an item, or a page of them. Raises ItemUnknown."""
    if request.key is None:
        return Done(HTTPStatus.OK, lists.read(request.schema, request.page or Page()), "", {})
    item = _stored([request.place]).first()
    if item is None:
        raise ItemUnknown(request.key)
    return Done(HTTPStatus.OK, item.payload, item.key, {})


def write(requests: Sequence[Request]) -> list[Done | Refusal]:
    """Carry out writes, no two of the same item, in the caller's transaction and by a fixed number of statements.

    Gives an answer for each, in their order; a refused one writes nothing. Items are locked in an order that all
    share: those that are there first, then those that are made.
    """
    stored = _locked([request.place for request in requests if request.method != Method.POST])
    answers: list[Done | Refusal] = []
    new: list[Item] = []
    changed: list[Item] = []
    gone: list[Item] = []
    lists_of = {Method.POST: new, Method.PUT: changed, Method.PATCH: changed, Method.DELETE: gone}
    for request in requests:
        try:
            item, done = _planned(request, stored.get(request.place))
        except Refusal as refusal:
            answers.append(refusal)
        else:
            lists_of[request.method].append(item)
            answers.append(done)
    rows.update(changed, ("payload", "version", "updated_at"))
    if gone:
        Item.objects.filter(pk__in=[item.pk for item in gone]).delete()
    taken = _insert(new)
    return [
        ItemExists(request.place[1]) if request.method == Method.POST and request.place in taken else answer
        for request, answer in zip(requests, answers, strict=True)
    ]


def _locked(places: Collection[Place]) -> dict[Place, Item]:
    """Those of the items that are there, locked until the transaction ends."""
    if not places:
        return {}
    items = _stored(places).select_for_update().order_by("schema_id", "key")
    return {(item.schema_id, item.key): item for item in items}


def _stored(places: Collection[Place]) -> QuerySet[Item]:
    keys_of: dict[int, list[str]] = {}
    for schema, key in places:
        if keys.is_possible(key):
            keys_of.setdefault(schema, []).append(key)
    wanted = [Q(schema=schema, key__in=of_schema) for schema, of_schema in keys_of.items()]
    return Item.objects.filter(reduce(or_, wanted)).order_by() if wanted else Item.objects.none()


def _planned(request: Request, item: Item | None) -> tuple[Item, Done]:
    """The item as the request makes it, not written yet, and the answer. Raises a Refusal."""
    if request.method == Method.POST:
        return _created(request)
    if item is None:
        raise ItemUnknown(request.key or "")
    return _deleted(request, item) if request.method == Method.DELETE else _changed(request, item)


def _created(request: Request) -> tuple[Item, Done]:
    schema, key = request.place
    _check_fit(request.schema, request.payload)
    item = Item(schema_id=schema, key=key, payload=request.payload)
    return item, Done(HTTPStatus.CREATED, request.payload, key, request.payload)


def _changed(request: Request, item: Item) -> tuple[Item, Done]:
    field = request.schema.key_field
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
    return item, Done(HTTPStatus.OK, item.payload, item.key, sent)


def _deleted(request: Request, item: Item) -> tuple[Item, Done]:
    field = request.schema.key_field
    return item, Done(HTTPStatus.NO_CONTENT, None, item.key, {field: item.payload.get(field, item.key)})


def _insert(new: Iterable[Item]) -> set[Place]:
    """Insert the items, and give the places that were taken."""
    in_order = sorted(new, key=lambda item: (item.schema_id, item.key))
    rows.insert_unless_taken(in_order, unique=("schema", "key"))
    return {(item.schema_id, item.key) for item in in_order if item.pk is None}


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
