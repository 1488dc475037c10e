from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import Stubber
from django.conf import settings
from django.core.management import CommandError, call_command

from eventing import aws, event_files

if TYPE_CHECKING:
    from pathlib import Path

# As the documentation of the integration prints them: three files, and one command line.
SPEC_FILE = """\
[
{
"Source": "blockforger-input",
"DetailType": "YOUR_SCHEMA.POST",
"EventBusName": "default",
"Detail": {
"tenant": "YOUR_TENANT",
"rootSchema": "YOUR_SCHEMA",
"operation": "POST",
"api_key": "YOUR_API_KEY",
"payload": {
"numeric": 21,
"string": "ergyigyuhwer"
}
}
}
]
"""
SPEC_FILE_WITH_ACTUAL_VALUES = """\
[
{
"Source": "blockforger-input",
"DetailType": "evented.POST",
"EventBusName": "default",
"Detail": {
"tenant": "evented",
"rootSchema": "evented",
"operation": "POST",
"api_key": "YOUR-API-KEY-HERE",
"payload": {
"numeric": 21,
"string": "ergyigyuhwer"
}
}
}
]
"""
SPEC_INLINE = (
    r'[{"Source":"blockforger-input","DetailType":"YOUR_SCHEMA.POST","EventBusName":"default","Detail":"'
    r"{\"tenant\":\"YOUR_TENANT\",\"rootSchema\":\"YOUR_SCHEMA\",\"operation\":\"POST\",\"api_key\":\"YOUR_API_KEY\","
    r'\"payload\":{\"numeric\":21,\"string\":\"ergyigyuhwer\"}}"}]'
)
DETAIL = {
    "tenant": "YOUR_TENANT",
    "rootSchema": "YOUR_SCHEMA",
    "operation": "POST",
    "api_key": "YOUR_API_KEY",
    "payload": {"numeric": 21, "string": "ergyigyuhwer"},
}
# The same documentation's events, as they are on the bus.
SPEC_EVENTS = {
    "output": {
        "source": "blockforger-output",
        "detail-type": "petstore.POST",
        "detail": {
            "tenant": "mytenant",
            "rootSchema": "petstore",
            "operation": "POST",
            "payload": {"id": "123", "name": "Fluffy", "status": "available"},
        },
    },
    "input": {
        "source": "blockforger-input",
        "detail-type": "petstore.POST",
        "detail": {
            "tenant": "mytenant",
            "rootSchema": "petstore",
            "api_key": "your-api-key-here",
            "operation": "POST",
            "payload": {"id": "123", "name": "Fluffy", "status": "available"},
        },
    },
    "input that replaces": {
        "source": "blockforger-input",
        "detail-type": "petstore.PUT",
        "detail": {
            "tenant": "mytenant",
            "rootSchema": "petstore",
            "operation": "PUT",
            "api_key": "your-api-key-here",
            "payload": {"id": "123", "name": "Fluffy Updated", "status": "sold"},
        },
    },
}


