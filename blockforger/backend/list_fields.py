"""The part of an item that a list's `fields` name."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blockforger.backend.item_paths import Names
    from blockforger.backend.json_values import JsonObject

Selection: TypeAlias = "dict[str, Selection | None]"
"""Members by name: None for all of one, or what is selected in it."""


def selection(paths: Iterable[Names]) -> Selection:
    """What the paths select; an outer one takes all that is in it."""
    tree: Selection = {}
    for names in sorted(paths, key=len):
        _add(tree, names)
    return tree


def selected(payload: JsonObject, members: Selection) -> JsonObject:
    """The payload's selected members, in its order. An object whose parts are selected stays, even if it has none."""
    result: JsonObject = {}
    for name, value in payload.items():
        if name in members:
            inner = members[name]
            if inner is None:
                result[name] = value
            elif isinstance(value, dict):
                result[name] = selected(value, inner)
    return result


def _add(tree: Selection, names: Names) -> None:
    for name in names[:-1]:
        inner = tree.setdefault(name, {})
        if inner is None:
            return
        tree = inner
    tree.setdefault(names[-1], None)
