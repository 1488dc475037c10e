from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from botocore.stub import Stubber
from django.core.management import CommandError, call_command
from django.utils import timezone

from eventing import aws, event_files, event_log, stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_cloudformation.type_defs import StackTypeDef

STACK_ID = "arn:aws:cloudformation:us-east-1:123456789012:stack/blockforger-local/0"


def deploy(*options: str) -> dict[str, str]:
    """Runs the command. Returns the variables that it printed."""
    out = StringIO()
    call_command("deploy_stack", *options, stdout=out, stderr=StringIO())
    return dict(line.split("=", 1) for line in out.getvalue().splitlines())


def described(name: str = "blockforger-local") -> StackTypeDef:
    return aws.cloudformation_client().describe_stacks(StackName=name)["Stacks"][0]


def parameters(name: str = "blockforger-local") -> dict[str, str]:
    return {each["ParameterKey"]: each["ParameterValue"] for each in described(name)["Parameters"]}


def failure(resource: str, reason: str, *, of: str) -> dict[str, object]:
    """What the history of a stack says of a resource that failed in the deployment with that token."""
    return {
        "StackId": STACK_ID,
        "EventId": f"{resource}-{of}",
        "StackName": "blockforger-local",
        "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "LogicalResourceId": resource,
        "ResourceType": "AWS::SQS::Queue",
        "ResourceStatus": "CREATE_FAILED",
        "ResourceStatusReason": reason,
        "ClientRequestToken": of,
    }


@pytest.fixture
def cloudformation(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """A CloudFormation that answers as a test says, because nothing ever fails in moto's."""
    monkeypatch.setattr(stack, "_new_token", lambda: "this one")
    with Stubber(aws.cloudformation_client()) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.mark.usefixtures("aws")
def test_a_new_stack_is_printed_as_environment_variables() -> None:
    variables = deploy("--environment", "local")

    policy_arns = [variables.pop(f"BLOCKFORGER_{kind}_POLICY_ARN") for kind in ("PUBLISHER", "CONSUMER", "REDRIVE")]
    queues = "https://sqs.us-east-1.amazonaws.com/123456789012"
    assert variables == {
        "BLOCKFORGER_ENVIRONMENT": "local",
        "BLOCKFORGER_INPUT_QUEUE_URL": f"{queues}/blockforger-input-local",
        "BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_URL": f"{queues}/blockforger-input-dead-letter-local",
        "BLOCKFORGER_INPUT_RULE_NAME": "blockforger-input-local",
        "BLOCKFORGER_OUTPUT_RULE_NAME": "blockforger-output-local",
        "BLOCKFORGER_EVENT_LOG_GROUP": "/aws/events/blockforger-local",
        "BLOCKFORGER_DEFAULT_BUS_ARN": "arn:aws:events:us-east-1:123456789012:event-bus/default",
    }
    assert all(arn.startswith("arn:aws:iam::123456789012:policy/") for arn in policy_arns)


@pytest.mark.usefixtures("aws")
def test_a_second_deployment_with_nothing_new_succeeds_and_changes_nothing() -> None:
    first = deploy("--environment", "local")

    assert deploy("--environment", "local") == first
    assert described()["StackStatus"] == "CREATE_COMPLETE"


@pytest.mark.usefixtures("aws")
def test_an_option_that_is_left_out_keeps_its_value() -> None:
    bus = "arn:aws:events:eu-west-1:210987654321:event-bus/orders"
    deploy("--environment", "local", "--output-bus-arn", bus)

    deploy("--environment", "local", "--log-retention-days", "30", "--no-enable-test-lambda")

    now = parameters()
    assert bus in now.pop("OutputBusArns")  # moto wraps it in a list's text
    assert now == {
        "Environment": "local",
        "EventBusName": "default",
        "EnableTestLambda": "false",
        "LogRetentionDays": "30",
        "AlarmTopicArn": "",
    }


@pytest.mark.usefixtures("aws")
def test_events_still_arrive_after_an_update() -> None:
    first = deploy("--environment", "local")

    assert deploy("--environment", "local", "--log-retention-days", "30") == first

    detail = {"tenant": "acme", "rootSchema": "petstore", "operation": "POST", "payload": {}}
    entry = {"Source": "blockforger-output", "DetailType": "petstore.POST", "Detail": detail}
    (answer,) = event_files.send(event_files.parse(json.dumps([entry])))
    events = event_log.tail(first["BLOCKFORGER_EVENT_LOG_GROUP"], since=timezone.now() - timedelta(hours=1), newest=1)
    assert [event["id"] for event in events] == [answer.event_id]


@pytest.mark.usefixtures("aws")
def test_environments_stand_side_by_side() -> None:
    blue, green = deploy("--environment", "blue"), deploy("--environment", "green", "--stack-name", "other")

    assert blue["BLOCKFORGER_INPUT_QUEUE_URL"] != green["BLOCKFORGER_INPUT_QUEUE_URL"]
    assert parameters("blockforger-blue")["Environment"] == "blue"
    assert parameters("other")["Environment"] == "green"


@pytest.mark.usefixtures("aws")
def test_rules_can_be_put_on_a_bus_of_ones_own() -> None:
    aws.events_client("us-east-1").create_event_bus(Name="orders")

    variables = deploy("--environment", "local", "--event-bus-name", "orders")

    assert variables["BLOCKFORGER_DEFAULT_BUS_ARN"].endswith(":event-bus/orders")
    assert [rule["Name"] for rule in aws.events_client("us-east-1").list_rules(EventBusName="orders")["Rules"]] == [
        "blockforger-input-local",
        "blockforger-output-local",
    ]


@pytest.mark.usefixtures("aws")
def test_a_bus_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="Event bus nowhere does not exist"):
        deploy("--environment", "local", "--event-bus-name", "nowhere")


def test_a_failed_deployment_tells_why_the_first_resource_failed(cloudformation: Stubber) -> None:
    history = [  # newest first
        failure("InputRule", "Resource creation cancelled", of="this one"),
        failure("InputQueue", "A queue with this name already exists", of="this one"),
        failure("EventLog", "The log group was there", of="an earlier one"),
    ]
    a_stack = {"StackName": "blockforger-local", "CreationTime": datetime(2026, 1, 1, tzinfo=UTC)}
    rolled_back = {"Stacks": [{**a_stack, "StackId": STACK_ID, "StackStatus": "UPDATE_ROLLBACK_COMPLETE"}]}
    cloudformation.add_response("describe_stacks", rolled_back)
    cloudformation.add_response("get_template_summary", {"Parameters": []})
    cloudformation.add_response("update_stack", {"StackId": STACK_ID})
    cloudformation.add_response("describe_stacks", rolled_back, {"StackName": STACK_ID})
    cloudformation.add_response("describe_stack_events", {"StackEvents": history}, {"StackName": STACK_ID})

    with pytest.raises(CommandError) as error:
        deploy("--environment", "local")

    assert str(error.value) == "InputQueue (AWS::SQS::Queue): A queue with this name already exists"
    assert error.value.returncode == 1


def test_what_cloudformation_refuses_is_told_in_its_words(cloudformation: Stubber) -> None:
    cloudformation.add_client_error(
        "describe_stacks", "ValidationError", "Stack with id blockforger-local does not exist"
    )
    cloudformation.add_response("get_template_summary", {"Parameters": []})
    cloudformation.add_client_error("create_stack", "AccessDenied", "Not authorized to perform: CreateStack")

    with pytest.raises(CommandError, match="Not authorized to perform: CreateStack"):
        deploy("--environment", "local")
