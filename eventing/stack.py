"""The CloudFormation stack of an environment, made from deploy/cloudformation.yaml, in AWS as in moto."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError, WaiterError
from django.conf import settings

from eventing import aws

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from mypy_boto3_cloudformation.type_defs import ParameterTypeDef, StackTypeDef, WaiterConfigTypeDef
    from mypy_boto3_cloudformation.waiter import StackCreateCompleteWaiter, StackUpdateCompleteWaiter

TEMPLATE: Path = settings.BASE_DIR / "deploy" / "cloudformation.yaml"

_POLL: WaiterConfigTypeDef = {"Delay": 3, "MaxAttempts": 300}


class DeploymentError(Exception):
    """CloudFormation could not make or change a resource of the stack. The message gives its reason."""


def deploy(name: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Create the stack, or bring it up to date, and wait for it, 15 minutes at most. Returns its outputs.

    A parameter of the template that is not given keeps the value that the stack has; a new stack gets the
    default. A stack that cannot be created is removed again, one that cannot be changed is left as it was,
    and DeploymentError is raised. What CloudFormation refuses at once raises one of aws.ERRORS.
    """
    stack = _find(name)
    if stack is None:
        _create(name, parameters)
    else:
        _update(stack, parameters)
    stack = _find(name)
    if stack is None:
        raise DeploymentError(f"The stack '{name}' was deleted while it was being deployed.")
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def variables_of(outputs: Mapping[str, str]) -> dict[str, str]:
    """The outputs as environment variables: InputQueueUrl becomes BLOCKFORGER_INPUT_QUEUE_URL."""
    return {"BLOCKFORGER" + re.sub("(?=[A-Z])", "_", key).upper(): value for key, value in outputs.items()}


def _find(name: str) -> StackTypeDef | None:
    try:
        return aws.cloudformation_client().describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if _says(error, "does not exist"):
            return None
        raise


def _create(name: str, parameters: Mapping[str, str]) -> None:
    client = aws.cloudformation_client()
    token = _new_token()
    template = TEMPLATE.read_text(encoding="utf-8")
    created = client.create_stack(
        StackName=name,
        TemplateBody=template,
        Parameters=_values(template, given=parameters, kept=()),
        Capabilities=["CAPABILITY_IAM"],
        # A stack whose creation was rolled back could neither be updated nor created again.
        OnFailure="DELETE",
        ClientRequestToken=token,
    )
    _wait(client.get_waiter("stack_create_complete"), created["StackId"], token)


def _update(stack: StackTypeDef, parameters: Mapping[str, str]) -> None:
    client = aws.cloudformation_client()
    token = _new_token()
    template = TEMPLATE.read_text(encoding="utf-8")
    kept = [parameter["ParameterKey"] for parameter in stack.get("Parameters", [])]
    try:
        client.update_stack(
            StackName=stack["StackName"],
            TemplateBody=template,
            Parameters=_values(template, given=parameters, kept=kept),
            Capabilities=["CAPABILITY_IAM"],
            ClientRequestToken=token,
        )
    except ClientError as error:
        if _says(error, "No updates are to be performed"):
            return
        raise
    _wait(client.get_waiter("stack_update_complete"), stack["StackId"], token)


def _values(template: str, *, given: Mapping[str, str], kept: Collection[str]) -> list[ParameterTypeDef]:
    declared = aws.cloudformation_client().get_template_summary(TemplateBody=template)["Parameters"]
    defaults = {parameter["ParameterKey"]: parameter.get("DefaultValue", "") for parameter in declared}
    return [
        {"ParameterKey": key, "UsePreviousValue": True}
        if key in kept and key not in given
        else {"ParameterKey": key, "ParameterValue": value}
        for key, value in {**defaults, **given}.items()
    ]


def _wait(waiter: StackCreateCompleteWaiter | StackUpdateCompleteWaiter, stack_id: str, token: str) -> None:
    try:
        waiter.wait(StackName=stack_id, WaiterConfig=_POLL)
    except WaiterError as error:
        raise DeploymentError(_reason_of_failure(stack_id, token) or str(error)) from error


def _reason_of_failure(stack_id: str, token: str) -> str:
    """What CloudFormation says of the first resource that failed; the others fail because it did."""
    pages = aws.cloudformation_client().get_paginator("describe_stack_events").paginate(StackName=stack_id)
    failures = [
        event
        for page in pages
        for event in page["StackEvents"]
        if event.get("ClientRequestToken") == token and event["ResourceStatus"].endswith("_FAILED")
    ]
    if not failures:
        return ""
    # They come newest first.
    first = failures[-1]
    reason = first.get("ResourceStatusReason", "no reason given")
    return f"{first['LogicalResourceId']} ({first['ResourceType']}): {reason}"


def _new_token() -> str:
    """Marks the events of one deployment in the history of the stack."""
    return f"deploy-{uuid.uuid4()}"


def _says(error: ClientError, words: str) -> bool:
    return words in error.response["Error"]["Message"]
