"""manage.py replay_events: delivered and dead events, sent once more."""

from __future__ import annotations

import getpass
import signal
import sys
import threading
from argparse import ArgumentTypeError
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from eventing import replay_previews, replays, rule_checks
from eventing.models import OutboxStatus, Replay
from eventing.replays import Scope, Selection
from tenants.models import Tenant

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from eventing.replays import Counts

_FILTERS = ("ids", "item", "rule", "bus", "status", "since", "until")


class Command(BaseCommand):
    help = (
        "Send delivered and dead events of the outbox once more, as they were: with the ids in `Resources` that they "
        "had, from which consumers can tell that they come again, and to the bus that they were for. Shows what is "
        "selected and asks before it begins. Replayed events keep their order among themselves, item by item, but new "
        "events do not wait for them. Pending events are left alone. Every replay is recorded with who and why. It "
        "lasts as long as its rate makes it; if it is stopped or killed, --resume carries it on, and nothing is "
        "replayed twice."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        scope = parser.add_mutually_exclusive_group(required=True)
        scope.add_argument("--tenant", metavar="NAME", help="Only events of this tenant.")
        scope.add_argument("--every-tenant", action="store_true", help="Events of all tenants.")
        scope.add_argument("--resume", type=int, metavar="REPLAY", help="Carry on the replay with this number.")
        parser.add_argument(
            "--id",
            action="append",
            type=_uuid,
            dest="ids",
            metavar="ID",
            help="The event with this id, as in `urn:blockforger:event:{id}:...`; repeat it for more.",
        )
        parser.add_argument("--item", type=_item, metavar="SCHEMA/KEY", help="Events of this item.")
        parser.add_argument("--rule", type=int, metavar="ID", help="Events of the output rule with this id.")
        parser.add_argument("--bus", metavar="ARN", help="Events for this bus.")
        parser.add_argument("--status", choices=["delivered", "dead"], help="Default: both.")
        parser.add_argument(
            "--since",
            type=_moment,
            metavar="TIME",
            help="Events of writes at or after this, in ISO 8601, such as 2026-11-23T12:00:00Z; without a zone: UTC.",
        )
        parser.add_argument("--until", type=_moment, metavar="TIME", help="Events of writes before this.")
        parser.add_argument("--all", action="store_true", help="Allow a selection with no filter but the tenant.")
        parser.add_argument(
            "--why", default="", metavar="TEXT", help="The reason, for the record. Required, but for a dry run."
        )
        parser.add_argument(
            "--who", default="", metavar="NAME", help="For the record. Default: the user of this system."
        )
        parser.add_argument(
            "--per-second",
            type=int,
            default=50,
            metavar="N",
            help=f"How many events become due in a second: 1 to {replays.MAX_PER_SECOND}. Default: 50.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Show what is selected, and change nothing.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")
        parser.add_argument(
            "--anew",
            action="store_true",
            help="Begin although the last replay of the same selection is not finished: what that one did is repeated.",
        )

    def handle(self, **options: Any) -> None:
        _check(options)
        if options["resume"] is not None:
            replay = _unfinished(options["resume"])
            selected = replay_previews.described(replays.selection_of(replay))
            self.stdout.write(
                f"Carrying on with replay {replay.pk} of {selected}, begun by {replay.who} "
                f"at {replay.created_at:%Y-%m-%d %H:%M:%S} UTC: {replay.why}\n"
                f"{_events(replay.events)} of it became pending until now."
            )
            if not options["dry_run"] and self._agrees(options):
                self._carry_on(replay, options)
            return
        selection = _selection(options)
        counts = replays.count(selection)
        self._show(selection, counts, options)
        if counts.replayable and not options["dry_run"]:
            _refuse_if_begun(selection, options)
            if self._agrees(options):
                replay = replays.begin(selection, who=_who(options), why=options["why"].strip())
                self._carry_on(replay, options)

    def _show(self, selection: Selection, counts: Counts, options: dict[str, Any]) -> None:
        self.stdout.write(f"Selected: {replay_previews.described(selection)}.")
        if counts.pending:
            self.stdout.write(f"{_events(counts.pending)} pending: left alone.")
        if not counts.replayable:
            self.stdout.write("Nothing to replay.")
            return
        seconds = -(-counts.replayable // options["per_second"])
        self.stdout.write(
            f"{_events(counts.replayable)} to replay: {counts.delivered} delivered, {counts.dead} dead; at most "
            f"{options['per_second']} a second, which takes about {seconds} s."
        )
        if options["dry_run"]:
            self.stdout.write("Dry run: nothing was changed.")

    def _agrees(self, options: dict[str, Any]) -> bool:
        if options["yes"]:
            return True
        if not sys.stdin.isatty():
            raise CommandError("Nothing was replayed: there is no terminal to ask on. Add --yes, or --dry-run to look.")
        agrees = input("Replay them? [y/N] ").strip().lower() in {"y", "yes"}
        if not agrees:
            self.stdout.write("Nothing was replayed.")
        return agrees

    def _carry_on(self, replay: Replay, options: dict[str, Any]) -> None:
        self.stderr.write(f"replay_events: replay {replay.pk} goes on until it is done, or stopped")
        stopping = threading.Event()
        before = {
            number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            replays.carry_on(replay, per_second=options["per_second"], stopping=stopping)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if replay.finished_at is None:
            raise CommandError(
                f"Stopped: {_events(replay.events)} became pending. `manage.py replay_events --resume {replay.pk}` "
                "carries on."
            )
        self.stdout.write(f"Replay {replay.pk} is done: {_events(replay.events)} became pending.")


def _check(options: dict[str, Any]) -> None:
    if not 1 <= options["per_second"] <= replays.MAX_PER_SECOND:
        raise CommandError(f"--per-second must be 1 to {replays.MAX_PER_SECOND}.")
    if options["resume"] is not None:
        if any(options[name] for name in (*_FILTERS, "all", "why", "who", "anew")):
            raise CommandError(
                "A replay that is resumed has its selection, its who and its why already: leave them out."
            )
        return
    if not options["why"].strip() and not options["dry_run"]:
        raise CommandError("Say why with --why: it is recorded with the replay.")
    since, until = options["since"], options["until"]
    if since and until and since >= until:
        raise CommandError("--since must be before --until.")
    if not options["all"] and not any(options[name] is not None for name in _FILTERS):
        raise CommandError("That would replay everything. Add a filter, or --all if it is what you want.")


def _selection(options: dict[str, Any]) -> Selection:
    status = options["status"]
    return Selection(
        tenant=Scope.EVERY_TENANT if options["every_tenant"] else _tenant(options["tenant"]),
        ids=tuple(options["ids"] or ()),
        item=options["item"],
        rule=options["rule"],
        bus=options["bus"],
        status=OutboxStatus(status) if status else None,
        since=options["since"],
        until=options["until"],
    )


def _tenant(name: str) -> Tenant:
    tenant = Tenant.objects.filter(name=name).first()
    if tenant is None:
        raise CommandError(f"There is no tenant '{name}'.")
    return tenant


def _unfinished(number: int) -> Replay:
    replay = Replay.objects.select_related("tenant").filter(pk=number).first()
    if replay is None:
        raise CommandError(f"There is no replay {number}.")
    if replay.finished_at is not None:
        raise CommandError(f"Replay {number} is done: {_events(replay.events)} became pending.")
    return replay


def _refuse_if_begun(selection: Selection, options: dict[str, Any]) -> None:
    begun = replays.unfinished(selection)
    if begun and not options["anew"]:
        raise CommandError(
            f"Replay {begun.pk} of the same selection, begun by {begun.who}, is not finished. Carry it on with "
            f"`manage.py replay_events --resume {begun.pk}`, or add --anew to replay again what it did."
        )


def _who(options: dict[str, Any]) -> str:
    try:
        return (options["who"].strip() or getpass.getuser())[:150]
    except (KeyError, OSError) as error:  # a container may run as a user that the system does not know
        raise CommandError("The user of this system has no name: say who with --who.") from error


def _events(number: int) -> str:
    return "1 event" if number == 1 else f"{number} events"


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise ArgumentTypeError(f"'{text}' is not the id of an event") from error


def _item(text: str) -> tuple[str, str]:
    schema_name, slash, key = text.partition("/")
    if not (schema_name and slash and key):
        raise ArgumentTypeError(f"'{text}' is not an item such as petstore/123")
    return rule_checks.schema_name_of(schema_name), key


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"'{text}' is not a time such as 2026-11-23T12:00:00Z") from error
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
