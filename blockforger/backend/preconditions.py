"""Preconditions (RFC 9110, section 13): which state of an item a request is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from blockforger.backend.errors import Malformed, PreconditionFailed

ANY = "*"
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The entity tags that `If-Match` and `If-None-Match` list, or ANY; None where the header was not sent."""

    if_match: frozenset[str] | None = None
    if_none_match: frozenset[str] | None = None

    @classmethod
    def read(cls, if_match: str | None, if_none_match: str | None) -> Self:
        """Read both headers. Raises Malformed, naming the header."""
        wanted, unwanted = _tags("If-Match", if_match), _tags("If-None-Match", if_none_match)
        # A weak tag does not say that the item is the same to the byte, which is what a change must know, and is
        # enough to spare a reader what he has (section 8.8.3.2).
        return cls(
            if_match=wanted and frozenset(tag for tag in wanted if not tag.startswith("W/")),
            if_none_match=unwanted and frozenset(tag.removeprefix("W/") for tag in unwanted),
        )

    def check(self, tag: str) -> None:
        """Raise PreconditionFailed unless a write may go on that finds an item with this tag."""
        self.check_match(tag)
        if self.is_known(tag):
            raise PreconditionFailed("If-None-Match")

    def check_match(self, tag: str) -> None:
        """Raise PreconditionFailed unless `If-Match` lets a request go on that finds an item with this tag."""
        if self.if_match is not None and self.if_match.isdisjoint({tag, ANY}):
            raise PreconditionFailed("If-Match")

    def is_known(self, tag: str) -> bool:
        """Whether `If-None-Match` says that the client has the item with this tag."""
        return self.if_none_match is not None and not self.if_none_match.isdisjoint({tag, ANY})


UNCONDITIONAL = Preconditions()


def _tags(header: str, value: str | None) -> frozenset[str] | None:
    if value is None:
        return None
    if value.strip() == ANY:
        return frozenset({ANY})
    if not _TAGS.fullmatch(value):
        raise Malformed(
            f"""The header {header} must be * or a list of entity tags in quotes, such as "12-3".""", header=header
        )
    return frozenset(re.findall(_TAG, value))
