from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

from eventing import aws, event_files, event_log

LOG_GROUP = "/aws/events/blockforger-local"


def publish(item: int, tenant: str = "acme") -> None:
    detail = {"tenant": tenant, "rootSchema": "petstore", "operation": "POST", "payload": {"id": item}}
    entry = {"Source": "blockforger-output", "DetailType": "petstore.POST", "Detail": detail}
    (answer,) = event_files.send(event_files.parse(json.dumps([entry])))
    assert answer.event_id


def log(message: str, *, minutes_ago: float) -> None:
    """Writes a line to the log as somebody else than EventBridge would."""
    logs = aws.logs_client()
    stream = f"stream-{minutes_ago}"
    at = timezone.now() - timedelta(minutes=minutes_ago)
    logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
    logs.put_log_events(
        logGroupName=LOG_GROUP,
        logStreamName=stream,
        logEvents=[{"timestamp": int(at.timestamp() * 1000), "message": message}],
    )


def an_event(item: int) -> str:
    return json.dumps({"detail": {"tenant": "acme", "payload": {"id": item}}})


def tail_events(*options: str) -> list[dict[str, Any]]:
    """Runs the command. Returns the events that it printed."""
    out = StringIO()
    call_command("tail_events", *options, stdout=out, stderr=StringIO())
    return [json.loads(line) for line in out.getvalue().splitlines()]


def items(events: list[dict[str, Any]]) -> list[int]:
    return [event["detail"]["payload"]["id"] for event in events]


@pytest.mark.usefixtures("stack")
def test_each_event_is_a_line_as_eventbridge_delivered_it() -> None:
    publish(1)

    (event,) = tail_events()

    assert event["source"] == "blockforger-output"
    assert event["detail-type"] == "petstore.POST"
    assert list(event["detail"]) == ["tenant", "rootSchema", "operation", "payload"]
    assert event["id"]


@pytest.mark.usefixtures("stack")
def test_the_newest_are_shown_oldest_first() -> None:
    for item in range(5):
        publish(item)

    assert items(tail_events("--newest", "3")) == [2, 3, 4]
    assert items(tail_events("--newest", "0")) == []
    assert items(tail_events()) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("stack")
def test_a_tenants_events_can_be_picked_out() -> None:
    publish(1, tenant="acme")
    publish(2, tenant="globex")

    assert items(tail_events("--tenant", "globex")) == [2]


@pytest.mark.usefixtures("stack")
def test_older_events_are_left_out() -> None:
    log(an_event(1), minutes_ago=120)
    log(an_event(2), minutes_ago=30)

    assert items(tail_events()) == [2]
    assert items(tail_events("--since", "3h")) == [1, 2]
    assert items(tail_events("--since", "10m")) == []


@pytest.mark.usefixtures("stack")
def test_lines_that_are_no_events_are_passed_over() -> None:
    log("START RequestId: 8f5", minutes_ago=3)
    log('["a list"]', minutes_ago=2)
    log(an_event(1), minutes_ago=1)

    assert items(tail_events()) == [1]


@pytest.mark.usefixtures("stack")
def test_an_event_can_be_spread_over_lines() -> None:
    publish(1)
    out = StringIO()

    call_command("tail_events", "--pretty", stdout=out)

    assert '  "detail": {\n    "tenant": "acme",\n' in out.getvalue()


@pytest.mark.usefixtures("stack")
def test_nothing_to_show_is_said_on_standard_error() -> None:
    out, err = StringIO(), StringIO()

    call_command("tail_events", stdout=out, stderr=err)

    assert (out.getvalue(), err.getvalue()) == ("", "tail_events: no events; --since looks further back\n")


@pytest.mark.usefixtures("stack")
def test_following_gives_each_event_once_and_late_ones_too() -> None:
    publish(1)
    publish(2)
    events = event_log.tail(LOG_GROUP, since=timezone.now() - timedelta(hours=1), newest=1, poll_seconds=0.01)

    def following() -> object:
        detail: Any = next(events)["detail"]
        return detail["payload"]["id"]

    assert following() == 2
    publish(3)
    assert following() == 3
    publish(4)
    publish(5)
    assert [following(), following()] == [4, 5]
    log(an_event(6), minutes_ago=0.1)
    assert following() == 6


@pytest.mark.usefixtures("stack")
def test_following_ends_well_with_ctrl_c() -> None:
    publish(1)
    command = [sys.executable, "manage.py", "tail_events", "--follow"]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "cwd": settings.BASE_DIR}
    # Whoever runs the tests in the background has it ignored, and what they start inherits that.
    with subprocess.Popen(
        command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options
    ) as process:
        assert process.stdout
        lines = [process.stdout.readline()]
        publish(2)
        lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)

    assert items([json.loads(line) for line in lines]) == [1, 2]
    assert process.returncode == 0


@pytest.mark.usefixtures("aws")
def test_a_missing_log_group_is_told_with_its_remedy() -> None:
    with pytest.raises(CommandError) as error:
        tail_events("--log-group", "/aws/events/nowhere")

    assert str(error.value) == (
        "There is no log group '/aws/events/nowhere' in us-east-1. Make it with `manage.py deploy_stack`."
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--since", "yesterday"], "argument --since: 'yesterday' is not an age such as 30s, 15m, 2h or 7d"),
        (["--newest", "-1"], "argument -n/--newest: '-1' is not a number of events"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: list[str], problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        tail_events(*options)
