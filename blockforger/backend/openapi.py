"""The API as an OpenAPI 3.1 document: of any tenant, or of one with its own paths and types.

It is made of plain functions and not read off the views: these know neither the types of items, which are data, nor
the refusals, which are `execute`'s.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.urls import reverse

from blockforger.backend import openapi_items, openapi_management, openapi_parts, openapi_types
from blockforger.backend.models import Schema
from blockforger.backend.openapi_parts import Place, in_path
from tenants.models import TENANT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockforger.backend.json_values import JsonObject
    from tenants.models import Tenant

VERSION = "0.1.0"
DESCRIPTION = (
    "Items of the tenant's schemas, and what belongs to them. Each operation on an item costs 10 tokens; all else is "
    "free. Errors are problem documents (RFC 9457), with a `code` that never changes."
)
more_paths: list[Callable[[Place], JsonObject]] = []
"""Of other apps, which add theirs when they are ready."""


def of_any_tenant() -> JsonObject:
    """The document for whoever has no key yet: tenant and schema are parameters, and items are objects."""
    name = in_path("tenant", "The name of a tenant.", {"type": "string", "pattern": f"^{TENANT_NAME}$"})
    place = Place("/api/{tenant}", (name,))
    item: JsonObject = {"type": "object"}
    key = openapi_types.key_of(["integer", "string"])
    types = openapi_types.ItemTypes(item, item, item, item, key, openapi_types.KEY_IN_URL, "id")
    paths = openapi_items.of_any_schema(place, types)
    return _document("Blockforger", place, {**paths, "/openapi.json": openapi_management.of_any_tenant()}, {})


def of_tenant(tenant: Tenant) -> JsonObject:
    """The document of a tenant."""
    place = Place(reverse("schemas", args=[tenant.name]))
    types = openapi_types.Types(openapi_parts.OWN_TYPES)
    paths: JsonObject = {}
    for schema in Schema.objects.filter(tenant=tenant).order_by("name"):
        schema.tenant = tenant
        paths |= openapi_items.of_schema(place, schema, types.of(schema))
    return _document(f"Blockforger: {tenant.name}", place, paths, types.named)


def _document(title: str, place: Place, paths: JsonObject, types: dict[str, Any]) -> JsonObject:
    for more in (openapi_management.paths, *more_paths):
        paths |= more(place)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": VERSION, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in openapi_parts.SECURITY_SCHEMES],
        "paths": paths,
        "components": {
            "schemas": {**openapi_parts.OWN_TYPES, **types},
            "headers": openapi_parts.header_components(),
            "responses": {name: openapi_parts.response_of(name) for name in sorted(_responses(paths))},
            "securitySchemes": openapi_parts.SECURITY_SCHEMES,
        },
    }


def _responses(paths: JsonObject) -> set[str]:
    """The names of the responses that the paths refer to."""
    return set(re.findall("'#/components/responses/([^']+)'", str(paths)))
