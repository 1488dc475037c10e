"""The tenant of the contract tests."""

from __future__ import annotations

import json
from typing import Any

from blockforger.backend.models import Method, Origin
from blockforger.backend.operations import Operation, execute
from tenants import balances
from tenants.models import Permission
from tests.cast import a_key, a_rule, a_schema, a_tenant

_TEXT: dict[str, Any] = {"type": "string", "pattern": "^[ -~]{0,40}$"}
_KEY: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,40}$"}
PETS: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["name"],
    "properties": {
        "id": _KEY,
        "name": _TEXT,
        "status": {"enum": ["available", "pending", "sold"]},
        "price": {"type": "number", "minimum": 0, "maximum": 1000},
        "born": {"type": ["string", "null"], "format": "date"},
        "tags": {"type": "array", "items": _TEXT, "maxItems": 5},
        "owner": {"$ref": "#/$defs/person"},
    },
    "additionalProperties": False,
    "$defs": {
        "person": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": _TEXT, "knows": {"$ref": "#/$defs/person"}},
            "additionalProperties": False,
        }
    },
}
ORDERS: dict[str, Any] = {
    "type": "object",
    "required": ["number", "lines"],
    "properties": {
        "number": {"type": "integer", "minimum": 1, "maximum": 10**9},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "maxItems": 3},
        "paid": {"type": "boolean"},
    },
    "additionalProperties": False,
    "$defs": {
        "line": {
            "type": "object",
            "properties": {"pet": _KEY, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
            "additionalProperties": False,
        }
    },
}


def make(name: str) -> str:
    """Make the tenant, with an item in each schema. Gives a key that may do everything."""
    tenant = a_tenant(name)
    balances.top_up(tenant, amount=10**9, reference="contract")
    key = a_key(tenant, permissions=list(Permission))
    a_schema(tenant, "pets", PETS)
    a_schema(tenant, "orders", ORDERS, key="number")
    a_rule(tenant)
    for schema, item in {"pets": {"id": "rex", "name": "Rex"}, "orders": {"number": 1, "lines": []}}.items():
        payload = json.loads(json.dumps(item))
        execute(
            Operation(origin=Origin.API, method=Method.POST, tenant=name, schema=schema, api_key=key, payload=payload)
        )
    return key
