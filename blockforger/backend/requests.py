"""What the REST door's views have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from django.http import HttpResponse
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from blockforger.backend import callers, json_values
from blockforger.backend.errors import LengthMissing, Malformed
from blockforger.backend.models import Origin
from blockforger.backend.preconditions import Preconditions
from blockforger.backend.problems import problem_of
from tenants import rate_limits
from tenants.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request

    from blockforger.backend.callers import Caller
    from blockforger.backend.json_values import JsonValue
    from tenants.models import Permission
    from tenants.rate_limits import Allowance

PROBLEM_JSON = "application/problem+json"
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


def api_key_of(headers: Mapping[str, str]) -> str:
    """The API key that was sent, or an empty text."""
    if key := headers.get("X-API-Key", "").strip():
        return key
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def json_response(
    body: JsonValue, *, status: int, headers: Mapping[str, str], text: str = "", media_type: str = "application/json"
) -> HttpResponse:
    """An answer of the body as JSON, of nothing if it is None, in a third of the time that DRF's responses take.

    `text` is the body as JSON, if that is known.
    """
    if body is None:
        response = HttpResponse(status=status, headers=headers)
        del response["Content-Type"]
        return response
    return HttpResponse((text or json_values.compact(body)).encode(), media_type, status, headers=headers)


def payload_of(request: Request) -> JsonValue:
    """The body, as the view's parser for its media type reads it, once; None if there is none. Raises a Refusal."""
    stream = request.stream
    if stream is not None:
        asked: Any = request  # whose types lack these
        # DRF's `request.data` comes to the same, after it has looked for forms and files.
        parser = asked.negotiator.select_parser(request, asked.parsers)
        return cast("JsonValue", parser.parse(stream, request.content_type, asked.parser_context))
    if "HTTP_TRANSFER_ENCODING" in request.META:
        raise LengthMissing
    return None


class RestViewSet(ViewSet):
    """A view of the API: it counts the requests of each key, and answers refusals as problem documents."""

    # As it was sent: whether it is one, and of what use, is found out by whoever carries the request out.
    api_key = ""
    allowance: Allowance | None = None
    # What helps if the database ends a statement that took too long.
    remedy_of_slowness = "If it was for a list, use paths that have indexes."

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """DRF's. The view, its methods and the request hold one another, and the payload: they let go of each other.

        Else all of it would stay until Python looks for garbage.
        """
        response = super().dispatch(request, *args, **kwargs)
        self.request.parser_context.clear()
        vars(self).clear()
        return response

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """DRF's, given what is asked of it often: else it looks in itself for that, in vain, before it asks Django."""
        made = super().initialize_request(request, *args, **kwargs)
        vars(made).update(META=request.META, headers=request.headers, method=request.method)
        return made

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Before anything of the request is looked at, or the database is asked: may the key make one more?"""
        super().initial(request, *args, **kwargs)
        self.api_key = api_key_of(request.headers)
        self.allowance = rate_limits.take(self.api_key)
        if self.allowance:
            self.allowance.check()

    def perform_authentication(self, request: Request) -> None:
        """The key says who calls, and is checked together with what the request is for."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Every answer says what the key has left."""
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, value in self.allowance.headers.items() if self.allowance else ():
            response[name] = value
        return response

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:  # noqa: ARG002 - Django's signature
        """The header `Allow` is the answer; every response has it."""
        return Response(status=204)

    def handle_exception(self, exc: Exception) -> Response:
        """A refusal is answered as one of an item would be."""
        if not isinstance(exc, Refusal):
            return super().handle_exception(exc)
        document = problem_of(exc, Origin.API)
        response = Response(document, status=document["status"], content_type=PROBLEM_JSON)
        response.exception = True
        return response


class ManagementViewSet(RestViewSet):
    """A view of what is no item. Each of its methods first asks `caller_of` who calls; it costs no tokens."""

    def caller_of(self, request: Request, tenant: str, *permissions: Permission, schema: str = "") -> Caller:
        """Who calls, if the key has one of the permissions. Raises a Refusal."""
        return callers.identified(api_key_of(request.headers), *permissions, tenant_name=tenant, schema_name=schema)


def preconditions_of(request: Request) -> Preconditions:
    """Raises Malformed."""
    return Preconditions.read(request.headers.get("If-Match"), request.headers.get("If-None-Match"))


def flag_of(request: Request, name: str) -> bool:
    """Whether a parameter is there that is true by its presence. Raises Malformed."""
    text = request.query_params.get(name, "false").lower()
    if text not in {"", "true", "false"}:
        raise Malformed(f"The parameter '{name}' must be true or false.", parameter=name)
    return text != "false"


def check_parameters(request: Request, known: Sequence[str]) -> None:
    """Raise Malformed for a parameter that nobody would look at: a filter with a slip in it would show too much.

    Of one that is repeated, all but the last would be such.
    """
    for name in request.query_params:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise Malformed(f"The parameter '{name[:100]}' is unknown here. Known are: {listed}.", parameter=name[:100])
        if len(request.query_params.getlist(name)) > 1:
            raise Malformed(f"The parameter '{name}' stands there more than once. Send it once.", parameter=name)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: at most `limit` rows, after the one that the cursor names (empty: from the beginning)."""

    limit: int
    cursor: str

    @classmethod
    def read(cls, parameters: Mapping[str, str], *, cursors: str) -> Self:
        """Read both from a query string; `cursors` is a pattern of what a cursor may be. Raises Malformed."""
        limit, cursor = parameters.get("limit", ""), parameters.get("cursor", "")
        size = int(limit or DEFAULT_PAGE_SIZE) if re.fullmatch("[0-9]{0,4}", limit) else 0
        if not 1 <= size <= MAX_PAGE_SIZE:
            raise Malformed(f"The parameter 'limit' must be a number from 1 to {MAX_PAGE_SIZE}.", parameter="limit")
        if cursor and not re.fullmatch(cursors, cursor):
            raise Malformed("The parameter 'cursor' must be the member 'next' of the page before.", parameter="cursor")
        return cls(size, cursor)
