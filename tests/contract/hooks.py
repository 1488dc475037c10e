"""What Schemathesis cannot know of the API from its description."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

STREAM = "application/x-ndjson"
MAX_FILTERS = 20
DESCRIBED = {"pets", "orders"}
"""The schemas that the description is of: to change them would be to make it wrong."""


@schemathesis.serializer(STREAM)
def as_lines(ctx: Any, value: Any) -> bytes:
    return str(value).encode(errors="replace")


@schemathesis.hook
def filter_case(ctx: Any, case: Any) -> bool:
    """Leave out what is refused for how its parts go together, or for what only the API makes.

    Of headers, one of the phases knows letters and digits alone, which no entity tag is made of.
    """
    query, headers, path = case.query or {}, case.headers or {}, case.path_parameters or {}
    return not any(
        (
            ("schema" in query) != ("key" in query) and "/$events/" in case.path,
            case.media_type == STREAM and "Idempotency-Key" in headers,
            sum(name.startswith("filter[") for name in query) > MAX_FILTERS,
            bool(query.get("cursor")) and case.path.endswith(("/pets", "/orders")),
            case.method != "GET" and path.get("schema") in DESCRIBED,
            any(headers.get(name, "").isalnum() for name in ("If-Match", "If-None-Match")),
            any(isinstance(number, float) for number in _integer_keys(case.body)),
        )
    )


@schemathesis.hook
def before_call(ctx: Any, case: Any, kwargs: Any) -> None:
    """Replace the item that the payload names, and not another; sort by no path both ways."""
    if key := _key_of_put(case):
        case.path_parameters["key"] = key
    if isinstance(sort := (case.query or {}).get("sort"), str):
        case.query["sort"] = sort.partition(",")[0]


@schemathesis.check
def known_problem(ctx: Any, response: Any, case: Any) -> None:
    """A problem is one of those that the document lists for the operation and the status."""
    if response.headers.get("content-type", [""])[0] == "application/problem+json":
        described = case.operation.definition.raw["responses"].get(str(response.status_code), {})
        name = described.get("$ref", "").rpartition("/")[2]
        codes = described.get("x-problem-codes", name.split("."))
        code = response.json()["code"]
        assert response.status_code == 405 or code in codes, f"{code} is none of {codes}"


def _key_of_put(case: Any) -> str:
    """The key in the payload of a PUT of an item, if there is one that an item can have."""
    if case.method != "PUT" or not isinstance(case.body, dict) or "key" not in (case.path_parameters or {}):
        return ""
    key = case.body.get("id", case.body.get("number"))
    return str(key) if isinstance(key, str | int) and re.fullmatch("[A-Za-z0-9_-]+", str(key)) else ""


def _integer_keys(body: Any) -> list[Any]:
    """Keys, which are numbers without a fraction, must be written without one."""
    parts = body if isinstance(body, list) else [body]
    return [part.get("number") if isinstance(part, dict) else part for part in parts]
