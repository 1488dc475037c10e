"""Items: read and written, under locks, with the payload checked against its schema."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import connection
from django.utils import timezone

from blockforger.backend import json_schemas, json_values, keys, lists, rows
from blockforger.backend.errors import (
    ItemExists,
    ItemsTooLarge,
    ItemUnknown,
    KeyFieldInvalid,
    KeyMismatch,
    PayloadInvalid,
    PayloadNotObject,
    PayloadTooLarge,
)
from blockforger.backend.list_queries import Query
from blockforger.backend.merge_patch import merged
from blockforger.backend.models import Item, Method
from blockforger.backend.preconditions import UNCONDITIONAL, Preconditions
from blockforger.backend.rows import Columns
from tenants.errors import Refusal
from tenants.new_rows import NewRows

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema

# What an output event adds to its payload, in bytes, at the most: names, key and types at their full lengths
# (eventing's tests compute it).
EVENT_OVERHEAD = 6_144

_LARGEST_TEXT_KEPT = 16 * 1024
"""Bytes."""

_NEW_ITEM = NewRows(Item)
_ITEM = Columns(Item, "id", "schema", "key", "payload", "version")

Place: TypeAlias = tuple[int, str]
"""A schema's number and an item's key."""


class Request(NamedTuple):
    """A well-formed request for one item, or (a GET without key) for a page of a list."""

    schema: Schema
    method: Method
    key: str | None
    # The payload as sent; a POST's holds the key, generated if need be.
    payload: JsonObject
    preconditions: Preconditions = UNCONDITIONAL
    page: Query | None = None
    # The payload of a write as compact JSON, if it is not large: of many, the texts would be as much as the payloads.
    text: str = ""

    @classmethod
    def read(
        cls,
        schema: Schema,
        method: Method,
        *,
        key: str | None,
        payload: JsonValue,
        preconditions: Preconditions = UNCONDITIONAL,
        page: Query | None = None,
    ) -> Self:
        """Check form, size and key. `key` is that of the URL, if it names one. Raises a Refusal."""
        if method == Method.GET:
            return cls(schema, method, key, {}, preconditions, page)
        if not isinstance(payload, dict):
            raise PayloadNotObject
        if method == Method.POST:
            payload = _with_some_key(schema, payload)
        text = json_values.compact(payload)
        size = _check_size(text)
        named = _key_named(schema.key_field, key, payload)
        # Here, where no lock is held, if it is known already what the item will be.
        if method == Method.POST or (method == Method.PUT and schema.key_field in payload):
            _check_fit(schema, payload, size)
        return cls(schema, method, named, payload, preconditions, text=text if size <= _LARGEST_TEXT_KEPT else "")

    @property
    def place(self) -> Place:
        """Where the item is, or would be."""
        return self.schema.pk, self.key or ""


class Done(NamedTuple):
    """What was done to an item: the answer to the caller, and what an event about it says."""

    status: HTTPStatus
    body: JsonValue
    event_payload: JsonObject
    # None of a list. A new item gets its number, and with it its ETag, when it is inserted.
    item: Item | None = None
    # What was stored before a write; None if nothing was.
    before: JsonObject | None = None
    # `event_payload` as compact JSON, if it is known.
    event_text: str = ""
    # Whether so much is written that nobody else is to wait for it.
    is_large: bool = False

    @property
    def item_key(self) -> str:
        return self.item.key if self.item else ""

    @property
    def etag(self) -> str:
        """The item's ETag; none of a list, of an item that is gone, or of one whose number nobody is told."""
        has_one = self.item and self.item.pk and self.status != HTTPStatus.NO_CONTENT
        return self.item.etag if self.item and has_one else ""


UNSEEN = Done(HTTPStatus.OK, None, {})
"""Of an item that is read in the statement that bills it."""


