from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blockforger.backend import example_payloads
from blockforger.backend.models import Schema

SAMPLES = sorted(Path(__file__).resolve().parents[2].glob("schemas/*/*.json"))


def example_of(document: dict[str, Any], **meta: Any) -> tuple[Any, bool]:
    return example_payloads.of(Schema(document=json.dumps(document), meta=meta, pk=None, version=1))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_of_each_sample_schema_there_is_one_that_fits(path: Path) -> None:
    document = json.loads(path.read_text())
    meta = document.pop("meta", {})
    payload, fits = example_of(document, **({"key": meta["key"]} if "key" in meta else {}))
    assert fits, payload


PROPERTIES: list[tuple[Any, Any]] = [
    ({"const": 7}, 7),
    ({"examples": ["x"], "type": "string"}, "x"),
    ({"default": None}, None),
    ({"enum": ["a", "b"]}, "a"),
    ({"type": "integer", "minimum": 10}, 10),
    ({"type": "integer", "exclusiveMinimum": 10, "multipleOf": 4}, 12),
    ({"type": "number", "maximum": 0.5}, 0.5),
    ({"type": "number", "exclusiveMaximum": 1}, 0),
    ({"type": "boolean"}, True),
    ({"type": "null"}, None),
    ({"type": ["null", "string"]}, "example"),
    ({"type": "string", "minLength": 10}, "examplexxx"),
    ({"type": "string", "maxLength": 3}, "exa"),
    ({"type": "string", "format": "date"}, "2026-01-31"),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
    ({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}, {"a": 1}),
    ({"required": ["b"]}, {"b": "example"}),
    ({"$ref": "#/$defs/one"}, 3),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, 1),
    (
        {"allOf": [{"required": ["a"], "properties": {"a": {"const": 1}}}, {"$ref": "#/$defs/two"}]},
        {"a": 1, "b": 2},
    ),
]


@pytest.mark.parametrize(("schema", "expected"), PROPERTIES, ids=lambda value: json.dumps(value)[:60])
def test_a_member_is_what_its_schema_asks_for(schema: Any, expected: Any) -> None:
    document = {
        "properties": {"member": schema},
        "required": ["member"],
        "$defs": {"one": {"const": 3}, "two": {"required": ["b"], "properties": {"b": {"const": 2}}}},
    }
    payload, fits = example_of(document)
    assert payload["member"] == expected
    assert fits


def test_the_key_is_there_and_of_its_type() -> None:
    assert example_of({"type": "object"})[0] == {"id": "example-1"}
    assert example_of({"properties": {"number": {"type": "integer"}}}, key="number")[0] == {"number": 1}


def test_what_it_cannot_invent_it_says() -> None:
    payload, fits = example_of({"properties": {"code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{9}$"}}})
    assert (payload["code"], fits) == ("example", False)


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    document = {"required": ["child"], "properties": {"child": {"$ref": "#"}, "other": {"$ref": "#"}}}
    assert len(json.dumps(example_of(document)[0])) < 1000
