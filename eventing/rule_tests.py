"""Testing a rule: a sample event for its bus, marked as one, and what AWS says to it, with the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import uuid_utils.compat as uuid
from botocore.exceptions import BotoCoreError, ClientError
from django.utils import timezone

from blockforger.backend import json_values
from eventing import answers, aws, bus_questions, buses, explanations, rules
from eventing.answers import Answer, Verdict
from eventing.buses import Existence
from tenants import rate_limits
from tenants.rate_limits import Policy

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.models import Schema
    from eventing.explanations import Event
    from eventing.rules import Rule
    from tenants.models import Tenant
    from tenants.rate_limits import Allowance

LIMIT = Policy(quota=10, seconds=60)
"""Tests of a tenant's rules over REST."""

SAMPLE_KEY = "sample"
_DENIED = {"AccessDenied", "AccessDeniedException", "NotAuthorized"}
# By code; the others are told by their verdict.
_EXPIRED = "Blockforger's AWS credentials have expired. The operator has to renew them; the rule is well."
_CREDENTIALS = "AWS does not accept Blockforger's credentials. The operator has to put them right."
_UNREACHABLE = "EventBridge cannot be reached in the bus's region. See whether that is spelt right, or try again later."
_THROTTLED = "EventBridge limits our calls in this region. Try again in a moment; real events wait and are sent again."
_NARROW = "The bus's policy allows other sources or detail-types only. Change the rule's, or the policy."
_HINTS = {
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException"), _EXPIRED),
    **dict.fromkeys(("IncompleteSignature", "InvalidClientTokenId", "InvalidSignatureException"), _CREDENTIALS),
    **dict.fromkeys(("MissingAuthenticationToken", "SignatureDoesNotMatch"), _CREDENTIALS),
    **dict.fromkeys(("UnrecognizedClientException", "NoCredentialsError", "PartialCredentialsError"), _CREDENTIALS),
    "CredentialRetrievalError": _CREDENTIALS,
    **dict.fromkeys(("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"), _UNREACHABLE),
    **dict.fromkeys(("ConnectionClosedError", "SSLError", "ProxyConnectionError"), _UNREACHABLE),
    **dict.fromkeys(("ThrottlingException", "Throttling", "TooManyRequestsException"), _THROTTLED),
    **dict.fromkeys(("NotAuthorizedForSourceException", "NotAuthorizedForDetailTypeException"), _NARROW),
}
_HINTS_BY_VERDICT = {
    Verdict.RETRY: "This may pass. Try again in a moment; real events wait and are sent again.",
    Verdict.REFUSED: "EventBridge refuses the event as it is. Change what the message names.",
    Verdict.BUS_REFUSED: "The bus takes nothing from us. Its account, or the operator, can change that.",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent to the rule's bus, and AWS's answer."""

    event: Event
    answer: Answer
    # What to do about a refusal, or what an acceptance does not prove.
    hint: str
    # Of a refusal for want of permission: the policy that grants it.
    policy: JsonObject | None

    @property
    def is_accepted(self) -> bool:
        return self.answer.verdict is Verdict.ACCEPTED

    @property
    def document(self) -> JsonObject:
        return {
            "accepted": self.is_accepted,
            "event_id": self.answer.event_id or None,
            "code": self.answer.code or None,
            "message": self.answer.message or None,
            "hint": self.hint or None,
            "policy": self.policy,
            "event": self.event.entry,
        }


def allowance_of(tenant: Tenant) -> Allowance | None:
    """Count a test of the tenant's rules. None if there is nobody to count."""
    return rate_limits.count(f"rule-tests:{tenant.pk}", LIMIT)


def send(rule: Rule, tenant: Tenant, payload: JsonObject | None = None) -> Sent:
    """Send a sample of the rule's events to its bus, and give the answer within some twenty seconds.

    Nothing is stored, billed or tried again. The sample is of the first operation and schema that the rule is for,
    whatever its conditions say, and its second resource is `urn:blockforger:test:{uuid}` instead of an event's: so
    consumers can tell.
    """
    event = _sample(rule, tenant, payload)
    if problems := rules.problems_of_bus(rule.eventbridge_arn, tenant.pk):
        return Sent(event, Answer(Verdict.REFUSED, code="BusNotAllowed", message=" ".join(problems)), "", None)
    finding = bus_questions.describe(rule.eventbridge_arn)
    if finding.existence is Existence.MISSING:
        answer = Answer(Verdict.BUS_REFUSED, code="ResourceNotFoundException", message=finding.error)
        return Sent(event, answer, buses.how_to_make(rule.eventbridge_arn), None)
    answer = _put(event)
    if answer.verdict is Verdict.ACCEPTED:
        hint = "" if finding.existence is Existence.FOUND else _unproved(finding.error)
        return Sent(event, answer, hint, None)
    return Sent(event, answer, *_hint(answer, rule.eventbridge_arn))


def _hint(answer: Answer, arn: str) -> tuple[str, JsonObject | None]:
    """What to do about a refusal, and the policy that lifts it, if one does."""
    if answer.code not in _DENIED:
        return _HINTS.get(answer.code, _HINTS_BY_VERDICT.get(answer.verdict, "")), None
    partition, _, region, account = arn.split(":")[1:5]
    try:
        own = aws.own_account()
    except aws.ERRORS:
        own = "{account of Blockforger}"
    statement: JsonObject = {"Sid": "Blockforger", "Effect": "Allow"}
    hint = "The role that Blockforger runs as lacks the permission. Attach this policy to it."
    if own != account:
        statement["Principal"] = {"AWS": f"arn:{partition}:iam::{own}:root"}
        hint = (
            f"The bus is another account's. There ({account}, {region}), add this statement to the bus's policy:"
            " EventBridge, Event buses, Permissions. The role that Blockforger runs as needs events:PutEvents, too."
        )
    statement |= {"Action": ["events:PutEvents", "events:DescribeEventBus"], "Resource": arn}
    return hint, {"Version": "2012-10-17", "Statement": [statement]}


def _unproved(error: str) -> str:
    return (
        "EventBridge accepts events for buses that do not exist, too, and we may not see whether this one does: see"
        f" whether the sample has arrived, or allow us events:DescribeEventBus. ({error})"
    )


def _sample(rule: Rule, tenant: Tenant, payload: JsonObject | None) -> Event:
    schema = _schema(rule, tenant)
    operation = rule.operations[0] if rule.operations else "POST"
    name, key_field = (schema.name, schema.key_field) if schema else (SAMPLE_KEY, "id")
    sent = {key_field: SAMPLE_KEY, **(payload or {})}
    if schema:
        sent = rules.payload_of(rule, schema, sent)
    urn = explanations.item_urn(tenant.name, name, str(sent[key_field]))
    return explanations.event_of(
        rule, tenant.name, name, operation, sent, [urn, f"urn:blockforger:test:{uuid.uuid7()}"]
    )


def _schema(rule: Rule, tenant: Tenant) -> Schema | None:
    schemas = tenant.schemas.defer("document").order_by("name")
    if rule.schema_id is not None:
        schemas = schemas.filter(pk=rule.schema_id)
    elif rule.schema_names:
        schemas = schemas.filter(name__in=rule.schema_names)
    return schemas.first()


def _put(event: Event) -> Answer:
    client = aws.bus_checks_client(event.bus_arn.split(":")[3])
    try:
        response = client.put_events(
            Entries=[
                {
                    "Time": timezone.now(),
                    "Source": event.source,
                    "DetailType": event.detail_type,
                    "EventBusName": event.bus_arn,
                    "Resources": event.resources,
                    "Detail": json_values.compact(event.detail),
                }
            ]
        )
        [entry] = response["Entries"]
    except (ClientError, BotoCoreError) as error:
        return answers.of_failed_call(error)
    except (KeyError, ValueError) as error:  # of a body that is no JSON, botocore makes an answer without members
        return Answer(Verdict.RETRY, code=type(error).__name__, message="The answer cannot be read.")
    return answers.of_entry(entry)
