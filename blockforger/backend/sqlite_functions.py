"""What SQLite lacks: the SQL functions of `item_columns`, which give what PostgreSQL's expressions there give.

SQLite's own JSON functions do not find names with quotes or characters beyond ASCII, and differ between releases.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from blockforger.backend import item_columns
from blockforger.backend.item_paths import type_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from blockforger.backend.json_values import JsonValue

_MISSING = object()


def install(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Receiver of `connection_created`."""
    if connection.vendor == "sqlite":
        for function in (item_boolean, item_number, item_text_head, item_text, item_kind, item_has_element):
            connection.connection.create_function(function.__name__, -1, function, deterministic=True)


def item_boolean(payload: str, *names: str) -> int:
    value = _at(payload, names)
    return int(value) if isinstance(value, bool) else item_columns.Boolean.NOTHING


def item_number(payload: str, *names: str) -> float:
    value = _at(payload, names)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.inf
    # jsonb keeps the decimal digits: 1.2345678901234567e18 is the integer that they say.
    return int(Decimal(repr(value))) if isinstance(value, float) and value.is_integer() else value


def item_text_head(payload: str, *names: str) -> str:
    value = _at(payload, names)
    return item_columns.head(value) if isinstance(value, str) else item_columns.NO_TEXT


def item_text(payload: str, *names: str) -> str | None:
    value = _at(payload, names)
    return value if isinstance(value, str) else None


def item_kind(payload: str, *names: str) -> str:
    value = _at(payload, names)
    return "missing" if value is _MISSING else type_of(cast("JsonValue", value))


def item_has_element(element: str, payload: str, *names: str) -> bool:
    array, wanted = _at(payload, names), json.loads(element)
    return isinstance(array, list) and any(
        type_of(value) == type_of(wanted) and _exact(value) == _exact(wanted) for value in array
    )


def _exact(value: JsonValue) -> Any:
    return Decimal(repr(value)) if type_of(value) == "number" else value


def _at(payload: str, names: tuple[str, ...]) -> object:
    value = _parsed(payload)
    for name in names:
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


@lru_cache(maxsize=4)
def _parsed(payload: str) -> Any:
    # One item is asked several times in a row.
    return json.loads(payload)
