from __future__ import annotations

import os
import signal
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from eventing import publishing, replays
from eventing.models import OutboxEvent, OutboxStatus, Replay
from eventing.replays import Selection
from tests.cast import BUS
from tests.eventing.event_bridge import event_bridge
from tests.eventing.replaying import FAST, bury, named, other, tenant, write

if TYPE_CHECKING:
    from tenants.models import Tenant
    from tests.eventing.event_bridge import EventBridge

__all__ = ["event_bridge", "other", "tenant"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged", "_events")]

WHY = ("--why", "they asked", "--who", "ops")


@pytest.fixture
def _events(tenant: Tenant, other: Tenant, event_bridge: EventBridge) -> None:
    """Of tenant mytenant: 2 delivered, 1 dead and 1 pending; of the other: 1 delivered."""
    write(tenant, "1", "first", "second")
    write(tenant, "2", "bad")
    write(other, "1", "theirs")
    publishing.drain()
    bury(named("bad"))
    write(tenant, "3", "waits")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command. Gives the lines that it printed."""

    def run(*options: str) -> list[str]:
        call_command("replay_events", "--per-second", str(FAST), *options)
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has somebody sit at a terminal and type that."""

    def typed(answer: str) -> list[str]:
        prompts: list[str] = []
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

        def prompted(prompt: str) -> str:
            prompts.append(prompt)
            return answer

        monkeypatch.setattr("builtins.input", prompted)
        return prompts

    return typed


def rows() -> list[Any]:
    return list(OutboxEvent.objects.order_by("pk").values())


def test_it_says_what_it_will_do_does_it_and_records_it(tenant: Tenant, run: Any) -> None:
    assert run("--tenant", "mytenant", "--all", "--yes", *WHY) == [
        "Selected: events of tenant mytenant.",
        "1 event pending: left alone.",
        "3 events to replay: 2 delivered, 1 dead; at most 10000 a second, which takes about 1 s.",
        f"Replay {Replay.objects.get().pk} is done: 3 events became pending.",
    ]
    replay = Replay.objects.get()
    assert (replay.tenant, replay.who, replay.why) == (tenant, "ops", "they asked")
    assert OutboxEvent.objects.filter(tenant=tenant, status=OutboxStatus.PENDING).count() == 4
    assert named("theirs").status == OutboxStatus.DELIVERED


def test_a_selection_is_shown_with_all_its_filters(tenant: Tenant, run: Any) -> None:
    event = named("first")
    lines = run(
        "--tenant", "mytenant", "--id", str(event.pk), "--item", "petstore.json/1", "--rule", str(event.rule_id),
        "--bus", BUS, "--status", "delivered", "--since", "2020-01-01", "--until", "2099-01-01T01:00:00+02:00",
        "--yes", *WHY,
    )  # fmt: skip
    assert lines[0] == (
        f"Selected: events of tenant mytenant, with the id {event.pk}, of item petstore/1, of rule {event.rule_id}, "
        f"for {BUS}, that are delivered, since 2020-01-01T00:00:00+00:00, until 2099-01-01T01:00:00+02:00."
    )
    assert OutboxEvent.objects.get(replay__isnull=False) == event
    assert replays.selection_of(Replay.objects.get()) == Selection(
        tenant,
        ids=(event.pk,),
        item=("petstore", "1"),
        rule=event.rule_id,
        bus=BUS,
        status=OutboxStatus.DELIVERED,
        since=datetime(2020, 1, 1, tzinfo=UTC),
        until=datetime(2098, 12, 31, 23, tzinfo=UTC),
    )


def test_several_ids_may_be_named_and_those_of_others_do_nothing(run: Any) -> None:
    mine, theirs = named("first"), named("theirs")
    lines = run("--tenant", "mytenant", "--id", str(mine.pk), "--id", str(theirs.pk), "--yes", *WHY)
    assert lines[0] == f"Selected: events of tenant mytenant, with one of the ids {mine.pk}, {theirs.pk}."
    assert OutboxEvent.objects.get(replay__isnull=False) == mine


def test_a_dry_run_changes_nothing(run: Any) -> None:
    before = rows()
    assert run("--tenant", "mytenant", "--status", "dead", "--dry-run") == [
        "Selected: events of tenant mytenant, that are dead.",
        "1 event pending: left alone.",
        "1 event to replay: 0 delivered, 1 dead; at most 10000 a second, which takes about 1 s.",
        "Dry run: nothing was changed.",
    ]
    assert rows() == before
    assert not Replay.objects.exists()


def test_nothing_selected_is_no_replay(run: Any) -> None:
    assert run("--tenant", "mytenant", "--item", "petstore/none", "--yes", *WHY) == [
        "Selected: events of tenant mytenant, of item petstore/none.",
        "Nothing to replay.",
    ]
    assert not Replay.objects.exists()


def test_an_operator_may_replay_events_of_every_tenant(run: Any) -> None:
    lines = run("--every-tenant", "--status", "delivered", "--yes", *WHY)
    assert lines[0] == "Selected: events of every tenant, that are delivered."
    replay = Replay.objects.get()
    assert (replay.tenant, replay.events) == (None, 3)


@pytest.mark.parametrize(("answer", "events"), [("y", 3), ("YES", 3), ("", None), ("n", None)])
def test_it_asks_before_it_begins(run: Any, typed: Any, answer: str, events: int | None) -> None:
    prompts = typed(answer)
    before = rows()
    lines = run("--tenant", "mytenant", "--all", *WHY)
    assert prompts == ["Replay them? [y/N] "]
    if events is None:
        assert lines[-1] == "Nothing was replayed."
        assert rows() == before
        assert not Replay.objects.exists()
    else:
        assert Replay.objects.get().events == events


def test_without_a_terminal_it_wants_yes(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    before = rows()
    with pytest.raises(CommandError) as refused:
        run("--tenant", "mytenant", "--all", *WHY)
    assert str(refused.value) == (
        "Nothing was replayed: there is no terminal to ask on. Add --yes, or --dry-run to look."
    )
    assert rows() == before


def test_who_is_the_user_of_the_system_unless_another_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "anna")
    run("--tenant", "mytenant", "--all", "--yes", "--why", "they asked")
    assert Replay.objects.get().who == "anna"


def test_a_user_without_a_name_must_give_one(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)
    with pytest.raises(CommandError, match="^The user of this system has no name: say who with --who.$"):
        run("--tenant", "mytenant", "--all", "--yes", "--why", "they asked")
    assert not Replay.objects.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tenant", "mytenant"], "That would replay everything. Add a filter, or --all if it is what you want."),
        (["--every-tenant"], "That would replay everything. Add a filter, or --all if it is what you want."),
        (["--tenant", "nobody", "--all"], "There is no tenant 'nobody'."),
        (["--tenant", "mytenant", "--all", "--why", " "], "Say why with --why: it is recorded with the replay."),
        (["--tenant", "mytenant", "--all", "--per-second", "0"], "--per-second must be 1 to 10000."),
        (["--tenant", "mytenant", "--all", "--per-second", "10001"], "--per-second must be 1 to 10000."),
        (
            ["--tenant", "mytenant", "--since", "2026-01-02", "--until", "2026-01-02"],
            "--since must be before --until.",
        ),
        (["--resume", "0"], "A replay that is resumed has its selection, its who and its why already: leave them out."),
        (["--all"], "Error: one of the arguments --tenant --every-tenant --resume is required"),
        (
            ["--tenant", "mytenant", "--every-tenant"],
            "Error: argument --every-tenant: not allowed with argument --tenant",
        ),
        (["--tenant", "mytenant", "--id", "7"], "Error: argument --id: '7' is not the id of an event"),
        (
            ["--tenant", "mytenant", "--item", "petstore"],
            "Error: argument --item: 'petstore' is not an item such as petstore/123",
        ),
        (
            ["--tenant", "mytenant", "--since", "today"],
            "Error: argument --since: 'today' is not a time such as 2026-11-23T12:00:00Z",
        ),
    ],
)
def test_what_it_refuses_and_what_it_says(run: Any, options: list[str], message: str) -> None:
    before = rows()
    with pytest.raises(CommandError) as refused:
        run(*WHY, "--yes", *options)
    assert str(refused.value) == message
    assert rows() == before
    assert not Replay.objects.exists()