def read(request: Request) -> Done:
    """What a GET asks for: an item, or a page of them. Raises ItemUnknown and PreconditionFailed."""
    if request.key is None:
        return Done(HTTPStatus.OK, lists.read(request.schema, request.page or Query()), {})
    item = _stored([request.place]).get(request.place)
    if item is None:
        raise ItemUnknown(request.key)
    return shown(request, item)


def shown(request: Request, item: Item) -> Done:
    """The answer to a GET of the item. Raises PreconditionFailed."""
    request.preconditions.check_match(item.etag)
    if request.preconditions.is_known(item.etag):
        return Done(HTTPStatus.NOT_MODIFIED, None, {}, item)
    return Done(HTTPStatus.OK, item.payload, {}, item)


@dataclass(slots=True)
class Plan:
    """Items as writes make them, not written yet."""

    created: list[Item]
    changed: list[Item]
    gone: list[Item]

    @classmethod
    def of_all(cls, plans: Sequence[Plan]) -> Plan:
        """Plans for items no two of which are the same, as one."""
        if len(plans) == 1:
            return plans[0]
        of_all = cls([], [], [])
        for plan in plans:
            of_all.created += plan.created
            of_all.changed += plan.changed
            of_all.gone += plan.gone
        of_all.sort()
        return of_all

    def sort(self) -> None:
        """An insert waits for whoever is making the same item: all must come in one order.

        So must those that were read without a lock. PostgreSQL need not take them in it, but as a rule does.
        """
        self.created.sort(key=lambda item: (item.schema_id, item.key))
        self.changed.sort(key=lambda item: item.pk)
        self.gone.sort(key=lambda item: item.pk)


class Look(Enum):
    """Which items are read before they are written, and whether they are locked until the transaction ends.

    Where only old ones are, those to be changed or deleted, it is seen when new ones are written if they are there.
    """

    AT_OLD_UNLOCKED = auto()
    AT_OLD = auto()
    AT_ALL = auto()


def plan(requests: Sequence[Request], *, look: Look) -> tuple[Plan, list[Done | Refusal]]:
    """What writes, no two of the same item, will make of the items, and an answer for each in their order.

    A refused one will write nothing. Items are locked in an order that all share.
    """
    places = [request.place for request in requests if look is Look.AT_ALL or request.method != Method.POST]
    stored = _stored(places, locked=look is not Look.AT_OLD_UNLOCKED)
    answers: list[Done | Refusal] = []
    made = Plan([], [], [])
    lists_of = {Method.POST: made.created, Method.PUT: made.changed, Method.PATCH: made.changed}
    for request in requests:
        try:
            item, done = _planned(request, stored.get(request.place))
        except Refusal as refusal:
            answers.append(refusal.without_trace())
        else:
            lists_of.get(request.method, made.gone).append(item)
            answers.append(done)
    made.sort()
    return made, answers


def _stored(places: Collection[Place], *, locked: bool = False) -> dict[Place, Item]:
    """Those of the items that are there; on demand locked until the transaction ends, in the order of their places."""
    possible = sorted(place for place in places if keys.is_possible(place[1]))
    if not possible:
        return {}
    # SQLite has no row locks and needs none: a transaction there is alone from its beginning.
    lock = connection.ops.for_update_sql() if locked and connection.features.has_select_for_update else ""
    query = _query(rows.shape_of(len(possible)), lock)
    items = map(_ITEM.row, rows.fetched(query, _named(possible)))
    return {(item.schema_id, item.key): item for item in items}


@lru_cache(maxsize=1024)
def _query(shape: int | None, lock: str) -> str:
    columns = _ITEM.of("backend_item")
    if not rows.is_postgresql():
        places = ", ".join(["(%s, %s)"] * (shape or 0))
        return f"SELECT {columns} FROM backend_item WHERE (schema_id, key) IN (VALUES {places})"
    many = "json_to_recordset(%s::json) AS given(schema bigint, key text)"
    given = many if shape is None else "(VALUES (%s::bigint, %s)) AS given(schema, key)"
    # One by one, by the index, and so in the order given: a join would read the whole table where it is not large, or
    # was not when it was last analyzed.
    one = f"SELECT {columns} FROM backend_item WHERE schema_id = given.schema AND key = given.key LIMIT 1 {lock}"
    return f"SELECT item.* FROM {given} CROSS JOIN LATERAL ({one}) AS item"


