"""manage.py redrive_input: from the dead-letter queue back to the input queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.management.base import BaseCommand, CommandError

from eventing import aws, redriving

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Move messages from the input queue's dead-letter queue back to the input queue, where consumers take them "
        "again: once what made them fail is mended. An event that was carried out before is not carried out again. "
        "Says how many messages there are, moves no more than that (what fails again comes back), and says how many "
        "it moved. It may be killed at any time: no message is lost. Bodies, which hold API keys, are never shown."
    )

    requires_system_checks = ()  # it needs nothing but AWS

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--limit", type=int, metavar="N", help="Move no more than this. Default: all.")
        parser.add_argument(
            "--per-second",
            type=int,
            default=10,
            metavar="N",
            help=f"How many messages to move in a second: 1 to {redriving.MAX_PER_SECOND}. Default: 10.",
        )

    def handle(self, *_args: object, limit: int | None, per_second: int, **_options: object) -> None:
        if limit is not None and limit < 1:
            raise CommandError("--limit must be at least 1.")
        if not 1 <= per_second <= redriving.MAX_PER_SECOND:
            raise CommandError(f"--per-second must be 1 to {redriving.MAX_PER_SECOND}.")
        try:
            waiting = redriving.waiting()
            at_most = waiting if limit is None else min(limit, waiting)
            self.stdout.write(
                f"About {_messages(waiting)} in {aws.input_dead_letter_queue_url()}: moving at most {at_most} to "
                f"{aws.input_queue_url()}, {per_second} a second."
            )
            moved = redriving.redrive(at_most=at_most, per_second=per_second)
        except (aws.QueueMissingError, *aws.ERRORS) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Moved {_messages(moved)}.")


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number} messages"
