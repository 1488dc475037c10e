"""Paths of a rule: what has changed, and what is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blockforger.backend import item_paths
from eventing.projections import Projection, has_changed

PAYLOAD: dict[str, Any] = {
    "name": "Rex",
    "id": "7",
    "owner": {"name": "Anna", "mail": "a@example.org", "address": {"city": "Bonn", "zip": "5"}},
    "lines": [{"sku": "a", "price": 1}, "loose", [{"sku": "b"}]],
    "a.b": 1,
}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"keep": ["name"]}, {"name": "Rex", "id": "7"}),
        ({"keep": ["nothing"]}, {"id": "7"}),
        (
            {"keep": ["owner.address.city", "owner.name"]},
            {"id": "7", "owner": {"name": "Anna", "address": {"city": "Bonn"}}},
        ),
        ({"keep": ["lines.sku"]}, {"id": "7", "lines": [{"sku": "a"}, [{"sku": "b"}]]}),
        ({"keep": ["name.first"]}, {"id": "7"}),
        ({"keep": ["a\\.b"]}, {"id": "7", "a.b": 1}),
        ({"keep": ["owner", "owner.name"]}, {"id": "7", "owner": PAYLOAD["owner"]}),
        (
            {"drop": ["id", "owner", "lines.sku", "a\\.b", "name.x"]},
            {"name": "Rex", "id": "7", "lines": [{"price": 1}, "loose", [{}]]},
        ),
        (
            {"drop": ["lines", "a\\.b"], "mask": ["owner.mail", "owner.address", "id", "nothing"]},
            {"name": "Rex", "id": "7", "owner": {"name": "Anna", "mail": "***", "address": "***"}},
        ),
        (
            {"keep": ["lines"], "mask": ["lines.sku"]},
            {"id": "7", "lines": [{"sku": "***", "price": 1}, "loose", [{"sku": "***"}]]},
        ),
    ],
)
def test_what_is_sent_of_a_payload(fields: Any, sent: Any) -> None:
    before = json.dumps(PAYLOAD)
    assert json.dumps(Projection.of(fields).of_payload(PAYLOAD, "id", max_bytes=1000)) == json.dumps(sent)
    assert json.dumps(PAYLOAD) == before


def test_masks_that_would_not_fit_are_left_out() -> None:
    payload: Any = {"id": 1, "secrets": [{"pin": number} for number in range(10)]}
    size = len(json.dumps(payload, separators=(",", ":")))
    projection = Projection.of({"mask": ["secrets.pin"]})
    assert projection.of_payload(payload, "id", max_bytes=size + 40)["secrets"] == [{"pin": "***"}] * 10
    assert projection.of_payload(payload, "id", max_bytes=size + 39)["secrets"] == [{}] * 10


@pytest.mark.parametrize(
    ("path", "before", "after", "changed"),
    [
        ("a", {"a": 1}, {"a": 1, "b": 2}, False),
        ("a", {"a": 1}, {"a": 1.0}, False),
        ("a", {"a": 1}, {"a": True}, True),
        ("a", {"a": 1}, {"a": "1"}, True),
        ("a", {"a": None}, {}, True),
        ("a", {}, {"a": None}, True),
        ("a", {"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, False),
        ("a", {"a": {"b": 1}}, {"a": {"b": 2}}, True),
        ("a.b", {"a": {"b": 1, "c": 1}}, {"a": {"b": 1, "c": 2}}, False),
        ("a.b", {"a": {"b": 1}}, {"a": 1}, True),
        ("a.b", {"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}, True),
        ("a.b", {"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 1}, 5]}, False),
        # A new item, and one that is gone
        ("a", None, {"a": None}, True),
        ("a", None, {"b": 1}, False),
        ("a", {"a": None}, None, True),
        ("a", {"b": 1}, None, False),
    ],
)
def test_whether_a_path_has_changed(path: str, before: Any, after: Any, changed: bool) -> None:
    assert has_changed(item_paths.parsed(path), before, after) is changed
