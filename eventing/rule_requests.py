"""What a client asks about rules: documents of requests, read and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockforger.backend.errors import DocumentInvalid, ItemUnknown, SchemaUnknown
from blockforger.backend.models import WRITES, Item, Schema
from eventing import rule_checks
from eventing.backtests import MAX_WRITES
from eventing.explanations import Write

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject, JsonValue
    from tenants.models import Tenant

SCHEMA, OPERATION, PAYLOAD, BEFORE, KEY = "schema", "operation", "payload", "before", "key"

_LAST = 100


def names_item(value: JsonValue) -> bool:
    """Whether a document asks about an item that is stored."""
    return isinstance(value, dict) and KEY in value


def write(value: JsonValue, tenant: Tenant) -> tuple[Schema, Write]:
    """The write that a document describes. Raises DocumentInvalid, SchemaUnknown and ItemUnknown."""
    document = members(value, {SCHEMA, OPERATION}, {PAYLOAD, BEFORE, KEY})
    problems = []
    if not isinstance(document[SCHEMA], str):
        problems.append((f"/{SCHEMA}", "Name a schema."))
    if document[OPERATION] not in WRITES:
        problems.append((f"/{OPERATION}", "Use POST, PUT, PATCH or DELETE."))
    odd = [name for name in (PAYLOAD, BEFORE) if not isinstance(document.get(name, {}), dict)]
    problems += [(f"/{name}", "Write an object, or leave it out.") for name in odd]
    if KEY in document and (BEFORE in document or not isinstance(document[KEY], str)):
        problems.append((f"/{KEY}", f"Write the key of a stored item as a text, and leave '{BEFORE}' out."))
    if problems:
        raise DocumentInvalid(problems)
    schema = _schema(str(document[SCHEMA]), tenant)
    before = _stored(schema, str(document[KEY])) if KEY in document else _object(document.get(BEFORE))
    payload = _object(document.get(PAYLOAD)) or {}
    return schema, Write.of(str(document[OPERATION]), payload, before=before, key_field=schema.key_field)


def stored(tenant: Tenant, schema_name: str, key: str) -> JsonObject:
    """The item of that key. Raises SchemaUnknown and ItemUnknown."""
    return _stored(_schema(schema_name, tenant), key)


def sample(value: JsonValue) -> JsonObject | None:
    """The payload that a test is to send, if the request has one. Raises DocumentInvalid."""
    if value is None:
        return None
    payload = members(value, set(), {PAYLOAD}).get(PAYLOAD, {})
    if not isinstance(payload, dict):
        raise DocumentInvalid([(f"/{PAYLOAD}", "Write an object, or leave it out.")])
    return payload


def backtest(value: JsonValue) -> tuple[JsonObject, int]:
    """The rules of a document, and for how many writes they are to be tried. Raises DocumentInvalid."""
    document = dict(members(value, {"rules", "schemas"}, {"last"}))
    last = document.pop("last", _LAST)
    if not isinstance(last, int) or isinstance(last, bool) or not 1 <= last <= MAX_WRITES:
        raise DocumentInvalid([("/last", f"Write a number from 1 to {MAX_WRITES}.")])
    return document, last


def members(value: JsonValue, required: set[str], optional: set[str]) -> JsonObject:
    """The members of a document. Raises DocumentInvalid for what is missing, or more than it can have."""
    if not isinstance(value, dict):
        raise DocumentInvalid([("", f"Write an object with the members {', '.join(sorted(required | optional))}.")])
    missing = [("", f"The member '{name}' is missing.") for name in sorted(required - value.keys())]
    unknown = sorted(value.keys() - required - optional)
    known = ", ".join(sorted(required | optional))
    if problems := missing + [("", f"There is no member '{name[:100]}'. Known are {known}.") for name in unknown]:
        raise DocumentInvalid(problems)
    return value


def _schema(name: str, tenant: Tenant) -> Schema:
    name = rule_checks.schema_name_of(name)
    schema = None if "\0" in name else tenant.schemas.defer("document").filter(name=name).first()
    if schema is None:
        raise SchemaUnknown(name[:100])
    return schema


def _stored(schema: Schema, key: str) -> JsonObject:
    item = None if "\0" in key else Item.objects.filter(schema=schema, key=key).first()
    if item is None:
        raise ItemUnknown(key[:255])
    payload: JsonObject = item.payload
    return payload


def _object(value: JsonValue) -> JsonObject | None:
    return value if isinstance(value, dict) else None
