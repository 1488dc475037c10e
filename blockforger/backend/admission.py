"""Who may do what: everything about an operation that can be settled by reading alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockforger.backend import bulk, callers, items
from blockforger.backend.errors import OperationUnknown, PreconditionMissing, SchemaUnknown
from blockforger.backend.models import WRITES, Method, Origin
from tenants.errors import EventsNotAccepted, Refusal
from tenants.models import Permission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.callers import Caller
    from blockforger.backend.models import Schema
    from blockforger.backend.operations import Operation
    from tenants.models import ApiKey, Tenant

_CHANGES = {Method.PUT, Method.PATCH, Method.DELETE}
_METHODS = {Origin.API: tuple(Method), Origin.EVENT: WRITES}


@dataclass(frozen=True, slots=True)
class Admitted:
    """A caller who may make the requests, which are well-formed: one, or those of a bulk request."""

    api_key: ApiKey
    schema: Schema
    method: Method
    requests: Sequence[items.Request]

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

    The key comes first, so that a stranger learns nothing about a tenant. However many operations: two queries at most.
    """
    asked = [callers.asked(operation.api_key, operation.schema) for operation in operations]
    found = callers.find({(prefix, name) for prefix, name in asked if prefix})
    return [_admission(operation, found.get(pair)) for operation, pair in zip(operations, asked, strict=True)]


def admit_as_kept(operation: Operation) -> Admitted | Rejected:
    """The same for one operation, by what this process knows of its caller: it may be out of date."""
    pair = callers.asked(operation.api_key, operation.schema)
    return _admission(operation, callers.kept(pair) if pair[0] else None)


def refusal_of_any(operation: Operation) -> Refusal | None:
    """What would refuse the operation whatever its payload."""
    pair = callers.asked(operation.api_key, operation.schema)
    caller = callers.find({pair}).get(pair) if pair[0] else None
    try:
        _authenticated(operation, caller)
        _target(operation, caller)
    except Refusal as refusal:
        return refusal
    return None


def _admission(operation: Operation, caller: Caller | None) -> Admitted | Rejected:
    tenant = None
    try:
        api_key = _authenticated(operation, caller)
        tenant = api_key.tenant
        method, schema = _target(operation, caller)
        requests = _requests(operation, method, schema)
    except Refusal as refusal:
        return Rejected(refusal.without_trace(), tenant)
    return Admitted(api_key, schema, method, requests)


def _authenticated(operation: Operation, caller: Caller | None) -> ApiKey:
    return callers.permitted(caller, operation.api_key, Permission.BACKEND_CALLS, tenant_name=operation.tenant)


def _target(operation: Operation, caller: Caller | None) -> tuple[Method, Schema]:
    if operation.origin == Origin.EVENT and not (caller and caller.api_key.tenant.accepts_events):
        raise EventsNotAccepted
    if operation.defect:
        raise operation.defect
    method = _method(operation)
    schema = caller.schema if caller else None
    if schema is None:
        raise SchemaUnknown(operation.schema)
    _check_preconditions(operation, schema)
    return method, schema


def _requests(operation: Operation, method: Method, schema: Schema) -> list[items.Request]:
    if operation.is_bulk:
        return bulk.read(schema, method, operation.payload)
    request = items.Request.read(
        schema,
        method,
        key=operation.key,
        payload=operation.payload,
        preconditions=operation.preconditions,
        page=operation.page,
    )
    return [request]


def _method(operation: Operation) -> Method:
    if operation.method not in _METHODS[operation.origin]:
        raise OperationUnknown(operation.method)
    return Method(operation.method)


def _check_preconditions(operation: Operation, schema: Schema) -> None:
    # An event cannot know which state of an item it will find.
    if (
        schema.requires_if_match
        and operation.origin == Origin.API
        and operation.method in _CHANGES
        and operation.preconditions.if_match is None
    ):
        raise PreconditionMissing
