"""Samples of items, made from their schema."""

from __future__ import annotations

from typing import Any

import pytest

from blockforger.backend.samples import sample_of
from tests.cast import PET


@pytest.mark.parametrize(
    ("document", "sample"),
    [
        (PET, {"id": "text", "name": "text", "status": "available"}),
        ({}, {"id": "sample"}),
        ({"properties": {"id": {"type": "integer"}}}, {"id": 1}),
        (
            {"properties": {"at": {"type": "string", "format": "date-time"}, "n": {"type": "number", "minimum": 5}}},
            {"at": "2030-01-31T12:00:00Z", "n": 5, "id": "sample"},
        ),
        (
            {
                "properties": {
                    "a": {"default": 7},
                    "b": {"examples": ["x"]},
                    "c": {"const": None},
                    "d": {"type": "null"},
                }
            },
            {"a": 7, "b": "x", "c": None, "d": None, "id": "sample"},
        ),
        (
            {"properties": {"tags": {"type": "array", "items": {"type": "boolean"}}, "any": {"type": "array"}}},
            {"tags": [True], "any": [], "id": "sample"},
        ),
        (
            {
                "$defs": {"owner": {"type": "object", "properties": {"city": {"type": ["null", "string"]}}}},
                "allOf": [{"properties": {"owner": {"$ref": "#/$defs/owner"}}}],
                "oneOf": [{"properties": {"kind": {"const": "cat"}}}, {"properties": {"kind": {"const": "dog"}}}],
            },
            {"kind": "cat", "owner": {"city": "text"}, "id": "sample"},
        ),
    ],
)
def test_a_sample_has_what_the_schema_declares(document: dict[str, Any], sample: dict[str, Any]) -> None:
    assert sample_of({"type": "object", **document}, "id") == sample


def test_a_schema_that_refers_to_itself_everywhere_ends() -> None:
    document: dict[str, Any] = {
        "type": "object",
        "properties": {f"p{number}": {"$ref": "#"} for number in range(50)},
    }
    assert len(str(sample_of(document, "id"))) < 20_000
