"""Lists: the items of a schema, a page at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from blockforger.backend import json_values
from blockforger.backend.errors import Malformed
from blockforger.backend.models import Item

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.models import Schema

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_PAGE_CHARACTERS = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: at most `limit` items, and about 8 MiB, after the cursor that the page before gave."""

    limit: int = DEFAULT_PAGE_SIZE
    after: int = 0

    @classmethod
    def read(cls, limit: str | None, cursor: str | None) -> Self:
        """Read both from a query string. Raises Malformed, naming the parameter."""
        size = int(limit or DEFAULT_PAGE_SIZE) if re.fullmatch("[0-9]{0,4}", limit or "") else 0
        if not 1 <= size <= MAX_PAGE_SIZE:
            raise Malformed(f"The parameter 'limit' must be a number from 1 to {MAX_PAGE_SIZE}.", parameter="limit")
        if not re.fullmatch("[0-9]{0,18}", cursor or ""):
            raise Malformed("The parameter 'cursor' must be the member 'next' of the page before.", parameter="cursor")
        return cls(limit=size, after=int(cursor) if cursor else 0)


def read(schema: Schema, page: Page) -> JsonObject:
    """The items of the page, and the cursor of the next one."""
    shown: list[Item] = []
    size = 0
    following = None
    # In small portions, because a thousand items can be a gigabyte.
    for item in Item.objects.filter(schema=schema, pk__gt=page.after).order_by("pk").iterator(chunk_size=20):
        size += len(json_values.compact(item.payload))
        if len(shown) == page.limit or (shown and size > MAX_PAGE_CHARACTERS):
            following = str(shown[-1].pk)
            break
        shown.append(item)
    return {"items": [item.payload for item in shown], "next": following}
