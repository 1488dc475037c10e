"""manage.py tail_events: the output events that arrived on our bus."""

from __future__ import annotations

import contextlib
import json
import re
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from blockforger.backend import json_values
from eventing import aws, event_log

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from blockforger.backend.json_values import JsonObject

_POLL_SECONDS = 1.0
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    help = (
        "Show output events that arrived on our bus, from the log group that the stack's output rule writes"
        " them to: a line of JSON for each, as EventBridge delivered it, oldest first. Works on AWS and, with"
        " AWS_ENDPOINT_URL, on moto. Events for other buses are not there, nor are input events: these hold"
        " API keys."
    )

    requires_system_checks = ()  # it needs nothing but AWS

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "-n", "--newest", type=_count, default=10, metavar="N", help="How many events. Default: 10."
        )
        parser.add_argument(
            "--since",
            type=_duration,
            default="1h",
            metavar="AGE",
            help="Leave out events older than this, such as 30s, 15m, 2h or 7d. Default: 1h.",
        )
        parser.add_argument("--tenant", default="", metavar="NAME", help="Leave out the events of other tenants.")
        parser.add_argument("--follow", action="store_true", help="Go on with the events that arrive, until Ctrl-C.")
        parser.add_argument("--pretty", action="store_true", help="Spread each event over several lines.")
        parser.add_argument(
            "--log-group",
            metavar="NAME",
            help=(
                "Default: /aws/events/blockforger-{environment}. The test function's own log,"
                " /aws/lambda/eventbridge-test-{environment}, can be read as well."
            ),
        )

    def handle(self, *_args: object, follow: bool, **options: Any) -> None:
        events = event_log.tail(
            options["log_group"] or event_log.default_log_group(),
            since=timezone.now() - options["since"],
            newest=options["newest"],
            tenant=options["tenant"],
            poll_seconds=_POLL_SECONDS if follow else None,
        )
        shown = 0
        try:
            with contextlib.suppress(KeyboardInterrupt):
                for event in events:
                    self._show(event, pretty=options["pretty"])
                    shown += 1
        except (event_log.LogGroupMissingError, *aws.ERRORS) as error:
            raise CommandError(str(error)) from error
        if not shown:
            self.stderr.write("tail_events: no events; --since looks further back")

    def _show(self, event: JsonObject, *, pretty: bool) -> None:
        text = json.dumps(event, ensure_ascii=False, indent=2) if pretty else json_values.compact(event)
        self.stdout.write(text)
        self.stdout.flush()


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ArgumentTypeError(f"'{text}' is not a number of events")
    return int(text)


def _duration(text: str) -> timedelta:
    match = re.fullmatch("([0-9]{1,5})([smhd])", text)
    if match is None:
        raise ArgumentTypeError(f"'{text}' is not an age such as 30s, 15m, 2h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
