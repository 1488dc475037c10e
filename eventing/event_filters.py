"""What a client asks for of events: filters of a query string, and a replay's document, read and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from blockforger.backend import json_values
from blockforger.backend.errors import DocumentInvalid, Malformed
from eventing.event_lists import Received
from eventing.models import OutboxStatus
from eventing.replays import REPLAYABLE, Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blockforger.backend.json_values import JsonValue
    from eventing.replays import Scope
    from tenants.models import Tenant

MAX_IDS = 1_000
MAX_WHY = 1_000
FIRST_YEAR, LAST_YEAR = 1970, 9999
_MAX_RULE = 2**63
_OUTCOMES = {"done": (200, 400), "refused": (400, 600)}


def sent(parameters: Mapping[str, str], tenant: Tenant | Scope) -> Selection:
    """Which events of the outbox a query string asks for. Raises Malformed, naming the parameter."""
    rule, status = parameters.get("rule"), parameters.get("status")
    if rule is not None and not re.fullmatch("[0-9]{1,18}", rule):
        raise Malformed("The parameter 'rule' must be the id of a rule.", parameter="rule")
    if status is not None and status not in OutboxStatus.values:
        raise Malformed(f"The parameter 'status' must be one of {', '.join(OutboxStatus.values)}.", parameter="status")
    return Selection(
        tenant,
        **_item(parameters),
        rule=int(rule) if rule is not None else None,
        bus=_text(parameters, "bus"),
        status=OutboxStatus(status) if status is not None else None,
        since=_moment(parameters, "since"),
        until=_moment(parameters, "until"),
    )


def received(parameters: Mapping[str, str]) -> Received:
    """Which events that came in a query string asks for. Raises Malformed, naming the parameter."""
    statuses = None
    if (status := parameters.get("status")) is not None:
        exact = (int(status), int(status) + 1) if re.fullmatch("[1-5][0-9]{2}", status) else None
        statuses = _OUTCOMES.get(status, exact)
        if statuses is None:
            raise Malformed("The parameter 'status' must be done, refused, or an HTTP status.", parameter="status")
    return Received(
        **_item(parameters), statuses=statuses, since=_moment(parameters, "since"), until=_moment(parameters, "until")
    )


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Which events are to be sent once more, and why; or only how many that would be."""

    selection: Selection
    why: str
    is_dry_run: bool

    @classmethod
    def read(cls, value: JsonValue, tenant: Tenant) -> Self:
        """Raises DocumentInvalid, with everything that is wrong."""
        if not isinstance(value, dict):
            raise DocumentInvalid([("", f"Write an object with some of the members {', '.join(_MEMBERS)}.")])
        problems: list[tuple[str, str]] = []
        read: dict[str, Any] = {}
        for name, member in value.items():
            if name not in _MEMBERS:
                problems.append(
                    (f"/{json_values.escaped(name[:100])}", f"Remove it, or use one of {', '.join(_MEMBERS)}.")
                )
                continue
            reader, remedy = _MEMBERS[name]
            read[name] = reader(member)
            if read[name] is None:
                problems.append((f"/{name}", remedy))
        is_dry_run, is_all = read.pop("dry_run", False), read.pop("all", False)
        why = read.pop("why", "")
        if not why and not is_dry_run and "why" not in value:
            problems.append(("/why", "Say why: it is recorded with the replay."))
        if problems:
            raise DocumentInvalid(problems)
        selection = replace(Selection(tenant), **read)
        if selection.is_everything and not is_all:
            raise DocumentInvalid([("", 'Name which events, or write "all": true for all of them.')])
        return cls(selection, why, is_dry_run)


def uuid_of(text: str) -> UUID | None:
    """The id that the text is, if it is one."""
    try:
        return UUID(text.strip())
    except ValueError:
        return None


def _flag(value: JsonValue) -> bool | None:
    return value if isinstance(value, bool) else None


def _why(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value.strip() and len(value) <= MAX_WHY else None


def _ids(value: JsonValue) -> tuple[UUID, ...] | None:
    texts = [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
    try:
        ids = tuple(map(UUID, texts))
    except ValueError:
        return None
    return ids if isinstance(value, list) and len(ids) == len(value) and 1 <= len(ids) <= MAX_IDS else None


def _item_of(value: JsonValue) -> tuple[str, str] | None:
    match value:
        case {"schema": str(schema), "key": str(key), **others} if not others:
            return schema, key
    return None


def _rule(value: JsonValue) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_RULE:
        return None
    return int(value) if value == int(value) else None  # for JSON Schema, 7.0 is an integer


def _bus(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None


def _status(value: JsonValue) -> OutboxStatus | None:
    return next((status for status in REPLAYABLE if status == value), None)


def _moment_of(value: JsonValue) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    # Near the ends of time, an hour more or less is none that a database has.
    return moment if moment and moment.tzinfo and FIRST_YEAR <= moment.year < LAST_YEAR else None


_A_TIME = "Write a time with its zone, such as 2026-11-25T09:00:00Z."
_MEMBERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "why": (_why, f"Write a text of 1 to {MAX_WHY} characters."),
    "dry_run": (_flag, "Write true or false."),
    "all": (_flag, "Write true or false."),
    "ids": (_ids, f"Write a list of 1 to {MAX_IDS} ids of events."),
    "item": (_item_of, 'Write an object: {"schema": "petstore", "key": "1"}.'),
    "rule": (_rule, "Write the id of a rule, a number."),
    "bus": (_bus, "Write the ARN of a bus."),
    "status": (_status, f"Write one of {', '.join(REPLAYABLE)}."),
    "since": (_moment_of, _A_TIME),
    "until": (_moment_of, _A_TIME),
}


def _item(parameters: Mapping[str, str]) -> dict[str, Any]:
    """What is asked for: an item, or all those of a schema."""
    schema, key = _text(parameters, "schema"), _text(parameters, "key")
    if key is None:
        return {"schema": schema}
    if schema is None:
        raise Malformed("The parameter 'key' names an item together with 'schema'.", parameter="schema")
    return {"item": (schema, key)}


def _text(parameters: Mapping[str, str], name: str) -> str | None:
    text = parameters.get(name)
    # What no column can hold, and the database's driver refuses.
    if text is not None and ("\0" in text or re.search("[\ud800-\udfff]", text)):
        raise Malformed(f"The parameter '{name}' holds a character that nothing here can have.", parameter=name)
    return text


def _moment(parameters: Mapping[str, str], name: str) -> datetime | None:
    text = parameters.get(name)
    moment = _moment_of(text)
    if text is not None and moment is None:
        raise Malformed(f"The parameter '{name}' is no time. {_A_TIME}", parameter=name)
    return moment
