"""The door for streams: `application/x-ndjson` in and out."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import wraps
from typing import IO, TYPE_CHECKING, Any, cast

from django.db import InterfaceError, OperationalError
from django.http import FileResponse, JsonResponse

from blockforger.backend import admission, idempotency_keys, json_values, streams
from blockforger.backend.error_catalogue import UNSUPPORTED_MEDIA_TYPE
from blockforger.backend.errors import Malformed
from blockforger.backend.models import Method, Origin
from blockforger.backend.operations import Operation
from blockforger.backend.problems import problem, problem_of, problem_of_fault
from blockforger.backend.request_bodies import EncodingUnsupported
from blockforger.backend.requests import PROBLEM_JSON, api_key_of
from tenants import rate_limits
from tenants.errors import RateLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from blockforger.backend.problems import Problem
    from tenants.errors import Refusal

NDJSON = "application/x-ndjson"
_METHODS = {Method.POST, Method.PATCH, Method.DELETE}
_ANSWER_IN_MEMORY = 1024 * 1024


def or_stream(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """The view of a schema's items (which is DRF's, and exempt from CSRF), but for requests whose body is a stream."""

    @wraps(view)
    def chosen(request: HttpRequest, tenant: str, schema: str) -> HttpResponseBase:
        if request.content_type == NDJSON and request.method in _METHODS:
            return _counted(request, tenant, schema)
        return view(request, tenant=tenant, schema=schema)

    return chosen


def _counted(request: HttpRequest, tenant: str, schema: str) -> HttpResponseBase:
    """A stream is one request of its key, however long it is."""
    allowance = rate_limits.take(api_key_of(request.headers))
    if allowance is None:
        return _answer(request, tenant, schema)
    try:
        allowance.check()
        response = _answer(request, tenant, schema)
    except RateLimitExceeded as refusal:
        response = _problem(problem_of(refusal, Origin.API))
    for name, value in allowance.headers.items():
        response.headers[name] = value
    return response


def _answer(request: HttpRequest, tenant: str, schema: str) -> HttpResponseBase:
    asked = Operation(
        origin=Origin.API,
        method=request.method or "",
        tenant=tenant,
        schema=schema,
        api_key=api_key_of(request.headers),
        defect=_defect(request),
    )
    try:
        # Before a byte of the body is read.
        refusal = admission.refusal_of_any(asked)
    except (OperationalError, InterfaceError) as error:
        return _problem(problem_of_fault(error))
    if refusal:
        return _problem(problem_of(refusal, Origin.API))
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    return _results(asked, request) if encoding in {"", "identity"} else _encoding_unsupported(encoding)


def _results(asked: Operation, request: HttpRequest) -> FileResponse:
    """All results at once: most clients read nothing before they have sent all, and we would wait for each other."""
    lines = streams.lines(_body(request), length=_length(request))
    with ExitStack() as unless_answered:
        file = unless_answered.enter_context(tempfile.SpooledTemporaryFile(_ANSWER_IN_MEMORY))
        for result in streams.results(asked, lines):
            file.write(json_values.compact(result).encode() + b"\n")
        file.seek(0)
        unless_answered.pop_all()  # the response closes the file
    return FileResponse(file, content_type=NDJSON)


def _defect(request: HttpRequest) -> Refusal | None:
    for header in (idempotency_keys.HEADER, "If-Match", "If-None-Match"):
        if header in request.headers:
            return Malformed(
                f"A stream takes no {header}: it is committed in parts. Send the items as an array, or leave it out.",
                header=header,
            )
    if "Transfer-Encoding" in request.headers and not request.META.get("wsgi.input_terminated"):
        return Malformed("Send the body with a Content-Length.", header="Transfer-Encoding")
    return None


def _encoding_unsupported(encoding: str) -> JsonResponse:
    error = EncodingUnsupported("", f"A stream is not inflated: leave out the Content-Encoding {encoding[:40]!r}.")
    response = _problem(problem(error.status_code, UNSUPPORTED_MEDIA_TYPE.code, str(error.detail)))
    response.headers["Accept-Encoding"] = "identity"
    return response


def _body(request: HttpRequest) -> IO[bytes]:
    # Django reads as far as Content-Length says, which is nothing of a body whose length nobody knows yet.
    stream: Any = request.META["wsgi.input"] if "Transfer-Encoding" in request.headers else request
    return cast("IO[bytes]", stream)


def _length(request: HttpRequest) -> int | None:
    """How long the body is said to be; None if it is sent in chunks, whose end a server may not tell from a break."""
    if "Transfer-Encoding" in request.headers:
        return None
    length = request.META.get("CONTENT_LENGTH") or ""
    return int(length) if length.isdecimal() else 0  # which is how far Django reads


def _problem(document: Problem) -> JsonResponse:
    return JsonResponse(document, status=document["status"], content_type=PROBLEM_JSON)