def _named(places: Sequence[Place]) -> list[object]:
    if rows.shape_of(len(places)) is None:
        return [json_values.compact([{"schema": schema, "key": key} for schema, key in places])]
    return [part for schema, key in places for part in (str(schema), key)]


def check_size_together(requests: Sequence[Request]) -> None:
    """Raise ItemsTooLarge if the items that the requests change are more than can be read at once."""
    limit: int = settings.BLOCKFORGER_MAX_BULK_BYTES
    length = "LENGTH(payload::text)" if rows.is_postgresql() else "LENGTH(payload)"
    query = f"SELECT SUM({length}) FROM backend_item WHERE (schema_id, key) IN (VALUES {{places}})"
    places = [part for request in requests for part in request.place]
    with connection.cursor() as cursor:
        cursor.execute(query.format(places=", ".join(["(%s, %s)"] * len(requests))), places)
        if (cursor.fetchone()[0] or 0) > limit:
            raise ItemsTooLarge(limit=limit)


def _planned(request: Request, item: Item | None) -> tuple[Item, Done]:
    """The item as the request makes it, not written yet, and the answer. Raises a Refusal."""
    if request.method == Method.POST:
        if item is not None:
            raise ItemExists(item.key)
        return _created(request)
    if item is None:
        raise ItemUnknown(request.key or "")
    request.preconditions.check(item.etag)
    return _deleted(request, item) if request.method == Method.DELETE else _changed(request, item)


def _created(request: Request) -> tuple[Item, Done]:
    schema, key = request.place
    now = timezone.now()
    item = _NEW_ITEM(schema_id=schema, key=key, payload=request.payload, created_at=now, updated_at=now)
    done = Done(
        HTTPStatus.CREATED,
        request.payload,
        request.payload,
        item,
        event_text=request.text,
        is_large=not request.text,
    )
    return item, done


def _changed(request: Request, item: Item) -> tuple[Item, Done]:
    field = request.schema.key_field
    key_value, before = item.payload.get(field, item.key), item.payload
    sent = keys.with_key(request.payload, field=field, value=key_value)
    is_large = not request.text
    if request.method == Method.PATCH:
        sent = {**sent, field: key_value}
        item.payload = merged(item.payload, sent)
        size = _check_size(json_values.compact(item.payload))
        is_large = size > _LARGEST_TEXT_KEPT
        _check_fit(request.schema, item.payload, size)
    else:
        item.payload = sent
        if sent is not request.payload:  # or it was checked at the door
            _check_fit(request.schema, sent)
    item.version += 1
    item.updated_at = timezone.now()
    text = request.text if sent is request.payload else ""
    return item, Done(HTTPStatus.OK, item.payload, sent, item, before, event_text=text, is_large=is_large)


def _deleted(request: Request, item: Item) -> tuple[Item, Done]:
    field = request.schema.key_field
    key = {field: item.payload.get(field, item.key)}
    return item, Done(HTTPStatus.NO_CONTENT, None, key, item, before=item.payload)


def _with_some_key(schema: Schema, payload: JsonObject) -> JsonObject:
    field = schema.key_field
    if field in payload:
        return payload
    if "string" not in json_schemas.compiled(schema).key_types:
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


def _check_size(text: str) -> int:
    """How many bytes a payload is, given as compact JSON. Raises PayloadTooLarge."""
    limit = settings.BLOCKFORGER_MAX_EVENT_BYTES - EVENT_OVERHEAD
    size = len(text.encode())
    if size > limit:
        raise PayloadTooLarge(limit=limit)
    return size


def _check_fit(schema: Schema, payload: JsonObject, size: int | None = None) -> None:
    if violations := json_schemas.compiled(schema).violations(payload, size=size):
        raise PayloadInvalid(violations)
