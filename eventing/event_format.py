"""What an event looks like on the bus."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from blockforger.backend import json_values

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject, JsonValue


def detail_of(tenant_name: str, schema_name: str, operation: str, payload: JsonValue) -> JsonObject:
    """The `detail` of an output event: these four members, in this order."""
    return {
        "tenant": tenant_name,
        "rootSchema": schema_name,
        "operation": operation,
        "payload": payload,
    }


def text_of_detail(tenant_name: str, schema_name: str, operation: str, payload: str) -> str:
    """The same as compact JSON, of a payload that is JSON already."""
    return f"{_before_payload(tenant_name, schema_name, operation)}{payload}}}"


@lru_cache(maxsize=1024)
def _before_payload(tenant_name: str, schema_name: str, operation: str) -> str:
    return json_values.compact(detail_of(tenant_name, schema_name, operation, None)).removesuffix("null}")
