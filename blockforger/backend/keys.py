"""Item keys: a string or an integer in the payload, compared and stored as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from blockforger.backend.errors import KeyFieldInvalid, Malformed

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject, JsonValue

MAX_LENGTH = 255
# And half surrogate pairs, which cannot be stored.
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def text_of(value: JsonValue, *, field: str) -> str:
    """The key as text. Raises KeyFieldInvalid for a value that cannot be a key."""
    text = _text(value)
    if text is None:
        raise KeyFieldInvalid(f"The member '{field}' holds the key: it must be a string or an integer.", field=field)
    if problem := _problem(text):
        raise KeyFieldInvalid(f"The key in the member '{field}' {problem}.", field=field)
    return text


def text_of_deleted(value: JsonValue) -> str:
    """The text of a key that stands by itself, where many items are deleted. Raises Malformed.

    No item may have it: then there is none to be deleted.
    """
    text = _text(value)
    if text is None:
        raise Malformed("To delete items, send nothing of each but its key: a string or an integer.")
    return text


def is_possible(text: str | None) -> bool:
    """Whether an item can have that key."""
    return text is not None and _problem(text) is None


def with_key(payload: JsonObject, *, field: str, value: JsonValue) -> JsonObject:
    """The payload with its key: where it has none, the key comes first."""
    return payload if field in payload else {field: value, **payload}


def _text(value: JsonValue) -> str | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # in JSON Schema 1255.0 is an integer
    return None if isinstance(value, bool) or not isinstance(value, str | int) else str(value)


def _problem(text: str) -> str | None:
    if not 1 <= len(text) <= MAX_LENGTH:
        return f"must have 1 to {MAX_LENGTH} characters"
    if text.startswith("$"):
        return "must not begin with '$': such paths are the API's own"
    if text.endswith("/") or not {".", ".."}.isdisjoint(text.split("/")):
        return "must not end with '/' or have a part '.' or '..' between slashes: no URL could name the item"
    if _CONTROL.search(text):
        return "must not hold control characters"
    return None
