"""Problems in files, and where in them."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

_LINE_END = re.compile(r"\r\n|\r|\n")


class Position(NamedTuple):
    """A place in a text; lines and columns count from 1, columns in characters."""

    line: int
    column: int


class Lines:
    """Where the lines of a text begin."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text))]

    def position(self, offset: int) -> Position:
        """The position of the character at that offset."""
        line = bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, with the remedy; without a position it is about the file as a whole.

    `json_path` (RFC 9535) names the value inside the file's JSON.
    """

    file: str
    message: str
    position: Position | None = None
    json_path: str = ""

    def __str__(self) -> str:
        place = [self.file]
        if self.position:
            place += [f"{self.position.line}:{self.position.column}"]
        return ": ".join([":".join(place), *([self.json_path] if self.json_path else []), self.message])
