"""JSON as people write and read it: where in a text a value stands, and how to lay one out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NamedTuple

from blockforger.backend import json_values
from blockforger.backend.json_values import JsonValue, NotPortable

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+')
# A line end within brackets is none of a string, where it would be escaped.
_FLAT_ARRAY = re.compile(r"\[\n\s*([^\[\]{}]*?)\n\s*\]")
_PLAIN_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Place(NamedTuple):
    """The offset of a value's first character, and the value's JSON path (RFC 9535)."""

    offset: int
    path: str


class JsonError(ValueError):
    """A text that is no JSON, or none that can be carried on; `place` says where."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


def parse(text: str) -> JsonValue:
    """The value of a JSON text, as by `json_values.parse`. Raises JsonError."""
    try:
        return json_values.parse(text)
    except NotPortable as error:
        if isinstance(error.__cause__, json.JSONDecodeError):
            message = f"This is not JSON: {error.__cause__.msg}."
            raise JsonError(message, Place(error.__cause__.pos, "")) from error
        # Without a pointer, the text may be nested too deeply to look for places.
        known = places(text) if error.pointer else {"": Place(len(text) - len(text.lstrip()), "$")}
        raise JsonError(error.message, place_of(error.pointer, known)) from error


def places(text: str) -> dict[str, Place]:
    """The places of all values in a valid JSON text, by JSON Pointer (RFC 6901)."""
    found: dict[str, Place] = {}
    containers: list[_Container] = []
    for token in _TOKEN.finditer(text):
        mark = token[0][0]
        container = containers[-1] if containers else None
        if mark in "]}":
            containers.pop()
        elif mark == "," and container:
            container.name, container.index = None, container.index + 1
        elif container and container.is_object and container.name is None:
            container.name = json.loads(token[0])
        elif mark != ":":
            pointer, path = container.child() if container else ("", "$")
            found[pointer] = Place(token.start(), path)
            if mark in "[{":
                containers.append(_Container(pointer, path, is_object=mark == "{"))
    return found


def place_of(pointer: str, known: dict[str, Place]) -> Place:
    """The place of a value, or of the nearest value around it that exists."""
    while pointer not in known and pointer:
        pointer = pointer.rpartition("/")[0]
    return known.get(pointer, Place(0, ""))


def readable(value: JsonValue) -> str:
    """The value over several lines, two spaces for a level, arrays of scalars on one line."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _FLAT_ARRAY.sub(lambda array: "[" + re.sub(r"\n\s*", " ", array[1]) + "]", text)


@dataclass(slots=True)
class _Container:
    """An array or object that is being read: where it is, and at which of its elements or members we are."""

    pointer: str
    path: str
    is_object: bool
    name: str | None = None
    index: int = 0

    def child(self) -> tuple[str, str]:
        if self.name is None:
            return f"{self.pointer}/{self.index}", f"{self.path}[{self.index}]"
        step = f".{self.name}" if _PLAIN_MEMBER.fullmatch(self.name) else f"[{json.dumps(self.name)}]"
        return f"{self.pointer}/{json_values.escaped(self.name)}", self.path + step
