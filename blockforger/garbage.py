"""Python's search for garbage, in processes that stay: rarer, and not in what is there to stay.

A thousand items are tens of thousands of objects. As Python is set up, it looks through them dozens of times while they
are in use, a twentieth of the time that a bulk request takes.
"""

from __future__ import annotations

import gc

_NEW_OBJECTS = 2_000
"""So many more than have gone again, and it looks. A request for an item leaves none that waits for that."""


def settle_down() -> None:
    """To be called once a process has loaded what it works with."""
    gc.set_threshold(_NEW_OBJECTS)
    gc.collect()
    gc.freeze()
