"""Java .properties, with JSON in them.

The library reads and writes the format. On top of it, a value that begins with `[` or `{` may be JSON in any of
three forms: on one line; over several lines that each end in a backslash, which is all that the format itself
knows; or over several lines up to the closing bracket, just so. In the first two the format's escapes come first:
a backslash of the JSON is written twice. A text that begins with a bracket and is no JSON begins with `\\[`.
"""

from __future__ import annotations

import io
import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import javaproperties

from blockforger.backend import json_texts
from eventing.file_problems import Lines, Position, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from blockforger.backend.json_values import JsonValue

_BREAK = r"\\(?:\r\n|\r|\n)"
_BEFORE_VALUE = re.compile(
    rf"[ \t\f]*+(?P<key>(?:{_BREAK}[ \t\f]*+|\\[^\r\n]|[^\\=: \t\f\r\n])*+)"
    rf"(?:[ \t\f]|{_BREAK})*+[=:]?(?:[ \t\f]|{_BREAK})*+"
)
_ESCAPE = re.compile(rf"(?P<nothing>{_BREAK}[ \t\f]*)|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u.{{4}}|\\.", re.DOTALL)
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_REST_OF_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)?")
# Numbers stay texts: whether they can be carried is not the question here.
_JSON = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True, slots=True)
class Property:
    """A key and its value, and where they stand."""

    key: str
    value: str
    _lines: Lines
    _key_offset: int
    # Where runs of characters begin, in the value and in the text; within a run both advance alike.
    _runs: Sequence[tuple[int, int]]

    @property
    def position(self) -> Position:
        return self._lines.position(self._key_offset)

    def position_in_value(self, offset: int) -> Position:
        """The position in the file of a character of the value."""
        run = bisect_right(self._runs, offset, key=lambda run: run[0]) - 1
        value_offset, text_offset = self._runs[run]
        return self._lines.position(text_offset + offset - value_offset)


def decode(data: bytes) -> str:
    """The text of a file: UTF-8, with or without a byte order mark, or else Latin-1."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read(text: str, *, file: str) -> tuple[dict[str, Property], list[Problem]]:
    """The properties of a text by key, in order, and what is wrong with it; `file` names it in the problems."""
    found: dict[str, Property] = {}
    problems = []
    for entry in _Source(text, file).entries():
        if isinstance(entry, Problem):
            problems.append(entry)
        elif entry.key in found:
            line = found[entry.key].position.line
            message = f"The key '{entry.key}' is set on line {line} already. Remove one of the two."
            problems.append(Problem(file, message, entry.position))
        else:
            found[entry.key] = entry
    return found, problems


def write(properties: Mapping[str, str | list[JsonValue]]) -> str:
    """A text from which this reader, and any other reader of .properties, gets these properties.

    It is ASCII, because readers disagree on the encoding. A list becomes JSON, over several lines that each end in
    a backslash, because only that form is known to other readers.
    """
    return "".join(f"{javaproperties.escape(key)}={_written(value)}\n" for key, value in properties.items())


def _written(value: str | list[JsonValue]) -> str:
    if isinstance(value, str):
        text: str = javaproperties.join_key_value("", value)[1:]
        return f"\\{text}" if text.startswith(("[", "{")) else text
    lines = json_texts.readable(value).replace("\\", "\\\\").split("\n")
    # The library's error handler writes what is not ASCII as \uXXXX.
    return " \\\n".join(lines).encode("ascii", "javapropertiesreplace").decode("ascii")


class _Source:
    """A text that is being read."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.lines = Lines(text)
        # As long as the text, so that offsets are the same. Nowhere in JSON can a backslash end a line.
        self.json_text = re.sub(r"\\(?=[\r\n])", " ", text)

    def entries(self) -> Iterator[Property | Problem]:
        stream = io.StringIO(self.text, newline="")
        while (start := stream.tell()) < len(self.text):
            try:
                # The library takes one logical line at a time, so the stream can be moved in between.
                element = next(javaproperties.parse(stream))
            except javaproperties.InvalidUEscapeError as error:
                message = f"'{error.escape}' is not \\u with four hexadecimal digits. Write \\\\ for a backslash."
                yield Problem(self.file, message, self.lines.position(start))
                continue
            if not isinstance(element, javaproperties.KeyValue):
                continue
            entry, end = self._entry(element, start, end=stream.tell())
            stream.seek(end)
            yield entry

    def _entry(self, element: javaproperties.KeyValue, start: int, *, end: int) -> tuple[Property | Problem, int]:
        """The entry of a logical line, and where the next begins: further down if it is JSON over several lines."""
        before = next(_BEFORE_VALUE.finditer(self.text, start))  # it matches at once, if only nothing
        key_offset, value_start = before.start("key"), before.end()
        runs = tuple(_runs(self.text, value_start, end))
        plain = Property(element.key, element.value, self.lines, key_offset, runs)
        if not self.text.startswith(("[", "{"), value_start) or _fault(element.value) is None:
            return plain, end

        closing = _after_closing_bracket(self.json_text, value_start)
        stop = max(end, next(_REST_OF_LINE.finditer(self.text, closing or len(self.text))).end())
        raw = self.json_text[value_start:stop].rstrip()
        fault = _fault(raw)
        if fault is None:
            return Property(element.key, raw, self.lines, key_offset, ((0, value_start),)), stop
        if closing and stop == end:
            return plain, end
        message, offset = fault
        position = self.lines.position(value_start + offset)
        return Problem(self.file, f"The value of '{element.key}' is not JSON: {message}.", position), stop


def _runs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Pairs of offsets, in a value and in the text that it was written as: its start, and after each escape."""
    value_offset, text_offset = 0, start
    yield value_offset, text_offset
    for escape in _ESCAPE.finditer(text, start, end):
        value_offset += escape.start() - text_offset + (0 if escape["nothing"] else 1)
        text_offset = escape.end()
        yield value_offset, text_offset


def _after_closing_bracket(text: str, start: int) -> int | None:
    """The offset after the bracket that closes the one at `start`; None if nothing does."""
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    return None


def _fault(text: str) -> tuple[str, int] | None:
    """What makes a text no JSON, and the offset; None if it is JSON."""
    try:
        _JSON.decode(text)
    except json.JSONDecodeError as error:
        return error.msg, error.pos
    except RecursionError:
        return "It is nested too deeply", 0
    return None
