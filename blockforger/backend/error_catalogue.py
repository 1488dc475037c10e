"""Every problem that can be answered: its code, its status over REST, and what it means. Documents are made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blockforger.backend import problems
from blockforger.backend.models import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tenants.errors import Refusal


class Kind(NamedTuple):
    """A kind of problem."""

    status: int
    code: str
    meaning: str


URL_UNKNOWN = Kind(404, "url-unknown", "There is nothing at this URL.")
METHOD_NOT_ALLOWED = Kind(405, "method-not-allowed", "The URL does not take the method; `Allow` lists those it does.")
NOT_ACCEPTABLE = Kind(406, "not-acceptable", "The header `Accept` excludes JSON.")
UNSUPPORTED_MEDIA_TYPE = Kind(415, "unsupported-media-type", "The body is of a type or encoding that is not read here.")
FAULT = Kind(500, "fault", "The server failed. Nothing is known of the operation.")
TOOK_TOO_LONG = Kind(503, "took-too-long", "The database ended a statement that took too long; nothing was done.")
DATABASE_UNAVAILABLE = Kind(503, "database-unavailable", "The database is not available.")
NO_REFUSALS = (
    *(URL_UNKNOWN, METHOD_NOT_ALLOWED, NOT_ACCEPTABLE, UNSUPPORTED_MEDIA_TYPE),
    *(FAULT, TOOK_TOO_LONG, DATABASE_UNAVAILABLE),
)
"""Of the framework, and of faults. All others are refusals."""


def kind_of(refusal: type[Refusal]) -> Kind:
    """The kind of problem that a refusal is answered as."""
    return Kind(problems.status_of(refusal, Origin.API), refusal.code, _first_sentence(refusal))


def everything() -> list[Kind]:
    """All kinds, by status and code."""
    return sorted([*map(kind_of, problems.refusals()), *NO_REFUSALS])


def by_status(kinds: Iterable[Kind]) -> dict[int, list[Kind]]:
    """The kinds under their statuses, in order."""
    found: dict[int, list[Kind]] = {}
    for kind in sorted(set(kinds)):
        found.setdefault(kind.status, []).append(kind)
    return found


def _first_sentence(refusal: type[Refusal]) -> str:
    return " ".join((refusal.__doc__ or "").partition("\n\n")[0].split())
