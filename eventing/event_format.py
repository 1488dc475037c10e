"""What an event looks like on the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject


def detail_of(tenant_name: str, schema_name: str, operation: str, payload: JsonObject) -> JsonObject:
    """The `detail` of an output event: these four members, in this order."""
    return {
        "tenant": tenant_name,
        "rootSchema": schema_name,
        "operation": operation,
        "payload": payload,
    }
