"""Input events: from the body of an SQS message to an operation. Nothing is checked here but what must be readable."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import orjson

from blockforger.backend import json_values
from blockforger.backend.errors import Malformed
from blockforger.backend.models import Method, Origin
from blockforger.backend.operations import Operation
from tenants.redaction import redacted

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject, JsonValue
    from tenants.errors import Refusal

_EVENT_ID = re.compile(r"[!-~]{1,128}", re.ASCII)


class Unreadable(Exception):
    """A message without an envelope or an event id: it can have no outcome, and goes to the dead-letter queue."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event as EventBridge delivers it (user guide, "Events")."""

    id: str
    detail_type: str
    # It holds an API key: it is not to be printed.
    detail: JsonObject = field(repr=False)
    # What is wrong with it, if its id could be read and it itself could not.
    defect: Refusal | None = None


def read(body: str) -> Envelope:
    """Read a message's body. Raises Unreadable."""
    event, defect = _event_of(body)
    if not isinstance(event, dict):
        raise Unreadable("The body is not a JSON object.")
    event_id = event.get("id")
    # EventBridge makes ids; one with a key in it is not of its making, and would be kept and logged.
    if not isinstance(event_id, str) or not _EVENT_ID.fullmatch(event_id) or redacted(event_id) != event_id:
        raise Unreadable("The body has no event id.")
    detail_type = event.get("detail-type")
    detail, defect = (_writable(event.get("detail")), defect) if defect else _detail_of(event.get("detail"))
    return Envelope(event_id, detail_type if isinstance(detail_type, str) else "", detail, defect)


def operation_of(envelope: Envelope) -> Operation:
    """The operation that the event asks for."""
    detail = envelope.detail
    method, defect = _method_of(envelope)
    schema = detail.get("rootSchema")
    if not isinstance(schema, str):
        defect = Malformed("Name the schema, without '.json', in detail.rootSchema.", pointer="/detail/rootSchema")
    if "payload" not in detail:
        defect = Malformed("Send the payload, a JSON object, in detail.payload.", pointer="/detail/payload")
    return Operation(
        origin=Origin.EVENT,
        # What the record keeps beside the payload is free of keys, should one stand in a wrong place.
        method=redacted(method),
        tenant=_text(detail.get("tenant")),
        schema=redacted(_text(schema)),
        api_key=_text(detail.get("api_key")),
        payload=detail.get("payload"),
        defect=envelope.defect or defect,
        idempotency_key=envelope.id,
        request_hash=_hash_of(detail),
    )


def _event_of(body: str) -> tuple[JsonValue, Refusal | None]:
    """What the body says, and what is wrong with it. Raises Unreadable."""
    try:
        return json_values.parse(body), None
    except json_values.NotPortable as error:
        defect = Malformed(error.message, pointer=error.pointer)
    try:
        return _leniently(body), defect
    except (ValueError, RecursionError) as error:
        raise Unreadable("The body is not JSON.") from error


def _detail_of(detail: JsonValue) -> tuple[JsonObject, Refusal | None]:
    """The detail, an object or (as some senders have it) a JSON text of one, and what is wrong with it."""
    if isinstance(detail, str):
        text, detail = detail, None
        try:
            detail = json_values.parse(text)
        except json_values.NotPortable as error:
            with contextlib.suppress(ValueError, RecursionError):
                detail = _leniently(text)
            return _writable(detail), Malformed(error.message, pointer=error.pointer)
    if not isinstance(detail, dict):
        return {}, Malformed("The event's detail must be a JSON object.", pointer="/detail")
    return detail, None


def _leniently(text: str) -> JsonValue:
    """JSON as far as Python can read it; numbers of thousands of digits, which it refuses, become 0."""
    try:
        return cast("JsonValue", json.loads(text))
    except json.JSONDecodeError:
        raise
    except ValueError:
        return cast("JsonValue", json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 100 else 0))


def _writable(detail: JsonValue) -> JsonObject:
    """The detail, without what is nested too deeply even to be written down."""
    if not isinstance(detail, dict):
        return {}
    try:
        json.dumps(detail)
    except RecursionError:
        return {name: None if isinstance(value, dict | list) else value for name, value in detail.items()}
    return detail


def _method_of(envelope: Envelope) -> tuple[str, Refusal | None]:
    if "operation" in envelope.detail:
        method = envelope.detail["operation"]
        return method if isinstance(method, str) else json.dumps(method), None
    ending = envelope.detail_type.rpartition(".")[2]
    if ending in {Method.PUT, Method.PATCH, Method.DELETE}:
        defect = Malformed(
            f"The detail-type ends in .{ending} and detail.operation is missing, which would mean POST. Send both.",
            pointer="/detail/operation",
        )
        return Method.POST, defect
    return Method.POST, None


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _hash_of(detail: JsonObject) -> str:
    asked = {name: value for name, value in detail.items() if name != "api_key"}
    try:
        text = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # it takes only what is portable
        text = json.dumps(asked, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()
