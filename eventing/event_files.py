"""Events as people write them, in a file or on the command line: read, checked, and sent by PutEvents."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from blockforger.backend import json_values
from blockforger.backend.json_values import JsonObject, JsonValue, NotPortable
from eventing import answers, aws
from eventing.entries import MAX_ENTRIES
from eventing.rule_checks import MAX_DETAIL_TYPE, problem_of_bus_arn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

    from eventing.answers import Answer

_REQUIRED = ("Source", "DetailType", "Detail")
_BUS_NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")


class EntriesError(ValueError):
    """No entries that could be sent. The message names each wrong one, by its index, and the field."""


def parse(text: bytes | str) -> list[PutEventsRequestEntryTypeDef]:
    """The entries of a JSON array, as PutEvents takes them, except that a `Detail` may also be an object.

    A `Detail` that is a text is sent as it is, byte for byte. Raises EntriesError for what PutEvents would
    not take.
    """
    try:
        entries = json_values.parse(text)
    except NotPortable as error:
        raise EntriesError(f"{error.message}{f' (at {error.pointer})' if error.pointer else ''}") from error
    if not isinstance(entries, list) or not entries:
        raise EntriesError('Write a JSON array of entries: [{"Source": …, "DetailType": …, "Detail": {…}}].')
    problems = [f"Entry {index}: {problem}" for index, entry in enumerate(entries) for problem in _problems_of(entry)]
    if problems:
        raise EntriesError("\n".join(problems))
    return [_as_sent(cast("JsonObject", entry)) for entry in entries]


def send(entries: Iterable[PutEventsRequestEntryTypeDef]) -> Iterator[Answer]:
    """Send the entries in their order, up to ten a call, each to the region of its bus.

    Yields the answer to each entry, in the same order, as soon as its call is answered. A call that failed
    gives all its entries the same answer. Nothing is sent twice.
    """
    for region, of_region in groupby(entries, key=_region_of):
        entries_left = list(of_region)
        while call := entries_left[:MAX_ENTRIES]:
            entries_left = entries_left[MAX_ENTRIES:]
            yield from _call(region, call)


def _call(region: str, entries: list[PutEventsRequestEntryTypeDef]) -> list[Answer]:
    try:
        response = aws.events_client(region).put_events(Entries=entries)
    except (ClientError, BotoCoreError) as error:
        return [answers.of_failed_call(error)] * len(entries)
    return [answers.of_entry(entry) for entry in response["Entries"]]


def _region_of(entry: PutEventsRequestEntryTypeDef) -> str:
    bus = entry.get("EventBusName", "")
    return bus.split(":")[3] if bus.startswith("arn:") else aws.own_region()


def _as_sent(entry: JsonObject) -> PutEventsRequestEntryTypeDef:
    sent: dict[str, Any] = dict(entry)
    if isinstance(entry["Detail"], dict):
        sent["Detail"] = json_values.compact(entry["Detail"])
    if "Time" in entry:
        sent["Time"] = datetime.fromisoformat(cast("str", entry["Time"]))
    return cast("PutEventsRequestEntryTypeDef", sent)


def _problems_of(entry: JsonValue) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "Write an object with Source, DetailType and Detail."
        return
    for field in _REQUIRED:
        if field not in entry:
            yield f"{field} is missing."
    for field, value in entry.items():
        if field not in _CHECKS:
            yield f"{field} is not a field of an entry. Those are {', '.join(_CHECKS)}."
        elif problem := _CHECKS[field](value):
            yield f"{field} {problem}"


def _problem_of_text(value: JsonValue) -> str | None:
    return None if isinstance(value, str) and value else "must be a text that is not empty."


def _problem_of_detail_type(value: JsonValue) -> str | None:
    if isinstance(value, str) and len(value) > MAX_DETAIL_TYPE:
        return f"has more than {MAX_DETAIL_TYPE} characters."
    return _problem_of_text(value)


def _problem_of_detail(value: JsonValue) -> str | None:
    if isinstance(value, str):
        try:
            value = json_values.parse(value)
        except NotPortable as error:
            return f"is a text, but not of JSON that EventBridge takes: {error.message}"
    return None if isinstance(value, dict) else "must be an object, or the JSON text of one."


def _problem_of_bus(value: JsonValue) -> str | None:
    if isinstance(value, str) and value.startswith("arn:"):
        problem = problem_of_bus_arn(value)
        return f"is wrong: {problem}" if problem else None
    if isinstance(value, str) and _BUS_NAME.fullmatch(value):
        return None
    return "must be the name of a bus, or its ARN."


def _problem_of_time(value: JsonValue) -> str | None:
    try:
        has_offset = isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        has_offset = False
    return None if has_offset else "must be a date and time with its offset, such as 2026-01-31T12:00:00Z."


def _problem_of_resources(value: JsonValue) -> str | None:
    if isinstance(value, list) and all(isinstance(resource, str) for resource in value):
        return None
    return "must be a list of texts."


_CHECKS: dict[str, Callable[[JsonValue], str | None]] = {
    "Source": _problem_of_text,
    "DetailType": _problem_of_detail_type,
    "Detail": _problem_of_detail,
    "EventBusName": _problem_of_bus,
    "Time": _problem_of_time,
    "Resources": _problem_of_resources,
    "TraceHeader": _problem_of_text,
}
