"""The member `meta` goes into a schema's text and comes out again; the rest of the text is not touched."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend import schema_documents
from tests.backend.test_json_texts import JSON, TEXTS


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("{}", "{}"),
        ('{"type": "object"}', '{"type": "object"}'),
        ('{"meta": {}}', "{}"),
        ('{ "meta" : {"key": "id"} }\n', "{ }\n"),
        ('{"meta": {}, "type": "object"}', '{"type": "object"}'),
        ('{"type": "object", "meta": {}}', '{"type": "object"}'),
        ('{"a": 1.0, "meta": {}, "b": 1e400}', '{"a": 1.0, "b": 1e400}'),
        ('{\r\n  "a": 1,\r\n  "meta": {\r\n  }\r\n}\r\n', '{\r\n  "a": 1\r\n}\r\n'),
        # Only the member of the object itself; a text that looks like it is none.
        ('{"properties": {"meta": {}}, "x": "\\"meta\\": {}"}', '{"properties": {"meta": {}}, "x": "\\"meta\\": {}"}'),
        ('{"\\u006deta": {}, "a": 1}', '{"a": 1}'),
    ],
)
def test_meta_is_taken_out_of_a_text(text: str, rest: str) -> None:
    assert schema_documents.without_meta(text) == rest


OBJECTS = st.dictionaries(TEXTS.filter(lambda name: name != "meta"), JSON, max_size=4)


@given(OBJECTS, OBJECTS, st.sampled_from([None, 2]), st.data())
def test_meta_goes_in_and_comes_out_again(
    document: dict[str, object], meta: dict[str, object], indent: int | None, data: st.DataObject
) -> None:
    text = json.dumps(document, indent=indent)
    with_meta = schema_documents.with_meta(text, meta)  # type: ignore[arg-type]
    assert list(json.loads(with_meta).items()) == [*document.items(), ("meta", meta)]
    assert json.dumps(json.loads(schema_documents.without_meta(with_meta))) == json.dumps(document)

    members = [*document.items()]
    members.insert(data.draw(st.integers(0, len(members))), ("meta", meta))
    anywhere = json.dumps(dict(members), indent=indent)
    assert json.dumps(json.loads(schema_documents.without_meta(anywhere))) == json.dumps(document)


def test_meta_is_laid_out_like_the_rest() -> None:
    text = '{\n  "type": "object"\n}\n'
    assert schema_documents.with_meta(text, {"key": "sku", "tags": ["a", "b"]}) == (
        '{\n  "type": "object",\n  "meta": {\n    "key": "sku",\n    "tags": ["a", "b"]\n  }\n}\n'
    )
    assert schema_documents.with_meta("{}", {"key": "sku"}) == '{\n  "meta": {\n    "key": "sku"\n  }\n}\n'
