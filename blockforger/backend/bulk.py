"""Bulk requests: many items of a schema, all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockforger.backend import json_values, keys
from blockforger.backend.errors import KeyRepeated, Malformed
from blockforger.backend.items import Request
from blockforger.backend.models import Method
from tenants.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blockforger.backend.json_values import JsonValue
    from blockforger.backend.models import Schema

MAX_ITEMS = 1000
MAX_ERRORS = 100
"""How many errors are told; a caller who sends as many has one cause for them."""


def read(schema: Schema, method: Method, payload: JsonValue) -> list[Request]:
    """The requests of an array: of payloads, of patches with their keys or, to DELETE, of keys. Raises a Refusal."""
    if not isinstance(payload, list) or not 1 <= len(payload) <= MAX_ITEMS:
        elements = "keys" if method == Method.DELETE else "objects"
        raise Malformed(f"Send an array of 1 to {MAX_ITEMS:,} {elements}.")
    requests: list[Request] = []
    refused: dict[int, Refusal] = {}
    for index, element in enumerate(payload):
        try:
            requests.append(_request(schema, method, element))
        except Refusal as refusal:
            refused[index] = refusal.without_trace()
    if refused:
        raise refusal_of(refused)
    _check_repeats(requests)
    return requests


def refusal_of(refused: Mapping[int, Refusal]) -> Refusal:
    """The refusal of a whole request of which the items at these indexes are refused: of the kind of the first."""
    first = next(iter(refused.values()))
    errors = [error for index, refusal in refused.items() for error in _errors(index, refusal)]
    first.message = f"Nothing was done: {len(refused):,} of the items are refused. The first: {first.message}"
    first.data = {**first.data, "errors": errors[:MAX_ERRORS]}
    return first


def _request(schema: Schema, method: Method, element: JsonValue) -> Request:
    if method == Method.DELETE:
        return Request.read(schema, method, key=keys.text_of_deleted(element), payload={})
    return Request.read(schema, method, key=None, payload=element)


def _check_repeats(requests: Sequence[Request]) -> None:
    first: dict[str | None, int] = {}
    repeated: dict[int, Refusal] = {}
    for index, request in enumerate(requests):
        if (earlier := first.setdefault(request.key, index)) != index:
            refusal = KeyRepeated(f"The item at index {earlier} has the same key.", field=request.schema.key_field)
            if request.method == Method.DELETE:
                refusal.data = {}  # such a key is the element, not in a member of it
            repeated[index] = refusal
    if repeated:
        raise refusal_of(repeated)


def _errors(index: int, refusal: Refusal) -> list[dict[str, str]]:
    """What is wrong with one item, in the form of a problem document's errors, each with a JSON Pointer."""
    errors = refusal.data.get("errors")
    if isinstance(errors, list):
        return [{**error, "pointer": f"/{index}{error['pointer']}", "code": refusal.code} for error in errors]
    field = refusal.data.get("field")
    place = f"/{index}/{json_values.escaped(field)}" if isinstance(field, str) else f"/{index}"
    return [{"pointer": place, "detail": refusal.message, "code": refusal.code}]
