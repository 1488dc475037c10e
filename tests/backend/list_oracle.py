"""Lists in plain Python: what a query means, said a second time and in another way than SQL."""

from __future__ import annotations

from decimal import Decimal
from functools import cmp_to_key
from typing import Any, NamedTuple

MISSING = object()


class Condition(NamedTuple):
    """A filter on a path, with its text as the values that it may stand for."""

    names: tuple[str, ...]
    types: list[str]
    operator: str
    values: list[Any]


class Sorting(NamedTuple):
    """A path to sort by; a value of another type than the schema has there counts as none."""

    names: tuple[str, ...]
    types: list[str]
    descending: bool


def listed(payloads: list[dict[str, Any]], conditions: list[Condition], sortings: list[Sorting]) -> list[str]:
    """The ids of the payloads that match, in order. They are given in the order of their creation."""
    places = [(place, payload) for place, payload in enumerate(payloads) if all(holds(payload, c) for c in conditions)]

    def compared(one: tuple[int, dict[str, Any]], other: tuple[int, dict[str, Any]]) -> int:
        for names, types, descending in sortings:
            if result := _compared(_rank(at(one[1], names), types), _rank(at(other[1], names), types)):
                return -result if descending else result
        result = _compared(one[0], other[0])
        return -result if sortings and sortings[-1].descending else result

    return [payload["id"] for _, payload in sorted(places, key=cmp_to_key(compared))]


def holds(payload: dict[str, Any], condition: Condition) -> bool:
    value = at(payload, condition.names)
    match condition.operator:
        case "eq" | "in":
            return any(same(value, wanted) for wanted in condition.values)
        case "ne":
            return not any(same(value, wanted) for wanted in condition.values)
        case "exists":
            return [value is not MISSING] == condition.values
        case "contains":
            if isinstance(value, str):
                return "string" in condition.types and any(
                    isinstance(wanted, str) and wanted in value for wanted in condition.values
                )
            return isinstance(value, list) and any(same(one, wanted) for one in value for wanted in condition.values)
        case operator:
            signs = {"lt": {-1}, "lte": {-1, 0}, "gt": {1}, "gte": {1, 0}}[operator]
            return any(
                _compared(_whole(value), _whole(wanted)) in signs
                for wanted in condition.values
                if kind(value) == kind(wanted) and kind(value) in {"number", "string"}
            )


def at(payload: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        payload = payload[name] if isinstance(payload, dict) and name in payload else MISSING
    return payload


def same(value: Any, wanted: Any) -> bool:
    return kind(value) == kind(wanted) and (
        number(value) == number(wanted) if kind(value) == "number" else value == wanted
    )


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else {str: "string", type(None): "null"}.get(type(value), "")


def number(value: float) -> Decimal:
    """By its digits, as JSON has it: a float beyond 2⁵³ is the integer that is written there."""
    return Decimal(repr(value))


def _whole(value: Any) -> Any:
    return number(value) if kind(value) == "number" else [ord(character) for character in value]


def _rank(value: Any, types: list[str]) -> tuple[int, Any]:
    """Sorting looks at the first 256 characters."""
    match kind(value) if kind(value) in types else "":
        case "boolean":
            return 0, value
        case "number":
            return 1, number(value)
        case "string":
            return 2, _whole(value[:256])
        case _:
            return 3, 0


def _compared(one: Any, other: Any) -> int:
    return bool(one > other) - bool(one < other)
