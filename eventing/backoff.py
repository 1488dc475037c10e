"""How long to wait before another try."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


def full_jitter(failures: int, *, base: timedelta, cap: timedelta) -> timedelta:
    """A random time up to `base` doubled with each failure after the first, and never above `cap`.

    Random from zero on, so that what failed together does not come back together.
    """
    return doubled(failures, base=base, cap=cap) * random.random()  # noqa: S311 - nothing depends on it being secret


def doubled(failures: int, *, base: timedelta, cap: timedelta) -> timedelta:
    """`base` doubled with each failure after the first, and never above `cap`."""
    factor: int = 2 ** min(max(failures - 1, 0), 30)
    return min(cap, base * factor)
