"""Schemas made, changed and deleted, with regard for the items that they have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from blockforger.backend import deadlocks, json_values, schema_documents, schema_keys
from blockforger.backend.errors import (
    ItemsViolateSchema,
    KeyFieldSettled,
    PreconditionFailed,
    SchemaInvalid,
    SchemaNotEmpty,
    SchemaUnknown,
)
from blockforger.backend.json_schemas import Compiled, SchemaProblem
from blockforger.backend.models import Item, Schema, is_schema_name
from blockforger.backend.preconditions import UNCONDITIONAL
from blockforger.backend.schema_documents import META, RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.preconditions import Preconditions
    from tenants.models import Tenant

MAX_MISFITS = 20
# Few, because each item can be a megabyte.
_PORTION = 50
# By this much the clocks of hosts that write items may differ, and so long may their transactions take.
_SLACK = timedelta(minutes=2)


class Misfit(NamedTuple):
    """The key of an item that does not fit, and the first place where."""

    key: str
    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What a schema is to become: the text of its document without `meta`, and that."""

    document: str
    meta: JsonObject

    @classmethod
    def read(cls, name: str, text: str) -> Draft:
        """Check a schema's text, with `meta` in it. Raises SchemaInvalid, with everything that is wrong."""
        try:
            value = json_values.parse(text)
        except json_values.NotPortable as error:
            raise SchemaInvalid([SchemaProblem(error.pointer, error.message)]) from error
        if problems := list(_problems(name, value)):
            raise SchemaInvalid(problems)
        meta = value.get(META, {}) if isinstance(value, dict) else {}
        return cls(schema_documents.without_meta(text), meta if isinstance(meta, dict) else {})


def put(
    tenant: Tenant, name: str, draft: Draft, *, force: bool = False, preconditions: Preconditions = UNCONDITIONAL
) -> tuple[Schema, bool]:
    """Make the schema, or make it what the draft says. Gives it, and whether it is new.

    What is there must meet the preconditions, and all items must fit, unless that is forced; a draft that says the
    same changes nothing. Raises PreconditionFailed, KeyFieldSettled and ItemsViolateSchema.
    """
    return deadlocks.retried(partial(_put, tenant, name, draft, force=force, preconditions=preconditions))


def delete(tenant: Tenant, name: str, *, preconditions: Preconditions = UNCONDITIONAL) -> None:
    """Delete a schema that has no items. Raises SchemaUnknown, PreconditionFailed and SchemaNotEmpty."""
    # An item that is made meanwhile refers to the schema: the database lets only one of both be committed, and the
    # other one is done again.
    deadlocks.retried(partial(_delete, tenant, name, preconditions))


def changed_parts(stored: Schema, *, document: str, meta: JsonObject) -> list[str]:
    """Of `document` and `meta`, those that say something else than before; how they are laid out does not count."""
    parts = []
    if _canonical(stored.document) != _canonical(document):
        parts.append("document")
    if not json_values.same(stored.meta, meta):
        parts.append("meta")
    return parts


def store(schema: Schema, *, document: str, meta: JsonObject) -> Schema:
    """Save what the schema, a new one or a stored one, is to say. It has been checked by then."""
    schema.document, schema.meta = document, meta
    if not schema.pk:
        schema.save(force_insert=True)
    else:
        schema.version = F("version") + 1
        schema.save(update_fields=["document", "meta", "version", "updated_at"])
        schema.refresh_from_db(fields=["version"])
    return schema


def _problems(name: str, value: JsonValue) -> Iterator[SchemaProblem]:
    if not is_schema_name(name):
        remedy = "Use 1 to 64 letters, digits, '_', '.' or '-', without '.json' at the end."
        yield SchemaProblem("", f"'{name[:100]}' cannot be the name of a schema. {remedy}")
    if not isinstance(value, dict):
        yield SchemaProblem("", "Write a JSON Schema that is an object.")
        return
    meta = value.get(META, {})
    if not isinstance(meta, dict):
        yield SchemaProblem(f"/{META}", 'Write an object, such as {"key": "id"}.')
        return
    if RULES in meta:
        yield SchemaProblem(f"/{META}/{RULES}", "Output rules are sent to /api/{tenant}/$rules. Leave them out here.")
    yield from schema_documents.problems({name: part for name, part in value.items() if name != META}, meta)


def _put(tenant: Tenant, name: str, draft: Draft, *, force: bool, preconditions: Preconditions) -> tuple[Schema, bool]:
    with transaction.atomic(durable=True):
        # Changes of a schema wait for each other here; writes of its items, which refer to it, do not wait.
        schema = tenant.schemas.select_for_update(no_key=True).filter(name=name).first()
        if schema is None:
            if preconditions.if_match is not None:
                raise PreconditionFailed("If-Match")
            new = Schema(tenant=tenant, name=name)
            return store(new, document=draft.document, meta=draft.meta), True
        preconditions.check(schema.etag)
        parts = changed_parts(schema, document=draft.document, meta=draft.meta)
        if not parts:
            return schema, False
        key_field = Schema(meta=draft.meta).key_field
        if message := schema_keys.problem_of_change(schema, key_field):
            raise KeyFieldSettled(message)
        if "document" in parts and not force:
            _check_items(schema, Compiled(json.loads(draft.document), key_field))
        return store(schema, document=draft.document, meta=draft.meta), False


def _check_items(schema: Schema, compiled: Compiled) -> None:
    """Look at every item, and once more at those that were written meanwhile.

    An item that was checked against the old document just before the change is committed, and is committed just
    after it, can still be one that does not fit. To exclude that, every write would have to lock its schema's row,
    which all writers of the schema share, or read it once more.
    """
    begun = timezone.now()
    misfits = list(islice(_misfits(schema.items.all(), compiled), MAX_MISFITS))
    # Without row locks, the transaction has been alone since it began.
    if not misfits and connection.features.has_select_for_update:
        misfits = list(islice(_misfits(schema.items.filter(updated_at__gte=begun - _SLACK), compiled), MAX_MISFITS))
    if misfits:
        raise ItemsViolateSchema(misfits, limit=MAX_MISFITS)


def _misfits(items: QuerySet[Item], compiled: Compiled) -> Iterator[Misfit]:
    last = 0
    while portion := list(items.filter(pk__gt=last).order_by("pk").only("schema", "key", "payload")[:_PORTION]):
        for item in portion:
            for violation in compiled.violations(item.payload)[:1]:
                yield Misfit(item.key, violation.pointer, violation.message)
        last = portion[-1].pk


def _delete(tenant: Tenant, name: str, preconditions: Preconditions) -> None:
    with transaction.atomic(durable=True):
        schema = tenant.schemas.select_for_update().filter(name=name).first()
        if schema is None:
            raise SchemaUnknown(name)
        preconditions.check(schema.etag)
        if schema.items.exists():
            raise SchemaNotEmpty(name)
        schema.delete()


def _canonical(document: str) -> str:
    return json.dumps(json.loads(document))
