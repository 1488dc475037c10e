"""Counting what an operation asks of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

if TYPE_CHECKING:
    from collections.abc import Callable


def statements(act: Callable[[], Any]) -> tuple[int, int]:
    """Statements outside, and between BEGIN and COMMIT if there are; savepoints not counted."""
    with CaptureQueriesContext(connection) as captured:
        act()
    texts = [query["sql"] for query in captured.captured_queries]
    begin = next((index for index, text in enumerate(texts) if text.startswith("BEGIN")), None)
    if begin is None:
        return len(texts), 0
    end = texts.index("COMMIT")
    inside = [text for text in texts[begin + 1 : end] if "SAVEPOINT" not in text]
    return len(texts) - len(texts[begin : end + 1]), len(inside)
