"""Cursors: any place comes back as it was, and any text is a place or a refusal."""

from __future__ import annotations

import base64
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend import cursors, json_values
from blockforger.backend.errors import Malformed
from blockforger.backend.item_columns import Boolean, Number, TextHead, head

KINDS: list[Any] = [Boolean, Number, TextHead]
numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.just(math.inf)
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)


@given(st.integers(0, 2), numbers, st.one_of(texts.map(head), st.just("~")), st.integers(0, 2**63 - 1))
def test_a_place_comes_back_as_it_was(flag: int, number: float, text: str, key: int) -> None:
    cursor = cursors.encoded((flag, number, text, key), KINDS, digest="d")
    decoded = cursors.decoded(cursor, KINDS, digest="d")
    assert (decoded[0], decoded[2:]) == (flag, (text, key))
    assert decoded[1] == (Decimal(repr(number)) if math.isfinite(number) else Decimal("Infinity"))


def test_decimals_of_the_database_come_back_with_all_digits() -> None:
    number = Decimal("0.1000000000000000055511151231257827")
    assert cursors.decoded(cursors.encoded((number, 1), [Number], digest="d"), [Number], digest="d") == (number, 1)


json_texts = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just("d")),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(st.one_of(st.text(), st.binary(), json_texts.map(lambda value: ["d", value, value, value, 5])))
def test_any_other_text_is_refused(content: Any) -> None:
    if isinstance(content, str):
        text = content
    else:
        data = content if isinstance(content, bytes) else _json(content).encode(errors="replace")
        text = base64.urlsafe_b64encode(data).decode().rstrip("=")
    # A value that fits one kind fits no other.
    with pytest.raises(Malformed) as refused:
        cursors.decoded(text, KINDS, digest="d")
    assert refused.value.data == {"parameter": "cursor"}


def _json(value: Any) -> str:
    try:
        return json_values.compact(value)
    except ValueError:  # NaN
        return "NaN"
