"""Lists: the items of a schema that a query asks for, a page at a time.

Pages follow each other by the place of the last item (keyset paging), not by counting. So a reader sees every item
that nobody touches meanwhile exactly once, in order, whatever is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blockforger.backend import cursors, json_schemas, json_values, list_fields, list_filters
from blockforger.backend.list_orders import Order
from blockforger.backend.models import Item

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockforger.backend.item_paths import Paths
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.list_queries import Query
    from blockforger.backend.models import Schema

MAX_PAGE_CHARACTERS = 8 * 1024 * 1024


def read(schema: Schema, query: Query) -> JsonObject:
    """A page: the items, and the cursor of the next one. Raises Malformed."""
    paths = json_schemas.compiled(schema).paths
    order = Order.of(paths, query.sorts)
    shown_of = _projection(schema, paths, query)
    items = Item.objects.filter(*[list_filters.condition(paths, wanted) for wanted in query.filters], schema=schema)
    digest = query.digest(str(schema.pk), *(kind.__name__ for kind in order.kinds))
    if query.cursor:
        items = items.filter(order.after(cursors.decoded(query.cursor, order.kinds, digest=digest)))
    shown: list[JsonObject] = []
    size, last, following = 0, None, None
    # In small portions, because a thousand items can be a gigabyte.
    for item in order.sorted(items)[: query.limit + 1].iterator(chunk_size=20):
        part = shown_of(item.payload)
        size += len(json_values.compact(part))
        if len(shown) == query.limit or (last and size > MAX_PAGE_CHARACTERS):
            following = cursors.encoded(order.place(cast("Item", last)), order.kinds, digest=digest)
            break
        shown.append(part)
        last = item
    return {"items": [*shown], "next": following}


def _projection(schema: Schema, paths: Paths, query: Query) -> Callable[[JsonObject], JsonObject]:
    if query.fields is None:
        return lambda payload: payload
    wanted = [list_filters.found(paths, text, "fields").names for text in query.fields]
    members = list_fields.selection([(schema.key_field,), *wanted])
    return lambda payload: list_fields.selected(payload, members)
