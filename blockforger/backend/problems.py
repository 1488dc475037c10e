"""Problem documents (RFC 9457): what a refusal looks like, and which status it gets at which door."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

from django.db import InterfaceError, InternalError, OperationalError

from blockforger.backend import errors
from blockforger.backend.models import Origin
from tenants import errors as tenant_errors
from tenants.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Collection

    from tenants.errors import Refusal


_READ_ONLY = "25006"
"""What PostgreSQL calls a write to a server that only reads, as one from which another has taken over."""


class Problem(TypedDict):
    """The members that every problem document has; refusals add their own."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: NotRequired[list[dict[str, str]]]


_STATUS: dict[type[Refusal], int] = {
    errors.Malformed: 400,
    errors.OperationUnknown: 400,
    errors.PayloadNotObject: 400,
    errors.PayloadInvalid: 400,
    errors.KeyFieldInvalid: 400,
    errors.KeyMismatch: 400,
    errors.KeyRepeated: 400,
    errors.SchemaInvalid: 400,
    errors.DocumentInvalid: 400,
    tenant_errors.KeyMissing: 401,
    tenant_errors.KeyInvalid: 401,
    tenant_errors.NotEnoughTokens: 402,
    tenant_errors.PermissionMissing: 403,
    tenant_errors.EventsNotAccepted: 403,
    errors.SchemaUnknown: 404,
    errors.ItemUnknown: 404,
    errors.ResourceUnknown: 404,
    errors.ItemExists: 409,
    errors.IdempotencyKeyInUse: 409,
    errors.SchemaNotEmpty: 409,
    errors.KeyFieldSettled: 409,
    errors.ItemsViolateSchema: 409,
    errors.LengthMissing: 411,
    errors.PreconditionFailed: 412,
    errors.PayloadTooLarge: 413,
    errors.BodyTooLarge: 413,
    errors.ItemsTooLarge: 413,
    errors.EventsTooLarge: 413,
    errors.IdempotencyKeyReused: 422,
    errors.PreconditionMissing: 428,
    tenant_errors.RateLimitExceeded: 429,
}
# The specification's "API Key Validation": an event whose key lacks the permission is unauthorized.
_STATUS_OF_EVENTS: dict[type[Refusal], int] = {tenant_errors.PermissionMissing: 401}


def status_of(refusal: type[Refusal], origin: Origin) -> int:
    """The HTTP status of that kind of refusal at that door."""
    if origin == Origin.EVENT and refusal in _STATUS_OF_EVENTS:
        return _STATUS_OF_EVENTS[refusal]
    return _STATUS[refusal]


def refusals() -> Collection[type[Refusal]]:
    """Every kind of refusal."""
    return _STATUS.keys()


def problem_of(refusal: Refusal, origin: Origin) -> Problem:
    """The problem document of a refusal."""
    document = problem(status_of(type(refusal), origin), refusal.code, refusal.message)
    return cast("Problem", {**document, **cast("dict[str, object]", _without_keys(refusal.data))})


def _without_keys(value: object) -> object:
    """The value, in which a refusal may quote an API key that was sent in a wrong place, without keys."""
    match value:
        case str():
            return redacted(value)
        case dict():
            return {name: _without_keys(member) for name, member in value.items()}
        case list():
            return [_without_keys(element) for element in value]
        case _:
            return value


def is_database_away(error: Exception) -> bool:
    """Whether the fault is that the database does not answer, or takes no writes."""
    if isinstance(error, InternalError):
        return getattr(error.__cause__, "sqlstate", None) == _READ_ONLY
    return isinstance(error, OperationalError | InterfaceError)


def problem_of_fault(error: Exception) -> Problem:
    """The problem document of a fault of ours."""
    if is_database_away(error):
        return problem(
            503,
            "database-unavailable",
            "The database is not available. See whether the operation was carried out, or try again in a moment.",
        )
    return problem(500, "fault", "The server failed; the operators can find it in their log.")


def problem(status: int, code: str, detail: str) -> Problem:
    """A problem document with no members beyond the usual. Should the detail quote an API key, it loses it."""
    return {
        "type": f"urn:blockforger:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": redacted(detail),
        "code": code,
    }
