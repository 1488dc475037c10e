"""JSON Merge Patch (RFC 7396)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject, JsonValue


def merged(target: JsonValue, patch: JsonObject) -> JsonObject:
    """The target with the patch applied; neither is changed."""
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = merged(result.get(name), value)
        else:
            result[name] = value
    return result