class TestStopped:
    @pytest.fixture
    def replay(self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Replay:
        """Begun, and killed after one event."""
        replay = replays.begin(Selection(tenant, status=OutboxStatus.DELIVERED), who="ops", why="they asked")
        replays._make_pending(replay, [named("first").pk])
        publishing.drain()
        return Replay.objects.get()

    def test_resume_carries_it_on(self, replay: Replay, run: Any) -> None:
        assert run("--resume", str(replay.pk), "--yes") == [
            (
                f"Carrying on with replay {replay.pk} of events of tenant mytenant, that are delivered, begun by ops "
                f"at {replay.created_at:%Y-%m-%d %H:%M:%S} UTC: they asked"
            ),
            "1 event of it became pending until now.",
            f"Replay {replay.pk} is done: 2 events became pending.",
        ]
        assert named("first").status == OutboxStatus.DELIVERED
        assert named("second").status == OutboxStatus.PENDING

    def test_resume_asks_too(self, replay: Replay, run: Any, typed: Any) -> None:
        typed("n")
        assert run("--resume", str(replay.pk))[-1] == "Nothing was replayed."
        assert named("second").status == OutboxStatus.DELIVERED

    def test_a_dry_run_of_resume_changes_nothing(self, replay: Replay, run: Any) -> None:
        before = rows()
        run("--resume", str(replay.pk), "--dry-run")
        assert rows() == before
        assert Replay.objects.get().finished_at is None

    def test_the_same_selection_is_not_begun_again_unless_one_insists(self, replay: Replay, run: Any) -> None:
        same = ("--tenant", "mytenant", "--status", "delivered", "--yes", *WHY)
        with pytest.raises(CommandError) as refused:
            run(*same)
        assert str(refused.value) == (
            f"Replay {replay.pk} of the same selection, begun by ops, is not finished. Carry it on with "
            f"`manage.py replay_events --resume {replay.pk}`, or add --anew to replay again what it did."
        )
        assert run(*same, "--anew")[-1].endswith("3 events became pending.")

    @pytest.mark.parametrize("finished", [True, False])
    def test_a_replay_that_is_done_or_unknown_is_not_resumed(self, replay: Replay, run: Any, finished: bool) -> None:
        replays.carry_on(replay, per_second=FAST)
        number = replay.pk if finished else replay.pk + 1
        with pytest.raises(CommandError) as refused:
            run("--resume", str(number), "--yes")
        assert str(refused.value) == (
            f"Replay {number} is done: 2 events became pending." if finished else f"There is no replay {number}."
        )

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_stops_it_and_it_says_how_to_carry_on(
        self, run: Any, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        monkeypatch.setattr(replays, "pace", lambda per_second: (1, 60.0))
        make_pending = replays._make_pending

        def then_a_signal_comes(*args: Any) -> None:
            make_pending(*args)
            threading.Timer(0.2, os.kill, (os.getpid(), number)).start()

        monkeypatch.setattr(replays, "_make_pending", then_a_signal_comes)
        handler = signal.getsignal(number)
        with pytest.raises(CommandError) as stopped:
            run("--tenant", "mytenant", "--all", "--yes", *WHY)
        replay = Replay.objects.get()
        assert str(stopped.value) == (
            f"Stopped: 1 event became pending. `manage.py replay_events --resume {replay.pk}` carries on."
        )
        assert signal.getsignal(number) is handler
