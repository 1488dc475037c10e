"""The application that the web server runs, as the server calls it."""

from __future__ import annotations

import json
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from blockforger.wsgi import application

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


def answer_to(content_type: str, query: str = "") -> tuple[str, dict[str, str], bytes]:
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/livez", "CONTENT_LENGTH": "0"}
    environ |= {"QUERY_STRING": query, "CONTENT_TYPE": content_type}
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
    [(status, headers)] = started
    return status, dict(headers), content


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
