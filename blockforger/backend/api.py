"""The REST door: translation from and to HTTP, and nothing else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, quote, urlencode

from django.http import JsonResponse
from django.urls import get_script_prefix
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import exception_handler

from blockforger.backend import idempotency_keys
from blockforger.backend.errors import Malformed
from blockforger.backend.list_queries import Query
from blockforger.backend.models import WRITES, Method, Origin
from blockforger.backend.operations import Operation, execute
from blockforger.backend.preconditions import UNCONDITIONAL, Preconditions
from blockforger.backend.problems import is_database_away, problem, problem_of_fault
from blockforger.backend.request_bodies import MergePatchParser, PayloadParser
from blockforger.backend.requests import PROBLEM_JSON, RestViewSet, json_response, payload_of
from tenants.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest, HttpResponse
    from rest_framework.request import Request

    from blockforger.backend.json_values import JsonValue
    from blockforger.backend.outcomes import Outcome

logger = logging.getLogger(__name__)

MAX_PARAMETERS = 50
QUERY_CANCELED = "57014"


class ItemViewSet(RestViewSet):
    """CRUD of a schema's items."""

    parser_classes = [PayloadParser, MergePatchParser]

    def list(self, request: Request, tenant: str, schema: str) -> HttpResponse:
        page, defect = None, None
        try:
            page = Query.read(_parameters(request))
        except Refusal as refusal:
            defect = refusal
        return self._answer(request, Method.GET, tenant, schema, page=page, defect=defect)

    def create(self, request: Request, tenant: str, schema: str) -> HttpResponse:
        return self._answer(request, Method.POST, tenant, schema)

    def retrieve(self, request: Request, tenant: str, schema: str, key: str) -> HttpResponse:
        return self._answer(request, Method.GET, tenant, schema, key=key)

    def update(self, request: Request, tenant: str, schema: str, key: str) -> HttpResponse:
        return self._answer(request, Method.PUT, tenant, schema, key=key)

    def partial_update(self, request: Request, tenant: str, schema: str, key: str) -> HttpResponse:
        return self._answer(request, Method.PATCH, tenant, schema, key=key)

    def destroy(self, request: Request, tenant: str, schema: str, key: str) -> HttpResponse:
        return self._answer(request, Method.DELETE, tenant, schema, key=key)

    def bulk_update(self, request: Request, tenant: str, schema: str) -> HttpResponse:
        return self._answer(request, Method.PATCH, tenant, schema)

    def bulk_destroy(self, request: Request, tenant: str, schema: str) -> HttpResponse:
        return self._answer(request, Method.DELETE, tenant, schema)

    def _answer(
        self,
        request: Request,
        method: Method,
        tenant: str,
        schema: str,
        *,
        key: str | None = None,
        page: Query | None = None,
        defect: Refusal | None = None,
    ) -> HttpResponse:
        payload: JsonValue = {}
        conditions, idempotency_key = UNCONDITIONAL, ""
        headers = request.headers
        try:
            if method in WRITES and (sent := headers.get(idempotency_keys.HEADER)) is not None:
                idempotency_key = idempotency_keys.scoped(
                    idempotency_keys.read(sent), api_key=self.api_key, method=method, path=(tenant, schema, key or "")
                )
            conditions = _preconditions(headers, method, key)
            if method in {Method.POST, Method.PUT, Method.PATCH} or (method == Method.DELETE and key is None):
                payload = payload_of(request)
        except Refusal as refusal:
            defect = refusal
        outcome = execute(
            Operation(
                origin=Origin.API,
                method=method,
                tenant=tenant,
                schema=schema,
                api_key=self.api_key,
                key=key,
                payload=payload,
                idempotency_key=idempotency_key,
                request_hash=_fingerprint(payload, defect) if idempotency_key else "",
                preconditions=conditions,
                page=page,
                is_bulk=key is None and method != Method.GET and (method != Method.POST or isinstance(payload, list)),
                defect=defect,
            )
        )
        response = _response(outcome, tenant, schema)
        if page and isinstance(outcome.body, dict) and outcome.body["next"]:
            response["Link"] = f'<{_url_of_page(request, str(outcome.body["next"]))}>; rel="next"'
        return response


