"""The conditions of an event pattern: what stands in its arrays, each a question to one value of a payload.

The language is EventBridge's (user guide, "Comparison operators for use in event patterns"). Each test takes time in
proportion to the value: wildcards are looked for piece by piece, and never tried again.
"""

from __future__ import annotations

import operator
import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockforger.backend.json_values import JsonValue

Scalar: TypeAlias = "bool | int | float | str | None"
Test: TypeAlias = "Callable[[Scalar], bool]"

# EventBridge compares numbers within these only.
LARGEST = 5_000_000_000
OPERATORS = (
    *("prefix", "suffix", "equals-ignore-case", "wildcard"),
    *("anything-but", "numeric", "exists", "cidr"),
)
_IGNORING_CASE = "equals-ignore-case"
_COMPARISONS = {"=": operator.eq, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_STARS_OR_TEXT = re.compile(r"\\[*\\]|\*|[^*\\]+|\\")


class ConditionInvalid(ValueError):
    """An element of a pattern's array that is no condition. `pointer` says where in the element."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer


def is_scalar(value: JsonValue) -> TypeGuard[Scalar]:
    return not isinstance(value, list | dict)


def is_number(value: JsonValue) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def existence(value: JsonValue) -> bool | None:
    """What `{"exists": …}` asks for; None for every other condition. Raises ConditionInvalid."""
    if not isinstance(value, dict) or value.keys() != {"exists"}:
        return None
    if not isinstance(value["exists"], bool):
        raise ConditionInvalid("Write true or false.", "/exists")
    return value["exists"]


def read(value: JsonValue) -> Test:
    """The test of a condition that is not about existence. Raises ConditionInvalid."""
    if isinstance(value, list):
        raise ConditionInvalid("Write the values side by side, not an array in the array.")
    if not isinstance(value, dict):
        return _exact(value)
    if len(value) != 1 or next(iter(value)) not in _READERS:
        raise ConditionInvalid(f"Write a value, or an object with one of {', '.join(OPERATORS)}.")
    [(name, argument)] = value.items()
    try:
        return _READERS[name](argument)
    except ConditionInvalid as error:
        raise ConditionInvalid(error.message, f"/{name}{error.pointer}") from error


def _exact(wanted: Scalar) -> Test:
    if is_number(wanted):
        return lambda value: is_number(value) and value == wanted
    # Python takes true for 1.
    return lambda value: type(value) is type(wanted) and value == wanted


def _prefix(argument: JsonValue) -> Test:
    text, ignores_case = _text_or_ignoring_case(argument)
    if ignores_case:
        return lambda value: isinstance(value, str) and value.lower().startswith(text)
    return lambda value: isinstance(value, str) and value.startswith(text)


def _suffix(argument: JsonValue) -> Test:
    text, ignores_case = _text_or_ignoring_case(argument)
    if ignores_case:
        return lambda value: isinstance(value, str) and value.lower().endswith(text)
    return lambda value: isinstance(value, str) and value.endswith(text)


def _equals_ignoring_case(argument: JsonValue) -> Test:
    text = _text(argument).lower()
    return lambda value: isinstance(value, str) and value.lower() == text


def _wildcard(argument: JsonValue) -> Test:
    first, *others = _pieces(_text(argument))
    if not others:
        return _exact(first)
    *inner, last = others
    shortest = len(first) + len(last)

    def test(value: Scalar) -> bool:
        if not isinstance(value, str) or len(value) < shortest:
            return False
        if not value.startswith(first) or not value.endswith(last):
            return False
        position, end = len(first), len(value) - len(last)
        for piece in inner:  # the first place is as good as any
            found = value.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    return test


def _pieces(text: str) -> list[str]:
    """The texts before, between and after the stars."""
    pieces = [""]
    after_star = False
    for token in _STARS_OR_TEXT.findall(text):
        if token == "*":  # noqa: S105 - no password
            if after_star:
                raise ConditionInvalid("Write one '*' where there are several side by side.")
            pieces.append("")
        elif token == "\\":  # noqa: S105
            raise ConditionInvalid("A backslash stands before '*' or another backslash only: write '\\\\' for one.")
        else:
            pieces[-1] += token[-1] if token[0] == "\\" else token
        after_star = token == "*"  # noqa: S105
    return pieces


def _numeric(argument: JsonValue) -> Test:
    form = 'Write one comparison or two, such as ["=", 5] or [">", 0, "<=", 10].'
    if not isinstance(argument, list) or len(argument) not in (2, 4):
        raise ConditionInvalid(form)
    signs, numbers = argument[::2], argument[1::2]
    for index, (sign, number) in enumerate(zip(signs, numbers, strict=True)):
        if not isinstance(sign, str) or sign not in _COMPARISONS:
            raise ConditionInvalid(f"Use one of {', '.join(_COMPARISONS)}.", f"/{2 * index}")
        if not is_number(number) or not -LARGEST <= number <= LARGEST:
            raise ConditionInvalid(f"Use a number from -{LARGEST} to {LARGEST}.", f"/{2 * index + 1}")
    limits = cast("list[int | float]", numbers)
    if len(limits) == 2 and (signs[0] not in (">", ">=") or signs[1] not in ("<", "<=")):
        raise ConditionInvalid(f"Of two comparisons, the first is > or >= and the second < or <=. {form}")
    if len(limits) == 2 and limits[0] >= limits[1]:
        raise ConditionInvalid("The first number must be less than the second one.", "/3")
    compared = [(_COMPARISONS[cast("str", sign)], number) for sign, number in zip(signs, limits, strict=True)]
    return lambda value: (
        is_number(value) and -LARGEST <= value <= LARGEST and all(holds(value, number) for holds, number in compared)
    )


def _cidr(argument: JsonValue) -> Test:
    try:
        network = ip_network(_text(argument), strict=False)
    except ValueError as error:
        if isinstance(error, ConditionInvalid):
            raise
        raise ConditionInvalid("Write a range of addresses, such as '10.0.0.0/24' or '2001:db8::/32'.") from error

    def test(value: Scalar) -> bool:
        try:
            return isinstance(value, str) and ip_address(value) in network
        except ValueError:
            return False

    return test


def _anything_but(argument: JsonValue) -> Test:
    if isinstance(argument, dict):
        excluded = _of_each(argument)
    else:
        values = argument if isinstance(argument, list) else [argument]
        if not values or not (all(isinstance(value, str) for value in values) or all(map(is_number, values))):
            raise ConditionInvalid("Write a text, a number, or a list of texts or of numbers.")
        excluded = [_exact(value) for value in values if is_scalar(value)]
    return lambda value: not any(test(value) for test in excluded)


def _of_each(argument: dict[str, JsonValue]) -> list[Test]:
    """The tests of an operator within anything-but, which may have a list of texts."""
    readers = {"prefix": _prefix, "suffix": _suffix, _IGNORING_CASE: _equals_ignoring_case, "wildcard": _wildcard}
    if len(argument) != 1 or next(iter(argument)) not in readers:
        raise ConditionInvalid(f"Write values, or an object with one of {', '.join(readers)}.")
    [(name, given)] = argument.items()
    texts = given if isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ConditionInvalid("Write a text, or a list of texts, none of them empty.", f"/{name}")
    try:
        return [readers[name](text) for text in texts]
    except ConditionInvalid as error:
        raise ConditionInvalid(error.message, f"/{name}{error.pointer}") from error


def _text(argument: JsonValue) -> str:
    if not isinstance(argument, str):
        raise ConditionInvalid("Write a text.")
    return argument


def _text_or_ignoring_case(argument: JsonValue) -> tuple[str, bool]:
    """A text, and whether it stands in `{"equals-ignore-case": …}`; then it is in lower case."""
    if isinstance(argument, dict) and argument.keys() == {_IGNORING_CASE}:
        argument = argument[_IGNORING_CASE]
        if isinstance(argument, str):
            return argument.lower(), True
    if not isinstance(argument, str):
        raise ConditionInvalid(f'Write a text, or {{"{_IGNORING_CASE}": "text"}}.')
    return argument, False


_READERS: dict[str, Callable[[JsonValue], Test]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    _IGNORING_CASE: _equals_ignoring_case,
    "wildcard": _wildcard,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
}
