"""The paths of rules and events in an OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from blockforger.backend.errors import DocumentInvalid, ItemUnknown, ResourceUnknown, SchemaUnknown
from blockforger.backend.models import WRITES
from blockforger.backend.openapi_management import described
from blockforger.backend.openapi_parts import (
    IF_MATCH,
    IF_NONE_MATCH,
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
from eventing import rule_checks
from eventing.backtests import MAX_WRITES
from eventing.event_filters import MAX_IDS, MAX_WHY
from eventing.models import OutboxStatus
from eventing.replays import REPLAYABLE
from tenants.models import Permission

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.openapi_parts import Place

DESCRIBERS = (Permission.READ_EVENTS, Permission.MANAGE_RULES)
# What is no id leads to a schema that cannot be.
_UNKNOWN = (ResourceUnknown, SchemaUnknown)
_READS = (Permission.READ_EVENTS,)
_RULES = (Permission.MANAGE_RULES,)
_TEXT: JsonObject = {"type": "string"}
_INTEGER: JsonObject = {"type": "integer"}
_TIME: JsonObject = {"type": "string", "format": "date-time"}
_UUID: JsonObject = {"type": "string", "format": "uuid"}
_NUMBER: JsonObject = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_NAME: JsonObject = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
_SINCE: JsonObject = {"type": "string", "format": "date-time", "pattern": "^20"}
_PARTS = ("keep", "drop", "mask")
_RULE_MEMBERS: dict[str, JsonObject] = {
    "eventbridge_arn": {"type": "string", "description": "The bus, by its ARN."},
    "source": {"type": "string", "minLength": 1, "maxLength": rule_checks.MAX_SOURCE},
    "detail_type": {"type": "string", "minLength": 1, "maxLength": rule_checks.MAX_DETAIL_TYPE},
    "operations": {**list_of({"enum": [*WRITES]}), "description": "Left out or empty: all four."},
    "schema_names": {**list_of(_TEXT), "description": "Left out or empty: all schemas."},
    "enabled": {"type": "boolean", "description": "Left out: true. A rule that is not matches nothing."},
    "filter": {
        "type": ["object", "null"],
        "description": "Conditions on the item, as EventBridge's event patterns have them.",
    },
    "on_change": {**list_of(_TEXT), "description": "Paths of which one must lead to another value than before."},
    "fields": {
        **object_of({name: list_of(_TEXT) for name in _PARTS}, *_PARTS),
        "type": ["object", "null"],
        "description": "What of the payload is sent: paths. The key always is.",
    },
}
_OPTIONAL = tuple(_RULE_MEMBERS)[1:]
_RULE = object_of({"id": _INTEGER, **_RULE_MEMBERS}, "id", *_OPTIONAL)
RULES = object_of(
    {"rules": list_of(_RULE), "schemas": {"type": "object", "additionalProperties": list_of(_RULE)}},
)
_SENT: dict[str, JsonObject] = {
    "id": _UUID,
    "schema": _TEXT,
    "key": _TEXT,
    "operation": _TEXT,
    "sequence": optional("integer"),
    "time": _TIME,
    "rule": optional("integer"),
    "bus": _TEXT,
    "source": _TEXT,
    "detail_type": _TEXT,
    "resources": list_of(_TEXT),
    "status": {"enum": [*OutboxStatus.values]},
    "attempts": _INTEGER,
    "next_attempt_at": optional("string", format="date-time"),
    "failing_since": optional("string", format="date-time"),
    "error": {"anyOf": [object_of({"code": _TEXT, "message": _TEXT}), {"type": "null"}]},
    "delivered_at": optional("string", format="date-time"),
    "eventbridge_id": optional("string"),
    "replay": optional("integer"),
}
_RECEIVED: dict[str, JsonObject] = {
    "id": _TEXT,
    "received_at": _TIME,
    "operation": _UUID,
    "method": _TEXT,
    "schema": _TEXT,
    "key": _TEXT,
    "status": _INTEGER,
    "tokens": _INTEGER,
    "problem": {"anyOf": [{"type": "object"}, {"type": "null"}]},
}
_REPLAY = object_of(
    {
        "replay": _INTEGER,
        "who": _TEXT,
        "why": _TEXT,
        "selection": {"type": "object"},
        "events": _INTEGER,
        "created_at": _TIME,
        "finished_at": optional("string", format="date-time"),
    }
)
_REPLAY_MEMBERS: dict[str, JsonObject] = {
    "why": {"type": "string", "pattern": "^[A-Za-z0-9]", "maxLength": MAX_WHY},
    "dry_run": {"type": "boolean"},
    "all": {"type": "boolean"},
    "ids": {**list_of(_UUID), "minItems": 1, "maxItems": MAX_IDS},
    "item": object_of({"schema": _TEXT, "key": _TEXT}),
    "rule": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    "bus": {"type": "string", "minLength": 1},
    "status": {"enum": [*REPLAYABLE]},
    "since": _SINCE,
    "until": _SINCE,
}
_OF_ALL_REPLAYS = ("why", "dry_run", "all")


def _is_true(name: str) -> JsonObject:
    return {"required": [name], "properties": {name: {"enum": [True]}}}


_ANY_FILTER: list[JsonValue] = [{"required": [name]} for name in _REPLAY_MEMBERS if name not in _OF_ALL_REPLAYS]
_REPLAY_REQUEST: JsonObject = {
    **object_of(_REPLAY_MEMBERS, *_REPLAY_MEMBERS),
    "allOf": [
        {"anyOf": [{"required": ["why"]}, _is_true("dry_run")]},
        {"anyOf": [_is_true("all"), *_ANY_FILTER]},
    ],
}


def paths(place: Place) -> JsonObject:
    events = f"{place.root}/$events"
    one = in_path("event", "The event's id.", _UUID)
    return {
        f"{place.root}/$rules": {
            "parameters": [*place.parameters],
            "get": _read_rules().written(),
            "put": _replace_rules().written(),
        },
        f"{place.root}/$rules/explain": {"parameters": [*place.parameters], "post": _explain_rules().written()},
        f"{place.root}/$rules/backtest": {"parameters": [*place.parameters], "post": _backtest_rules().written()},
        f"{place.root}/$rules/{{number}}/test": {
            "parameters": [*place.parameters, in_path("number", "The rule's id.", _NUMBER)],
            "post": _test_rule().written(),
        },
        f"{events}/out": {"parameters": [*place.parameters], "get": _sent().written()},
        f"{events}/out/{{event}}": {"parameters": [*place.parameters, one], "get": _sent_event().written()},
        f"{events}/in": {"parameters": [*place.parameters], "get": _received().written()},
        f"{events}/in/{{event}}": {"parameters": [*place.parameters, one], "get": _received_event().written()},
        f"{events}/out/replay": {"parameters": [*place.parameters], "post": _replay().written()},
        f"{events}/out/replay/{{number}}": {
            "parameters": [*place.parameters, in_path("number", "The replay's number.", _NUMBER)],
            "get": _read_replay().written(),
        },
        f"{place.root}/asyncapi.json": {
            "parameters": [*place.parameters],
            "get": described("read_asyncapi", "The tenant's output events as AsyncAPI", DESCRIBERS).written(),
        },
    }


def _read_rules() -> Endpoint:
    return Endpoint(
        "read_rules",
        "The output rules: the tenant's, and those of each schema",
        "rules",
        _RULES,
        {
            200: answer("All rules, in order.", RULES, "ETag"),
            304: {"description": "The ETag is the one that was sent.", "headers": headers("ETag", *LIMITED)},
        },
        parameters=(IF_MATCH, IF_NONE_MATCH),
    )


def _replace_rules() -> Endpoint:
    return Endpoint(
        "replace_rules",
        "Put these rules in the place of all that there are",
        "rules",
        _RULES,
        {200: answer("All rules as they are then.", RULES, "ETag")},
        (DocumentInvalid,),
        (IF_MATCH, IF_NONE_MATCH),
        body(RULES),
    )


def _explain_rules() -> Endpoint:
    asked: dict[str, JsonObject] = {
        "schema": _NAME,
        "operation": {"enum": [*WRITES]},
        "payload": {"type": "object"},
        "before": {"type": "object", "description": "The item as it was; not together with `key`."},
        "key": {"type": "string", "description": "The key of a stored item. Takes `backend_calls`, too."},
    }
    found = object_of(
        {"id": _INTEGER, "matches": {"type": "boolean"}, "mismatch": optional("string"), "event": optional("object")}
    )
    return Endpoint(
        "explain_rules",
        "What each rule makes of a write that might be",
        "rules",
        _RULES,
        {200: answer("The rules, in order.", object_of({"rules": list_of(found), "warnings": list_of(_TEXT)}))},
        (DocumentInvalid, SchemaUnknown, ItemUnknown),
        body=body(object_of(asked, "payload", "before", "key")),
    )


def _backtest_rules() -> Endpoint:
    rules: dict[str, Any] = dict(cast("JsonObject", RULES["properties"]))
    last: JsonObject = {"type": "integer", "minimum": 1, "maximum": MAX_WRITES, "description": "How many writes."}
    counts = object_of({"today": _INTEGER, "then": _INTEGER})
    found: dict[str, JsonObject] = {
        "writes": _INTEGER,
        "from": optional("integer"),
        "to": optional("integer"),
        "events": counts,
        "gains": _INTEGER,
        "losses": _INTEGER,
        "gained": list_of({"type": "object"}),
        "lost": list_of({"type": "object"}),
        "undecided": _INTEGER,
        "limits": list_of(_TEXT),
    }
    return Endpoint(
        "backtest_rules",
        "What these rules would have sent for the last writes",
        "rules",
        _RULES,
        {200: answer("What they would have sent more, and less.", object_of(found))},
        (DocumentInvalid,),
        body=body(object_of({**rules, "last": last}, "last")),
        permissions_besides=(Permission.READ_EVENTS,),  # the answer shows some
    )


def _test_rule() -> Endpoint:
    found: dict[str, JsonObject] = {
        "accepted": {"type": "boolean"},
        "event_id": optional("string"),
        "code": optional("string"),
        "message": optional("string"),
        "hint": optional("string"),
        "policy": {"type": ["object", "null"]},
        "event": {"type": "object"},
    }
    return Endpoint(
        "test_rule",
        "What the rule's bus says to a sample event",
        "rules",
        _RULES,
        {200: answer("What AWS said, and what to do about it.", object_of(found))},
        (DocumentInvalid, *_UNKNOWN),
        body={**body(object_of({"payload": {"type": "object"}}, "payload")), "required": False},
    )


def _sent() -> Endpoint:
    return Endpoint(
        "list_sent_events",
        "What went out, or is to: the newest first",
        "events",
        _READS,
        {200: answer("Events.", object_of({"events": list_of(object_of(_SENT)), "next": next_cursor()}))},
        parameters=(
            *_filters({"enum": [*OutboxStatus.values]}),
            in_query("rule", "The id of a rule.", _NUMBER),
            in_query("bus", "The ARN of a bus."),
            *paging("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ),
    )


def _sent_event() -> Endpoint:
    return Endpoint(
        "read_sent_event",
        "An event that went out, or is to",
        "events",
        _READS,
        {200: answer("The event.", object_of({**_SENT, "detail": {"type": "object"}}))},
        _UNKNOWN,
    )


def _received() -> Endpoint:
    return Endpoint(
        "list_received_events",
        "What came in, and what became of it: the newest first",
        "events",
        _READS,
        {200: answer("Events.", object_of({"events": list_of(object_of(_RECEIVED)), "next": next_cursor()}))},
        parameters=(
            *_filters({"type": "string", "pattern": "^(done|refused|[1-5][0-9]{2})$"}),
            *paging("[0-9]{1,18}"),
        ),
    )


def _received_event() -> Endpoint:
    return Endpoint(
        "read_received_event",
        "An event that came in",
        "events",
        _READS,
        {200: answer("The event.", object_of({**_RECEIVED, "payload": {}}))},
        _UNKNOWN,
    )


def _replay() -> Endpoint:
    counts = object_of({"delivered": _INTEGER, "dead": _INTEGER, "pending": _INTEGER})
    return Endpoint(
        "replay_events",
        "Have events sent once more, or with `dry_run` count them",
        "events",
        _READS,
        {200: answer("How many there are.", counts), 202: answer("It goes on.", _REPLAY, "Location")},
        (DocumentInvalid,),
        body=body(_REPLAY_REQUEST),
    )


def _read_replay() -> Endpoint:
    return Endpoint(
        "read_replay",
        "How far a replay is",
        "events",
        _READS,
        {200: answer("The replay.", _REPLAY)},
        _UNKNOWN,
    )


def _filters(status: JsonObject) -> tuple[JsonObject, ...]:
    return (
        in_query("schema", "The schema of an item; together with `key`.", _NAME),
        in_query("key", "The key of an item; together with `schema`."),
        in_query("status", "What became of the event.", status),
        in_query("since", "From this time on.", _SINCE),
        in_query("until", "Before this time.", _SINCE),
    )
