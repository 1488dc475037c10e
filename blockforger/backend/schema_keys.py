"""The key field of a schema, which is settled once it has items."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockforger.backend.models import Schema


def problem_of_change(schema: Schema, key_field: str) -> str | None:
    """Why the stored schema cannot get that key field; None if it can: its items are stored under the old one."""
    if key_field == schema.key_field or not schema.items.exists():
        return None
    return (
        f"The schema has items under the key field '{schema.key_field}': it cannot become '{key_field}'. "
        "Make another schema, or delete the items first."
    )
