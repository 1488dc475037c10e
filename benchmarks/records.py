"""What the stub was sent, checked: everything, once, and each item's events in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.processes import Failed

if TYPE_CHECKING:
    from collections.abc import Sequence

Record = tuple[int, int, str, list[str]]


def check_records(records: Sequence[Record], *, events: int, buses: int, in_order: bool) -> None:
    """Raises Failed unless these are that many events, none twice, on that many buses.

    With `in_order`, each bus must have accepted the events of each item by their sequence numbers.
    """
    seen: set[str] = set()
    last: dict[tuple[str, str], int] = {}
    for _, _, bus, (item, event) in records:
        if event in seen:
            raise Failed(f"{event} was sent twice")
        seen.add(event)
        sequence = int(event.rpartition(":")[2])
        if in_order and sequence <= last.get((bus, item), 0):
            raise Failed(f"{event} of {item} overtook an earlier one on {bus}")
        last[bus, item] = sequence
    if len(seen) != events:
        raise Failed(f"{len(seen)} events were sent, {events} were waiting")
    if len({bus for _, _, bus, _ in records}) != buses:
        raise Failed(f"the events did not go to {buses} buses")
