"""How requests are read: bodies no further than an event could carry them, and headers as HTTP means them."""

from __future__ import annotations

import gzip
import json
import zlib
from io import BytesIO
from typing import Any

import pytest
from rest_framework.test import APIClient

from blockforger.backend.negotiation import accepts
from tenants.models import TokenAccount
from tests.cast import FLUFFY, a_key, a_schema, a_tenant

PETS = "/api/mytenant/petstore"
JSON = json.dumps(FLUFFY).encode()


@pytest.fixture
def client(db: None, nudged: None) -> Any:
    tenant = a_tenant()
    a_schema(tenant)
    return APIClient(headers={"X-API-Key": a_key(tenant)})


def post(client: Any, body: bytes, **headers: str) -> Any:
    return client.generic("POST", PETS, body, content_type="application/json", headers=headers)


class Unreadable(BytesIO):
    """A body whose sender would wait for us to read it."""

    def read(self, *args: Any) -> bytes:
        raise AssertionError("The body was read.")

    readline = readlines = __iter__ = read  # type: ignore[assignment]


@pytest.fixture
def limit(settings: Any) -> int:
    settings.BLOCKFORGER_MAX_EVENT_BYTES = 20_000
    return 20_000


@pytest.mark.parametrize(
    ("method", "path", "over", "code"),
    [
        ("PUT", f"{PETS}/123", "BLOCKFORGER_MAX_EVENT_BYTES", "payload-too-large"),
        ("POST", PETS, "BLOCKFORGER_MAX_BULK_BYTES", "body-too-large"),
        ("DELETE", PETS, "BLOCKFORGER_MAX_BULK_BYTES", "body-too-large"),
    ],
)
def test_a_body_over_the_limit_is_refused_before_it_is_read(
    client: Any, limit: int, settings: Any, method: str, path: str, over: str, code: str
) -> None:
    length = str(getattr(settings, over) + 1)
    sent = {"wsgi.input": Unreadable(), "CONTENT_LENGTH": length}
    answer = client.generic(method, path, content_type="application/json", **sent)
    assert (answer.status_code, answer.json()["code"]) == (413, code)
    assert TokenAccount.objects.get().balance == 1000


def test_what_is_too_long_and_no_array_is_read_no_further_than_to_see_that(client: Any, limit: int) -> None:
    body = BytesIO(b'{"name": "' + b"x" * limit)
    sent = {"wsgi.input": body, "CONTENT_LENGTH": str(limit + 1)}
    answer = client.generic("POST", PETS, content_type="application/json", **sent)
    assert (answer.status_code, answer.json()["code"], body.tell()) == (413, "payload-too-large", 4096)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_an_array_may_be_as_long_as_bulk_bodies_may(client: Any, limit: int, settings: Any, encoding: str) -> None:
    settings.BLOCKFORGER_MAX_BULK_BYTES = 50_000

    def posted(length: int) -> Any:
        body = b" " * 100 + b"[" + JSON + b" " * (length - 102 - len(JSON)) + b"]"
        headers = {"Content-Encoding": encoding}
        return post(client, gzip.compress(body) if encoding == "gzip" else body, **headers)

    assert posted(50_000).status_code == 201
    assert posted(50_001).json()["code"] == "body-too-large"


def test_a_body_of_the_limit_is_read(client: Any, limit: int) -> None:
    assert post(client, b" " * (limit - len(JSON)) + JSON).status_code == 201


def test_a_stranger_is_not_told_that_a_body_is_too_large(client: Any, limit: int) -> None:
    assert post(APIClient(), b" " * (limit + 1)).json()["code"] == "api-key-missing"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity"])
