from __future__ import annotations

import time
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from blockforger.backend.retention import Pace
from eventing import retention

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = (
        "Delete what has had its time: delivered events, dead events, and the records by which repeated events and "
        "REST requests are known. Pending events and ledger entries are never deleted. Rows go in small batches, each "
        "a transaction of its own, and no writer waits; any number of these may run side by side. Celery's beat does "
        "the same every five minutes. Prints how many of what were deleted. See BLOCKFORGER_KEEP_… in "
        "docs/operations.md for how long things are kept."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only count what would be deleted.")
        parser.add_argument(
            "--batch", type=_count, default=Pace().batch, metavar="N", help="Rows at a time (default: %(default)s)."
        )
        parser.add_argument(
            "--max-seconds",
            type=float,
            default=float("inf"),
            metavar="S",
            help="Stop after that many seconds, with what is left for the next time (default: when nothing is left).",
        )

    def handle(self, **options: Any) -> None:
        if options["dry_run"]:
            for kind in retention.expired():
                self.stdout.write(f"{kind.name} that would be deleted: {kind.rows.count()}")
            return
        pruned = retention.prune(Pace(batch=options["batch"], ends_at=time.monotonic() + options["max_seconds"]))
        for name, count in pruned.deleted.items():
            self.stdout.write(f"{name} deleted: {count}")
        if not pruned.finished:
            self.stderr.write("prune: the time is up; run it again for the rest")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise ArgumentTypeError("must be a number from 1 to 10000")
    return int(text)
