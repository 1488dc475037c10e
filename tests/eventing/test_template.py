from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from boto3.session import Session
from cfnlint.api import lint
from django.utils import timezone

from blockforger.backend.errors import SchemaUnknown
from blockforger.backend.models import Origin
from blockforger.backend.outcomes import Outcome
from blockforger.backend.signals import EventSettled
from eventing import aws, event_files, event_log, feedback
from eventing import stack as stacks
from tenants.models import Tenant

INPUT: dict[str, Any] = {
    "Source": "blockforger-input",
    "DetailType": "petstore.POST",
    "Detail": {
        "tenant": "mytenant",
        "rootSchema": "petstore",
        "api_key": "your-api-key-here",
        "operation": "POST",
        "payload": {"id": "123", "name": "Fluffy", "status": "available"},
    },
}
OUTPUT: dict[str, Any] = {
    "Source": "blockforger-output",
    "DetailType": "petstore.POST",
    "Detail": {
        "tenant": "mytenant",
        "rootSchema": "petstore",
        "operation": "POST",
        "payload": {"id": "123", "name": "Fluffy", "status": "available"},
    },
}


def feedback_on(outcome: Outcome, *, schema: str = "petstore", method: str = "POST") -> dict[str, Any]:
    about = outcome.status, outcome.problem, outcome.item_key
    settled = EventSettled(Tenant(name="mytenant"), "an-id", method, schema, *about, timezone.now())
    return {
        "Source": "blockforger-output",
        "DetailType": feedback.detail_type_of(schema),
        "Detail": feedback.detail_of(settled),
    }


REFUSED = Outcome.refused(SchemaUnknown("api_key"), Origin.EVENT)


def with_detail(entry: dict[str, Any], *without: str, **members: object) -> dict[str, Any]:
    detail = {name: value for name, value in entry["Detail"].items() if name not in without}
    return {**entry, "Detail": {**detail, **members}}


def publish(entry: dict[str, Any]) -> str:
    """Puts the event on the bus. Returns its id."""
    (answer,) = event_files.send(event_files.parse(json.dumps([entry])))
    assert answer.event_id
    return answer.event_id


def queued_ids(queue_url: str) -> list[str]:
    response = aws.sqs_client().receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
    return [json.loads(message["Body"])["id"] for message in response.get("Messages", [])]


def logged_ids(log_group: str) -> list[object]:
    an_hour_ago = timezone.now() - timedelta(hours=1)
    return [event["id"] for event in event_log.tail(log_group, since=an_hour_ago, newest=10)]


def test_cfn_lint_has_nothing_to_say_about_it_in_any_partition() -> None:
    template = stacks.TEMPLATE.read_text(encoding="utf-8")

    assert lint(template, regions=["us-east-1", "cn-north-1", "us-gov-west-1"]) == []


