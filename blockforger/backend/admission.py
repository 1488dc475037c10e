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
    from collections.abc import Iterable, Mapping, Sequence

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


def admit(operations: Sequence[Operation]) -> list[Admitted | Rejected]:
    """Check of each: key, permission, the tenant's input flag, schema and form of the request, in that order.

    The key comes first, so that a stranger learns nothing about a tenant. Two queries, however many operations.
    """
    found = api_keys.find(operation.api_key for operation in operations)
    callers = [_caller(operation, found) for operation in operations]
    schemas = _schemas(zip(operations, callers, strict=True))
    return [_admission(operation, caller, schemas) for operation, caller in zip(operations, callers, strict=True)]


def _caller(operation: Operation, found: Mapping[str, ApiKey]) -> ApiKey | Rejected:
    """The key of a caller who may call at all."""
    try:
        api_key = api_keys.authenticate(operation.api_key, tenant_name=operation.tenant, found=found)
        if not api_key.allows(Permission.BACKEND_CALLS):
            raise PermissionMissing(Permission.BACKEND_CALLS)
    except Refusal as refusal:
        return Rejected(refusal, None)
    return api_key


def _schemas(calls: Iterable[tuple[Operation, ApiKey | Rejected]]) -> dict[tuple[int, str], Schema]:
    """The schemas that callers name, each of its caller's own tenant, by the tenant's number and name."""
    # A NUL or half a surrogate pair would be an error of the database's driver, not an empty result.
    named = [
        (caller.tenant, operation.schema)
        for operation, caller in calls
        if not isinstance(caller, Rejected) and re.fullmatch(SCHEMA_NAME, operation.schema)
    ]
    if not named:
        return {}
    tenants = {tenant.pk: tenant for tenant, _ in named}
    found = Schema.objects.filter(tenant__in=tenants, name__in={name for _, name in named}).defer("document").order_by()
    for schema in found:
        schema.tenant = tenants[schema.tenant_id]
    return {(schema.tenant_id, schema.name): schema for schema in found}


def _admission(
    operation: Operation, caller: ApiKey | Rejected, schemas: Mapping[tuple[int, str], Schema]
) -> Admitted | Rejected:
    if isinstance(caller, Rejected):
        return caller
    tenant = caller.tenant
    try:
        if operation.origin == Origin.EVENT and not tenant.accepts_events:
            raise EventsNotAccepted
        if operation.defect:
            raise operation.defect
        method = _method(operation)
        schema = schemas.get((tenant.pk, operation.schema))
        if schema is None:
            raise SchemaUnknown(operation.schema)
        request = items.Request.read(schema, method, key=operation.key, payload=operation.payload, page=operation.page)
    except Refusal as refusal:
        return Rejected(refusal, tenant)
    return Admitted(caller, schema, request)


def _method(operation: Operation) -> Method:
    allowed = WRITES if operation.origin == Origin.EVENT else tuple(Method)
    if operation.method not in allowed:
        raise OperationUnknown(operation.method)
    return Method(operation.method)
