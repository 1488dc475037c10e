"""Asking AWS whether a bus exists: PutEvents itself does not tell."""

from __future__ import annotations

import logging

from eventing import aws, buses
from eventing.buses import Existence, Finding

logger = logging.getLogger(__name__)


def describe(arn: str) -> Finding:
    """Ask whether the bus exists. An ARN names buses of other accounts too (API reference of DescribeEventBus)."""
    region, account = arn.split(":")[3:5]
    try:
        aws.bus_checks_client(region).describe_event_bus(Name=arn)
    except aws.ERRORS as error:
        finding = buses.finding_of(error)
        if finding.existence is Existence.MISSING and _is_of_another_account(account):
            finding = Finding(Existence.ELSEWHERE, finding.error)
        logger.warning("DescribeEventBus of %s: %s", arn, finding.error)
        return finding
    return Finding(Existence.FOUND)


def _is_of_another_account(account: str) -> bool:
    """False also if we cannot find out: events that wait can be seen, swallowed ones cannot."""
    try:
        return aws.own_account() != account
    except aws.ERRORS as error:
        logger.warning("GetCallerIdentity: %s", error)
        return False
