"""What became of an operation, in the terms of both doors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockforger.backend.problems import problem_of

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonValue
    from blockforger.backend.models import Origin
    from blockforger.backend.problems import Problem
    from tenants.errors import Refusal


@dataclass(frozen=True, slots=True)
class Outcome:
    """An HTTP status with the body of a success or the problem of a refusal, and the tokens charged."""

    status: int
    body: JsonValue = None
    # The body as compact JSON, if it was written out before.
    text: str = ""
    problem: Problem | None = None
    item_key: str = ""
    # Of the item as the operation read or left it.
    etag: str = ""
    tokens: int = 0
    # What the account held after it, if tokens were charged by it just now.
    balance: int | None = None
    # Whether the operation was carried out before, and this is what became of it then.
    repeated: bool = False

    @classmethod
    def refused(cls, refusal: Refusal, origin: Origin) -> Outcome:
        problem = problem_of(refusal, origin)
        return cls(status=problem["status"], problem=problem)
