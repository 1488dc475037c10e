from __future__ import annotations

import logging
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from blockforger import garbage
from eventing import aws, consuming
from eventing.consuming import Disposition

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

_STOP_SECONDS = 60

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Carry out the events in the input queue as if they had come through the API. Runs until SIGTERM or Ctrl-C, "
        "and then finishes the batch in hand; with --once, until the queue is empty. Any number of these may run "
        "side by side. With --once, prints how many messages had which outcome."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Drain the queue, print a summary, and end.")
        parser.add_argument(
            "--workers",
            type=int,
            default=1,
            help="Loops in this process, each with its own connection (default: 1).",
        )

    def handle(self, **options: Any) -> None:
        if options["workers"] < 1:
            raise CommandError("--workers must be at least 1.")
        if options["once"]:
            self._drain()
            return
        self._run([consuming.Consumer() for _ in range(options["workers"])])

    def _drain(self) -> None:
        try:
            tally = consuming.drain()
        except (aws.QueueMissingError, *aws.ERRORS) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(", ".join(f"{disposition.value} {tally[disposition]}" for disposition in Disposition))

    def _run(self, consumers: list[consuming.Consumer]) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        # Daemons: a poll that waits for messages has nothing in hand, and need not be waited for.
        broken = threading.Event()
        garbage.settle_down()
        for consumer in consumers:
            threading.Thread(target=_run, args=(consumer, stopping, broken), name="consumer", daemon=True).start()
        stopping.wait()
        for consumer in consumers:
            consumer.stop()
        ends_at = time.monotonic() + _STOP_SECONDS
        if not all(consumer.has_ended(within=max(0, ends_at - time.monotonic())) for consumer in consumers):
            raise CommandError("A batch did not end in time. Its messages will be delivered again.")
        if broken.is_set():
            raise CommandError("A loop broke; the log says why.")


def _run(consumer: consuming.Consumer, stopping: threading.Event, broken: threading.Event) -> None:
    try:
        consumer.run()
    except Exception:  # the end of a thread: without this, the process would live on and do nothing
        logger.exception("The loop over the queue broke.")
        broken.set()
        stopping.set()