@pytest.mark.parametrize(
    ("entry", "goes_to"),
    [
        pytest.param(INPUT, "queue", id="an input event"),
        pytest.param(OUTPUT, "log", id="an output event does not come back in"),
        pytest.param({**INPUT, "Source": "blockforger-output"}, "queue", id="both sources may be input"),
        pytest.param({**INPUT, "DetailType": "petstore.DELETE"}, "queue", id="any of the four operations"),
        pytest.param({**INPUT, "DetailType": "petstore.GET"}, "nowhere", id="no other operation"),
        pytest.param(with_detail(INPUT, "operation"), "queue", id="the operation may be left out"),
        pytest.param(with_detail(INPUT, payload={}), "queue", id="the consumer checks an empty payload"),
        pytest.param(with_detail(INPUT, "payload"), "queue", id="the consumer checks a missing payload"),
        pytest.param(with_detail(INPUT, "tenant"), "nowhere", id="an input event without tenant"),
        pytest.param(with_detail(INPUT, "rootSchema"), "nowhere", id="an input event without schema"),
        pytest.param(with_detail(INPUT, "api_key"), "nowhere", id="an input event without key"),
        pytest.param(
            with_detail(INPUT, "api_key", apikey="secret"), "nowhere", id="a key under a wrong name is not logged"
        ),
        pytest.param({**OUTPUT, "Source": "myapp.backend-output"}, "log", id="a rule may set its own source"),
        pytest.param({**OUTPUT, "DetailType": "renamed"}, "log", id="a rule may set its own detail-type"),
        pytest.param(
            with_detail(OUTPUT, payload={"id": "1", "api_key": "mine"}), "log", id="an item may have an api_key"
        ),
        pytest.param(feedback_on(Outcome(status=201, item_key="123")), "log", id="feedback does not come back in"),
        pytest.param(feedback_on(REFUSED, schema="api_key"), "log", id="nor does that on a refused event"),
        pytest.param(feedback_on(REFUSED, schema="x.POST"), "log", id="nor does that on a schema named like that"),
        pytest.param(feedback_on(REFUSED, schema="", method=""), "log", id="nor does that on an event without a name"),
        pytest.param(with_detail(OUTPUT, "operation"), "nowhere", id="another application's event"),
    ],
)
def test_the_rules_send_each_event_to_the_queue_or_to_the_log_but_never_to_both(
    stack: dict[str, str], entry: dict[str, Any], goes_to: str
) -> None:
    event_id = publish(entry)

    queued, logged = queued_ids(stack["InputQueueUrl"]), logged_ids(stack["EventLogGroup"])

    assert queued == ([event_id] if goes_to == "queue" else [])
    assert logged == ([event_id] if goes_to == "log" else [])


def test_an_event_that_was_received_twenty_times_goes_to_the_dead_letter_queue(stack: dict[str, str]) -> None:
    event_id = publish(INPUT)
    sqs = aws.sqs_client()

    for _ in range(20):
        (message,) = sqs.receive_message(QueueUrl=stack["InputQueueUrl"], WaitTimeSeconds=0)["Messages"]
        sqs.change_message_visibility(
            QueueUrl=stack["InputQueueUrl"], ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )

    assert queued_ids(stack["InputQueueUrl"]) == []
    assert queued_ids(stack["InputDeadLetterQueueUrl"]) == [event_id]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("environment", "enabled", "targets"),
    [
        ("local", "true", ["log"]),  # moto cannot take an event for a function
        ("production", "true", ["log", "test-lambda"]),
        ("production", "false", ["log"]),
    ],
)
def test_output_events_also_go_to_the_test_function_where_it_is_enabled(
    environment: str, enabled: str, targets: list[str]
) -> None:
    stacks.deploy("blockforger", {"Environment": environment, "EnableTestLambda": enabled})

    events = aws.events_client("us-east-1")
    found = events.list_targets_by_rule(Rule=f"blockforger-output-{environment}")["Targets"]

    assert [target["Id"] for target in found] == targets
    if "test-lambda" in targets:
        assert found[1]["Arn"].endswith(f":function:eventbridge-test-{environment}")


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("output_bus_arns", "buses"),
    [
        ("", ["arn:aws:events:us-east-1:123456789012:event-bus/default"]),
        (
            "arn:aws:events:eu-west-1:210987654321:event-bus/a,arn:aws:events:us-east-1:123456789012:event-bus/b",
            [
                "arn:aws:events:eu-west-1:210987654321:event-bus/a",
                "arn:aws:events:us-east-1:123456789012:event-bus/b",
            ],
        ),
    ],
)
def test_a_publisher_may_send_to_the_named_buses_only(output_bus_arns: str, buses: list[str]) -> None:
    outputs = stacks.deploy("blockforger", {"OutputBusArns": output_bus_arns})

    iam: Any = Session().client("iam")
    version = iam.get_policy_version(PolicyArn=outputs["PublisherPolicyArn"], VersionId="v1")["PolicyVersion"]

    assert version["Document"]["Statement"] == [
        {"Effect": "Allow", "Action": ["events:PutEvents", "events:DescribeEventBus"], "Resource": buses}
    ]
