"""manage.py put_events: events from a file to EventBridge."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from django.core.management.base import BaseCommand, CommandError

from eventing import event_files
from eventing.answers import Verdict

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from eventing.answers import Answer


class Command(BaseCommand):
    help = (
        "Send events to EventBridge, as `aws events put-events` does, but from files in which Detail may be"
        " an object. Prints a line of JSON for each entry, in order: its index, and the EventId that"
        " EventBridge gave it or the ErrorCode and ErrorMessage. Nothing is sent unless all entries are well"
        " formed. The exit code is 1 if an entry failed."
    )

    requires_system_checks = ()  # it needs nothing but AWS

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--entries",
            required=True,
            metavar="JSON",
            help=(
                "A JSON array of entries: as file://event.json, as '-' for standard input, or in place. Each"
                " has Source, DetailType and Detail (an object, or its JSON text), and may have EventBusName"
                " (a name or an ARN; default: the bus 'default'), Time, Resources and TraceHeader. What is"
                " written in place can be seen by other users of the machine: keep API keys in files."
            ),
        )

    def handle(self, *_args: object, entries: str, **_options: object) -> None:
        try:
            to_send = event_files.parse(self._read(entries))
        except event_files.EntriesError as error:
            hint = "" if _names_a_source(entries) else "\nTo read a file, write --entries file://event.json."
            raise CommandError(f"Nothing was sent.\n{error}{hint}") from error
        failures = 0
        for index, answer in enumerate(event_files.send(to_send)):
            self.stdout.write(json.dumps({"Entry": index, **_members_of(answer)}, ensure_ascii=False))
            failures += answer.verdict is not Verdict.ACCEPTED
        if failures:
            raise CommandError(f"{failures} of {len(to_send)} entries failed.")

    def _read(self, entries: str) -> bytes | str:
        if entries == "-":
            return sys.stdin.buffer.read()
        if not entries.startswith("file://"):
            return entries
        path = Path(entries.removeprefix("file://")).expanduser()
        try:
            return path.read_bytes()
        except OSError as error:
            raise CommandError(f"Nothing was sent. {path} cannot be read: {error.strerror}.") from error


def _names_a_source(entries: str) -> bool:
    return entries == "-" or entries.startswith(("file://", "[", "{"))


def _members_of(answer: Answer) -> dict[str, str]:
    if answer.verdict is Verdict.ACCEPTED:
        return {"EventId": answer.event_id}
    return {"ErrorCode": answer.code, "ErrorMessage": answer.message}
