"""JSON that every part of the way can carry: PostgreSQL's jsonb, EventBridge and our own recursion.

EventBridge takes integers of 64 bits and 1,000 levels (API reference of PutEvents); jsonb takes neither NUL nor
lone surrogates (PostgreSQL manual, 8.14). What is accepted at the door must get out at the other end.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import NamedTuple, NoReturn, TypeAlias, TypeGuard

import orjson

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_DEPTH = 100
MAX_POINTER = 500
_INT64 = range(-(2**63), 2**63)
_FIRST_BEYOND_INT64 = float(2**63)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# In a JSON text, after what can stand before a number; a text that looks like one does no harm.
_LONG_NUMBER = re.compile(r"[\[,: \t\n\r]-?[0-9](?:[0-9]{18}|[0-9.]*[eE])")
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


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
    if decoded.startswith("\ufeff"):
        raise NotPortable("The text begins with a byte order mark. Send it without.")
    try:
        value: JsonValue = _DECODER.decode(decoded)
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
    if _is_suspicious(decoded, value):  # hardly any is: to look at each value would take longer
        check_portable(value)
    return value


def check_portable(value: JsonValue) -> None:
    """Raise NotPortable if the value is nested too deeply or holds a number or text that cannot be carried."""
    # Places are linked, and written out only for an error: pointers of every value could take a thousand times the
    # memory of the text.
    stack: list[tuple[JsonValue, _Place | None, int]] = [(value, None, 1)]
    while stack:
        node, place, depth = stack.pop()
        if not isinstance(node, list | dict):
            if problem := _problem_of_scalar(node):
                raise NotPortable(problem, _pointer(place))
            continue
        if depth > MAX_DEPTH:
            raise NotPortable(f"The value is nested deeper than {MAX_DEPTH} levels.", _pointer(place))
        if isinstance(node, list):
            stack.extend((child, _Place(place, index), depth + 1) for index, child in enumerate(node))
            continue
        for name, child in node.items():
            if problem := _problem_of_scalar(name):
                raise NotPortable(problem, _pointer(place))
            stack.append((child, _Place(place, name), depth + 1))


def same(one: JsonValue, other: JsonValue) -> bool:
    """Whether two values are equal as JSON. Python takes true for 1; and jsonb gives 100 back for 1e2."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if _is_number(one) and _is_number(other):
        return float(one) == float(other) if isinstance(one, float) or isinstance(other, float) else one == other
    return type(one) is type(other) and one == other


def compact(value: JsonValue) -> str:
    """The value as JSON text without spaces, members in their order, characters as they are.

    Of numbers that are none it makes null: nothing that was read lets them in.
    """
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # such as for an integer of more than 64 bits, or half a surrogate pair
        return _COMPACT.encode(value)


def escaped(member: str) -> str:
    """A member's name as a reference token of a JSON Pointer (RFC 6901, section 3)."""
    return member.replace("~", "~0").replace("/", "~1")


class _Place(NamedTuple):
    """Where a value stands: in a parent, under a name or at an index."""

    parent: _Place | None
    token: str | int


def _is_suspicious(text: str, value: JsonValue) -> bool:
    """Whether it is possible that the JSON text holds what cannot be carried.

    It then has an escape, half a pair, a number of 19 digits or with an exponent, or is nested deeply.
    """
    return (
        "\\u" in text
        or (not text.isascii() and _LONE_SURROGATE.search(text) is not None)
        or (text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value))
        or _LONG_NUMBER.search(f" {text}") is not None
    )


def _is_deep(value: JsonValue) -> bool:
    """Whether arrays and objects are nested deeper than MAX_DEPTH levels."""
    level: list[JsonValue] = [value]
    for _ in range(MAX_DEPTH + 1):
        nodes = [node for node in level if isinstance(node, list | dict)]
        if not nodes:
            return False
        level = [child for node in nodes for child in (node.values() if isinstance(node, dict) else node)]
    return True


def _is_number(value: JsonValue) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pointer(place: _Place | None) -> str:
    tokens = []
    while place is not None:
        tokens.append(f"/{escaped(str(place.token))}")
        place = place.parent
    return "".join(reversed(tokens))[:MAX_POINTER]


def _problem_of_scalar(value: bool | float | str | None) -> str | None:  # noqa: FBT001 - one of JSON's types
    if isinstance(value, str):
        if "\0" in value:
            return "A text holds the character U+0000."
        if not value.isascii() and _LONE_SURROGATE.search(value):
            return "A text holds half of a surrogate pair."
    elif isinstance(value, int) and value not in _INT64:
        return "An integer does not fit into 64 bits."
    elif isinstance(value, float) and not math.isfinite(value):
        return "A number is too large."
    elif isinstance(value, float) and value.is_integer() and abs(value) >= _FIRST_BEYOND_INT64:
        # jsonb would give it back as an integer
        return "A whole number does not fit into 64 bits."
    return None


def _object_without_repeats(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    result = dict(pairs)
    if len(result) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        repeated = next(name for name, count in counts.items() if count > 1)
        raise NotPortable(f"The member {json.dumps(repeated[:100])} stands twice in one object.")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise NotPortable(f"{name} is not JSON.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object_without_repeats, parse_constant=_refuse_constant)
