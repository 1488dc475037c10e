"""Who may do what: everything about an operation that can be settled by reading alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockforger.backend import items
from blockforger.backend.errors import OperationUnknown, SchemaUnknown
from blockforger.backend.models import SCHEMA_NAME, WRITES, Method, Origin, Schema
from tenants import api_keys
from tenants.errors import EventsNotAccepted, PermissionMissing, Refusal
from tenants.models import Permission

if TYPE_CHECKING:
    from blockforger.backend.operations import Operation
    from tenants.models import ApiKey, Tenant


@dataclass(frozen=True, slots=True)
class Admitted:
    """A caller who may make the request, which is well-formed."""

    api_key: ApiKey
    schema: Schema
    request: items.Request

    @property
    def tenant(self) -> Tenant:
        return self.api_key.tenant


@dataclass(frozen=True, slots=True)
class Rejected:
    """An operation that is refused before it touches an item; `tenant` only if the caller proved to be of it."""

    refusal: Refusal
    tenant: Tenant | None


def admit(operation: Operation) -> Admitted | Rejected:
    """Check the key, its permission, the tenant's input flag, the schema and the form of the request, in that order.

    The key comes first, so that a stranger learns nothing about a tenant.
    """
    tenant = None
    try:
        api_key = api_keys.authenticate(operation.api_key, tenant_name=operation.tenant)
        if not api_key.allows(Permission.BACKEND_CALLS):
            raise PermissionMissing(Permission.BACKEND_CALLS)
        tenant = api_key.tenant
        if operation.origin == Origin.EVENT and not tenant.accepts_events:
            raise EventsNotAccepted
        if operation.defect:
            raise operation.defect
        method = _method(operation)
        schema = _schema(tenant, operation.schema)
        request = items.Request.read(schema, method, key=operation.key, payload=operation.payload)
    except Refusal as refusal:
        return Rejected(refusal, tenant)
    return Admitted(api_key, schema, request)


def _method(operation: Operation) -> Method:
    allowed = WRITES if operation.origin == Origin.EVENT else tuple(Method)
    if operation.method not in allowed:
        raise OperationUnknown(operation.method)
    return Method(operation.method)


def _schema(tenant: Tenant, name: str) -> Schema:
    # A NUL or half a surrogate pair would be an error of the database's driver, not an empty result.
    is_name = re.fullmatch(SCHEMA_NAME, name)
    schema = tenant.schemas.filter(name=name).defer("document").first() if is_name else None
    if schema is None:
        raise SchemaUnknown(name)
    schema.tenant = tenant
    return schema
