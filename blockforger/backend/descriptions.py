"""Documents that describe the API, over HTTP: each with an ETag, so that a client need not read it twice."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from blockforger.backend import json_values, openapi
from blockforger.backend.openapi_management import READERS
from blockforger.backend.preconditions import Preconditions
from blockforger.backend.requests import ManagementViewSet, RestViewSet, check_parameters

if TYPE_CHECKING:
    from django.http import HttpRequest
    from rest_framework.request import Request


# Nothing but this site: no script of another origin, no inline script, no frame around it. Swagger UI sets styles on
# its elements, and has its icons in the style sheet.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


class OpenApiViewSet(ManagementViewSet):
    """A tenant's OpenAPI document."""

    def retrieve(self, request: Request, tenant: str) -> HttpResponse:
        owner = self.caller_of(request, tenant, *READERS).api_key.tenant
        check_parameters(request, [])
        return described(request, json_values.compact(openapi.of_tenant(owner)))


class OpenApiOfAnyTenantViewSet(RestViewSet):
    """The OpenAPI document for whoever has no key yet."""

    def retrieve(self, request: Request) -> HttpResponse:
        return described(request, _text_of_any_tenant())


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """Swagger UI, with everything that it needs from this site."""
    response = render(request, "docs.html")
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def described(request: Request, text: str) -> HttpResponse:
    """The answer with a document, or that the client has it. Raises Malformed."""
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    # It is no item: nobody changes it, so only reading is conditional.
    known = Preconditions.read(None, request.headers.get("If-None-Match")).is_known(etag)
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    return HttpResponse(
        b"" if known else text, status=304 if known else 200, content_type="application/json", headers=headers
    )


@cache
def _text_of_any_tenant() -> str:
    return json_values.compact(openapi.of_any_tenant())
