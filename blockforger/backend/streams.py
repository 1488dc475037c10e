"""Streams of lines (NDJSON), an operation each, of any length: read, and carried out, a chunk at a time."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import uuid_utils.compat as uuid
from django.conf import settings

from blockforger.backend import json_values, keys
from blockforger.backend.errors import Malformed, PayloadTooLarge
from blockforger.backend.models import Method, Origin
from blockforger.backend.operations import Operation, in_turn
from blockforger.backend.problems import problem_of, problem_of_fault
from tenants.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.outcomes import Outcome
    from blockforger.backend.problems import Problem

logger = logging.getLogger(__name__)

CHUNK_LINES = 500
CHUNK_BYTES = 1024 * 1024
"""How much is carried out together: what comes first, though a line may be as long as an event."""

MAX_REFUSED = 10_000
"""Lines that are refused cost nothing, and each is answered at greater length than it may have itself."""

_BLOCK = 64 * 1024


class Line(NamedTuple):
    """A line that is not blank. Without a text it was longer than an event can be."""

    number: int
    text: bytes | None
    is_cut: bool = False
    """The stream ended before the line did: what is there of `12345` may be `12`."""


def lines(stream: IO[bytes], *, length: int | None) -> Iterator[Line]:
    """The lines of a stream, no more of each in memory than an event can hold.

    The last needs no newline if the stream is known to be whole: if it is as long as its sender has said it would be.
    """
    limit = settings.BLOCKFORGER_MAX_EVENT_BYTES
    number, rest, is_too_long, received = 1, b"", False, 0
    while block := stream.read(_BLOCK):
        received += len(block)
        first, *others = block.split(b"\n")
        for ended in others:
            yield from _line(number, rest + first, is_too_long=is_too_long)
            number, rest, is_too_long, first = number + 1, b"", False, ended
        if len(rest) + len(first) > limit:
            is_too_long = True
        rest = b"" if is_too_long else rest + first
    for last in _line(number, rest, is_too_long=is_too_long):
        yield last._replace(is_cut=received != length)


def results(asked: Operation, of_lines: Iterable[Line]) -> Iterator[JsonObject]:
    """Carry out what is asked with each line. Tells what became of each, once it is committed.

    After a fault of ours the lines that it struck are told, and no more is read. Nor is it after so many refusals that
    the rest would hardly fare better: then the first line that is left out says so.
    """
    refused = 0
    for chunk in _chunks(of_lines):
        if refused >= MAX_REFUSED:
            yield _end(chunk[0])
            return
        operations = [_operation(asked, line) for line in chunk]
        outcomes, fault = _carried_out(operations)
        for line, operation in zip(chunk, operations, strict=True):
            outcome = outcomes.get(operation.id)
            refused += bool(outcome and outcome.problem)
            yield _result(line, outcome, fault)
        if fault:
            return


def _line(number: int, text: bytes, *, is_too_long: bool) -> Iterator[Line]:
    if is_too_long or len(text) > settings.BLOCKFORGER_MAX_EVENT_BYTES:
        yield Line(number, None)
    elif text.strip():
        yield Line(number, text)


def _chunks(of_lines: Iterable[Line]) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    size = 0
    for line in of_lines:
        length = len(line.text or b"")
        if chunk and (len(chunk) == CHUNK_LINES or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += length
    if chunk:
        yield chunk


def _operation(asked: Operation, line: Line) -> Operation:
    operation = replace(asked, id=uuid.uuid7())
    try:
        value = _value(line)
        if asked.method == Method.DELETE:
            return replace(operation, key=keys.text_of_deleted(value), payload={})
        return replace(operation, payload=value)
    except Refusal as refusal:
        return replace(operation, defect=refusal)


def _value(line: Line) -> JsonValue:
    if line.is_cut:
        raise Malformed(
            "The stream ends in the middle of this line, which was not carried out. Send it again, and end it with a"
            " newline."
        )
    if line.text is None:
        raise PayloadTooLarge(limit=settings.BLOCKFORGER_MAX_EVENT_BYTES)
    try:
        return json_values.parse(line.text)
    except json_values.NotPortable as error:
        raise Malformed(error.message, pointer=error.pointer) from error


def _carried_out(operations: Sequence[Operation]) -> tuple[dict[uuid.UUID, Outcome], Problem | None]:
    outcomes: dict[uuid.UUID, Outcome] = {}
    try:
        for committed in in_turn(operations):
            outcomes |= committed
    except Exception as error:  # the answer has begun: its last lines have to say so
        logger.exception("A stream of items ends, because the server failed.")
        return outcomes, problem_of_fault(error)
    return outcomes, None


def _end(line: Line) -> JsonObject:
    refusal = Malformed(
        f"The stream ends here, because {MAX_REFUSED:,} of its lines were refused. Neither this one nor any after it"
        " was carried out: send them when you have seen why.",
        limit=MAX_REFUSED,
    )
    return _told(line, problem_of(refusal, Origin.API))


def _told(line: Line, problem: Any) -> JsonObject:
    return {"line": line.number, "status": problem["status"], "problem": problem}


def _result(line: Line, outcome: Outcome | None, fault: Problem | None) -> JsonObject:
    problem: Any = outcome.problem if outcome else fault
    if problem:
        return _told(line, problem)
    result: JsonObject = {"line": line.number}
    if outcome:
        result |= {"status": int(outcome.status), "key": outcome.item_key}
    return result | ({"etag": outcome.etag} if outcome and outcome.etag else {})
