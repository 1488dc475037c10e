"""Cursors: the place of a page's last item, as text that clients hand back.

A cursor is not secret and not signed. It is only ever compared with items of the schema that is listed, so whatever
stands in it, it leads to nothing that the list would not show.
"""

from __future__ import annotations

import base64
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from blockforger.backend import json_values
from blockforger.backend.errors import Malformed
from blockforger.backend.item_columns import HEAD, NO_TEXT, SOME_TEXT, Boolean, Number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.item_columns import Column
    from blockforger.backend.list_orders import Place

# Beyond what a float can be, and far within what PostgreSQL takes.
_NUMBER = re.compile(r"-?[0-9]{1,1000}(\.[0-9]{1,1000})?")


def encoded(place: Place, kinds: Sequence[type[Column]], *, digest: str) -> str:
    """The cursor of a place in a list that the digest names."""
    values = [_number_text(value) if kind is Number else value for kind, value in zip(kinds, place, strict=False)]
    text = json_values.compact([digest, *values, place[-1]])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decoded(cursor: str, kinds: Sequence[type[Column]], *, digest: str) -> Place:
    """The place that a cursor names. Raises Malformed."""
    match _content(cursor):
        case [str(other), *_] if other != digest:
            raise Malformed(
                "The parameter 'cursor' belongs to another query, or the schema has changed since. A cursor goes with"
                " the filters and the sort that it came from: send them again as they were, or start without a cursor.",
                parameter="cursor",
            )
        case [str(), *values, int(number)] if len(values) == len(kinds) and 0 <= number < 2**63:
            return (*map(_value, values, kinds), int(number))
        case _:
            raise _unusable()


def _content(cursor: str) -> Any:
    try:
        if not re.fullmatch("[A-Za-z0-9_-]+", cursor):
            raise _unusable()
        return json_values.parse(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError as error:
        raise _unusable() from error


def _value(value: Any, kind: type[Column]) -> Any:
    if kind is Number:
        if value is None:
            return Number.NOTHING
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            return Decimal(value)
    elif kind is Boolean:
        if type(value) is int and 0 <= value <= Boolean.NOTHING:
            return value
    elif isinstance(value, str) and (value == NO_TEXT or (value.startswith(SOME_TEXT) and len(value) <= HEAD + 1)):
        return value
    raise _unusable()


def _number_text(value: Decimal | float) -> str | None:
    """All digits of a number; None for no number."""
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return f"{number:f}" if number.is_finite() else None


def _unusable() -> Malformed:
    return Malformed(
        "The parameter 'cursor' must be the member 'next' of the page before, as it is.", parameter="cursor"
    )
