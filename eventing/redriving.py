"""Redriving: from the input's dead-letter queue back to the input queue.

A message is sent before it is deleted, so that none is lost however this ends. What it may send twice is harmless: the
record of the operation answers the second time. Bodies hold API keys; they go nowhere but from queue to queue.

SQS can move messages by itself (StartMessageMoveTask). That is not used: it takes no limit, so that what fails again
may go in circles, it runs on when whoever started it has gone, and moto has none for the tests.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from eventing import aws

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

MAX_PER_SECOND = 1000

_BATCH = 10
# For the messages of a batch to be moved in, on top of the time that the rate takes.
_SLACK_SECONDS = 60


def waiting(client: SQSClient | None = None) -> int:
    """About how many messages can be taken from the dead-letter queue: SQS itself knows no better."""
    client = client or aws.sqs_client()
    attributes = client.get_queue_attributes(
        QueueUrl=aws.input_dead_letter_queue_url(client), AttributeNames=["ApproximateNumberOfMessages"]
    )["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"])


def redrive(*, at_most: int, per_second: int, seconds: float = float("inf"), client: SQSClient | None = None) -> int:
    """Move up to that many messages, no faster than that, for so long at the most. Returns how many were moved.

    Without a bound it might never end: what fails again comes back. Raises QueueMissingError and faults of SQS; the
    messages moved until then stay moved, the others where they were.
    """
    ends_at = time.monotonic() + seconds
    client = client or aws.sqs_client()
    source, target = aws.input_dead_letter_queue_url(client), aws.input_queue_url(client)
    moved = 0
    while (
        moved < at_most
        and time.monotonic() < ends_at
        and (batch := _receive(client, source, at_most=min(_BATCH, at_most - moved), per_second=per_second))
    ):
        try:
            while batch and time.monotonic() < ends_at:
                next_at = time.monotonic() + 1 / per_second
                _move(client, batch[0], source=source, target=target)
                batch.popleft()
                moved += 1
                if moved < at_most:
                    time.sleep(max(0.0, next_at - time.monotonic()))
        finally:
            for message in batch:
                _hand_back(client, message, source=source)
    return moved


def _receive(client: SQSClient, source: str, *, at_most: int, per_second: int) -> deque[MessageTypeDef]:
    response = client.receive_message(
        QueueUrl=source,
        MaxNumberOfMessages=at_most,
        VisibilityTimeout=_SLACK_SECONDS + at_most // per_second,
        # Waiting makes SQS ask all of its servers, so that none found means none there.
        WaitTimeSeconds=1,
    )
    return deque(response.get("Messages", []))


def _move(client: SQSClient, message: MessageTypeDef, *, source: str, target: str) -> None:
    client.send_message(QueueUrl=target, MessageBody=message["Body"])
    client.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])


def _hand_back(client: SQSClient, message: MessageTypeDef, *, source: str) -> None:
    with suppress(*aws.ERRORS):  # it comes back all the same, a little later
        client.change_message_visibility(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
