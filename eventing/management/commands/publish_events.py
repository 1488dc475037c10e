from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from blockforger import garbage
from eventing import publishing

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

    from eventing.outbox import Tally


class Command(BaseCommand):
    help = (
        "Publish the outbox to EventBridge without Celery: until SIGTERM or Ctrl-C, or with --once until nothing can "
        "be sent. Any number of these, and Celery's workers, may run side by side. With --once, prints what became "
        "of the events."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Try what waits once, print a summary, and end.")
        parser.add_argument(
            "--interval",
            type=float,
            default=0.2,
            help="Seconds between looks at an empty outbox (default: 0.2).",
        )

    def handle(self, **options: Any) -> None:
        if options["once"]:
            self._print(publishing.drain(as_of=timezone.now()))
            return
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        garbage.settle_down()
        self.stderr.write("publish_events: watching the outbox")
        publishing.run(stopping, interval=options["interval"])

    def _print(self, tally: Tally) -> None:
        self.stdout.write(
            f"delivered {tally.delivered}, to be retried {tally.retried}, dead {tally.dead}, "
            f"held for a paused bus {tally.held}"
        )
