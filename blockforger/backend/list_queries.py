"""What a list is asked for, as the query string says it. What it means is for the schema to say."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from blockforger.backend import json_values
from blockforger.backend.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_FILTERS = 20
MAX_SORTS = 5
MAX_FIELDS = 100

PARAMETERS = ("limit", "cursor", "sort", "fields", "filter[path]", "filter[path][operator]")
_FILTER = re.compile(r"filter\[((?:\\.|[^\\\[\]])*)\](?:\[([^\[\]]*)\])?", re.DOTALL)
_PIECE = re.compile(r"\\.|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition, under the name of its parameter. `text` is what stands to the right of it."""

    parameter: str
    path: str
    operator: str
    text: str


@dataclass(frozen=True, slots=True)
class Sort:
    """A path to sort by."""

    path: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """Which items, in which order, how many, what of them, and after which one."""

    limit: int = DEFAULT_LIMIT
    cursor: str = ""
    filters: tuple[Filter, ...] = ()
    sorts: tuple[Sort, ...] = ()
    # None for whole items.
    fields: tuple[str, ...] | None = None

    @classmethod
    def read(cls, parameters: Iterable[tuple[str, str]]) -> Self:
        """Read the parameters of a query string; one without a value is as good as none. Raises Malformed."""
        given: dict[str, str] = {}
        for name, text in parameters:
            if name in given:
                raise Malformed(f"The parameter {name[:200]!r} stands there twice. Send it once.", parameter=name[:200])
            given[name] = text
        try:
            for name, text in given.items():
                json_values.check_portable([name, text])
        except json_values.NotPortable as error:
            raise Malformed(f"The query string cannot be used. {error.message}") from error
        filters = [_filter(name, text) for name, text in given.items() if name not in PARAMETERS[:4]]
        if len(filters) > MAX_FILTERS:
            raise Malformed(f"There are more than {MAX_FILTERS} filters. Send fewer.", parameter="filter")
        return cls(
            limit=_limit(given.get("limit", "")),
            cursor=given.get("cursor", ""),
            filters=tuple(filters),
            sorts=_sorts(given.get("sort", "")),
            fields=tuple(_list(given["fields"], "fields", MAX_FIELDS)) if given.get("fields") else None,
        )

    def digest(self, *context: str) -> str:
        """Names what a cursor goes through: the filters, the order, and the context. Page size and fields may vary."""
        filters = sorted((each.path, each.operator, each.text) for each in self.filters)
        sorts = [(sort.path, sort.descending) for sort in self.sorts]
        return hashlib.sha256(json.dumps([filters, sorts, context]).encode()).hexdigest()[:16]


def divided(text: str) -> list[str]:
    """The parts of a text between its commas; a comma with a backslash before it is none."""
    parts = [""]
    for piece in _PIECE.findall(text):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def plain(text: str) -> str:
    """The text without the backslashes that `divided` needs."""
    return re.sub(r"\\([\\,])", r"\1", text)


def _filter(name: str, text: str) -> Filter:
    match = _FILTER.fullmatch(name)
    if match is None:
        raise Malformed(
            f"The parameter {name[:200]!r} is unknown. Known are: {', '.join(PARAMETERS)}.",
            parameter=name[:200],
            known=list(PARAMETERS),
        )
    path, operator = match.groups()
    return Filter(name, path, "eq" if operator is None else operator, text)


def _limit(text: str) -> int:
    limit = int(text or DEFAULT_LIMIT) if re.fullmatch("[0-9]{0,4}", text) else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise Malformed(f"The parameter 'limit' must be a number from 1 to {MAX_LIMIT}.", parameter="limit")
    return limit


def _list(text: str, parameter: str, most: int) -> list[str]:
    found = divided(text) if text else []
    if len(found) > most:
        raise Malformed(f"The parameter '{parameter}' names more than {most} paths.", parameter=parameter)
    _check_unique(found, parameter)
    return found


def _sorts(text: str) -> tuple[Sort, ...]:
    parts = _list(text, "sort", MAX_SORTS)
    sorts = tuple(Sort(part.removeprefix("-"), part.startswith("-")) for part in parts)
    _check_unique([sort.path for sort in sorts], "sort")
    return sorts


def _check_unique(paths: Sequence[str], parameter: str) -> None:
    if len(set(paths)) < len(paths):
        raise Malformed(f"The parameter '{parameter}' names a path twice. Name it once.", parameter=parameter)