def problem_of_exception(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler: its own errors as problem documents, a database that is away as a 503."""
    if getattr(error.__cause__, "sqlstate", None) == QUERY_CANCELED:
        logger.warning("The database ended a statement that took too long.", exc_info=error)
        remedy = getattr(context.get("view"), "remedy_of_slowness", RestViewSet.remedy_of_slowness)
        document = problem(503, "took-too-long", f"The request took too long, and nothing was done. {remedy}")
        return Response(document, status=503, content_type=PROBLEM_JSON)
    if is_database_away(error):
        logger.error("The database failed during a request.", exc_info=error)
        return Response(problem_of_fault(error), status=503, content_type=PROBLEM_JSON, headers={"Retry-After": "5"})
    response = exception_handler(error, dict(context))
    if response is not None and isinstance(error, APIException):
        code = str(error.default_code).replace("_", "-")
        response.data = problem(response.status_code, code, str(error.detail))
        response.content_type = PROBLEM_JSON
        for name, value in getattr(error, "headers", {}).items():
            response[name] = value
    return response


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:  # noqa: ARG001 - Django's signature
    """Django's handler400: for requests that it does not even route, such as one for an unknown host."""
    document = problem(400, "malformed", "The request cannot be answered: its host or its form is not one of ours.")
    return JsonResponse(document, status=400, content_type=PROBLEM_JSON)


def page_not_found(request: HttpRequest, exception: Exception) -> JsonResponse:  # noqa: ARG001 - Django's signature
    """Django's handler404: for URLs that lead nowhere."""
    document = problem(404, "url-unknown", "There is nothing at this URL. The API is at /api/{tenant}/{schema}.")
    return JsonResponse(document, status=404, content_type=PROBLEM_JSON)


def server_error(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 - Django's signature
    """Django's handler500: for faults of ours, which Django has logged."""
    return JsonResponse(problem_of_fault(Exception()), status=500, content_type=PROBLEM_JSON)


def _parameters(request: Request) -> list[tuple[str, str]]:
    """The query string's names and values. Raises Malformed."""
    try:
        text = request.META.get("QUERY_STRING", "").encode("latin-1").decode()
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeError as error:
        raise Malformed("The query string is not percent-encoded UTF-8.") from error
    except ValueError as error:
        raise Malformed(f"The query string has more than {MAX_PARAMETERS} parameters.") from error


def _url_of_page(request: Request, cursor: str) -> str:
    parameters = [(name, value) for name, value in _parameters(request) if name != "cursor"]
    return request.build_absolute_uri(f"{request.path}?{urlencode([*parameters, ('cursor', cursor)])}")


def _fingerprint(payload: JsonValue, defect: Refusal | None) -> str:
    return idempotency_keys.fingerprint(defect.message if defect else payload)


def _preconditions(headers: Mapping[str, str], method: Method, key: str | None) -> Preconditions:
    """What the request demands of its item. A list has no ETag. Raises Malformed."""
    if key is not None:
        return Preconditions.read(headers.get("If-Match"), headers.get("If-None-Match"))
    # To pass over what a writer demands would be to write what he does not want.
    for header in ("If-Match", "If-None-Match"):
        if method != Method.GET and header in headers:
            raise Malformed(f"The header {header} is for requests to the URL of one item.", header=header)
    return UNCONDITIONAL


def _response(outcome: Outcome, tenant: str, schema: str) -> HttpResponse:
    headers = {idempotency_keys.REPLAYED_HEADER: "true"} if outcome.repeated else {}
    headers["Token-Cost"] = "0"
    if outcome.balance is not None:
        headers |= {"Token-Cost": str(outcome.tokens), "Token-Balance": str(outcome.balance)}
    if outcome.problem is not None:
        problem = cast("JsonValue", outcome.problem)
        return json_response(problem, status=outcome.status, headers=headers, media_type=PROBLEM_JSON)
    if outcome.etag:
        headers["ETag"] = outcome.etag
    if outcome.status == 201 and outcome.item_key:
        headers["Location"] = f"{get_script_prefix()}api/{tenant}/{schema}/{quote(outcome.item_key, safe='')}"
    return json_response(outcome.body, text=outcome.text, status=outcome.status, headers=headers)
