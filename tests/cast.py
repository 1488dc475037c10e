"""The people and things that the tests are about: plain functions that make them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blockforger.backend.models import Schema
from eventing.models import OutputRule
from tenants import api_keys, balances
from tenants.models import ApiKey, Permission, Tenant, TokenAccount

if TYPE_CHECKING:
    from collections.abc import Collection

BUS = "arn:aws:events:us-east-1:720291373173:event-bus/default"

PET = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["name"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "status": {"enum": ["available", "pending", "sold"]},
    },
}
FLUFFY: dict[str, Any] = {"id": "123", "name": "Fluffy", "status": "available"}
# What a rule says of conditions and fields if it says nothing.
UNCONDITIONAL: dict[str, Any] = {"enabled": True, "filter": None, "on_change": [], "fields": None}


def a_tenant(name: str = "mytenant", *, tokens: int = 1000, accepts_events: bool = True) -> Tenant:
    tenant = Tenant.objects.create(name=name, accepts_events=accepts_events)
    if tokens:
        balances.top_up(tenant, amount=tokens, reference="opening")
    else:
        TokenAccount.objects.create(tenant=tenant)
    return tenant


def a_key(tenant: Tenant, *, permissions: Collection[Permission] = (Permission.BACKEND_CALLS,)) -> str:
    return api_keys.create(tenant, name="test", permissions=permissions)[1]


def a_schema(tenant: Tenant, name: str = "petstore", document: dict[str, Any] | None = None, **meta: Any) -> Schema:
    text = json.dumps(PET if document is None else document)
    return Schema.objects.create(tenant=tenant, name=name, document=text, meta=meta)


def a_rule(tenant: Tenant, **fields: Any) -> OutputRule:
    return OutputRule.objects.create(tenant=tenant, **{"eventbridge_arn": BUS, **fields})


def the_caller(key: str, *, tenant_name: str = "mytenant") -> ApiKey:
    """The row of a key, found as every request finds it."""
    row = ApiKey.objects.select_related("tenant").filter(prefix=api_keys.prefix_of(key)).first()
    return api_keys.authenticate(key, row, tenant_name=tenant_name)