def put_events(entries: str) -> list[dict[str, Any]]:
    """Runs the command. Returns the lines that it printed."""
    out = StringIO()
    call_command("put_events", entries=entries, stdout=out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def received(stack: dict[str, str]) -> list[dict[str, Any]]:
    response = aws.sqs_client().receive_message(
        QueueUrl=stack["InputQueueUrl"], MaxNumberOfMessages=10, WaitTimeSeconds=0
    )
    return [json.loads(message["Body"]) for message in response.get("Messages", [])]


def entry(**fields: object) -> str:
    return json.dumps([{"Source": "a", "DetailType": "b", "Detail": {}, **fields}])


@pytest.mark.parametrize("text", [SPEC_FILE, SPEC_FILE_WITH_ACTUAL_VALUES])
def test_the_documented_files_are_sent_as_they_are_printed(stack: dict[str, str], tmp_path: Path, text: str) -> None:
    file = tmp_path / "event.json"
    file.write_text(text)

    (line,) = put_events(f"file://{file}")

    (event,) = received(stack)
    assert line == {"Entry": 0, "EventId": event["id"]}
    assert event["source"] == "blockforger-input"
    assert event["detail"] == json.loads(text)[0]["Detail"]


def test_the_documented_command_line_is_sent_as_it_is_printed(stack: dict[str, str]) -> None:
    put_events(SPEC_INLINE)

    (event,) = received(stack)
    assert event["detail-type"] == "YOUR_SCHEMA.POST"
    assert event["detail"] == DETAIL


@pytest.mark.parametrize("name", SPEC_EVENTS)
def test_the_documented_events_can_be_sent(stack: dict[str, str], name: str) -> None:
    event: dict[str, Any] = SPEC_EVENTS[name]
    sent = {"Source": event["source"], "DetailType": event["detail-type"], "Detail": event["detail"]}

    put_events(json.dumps([sent]))

    assert [found["detail"] for found in received(stack)] == ([event["detail"]] if "input" in name else [])


def test_standard_input_can_be_given_by_a_dash_or_as_a_file(stack: dict[str, str]) -> None:
    for name in ("-", "file:///dev/stdin"):
        command = [sys.executable, "manage.py", "put_events", "--entries", name]
        result = subprocess.run(
            command, input=SPEC_FILE, capture_output=True, text=True, check=True, cwd=settings.BASE_DIR
        )
        assert json.loads(result.stdout)["Entry"] == 0

    assert [event["detail"] for event in received(stack)] == [DETAIL, DETAIL]


def test_a_detail_keeps_its_text_or_the_order_of_its_members() -> None:
    as_text, as_object = event_files.parse(
        '[{"Source":"a","DetailType":"b","Detail":" {\\"z\\": 1.50, \\"a\\": 2}"},'
        ' {"Source":"a","DetailType":"b","Detail":{"z": "ü", "a": 2}}]'
    )

    assert as_text["Detail"] == ' {"z": 1.50, "a": 2}'
    assert as_object["Detail"] == '{"z":"ü","a":2}'


def test_more_entries_than_fit_a_call_are_all_sent_in_order(stack: dict[str, str]) -> None:
    entries = [{**json.loads(SPEC_FILE)[0], "Detail": {**DETAIL, "payload": {"id": i}}} for i in range(23)]

    lines = put_events(json.dumps(entries))

    events = [event for _ in range(3) for event in received(stack)]
    assert [line["Entry"] for line in lines] == list(range(23))
    assert {event["id"]: event["detail"]["payload"]["id"] for event in events} == {
        line["EventId"]: line["Entry"] for line in lines
    }


def test_each_entry_goes_to_the_region_of_its_bus(stack: dict[str, str]) -> None:
    bus = "arn:aws:events:eu-west-1:123456789012:event-bus/default"
    there, here = json.loads(SPEC_FILE)[0] | {"EventBusName": bus}, json.loads(SPEC_FILE)[0]

    lines = put_events(json.dumps([there, here]))

    assert [line["Entry"] for line in lines] == [0, 1]
    assert [event["id"] for event in received(stack)] == [lines[1]["EventId"]]


@pytest.mark.usefixtures("aws_server")
def test_an_entry_that_failed_in_a_call_that_did_not_fails_the_command() -> None:
    out = StringIO()
    with Stubber(aws.events_client("us-east-1")) as events:
        answered = [{"EventId": "11"}, {"ErrorCode": "InternalFailure", "ErrorMessage": "Try again"}]
        events.add_response("put_events", {"FailedEntryCount": 1, "Entries": answered})

        with pytest.raises(CommandError, match=r"^1 of 2 entries failed\.$") as error:
            call_command("put_events", entries=json.dumps(json.loads(SPEC_FILE) * 2), stdout=out)

    assert error.value.returncode == 1
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"Entry": 0, "EventId": "11"},
        {"Entry": 1, "ErrorCode": "InternalFailure", "ErrorMessage": "Try again"},
    ]


