"""The paths that a schema's meta lists as `indexes`: which they are, and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockforger.backend.item_columns import COLUMNS
from blockforger.backend.item_paths import SCALARS, Paths
from blockforger.backend.json_schemas import SchemaProblem, key_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockforger.backend.item_paths import ItemPath
    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema

INDEXES = "indexes"
MAX_INDEXES = 10
"""Paths of a schema. Every write of its items pays for each."""


def paths_of(schema: Schema) -> list[ItemPath]:
    """The paths to be indexed; what `problems` would name is left out."""
    listed = schema.meta.get(INDEXES)
    known = _paths(schema.parsed_document(), schema.key_field)
    paths = [known.find(text) for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
    return list(dict.fromkeys(path for path in paths if path and _can_be_indexed(path)))[:MAX_INDEXES]


def problems(document: JsonObject, meta: JsonObject, key_field: str) -> Iterator[SchemaProblem]:
    """What is wrong with `indexes`, in a schema that is right otherwise; the pointers lead into meta."""
    texts: JsonValue = meta.get(INDEXES, [])
    if not isinstance(texts, list):
        yield SchemaProblem(f"/{INDEXES}", 'Write a list of paths, such as ["price", "owner.name"].')
        return
    if len(texts) > MAX_INDEXES:
        message = f"The list has {len(texts)} paths; {MAX_INDEXES} are allowed. Each makes every write slower."
        yield SchemaProblem(f"/{INDEXES}", message)
    paths = _paths(document, key_field)
    for index, listed in enumerate(texts):
        if problem := _problem(paths, listed, is_repeated=listed in texts[:index]):
            yield SchemaProblem(f"/{INDEXES}/{index}", problem)


def _problem(paths: Paths, text: JsonValue, *, is_repeated: bool) -> str | None:
    if not isinstance(text, str):
        return "Write a path, such as 'owner.name'."
    path = paths.find(text)
    if path is None:
        return f"'{text[:200]}' is no path of the schema. Known are: {', '.join(paths.told())}."
    if not _can_be_indexed(path):
        return f"Nothing of '{text[:200]}' can be indexed: no string, number, boolean or array of such stands there."
    return f"'{text[:200]}' stands there twice. Leave one out." if is_repeated else None


def _can_be_indexed(path: ItemPath) -> bool:
    return bool(path.types & COLUMNS.keys() or path.element_types & SCALARS)


def _paths(document: JsonObject, key_field: str) -> Paths:
    return Paths(document, key_field, key_types(document, key_field))
