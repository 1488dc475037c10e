from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockforger.backend import problems
from blockforger.backend.models import Origin
from tenants.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator


def every(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for below in kind.__subclasses__():
        yield below
        yield from every(below)


@pytest.mark.parametrize("kind", sorted(every(Refusal), key=str))
def test_every_refusal_has_a_status_at_each_door(kind: type[Refusal]) -> None:
    assert all(400 <= problems.status_of(kind, origin) < 500 for origin in Origin)


def test_no_two_refusals_share_a_code() -> None:
    codes = [kind.code for kind in every(Refusal)]
    assert len(codes) == len(set(codes))