def test_a_body_may_be_gzip(client: Any, encoding: str) -> None:
    body = JSON if encoding == "identity" else gzip.compress(JSON)
    answer = post(client, body, **{"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()) == (201, FLUFFY)


def test_a_gzip_body_is_inflated_no_further_than_the_limit(client: Any, limit: int) -> None:
    fits = gzip.compress(b" " * (limit - len(JSON)) + JSON)
    assert post(client, fits, **{"Content-Encoding": "gzip"}).status_code == 201
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < limit
    assert post(client, bomb, **{"Content-Encoding": "gzip"}).json()["code"] == "payload-too-large"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (JSON, "The body is not gzip"),
        (zlib.compress(JSON), "The body is not gzip"),
        (gzip.compress(JSON)[:-1], "not one whole gzip member"),
        (gzip.compress(JSON) + b"x", "not one whole gzip member"),
        (gzip.compress(JSON) * 2, "not one whole gzip member"),
        (gzip.compress(b"{"), "The text is not JSON"),
    ],
    ids=["plain", "zlib", "cut off", "more", "two members", "no JSON"],
)
def test_a_gzip_body_that_cannot_be_read_is_a_400(client: Any, body: bytes, detail: str) -> None:
    answer = post(client, body, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_another_encoding_is_a_415_that_says_which_is_known(client: Any, encoding: str) -> None:
    answer = post(client, JSON, **{"Content-Encoding": encoding})
    assert (answer.status_code, answer["Accept-Encoding"]) == (415, "gzip")
    assert answer["Content-Type"] == "application/problem+json"


def test_a_body_without_a_length_is_asked_for_one(client: Any) -> None:
    answer = client.post(
        PETS,
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        **{"wsgi.input": Unreadable(), "CONTENT_LENGTH": ""},
    )
    assert (answer.status_code, answer.json()["code"]) == (411, "length-missing")


@pytest.mark.parametrize(
    ("method", "path", "media_type", "remedy"),
    [
        ("POST", PETS, "application/merge-patch+json", "Send application/json."),
        ("POST", PETS, "application/xml", "Send application/json."),
        ("PUT", f"{PETS}/1", "application/merge-patch+json", "Send application/json."),
        ("PATCH", f"{PETS}/1", "text/json", "Send application/json or application/merge-patch+json."),
        ("PATCH", f"{PETS}/1", "", "Send application/json or application/merge-patch+json."),
    ],
)
def test_each_method_says_which_media_types_it_reads(
    client: Any, method: str, path: str, media_type: str, remedy: str
) -> None:
    answer = client.generic(method, path, JSON, content_type=media_type, CONTENT_LENGTH=str(len(JSON)))
    assert (answer.status_code, answer["Content-Type"]) == (415, "application/problem+json")
    assert answer.json()["detail"].endswith(remedy)


@pytest.mark.parametrize("parameter", ["charset=utf-8", 'charset="UTF-8"', "v=1"])
def test_parameters_of_a_media_type_do_not_matter(client: Any, parameter: str) -> None:
    answer = client.generic("POST", PETS, JSON, content_type=f"application/json; {parameter}")
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("header", "is_accepted"),
    [
        ("", True),
        ("*/*", True),
        ("application/*", True),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/html, application/xhtml+xml, */*;q=0.8", True),
        ("text/csv", False),
        ("text/*", False),
        ("nonsense", False),
        ("application/json;q=0", False),
        ("application/json; q=0.000", False),
        ("application/json;q=0.001", True),
        # The most specific range decides.
        ("application/json;q=0, */*", False),
        ("*/*;q=0, application/json", True),
    ],
)
def test_an_accept_header_says_whether_json_may_be_answered(header: str, is_accepted: bool) -> None:
    assert accepts(header, "application/json") == is_accepted


def test_what_is_not_acceptable_is_a_406_before_anything_is_done(client: Any) -> None:
    answer = client.post(PETS, FLUFFY, format="json", headers={"Accept": "text/csv"})
    assert answer.status_code == 406
    assert TokenAccount.objects.get().balance == 1000


@pytest.mark.parametrize(
    ("path", "methods"),
    [(PETS, {"GET", "HEAD", "POST", "OPTIONS"}), (f"{PETS}/1", {"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"})],
)
def test_methods_are_told_to_who_asks_and_to_who_uses_another(client: Any, path: str, methods: set[str]) -> None:
    for answer, status in ((client.options(path), 204), (client.generic("PROPFIND", path), 405)):
        assert answer.status_code == status
        assert set(answer["Allow"].split(", ")) >= methods - {"HEAD"}


def test_a_request_for_another_host_is_a_problem_document_too(client: Any) -> None:
    answer = client.get(PETS, headers={"Host": "evil.example"})
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
