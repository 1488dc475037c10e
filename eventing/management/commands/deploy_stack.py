"""manage.py deploy_stack: the CloudFormation stack of an environment."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from eventing import aws, stack

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Create the CloudFormation stack of an environment (queues, rules, log, policies), or bring it up to"
        " date, and wait for it. Prints its outputs as environment variables, NAME=value. Options that are"
        " left out keep their value from the last time. Works on AWS and, with AWS_ENDPOINT_URL, on moto. The"
        " exit code is 1, and the reason on standard error, if the stack could not be made."
    )

    requires_system_checks = ()  # it needs nothing but AWS

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--environment",
            default=settings.BLOCKFORGER_ENVIRONMENT,
            metavar="NAME",
            help="Part of every name. Default: BLOCKFORGER_ENVIRONMENT, here '%(default)s'.",
        )
        parser.add_argument("--stack-name", metavar="NAME", help="Default: blockforger-{environment}.")
        parser.add_argument(
            "--event-bus-name",
            metavar="NAME",
            help="The bus of the rules, which must be there already. At first: default.",
        )
        parser.add_argument(
            "--output-bus-arn",
            action="append",
            dest="output_bus_arns",
            metavar="ARN",
            help="A bus that publishers may send to; repeat it for more. At first: the bus of the rules.",
        )
        parser.add_argument(
            "--enable-test-lambda",
            action=BooleanOptionalAction,
            help=(
                "Whether output events also go to the Lambda function eventbridge-test-{environment}, which"
                " logs them. At first: yes. The environment 'local' never has it: moto refuses events for it."
            ),
        )
        parser.add_argument(
            "--log-retention-days",
            type=int,
            metavar="DAYS",
            help="How long events stay in the log: a number that CloudWatch Logs knows. At first: 14.",
        )
        parser.add_argument(
            "--alarm-topic-arn",
            metavar="ARN",
            help="The SNS topic for alarms. At first: none, they only show.",
        )

    def handle(self, *_args: object, environment: str, stack_name: str | None, **options: Any) -> None:
        name = stack_name or f"blockforger-{environment}"
        self.stderr.write(f"deploy_stack: deploying '{name}' in {aws.own_region()}")
        try:
            outputs = stack.deploy(name, {"Environment": environment, **_parameters(options)})
        except (stack.DeploymentError, *aws.ERRORS) as error:
            raise CommandError(str(error)) from error
        for variable, value in stack.variables_of(outputs).items():
            self.stdout.write(f"{variable}={value}")


def _parameters(options: dict[str, Any]) -> dict[str, str]:
    """The template's parameters for which an option was given."""
    values = {
        "EventBusName": options["event_bus_name"],
        "OutputBusArns": ",".join(options["output_bus_arns"] or []) or None,
        "EnableTestLambda": {True: "true", False: "false", None: None}[options["enable_test_lambda"]],
        "LogRetentionDays": options["log_retention_days"],
        "AlarmTopicArn": options["alarm_topic_arn"],
    }
    return {name: str(value) for name, value in values.items() if value is not None}
