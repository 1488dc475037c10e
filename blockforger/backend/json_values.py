"""JSON that every part of the way can carry: PostgreSQL's jsonb, EventBridge and our own recursion.

EventBridge takes integers of 64 bits and 1,000 levels (API reference of PutEvents); jsonb takes neither NUL nor
lone surrogates (PostgreSQL manual, 8.14). What is accepted at the door must get out at the other end.
"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_DEPTH = 100
_INT64 = range(-(2**63), 2**63)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class NotPortable(ValueError):
    """A JSON text, or a value in it, that cannot be carried. `pointer` (RFC 6901) says where, if that is known."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer


def parse(text: bytes | str) -> JsonValue:
    """The value of a JSON text in UTF-8 (RFC 8259), checked as by `check_portable`.

    Raises NotPortable also for what is no JSON, NaN, Infinity and a member that stands twice in one object.
    """
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise NotPortable("The text is not UTF-8.") from error
    try:
        value: JsonValue = json.loads(
            decoded, object_pairs_hook=_object_without_repeats, parse_constant=_refuse_constant
        )
    except json.JSONDecodeError as error:
        message = f"The text is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise NotPortable(message) from error
    except RecursionError as error:
        raise NotPortable(f"The value is nested deeper than {MAX_DEPTH} levels.") from error
    except ValueError as error:
        if isinstance(error, NotPortable):
            raise
        # Python refuses to convert integers of thousands of digits.
        raise NotPortable("A number has too many digits.") from error
    check_portable(value)
    return value


def check_portable(value: JsonValue) -> None:
    """Raise NotPortable if the value is nested too deeply or holds a number or text that cannot be carried."""
    stack: list[tuple[JsonValue, str, int]] = [(value, "", 1)]
    while stack:
        node, pointer, depth = stack.pop()
        if not isinstance(node, list | dict):
            _check_scalar(node, pointer)
            continue
        if depth > MAX_DEPTH:
            raise NotPortable(f"The value is nested deeper than {MAX_DEPTH} levels.", pointer)
        if isinstance(node, list):
            stack.extend((child, f"{pointer}/{index}", depth + 1) for index, child in enumerate(node))
            continue
        for name, child in node.items():
            _check_scalar(name, pointer)
            stack.append((child, f"{pointer}/{escaped(name)}", depth + 1))


def compact(value: JsonValue) -> str:
    """The value as JSON text without spaces, members in their order, characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def escaped(member: str) -> str:
    """A member's name as a reference token of a JSON Pointer (RFC 6901, section 3)."""
    return member.replace("~", "~0").replace("/", "~1")


def _check_scalar(value: bool | float | str | None, pointer: str) -> None:  # noqa: FBT001 - one of JSON's types
    if isinstance(value, str):
        if "\0" in value:
            raise NotPortable("A text holds the character U+0000.", pointer)
        if not value.isascii() and _LONE_SURROGATE.search(value):
            raise NotPortable("A text holds half of a surrogate pair.", pointer)
    elif isinstance(value, int) and value not in _INT64:
        raise NotPortable("An integer does not fit into 64 bits.", pointer)
    elif isinstance(value, float) and not math.isfinite(value):
        raise NotPortable("A number is too large.", pointer)


def _object_without_repeats(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise NotPortable(f"The member {json.dumps(repeated)} stands twice in one object.")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise NotPortable(f"{name} is not JSON.")
