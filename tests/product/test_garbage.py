"""What a request leaves behind when it is answered: nothing that holds itself, and with it the payload."""

from __future__ import annotations

import gc
import io
import json
from typing import Any

import pytest

from blockforger.wsgi import application
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


def answered(method: str, key: str, path: str, payload: Any = None) -> str:
    body = b"" if payload is None else json.dumps(payload).encode()
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HOST": "127.0.0.1",
        "HTTP_X_API_KEY": key,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "wsgi.input": io.BytesIO(body),
        "wsgi.url_scheme": "http",
    }
    statuses: list[str] = []
    application(environ, lambda status, headers: statuses.append(status))  # type: ignore[arg-type]
    return statuses[0]


def test_a_request_leaves_nothing_that_holds_itself() -> None:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    key = a_key(tenant)

    def serve(number: int) -> None:
        payload = {**FLUFFY, "id": str(number)}
        assert answered("POST", key, "/api/mytenant/petstore", payload) == "201 Created"
        assert answered("GET", key, f"/api/mytenant/petstore/{number}") == "200 OK"
        assert answered("PUT", key, f"/api/mytenant/petstore/{number}", payload) == "200 OK"
        assert answered("GET", key, "/api/mytenant/petstore/nowhere") == "404 Not Found"

    serve(1)  # what stays is loaded
    gc.collect()
    gc.disable()
    try:
        serve(2)
        left = gc.collect()
    finally:
        gc.enable()
    assert left == 0
