"""What the paths of an OpenAPI document are put together from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blockforger.backend import error_catalogue
from blockforger.backend.error_catalogue import Kind, kind_of
from blockforger.backend.errors import BodyTooLarge, LengthMissing, Malformed, PayloadTooLarge, PreconditionFailed
from blockforger.backend.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, PROBLEM_JSON
from tenants.errors import KeyInvalid, KeyMissing, PermissionMissing, RateLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blockforger.backend.json_values import JsonObject
    from tenants.errors import Refusal
    from tenants.models import Permission

JSON = "application/json"
_COUNT: JsonObject = {"type": "string", "pattern": "^[0-9]+$"}
_TEXT: JsonObject = {"type": "string"}
HEADERS: dict[str, tuple[str, JsonObject]] = {
    "ETag": ("A strong entity tag, for If-Match and If-None-Match.", _TEXT),
    "Idempotent-Replayed": ("The answer of the first request with this Idempotency-Key.", {"const": "true"}),
    "Link": ('The URL of the next page, rel="next".', _TEXT),
    "Location": ("Where it is.", _TEXT),
    "RateLimit": ("What is left of the key's quota.", _TEXT),
    "RateLimit-Policy": ("The key's quota.", _TEXT),
    "Retry-After": ("Seconds to wait.", _COUNT),
    "Schema-Version": ("The number of the schema's version.", _COUNT),
    "Token-Balance": ("What was left on the account after the operation.", _COUNT),
    "Token-Cost": ("Tokens that the operation was charged.", _COUNT),
}
"""Of answers. Browsers show them to scripts of other origins, too: CORS_EXPOSE_HEADERS lists the same."""
LIMITED = ("RateLimit", "RateLimit-Policy")
BILLED = ("Token-Cost", "Token-Balance", *LIMITED)

CODES = "x-problem-codes"
"""The member of a response that lists the codes of its problems. As types, they would be one for each response."""
PROBLEM: JsonObject = {
    "type": "object",
    "description": "A problem document (RFC 9457). Some have members of their own.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:blockforger:problem:"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "code": {
            "description": "What a program looks at: it never changes.",
            "enum": [kind.code for kind in error_catalogue.everything()],
        },
        "errors": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
    },
}
JSON_SCHEMA: JsonObject = {
    "type": "object",
    "description": "A JSON Schema (draft 2020-12), with our own member `meta`, or without.",
}
OWN_TYPES: dict[str, JsonObject] = {"Problem": PROBLEM, "JsonSchema": JSON_SCHEMA}
SECURITY_SCHEMES: JsonObject = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}

_OF_KEYS = tuple(map(kind_of, (KeyMissing, KeyInvalid, PermissionMissing)))
_EVERYWHERE = (
    *map(kind_of, (Malformed, RateLimitExceeded)),
    *(error_catalogue.URL_UNKNOWN, error_catalogue.NOT_ACCEPTABLE, error_catalogue.FAULT),
    *(error_catalogue.DATABASE_UNAVAILABLE, error_catalogue.TOOK_TOO_LONG),
)
_OF_BODIES = (*map(kind_of, (LengthMissing, PayloadTooLarge, BodyTooLarge)), error_catalogue.UNSUPPORTED_MEDIA_TYPE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tenant's paths begin: at a tenant's own name, or at a parameter that stands for any."""

    root: str
    parameters: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a method does at a URL."""

    id: str
    summary: str
    tag: str
    # One of these.
    permissions: tuple[Permission, ...]
    answers: dict[int, JsonObject]
    refusals: tuple[type[Refusal], ...] = ()
    parameters: tuple[JsonObject, ...] = ()
    body: JsonObject | None = field(default=None)
    # All of these too.
    permissions_besides: tuple[Permission, ...] = ()

    def written(self) -> JsonObject:
        """The Operation Object."""
        kinds = [*map(kind_of, self.refusals), *_EVERYWHERE, *(_OF_KEYS if self.permissions else ())]
        if self.body:
            kinds += _OF_BODIES
        if any(parameter["name"] == "If-Match" for parameter in self.parameters):
            kinds.append(kind_of(PreconditionFailed))
        responses: JsonObject = {str(status): answer for status, answer in self.answers.items()}
        for status, of_status in error_catalogue.by_status(kinds).items():
            responses[str(status)] = {"$ref": f"#/components/responses/{name_of(of_status)}"}
        one_of = " or ".join(f"`{permission}`" for permission in self.permissions)
        allowed = " and ".join([one_of, *(f"`{permission}`" for permission in self.permissions_besides)])
        takes = f"Takes a key with the permission {allowed}." if allowed else "Takes no key."
        written: JsonObject = {
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": takes,
            "parameters": [*self.parameters],
            "responses": responses,
        }
        return {**written, "requestBody": self.body} if self.body else written


def name_of(kinds: Iterable[Kind]) -> str:
    """The name of the response that is one of these problems."""
    return ".".join(kind.code for kind in kinds)


def response_of(name: str) -> JsonObject:
    """The response of that name."""
    codes = name.split(".")
    known = [kind for kind in error_catalogue.everything() if kind.code in codes]
    described = "\n".join(f"- `{kind.code}`: {kind.meaning}" for kind in known)
    waits = ("Retry-After",) if known[0].status in {429, 503} else ()
    return {
        "description": described,
        "headers": headers(*waits, "Token-Cost", *LIMITED),
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        CODES: [*codes],
    }


def header_components() -> JsonObject:
    return {name: {"description": text, "schema": schema} for name, (text, schema) in HEADERS.items()}


def headers(*names: str) -> JsonObject:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def answer(description: str, schema: JsonObject | None = None, *names: str, media_type: str = JSON) -> JsonObject:
    """A response with that body, if any, and these headers."""
    response: JsonObject = {"description": description, "headers": headers(*names, *LIMITED)}
    return {**response, "content": {media_type: {"schema": schema}}} if schema is not None else response


def body(schema: JsonObject, *media_types: str) -> JsonObject:
    return {"required": True, "content": {media_type: {"schema": schema} for media_type in media_types or (JSON,)}}


def object_of(members: dict[str, JsonObject], *optional: str) -> JsonObject:
    """An object with these members and no others."""
    properties: dict[str, Any] = dict(members)
    required: list[Any] = [name for name in members if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def list_of(schema: JsonObject) -> JsonObject:
    return {"type": "array", "items": schema}


def optional(kind: str, **keywords: Any) -> JsonObject:
    """A value of that type, or null."""
    return {"type": [kind, "null"], **keywords}


def in_query(name: str, description: str, schema: JsonObject | None = None) -> JsonObject:
    parameter: JsonObject = {"name": name, "in": "query", "description": description}
    return {**parameter, "schema": schema or {"type": "string"}}


def list_in_query(name: str, description: str, schema: JsonObject, **bounds: int) -> JsonObject:
    """A parameter of values with commas between."""
    return {
        **in_query(name, f"{description}, with commas between.", {**list_of(schema), **bounds}),
        "style": "form",
        "explode": False,
    }


def in_header(name: str, description: str, schema: JsonObject | None = None) -> JsonObject:
    parameter: JsonObject = {"name": name, "in": "header", "description": description}
    return {**parameter, "schema": schema or {"type": "string"}}


def in_path(name: str, description: str, schema: JsonObject | None = None) -> JsonObject:
    parameter: JsonObject = {"name": name, "in": "path", "required": True, "description": description}
    return {**parameter, "schema": schema or {"type": "string", "minLength": 1}}


def paging(cursors: str) -> tuple[JsonObject, ...]:
    size: JsonObject = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": DEFAULT_PAGE_SIZE}
    return (
        in_query("limit", "How many at the most.", size),
        in_query("cursor", "The member `next` of the page before.", {"type": "string", "pattern": f"^({cursors})?$"}),
    )


def next_cursor() -> JsonObject:
    return optional("string", description="The cursor of the next page; null if this is the last.")


_TAG: JsonObject = {"type": "string", "pattern": '^"[!#-~]{0,100}"$'}
IF_MATCH = in_header("If-Match", "Only if the ETag is this one, or one of a list; `*` is any.", _TAG)
IF_NONE_MATCH = in_header("If-None-Match", "Only if the ETag is none of these; `*` is any.", _TAG)