@pytest.mark.usefixtures("aws")
def test_a_call_that_failed_is_told_for_each_of_its_entries() -> None:
    elsewhere = json.loads(SPEC_FILE)[0] | {"EventBusName": "nowhere"}
    out = StringIO()

    with pytest.raises(CommandError, match=r"^2 of 2 entries failed\.$"):
        call_command("put_events", entries=json.dumps([elsewhere] * 2), stdout=out)

    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {
            "Entry": index,
            "ErrorCode": "ResourceNotFoundException",
            "ErrorMessage": "Event bus nowhere does not exist.",
        }
        for index in range(2)
    ]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("event.json", "The text is not JSON: Expecting value at line 1, column 1."),
        ("[]", 'Write a JSON array of entries: [{"Source": …, "DetailType": …, "Detail": {…}}].'),
        (entry()[1:-1], 'Write a JSON array of entries: [{"Source": …, "DetailType": …, "Detail": {…}}].'),
        ('[{"Source": "a", "Source": "b"}]', 'The member "Source" stands twice in one object.'),
        ("[1]", "Entry 0: Write an object with Source, DetailType and Detail."),
        ('[{"Source": "a", "DetailType": "b"}]', "Entry 0: Detail is missing."),
        (entry(Source=""), "Entry 0: Source must be a text that is not empty."),
        (entry(DetailType="x" * 129), "Entry 0: DetailType has more than 128 characters."),
        (entry(Detail=["tenant"]), "Entry 0: Detail must be an object, or the JSON text of one."),
        (entry(Detail='"tenant"'), "Entry 0: Detail must be an object, or the JSON text of one."),
        (entry(Detail="{'a': 1}"), "Entry 0: Detail is a text, but not of JSON that EventBridge takes: The text"),
        (entry(EventBusName="my bus"), "Entry 0: EventBusName must be the name of a bus, or its ARN."),
        (entry(EventBusName="arn:aws:sqs:us-east-1:123456789012:q"), "Entry 0: EventBusName is wrong: 'arn:aws:sqs"),
        (entry(Time="2026-01-31T12:00:00"), "Entry 0: Time must be a date and time with its offset, such as"),
        (entry(Time=1), "Entry 0: Time must be a date and time with its offset, such as"),
        (entry(Resources="urn:x"), "Entry 0: Resources must be a list of texts."),
        (entry(Details={}), "Entry 0: Details is not a field of an entry. Those are Source, DetailType, Detail,"),
        (entry(Detail={"n": 2**64}), "An integer does not fit into 64 bits. (at /0/Detail/n)"),
    ],
)
def test_nothing_is_sent_of_entries_that_are_not_well_formed(text: str, problem: str) -> None:
    with pytest.raises(CommandError) as error:
        put_events(text)

    first, second, *_ = str(error.value).splitlines()
    assert first == "Nothing was sent."
    assert second.startswith(problem)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(event_files.EntriesError) as error:
        event_files.parse('[{"Source": "a", "DetailType": "b", "Detail": {}}, {"Source": 1, "Detail": {}}]')

    assert str(error.value).splitlines() == [
        "Entry 1: DetailType is missing.",
        "Entry 1: Source must be a text that is not empty.",
    ]


def test_who_forgets_the_scheme_of_a_file_is_reminded() -> None:
    with pytest.raises(CommandError, match=r"To read a file, write --entries file://event\.json\.$"):
        put_events("event.json")


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(CommandError, match=r"^Nothing was sent\. .*nowhere\.json cannot be read: No such file"):
        put_events("file:///nowhere.json")


def test_an_optional_time_and_resources_are_sent(stack: dict[str, str]) -> None:
    (sent,) = json.loads(SPEC_FILE)

    put_events(json.dumps([{**sent, "Time": "2026-01-31T13:00:00+01:00", "Resources": ["urn:x"]}]))

    (event,) = received(stack)
    assert (event["time"], event["resources"]) == ("2026-01-31T12:00:00Z", ["urn:x"])


@pytest.mark.usefixtures("aws")
def test_no_message_holds_an_api_key() -> None:
    (sent,) = json.loads(SPEC_FILE)
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError) as error:
        call_command("put_events", entries=json.dumps([{**sent, "EventBusName": "nowhere"}]), stdout=out, stderr=err)
    with pytest.raises(CommandError) as refusal:
        put_events(json.dumps([{**sent, "Detail": json.dumps(DETAIL) + "}"}]))

    assert "YOUR_API_KEY" not in out.getvalue() + err.getvalue() + str(error.value) + str(refusal.value)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in out.getvalue() + err.getvalue()
