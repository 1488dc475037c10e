"""Paths of a rule: whether what they name has changed, and what of a payload is sent.

`owner.name` is the member `name` of the member `owner`, as in lists; here a path leads through arrays, too, into each
of their elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockforger.backend import item_paths, json_values, list_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from blockforger.backend.item_paths import Names
    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.list_fields import Selection

KEEP, DROP, MASK = "keep", "drop", "mask"
MASKED = "***"


@dataclass(frozen=True, slots=True)
class Projection:
    """What of a payload is sent. The key field always is: without it, an event would not name its item."""

    keep: Selection | None
    drop: Selection
    mask: Selection

    @classmethod
    def of(cls, fields: Mapping[str, Iterable[str]]) -> Projection:
        """From the texts of paths by what is done with what they name."""
        trees = {name: list_fields.selection(map(item_paths.parsed, paths)) for name, paths in fields.items()}
        return cls(trees.get(KEEP), trees.get(DROP, {}), trees.get(MASK, {}))

    def of_payload(self, payload: JsonObject, key_field: str, *, max_bytes: int) -> JsonObject:
        """The payload as it is sent.

        A mask can be longer than what it hides. If that makes more bytes than are allowed, it is left out instead.
        """
        sent = self._applied(payload, key_field, lambda _: MASKED)
        if self.mask and len(json_values.compact(sent).encode()) > max_bytes:
            return self._applied(payload, key_field, None)
        return sent

    def _applied(
        self, payload: JsonObject, key_field: str, mask: Callable[[JsonValue], JsonValue] | None
    ) -> JsonObject:
        parts = payload if self.keep is None else _kept(payload, self.keep)
        parts = _changed(_changed(parts, self.drop, None), self.mask, mask)
        return {
            name: value if name == key_field else parts[name]
            for name, value in payload.items()
            if name == key_field or name in parts
        }


def has_changed(path: Names, before: JsonObject | None, after: JsonObject | None) -> bool:
    """Whether the values at the path are others than before; those of an item that is new, or is gone, are."""
    return not json_values.same(list(_values(before, path)), list(_values(after, path)))


def _values(value: JsonValue, path: Names) -> Iterator[JsonValue]:
    if isinstance(value, list) and path:
        for element in value:
            yield from _values(element, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _values(value[path[0]], path[1:])


def _kept(payload: JsonObject, members: Selection) -> JsonObject:
    kept: JsonObject = {}
    for name, value in payload.items():
        inner = members.get(name, {})
        if inner is None:
            kept[name] = value
        elif inner and isinstance(value, dict):
            kept[name] = _kept(value, inner)
        elif inner and isinstance(value, list):
            kept[name] = _kept_elements(value, inner)
    return kept


def _kept_elements(elements: list[JsonValue], members: Selection) -> list[JsonValue]:
    return [
        _kept(element, members) if isinstance(element, dict) else _kept_elements(element, members)
        for element in elements
        if isinstance(element, dict | list)
    ]


def _changed(payload: JsonObject, members: Selection, change: Callable[[JsonValue], JsonValue] | None) -> JsonObject:
    """The payload with what the members name changed, or left out if there is no change."""
    if not members:
        return payload
    changed: JsonObject = {}
    for name, value in payload.items():
        inner = members.get(name, {})
        if inner is not None:
            changed[name] = _changed_within(value, inner, change)
        elif change:
            changed[name] = change(value)
    return changed


def _changed_within(value: JsonValue, members: Selection, change: Callable[[JsonValue], JsonValue] | None) -> JsonValue:
    if isinstance(value, list) and members:
        return [_changed_within(element, members, change) for element in value]
    return _changed(value, members, change) if isinstance(value, dict) else value
