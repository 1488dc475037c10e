"""The application that the web server runs, as the server calls it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from django.conf import settings
from django.http.request import HttpHeaders

from blockforger.wsgi import Request, application
from tenants.models import AllowedOrigin
from tests.cast import FLUFFY, a_key, a_schema, a_tenant

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries

# As each request begins, Django looks whether its connection still serves.
pytestmark = pytest.mark.django_db

CANNOT_BE_READ = [
    ("application/json; x*=nosuch'en'y", ""),
    ("application/json; charset*=nosuch''utf-8", ""),
    ("application/json; x*=a; x*0=b", ""),
    (f"application/json; x*{'9' * 5000}=a", ""),
    # With a charset Django reads the query at once.
    ("application/json; charset=hex", "a=1"),
    ("application/json; charset=undefined", "a=1"),
    ("application/json; charset=utf-8", "&a=1" * 2000),
]


def answer_to(
    content_type: str = "", query: str = "", path: str = "/livez", **others: Any
) -> tuple[str, dict[str, str], bytes]:
    environ: dict[str, Any] = {"SCRIPT_NAME": "", "PATH_INFO": path, "CONTENT_LENGTH": "0"}
    environ |= {"QUERY_STRING": query, "CONTENT_TYPE": content_type, **others}
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> object:
        started.append((status, headers))
        return lambda _: None

    body = validator(application)(environ, start_response)  # type: ignore[arg-type] # a response of the test's own
    try:
        content = b"".join(body)
    finally:
        body.close()  # type: ignore[attr-defined]
    [(status, answered)] = started
    return status, dict(answered), content


@pytest.mark.parametrize(("content_type", "query"), CANNOT_BE_READ, ids=range(len(CANNOT_BE_READ)))
def test_a_content_type_that_django_cannot_read_is_a_problem_document(content_type: str, query: str) -> None:
    status, headers, content = answer_to(content_type, query)
    assert (status, headers["Content-Type"]) == ("400 Bad Request", "application/problem+json")
    assert json.loads(content)["code"] == "malformed"


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/json; charset=utf-8", "x/y; charset=nosuch", "nonsense; =;"]
)
def test_others_are_djangos_to_judge(content_type: str) -> None:
    assert answer_to(content_type)[0] == "200 OK"


def test_a_requests_headers_are_as_django_has_them() -> None:
    environ: dict[str, Any] = {
        "HTTP_X_API_KEY": "k",
        "HTTP_CONTENT_LENGTH": "9",
        "HTTP_IF_MATCH": '"1-2"',
        "CONTENT_TYPE": "text/plain",
        "A": "b",
    }
    setup_testing_defaults(environ)
    headers = Request(environ).headers
    assert dict(headers) == {name: text for name, text in HttpHeaders(environ).items() if text != "9"}
    assert len(headers) == len(dict(headers))
    assert (headers["x-api-key"], headers["CONTENT-TYPE"], headers.get("If-None-Match")) == ("k", "text/plain", None)
    assert "if-match" in headers
    assert "A" not in headers


def test_an_answer_of_the_api_is_as_guarded_as_a_page() -> None:
    guards = ("X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy")
    _, of_page, _ = answer_to(path="/admin/login/")
    status, of_api, content = answer_to(path="/api/nobody/pets")
    assert status == "401 Unauthorized"
    assert {name: of_api[name] for name in guards} == {name: of_page[name] for name in guards}
    assert of_api["Content-Length"] == str(len(content))


@pytest.mark.parametrize("servers_own", [{}, {"wsgi.file_wrapper": FileWrapper}], ids=["stream", "wrapper"])
def test_files_are_sent_as_the_server_sends_them(servers_own: dict[str, Any]) -> None:
    status, headers, content = answer_to(path="/static/blockforger/icon.svg", **servers_own)
    assert (status, headers["Content-Type"]) == ("200 OK", "image/svg+xml")
    assert content.lstrip().startswith(b"<svg")


def test_the_api_is_not_served_for_the_host_of_another() -> None:
    assert answer_to(path="/api/nobody/pets", HTTP_HOST="elsewhere.example")[0] == "400 Bad Request"


@pytest.mark.django_db(transaction=True)
def test_a_page_of_an_allowed_origin_may_call_the_api() -> None:
    AllowedOrigin.objects.create(tenant=a_tenant(), origin="https://shop.example")
    preflight = {"REQUEST_METHOD": "OPTIONS", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}
    for origin, allowed in (("https://shop.example", "https://shop.example"), ("https://elsewhere.example", None)):
        _, headers, _ = answer_to(path="/api/mytenant/petstore", HTTP_ORIGIN=origin, **preflight)
        assert headers.get("access-control-allow-origin") == allowed


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("nudged")
def test_the_headers_of_a_write_are_heeded() -> None:
    tenant = a_tenant()
    a_schema(tenant)
    body = json.dumps(FLUFFY).encode()
    path, common = "/api/mytenant/petstore", {"HTTP_X_API_KEY": a_key(tenant), "CONTENT_LENGTH": str(len(body))}

    def sent(method: str, path: str, **headers: str) -> tuple[str, dict[str, str]]:
        own: dict[str, Any] = {"REQUEST_METHOD": method, "wsgi.input": io.BytesIO(body), **common, **headers}
        return answer_to("application/json", path=path, **own)[:2]

    for repeated in (None, "true"):
        status, headers = sent("POST", path, HTTP_IDEMPOTENCY_KEY='"once"')
        assert (status, headers.get("Idempotent-Replayed")) == ("201 Created", repeated)
    assert sent("PUT", f"{path}/{FLUFFY['id']}", HTTP_IF_MATCH='"0-0"')[0] == "412 Precondition Failed"
    assert sent("PUT", f"{path}/{FLUFFY['id']}", HTTP_IF_MATCH=headers["ETag"])[0] == "200 OK"


@pytest.mark.django_db(transaction=True)
def test_the_api_looks_at_no_session(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    cookie = "sessionid=abcdefghijklmnopqrstuvwxyz012345"
    with django_assert_num_queries(0):
        answer_to(path="/api/nobody/pets", HTTP_COOKIE=cookie)
    with django_assert_num_queries(1):
        answer_to(path="/admin/login/", HTTP_COOKIE=cookie)


def test_the_apis_middleware_is_the_pages_without_some() -> None:
    assert [path for path in settings.MIDDLEWARE if path in settings.API_MIDDLEWARE] == settings.API_MIDDLEWARE
