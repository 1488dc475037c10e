"""Feedback: an event for each input event of a tenant that asked for it, which says what became of it.

It is of no item: it has no sequence, waits for no other event, and none waits for it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from blockforger.backend import json_values
from blockforger.backend.models import WRITES, is_schema_name
from eventing import lanes, rules
from eventing.models import DEFAULT_SOURCE, OutboxEvent
from tenants.redaction import redacted

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.problems import Problem
    from blockforger.backend.signals import EventSettled

# The input rule takes only what ends in an operation, so feedback can never come back in.
DETAIL_TYPE = "{schema}.input-result"
# Together far below what any bus takes: 256 KiB in China's regions.
MAX_TEXT = 1_000
MAX_ERRORS_BYTES = 32_768


def events_of(settled: EventSettled, **_: object) -> list[OutboxEvent]:
    """The unsaved event that tells the sender of an input event what became of it, if its tenant wants that.

    The receiver of `event_settled`; the backend saves it in the transaction that records the outcome.
    """
    bus_arn = rules.feedback_bus_of(settled.tenant)
    if bus_arn is None:
        return []
    schema_name = redacted(settled.schema_name)
    stream = lanes.stream_of(settled.tenant.name, settled.event_id)
    event = OutboxEvent(
        tenant=settled.tenant,
        schema_name=schema_name,
        operation=settled.method if settled.method in WRITES else "",
        place=0,
        bus_arn=bus_arn,
        source=DEFAULT_SOURCE,
        detail_type=detail_type_of(schema_name),
        item_urn=f"urn:blockforger:input:{settled.tenant.name}:{quote(settled.event_id, safe='')}",
        # Whatever the sender put in a wrong place and the problem quotes: no key goes out.
        detail=redacted(json_values.compact(detail_of(settled))),
        time=settled.at,
        stream=stream,
        lane=lanes.lane_of(stream),
    )
    return [event]


def detail_type_of(schema_name: str) -> str:
    """The detail-type; without a name where no schema can have it, so that the sender's text cannot be too long."""
    known = schema_name if is_schema_name(schema_name) else ""
    return DETAIL_TYPE.replace("{schema}", known)


def detail_of(settled: EventSettled) -> JsonObject:
    """The `detail`: whose event it was and what it asked for, then what became of it."""
    detail: JsonObject = {
        "tenant": settled.tenant.name,
        "rootSchema": settled.schema_name,
        "operation": settled.method,
        "event_id": settled.event_id,
        "status": settled.status,
    }
    if settled.item_key:
        detail["key"] = settled.item_key
    if settled.problem is not None:
        detail["problem"] = bounded(settled.problem)
    return detail


def bounded(problem: Problem) -> JsonObject:
    """The problem document, so short that an event can carry it; `errors_left_out` counts what does not fit."""
    document = cast("JsonObject", _cut(problem))
    errors = document.get("errors")
    if not isinstance(errors, list):
        return document
    kept, size = 0, 0
    for error in errors:
        size += len(json.dumps(error))
        if size > MAX_ERRORS_BYTES:
            break
        kept += 1
    document["errors"] = errors[:kept]
    if kept < len(errors):
        document["errors_left_out"] = len(errors) - kept
    return document


def _cut(value: object) -> object:
    """The value with every text in it cut, visibly, to what can be stored and sent."""
    if isinstance(value, dict):
        return {name: _cut(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_cut(element) for element in value]
    if not isinstance(value, str):
        return value
    # Half a surrogate pair cannot be encoded.
    text = value.encode(errors="backslashreplace").decode()
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
