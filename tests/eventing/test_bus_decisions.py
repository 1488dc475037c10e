from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from eventing import buses
from eventing.answers import Answer, Verdict
from eventing.buses import Existence, Finding, Standing
from eventing.models import EventBus

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OTHER_BUS = "arn:aws:events:eu-west-1:210987654321:event-bus/audit"
MISSING = Finding(Existence.MISSING, "ResourceNotFoundException: gone")
UNANSWERED = Finding(Existence.UNANSWERED, "InternalException: oh")
DENIED = Finding(Existence.DENIED, "AccessDeniedException: no")
ELSEWHERE = Finding(Existence.ELSEWHERE, "ResourceNotFoundException: gone")
FOUND = Finding(Existence.FOUND)
FAULT = Answer(Verdict.RETRY, code="InternalException", message="oh", is_of_call=True)
REFUSAL = Answer(Verdict.BUS_REFUSED, code="AccessDeniedException", message="no")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def ahead(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def a_bus(**fields: Any) -> EventBus:
    return EventBus(arn=OTHER_BUS, **fields)


@pytest.mark.parametrize(
    ("bus", "expected"),
    [
        (a_bus(), Standing.CHECK_FIRST),
        (a_bus(verified_at=ago(5)), Standing.TRUSTED),
        (a_bus(verified_at=ago(5), failures=4), Standing.TRUSTED),
        (a_bus(verified_at=ago(5), failures=5), Standing.PROBE),
        (a_bus(verified_at=ago(5), refusals=1), Standing.PROBE),
        (a_bus(verified_at=ago(5), refusals=1, paused_until=ahead(1)), Standing.HELD),
        (a_bus(verified_at=ago(5), refusals=1, paused_until=ago(1)), Standing.PROBE),
        # it was looked for, in vain
        (a_bus(verification_note="no answer"), Standing.TRUSTED),
        (a_bus(verified_at=ago(5), missing_since=ago(1)), Standing.CHECK_FIRST),
        (a_bus(verified_at=ago(5), missing_since=ago(1), paused_until=ahead(1)), Standing.HELD),
    ],
)
def test_the_row_of_a_bus_says_what_may_be_sent_to_it(bus: EventBus, expected: Standing) -> None:
    assert buses.standing(bus, NOW) is expected


@pytest.mark.parametrize(
    ("bus", "finding", "sends_on", "next_check"),
    [
        (a_bus(paused_until=ahead(30)), FOUND, True, 600),
        (a_bus(paused_until=ahead(30)), DENIED, True, 600),
        (a_bus(paused_until=ahead(30)), ELSEWHERE, True, 600),
        (a_bus(paused_until=ahead(30)), UNANSWERED, True, 30),
        (a_bus(paused_until=ahead(30)), MISSING, False, 15),
        (a_bus(verified_at=ago(600)), FOUND, True, 600),
        (a_bus(verified_at=ago(600)), UNANSWERED, True, 30),
        (a_bus(verified_at=ago(600)), MISSING, False, 15),
        # the longer it has been missing, the longer until the next look
        (a_bus(missing_since=ago(60)), MISSING, False, 60),
        (a_bus(missing_since=ago(86400)), MISSING, False, 600),
        # no answer proves nothing, so what was known before holds
        (a_bus(missing_since=ago(60)), UNANSWERED, False, 60),
        (a_bus(missing_since=ago(60)), FOUND, True, 600),
        (a_bus(missing_since=ago(60)), DENIED, True, 600),
        # a bus that refuses us is no less paused because it exists
        (a_bus(verified_at=ago(600), refusals=2, paused_until=ahead(9)), FOUND, False, 600),
        (a_bus(verified_at=ago(600), refusals=2, paused_until=ahead(9)), UNANSWERED, False, 30),
    ],
)
def test_a_finding_says_whether_events_flow_and_when_to_look_again(
    bus: EventBus, finding: Finding, sends_on: bool, next_check: int
) -> None:
    before = (bus.refusals, bus.failures)
    for name, value in buses.after_check(bus, finding, NOW).items():
        setattr(bus, name, value)
    assert (buses.standing(bus, NOW) is Standing.TRUSTED) is sends_on
    assert bus.next_check_at == ahead(next_check)
    assert (bus.missing_since is None) is (finding is not MISSING and (sends_on or bus.refusals > 0))
    assert (bus.refusals, bus.failures) == before


@pytest.mark.parametrize(
    ("bus", "calls", "is_probe", "failures", "pause"),
    [
        (a_bus(), 1, False, 1, None),
        (a_bus(failures=3), 1, False, 4, None),
        (a_bus(failures=4), 1, False, 5, 5),
        # a burst opens the breaker, and does no more
        (a_bus(), 50, False, 5, 5),
        # each probe that fails doubles the pause, up to two minutes
        (a_bus(failures=5, paused_until=ahead(30)), 1, True, 6, 10),
        (a_bus(failures=6), 1, True, 7, 20),
        (a_bus(failures=20), 1, True, 21, 120),
        # the probe of a bus that had refused us
        (a_bus(refusals=3), 1, True, 5, 5),
    ],
)
def test_calls_that_fail_open_the_breaker_for_growing_times(
    bus: EventBus, calls: int, is_probe: bool, failures: int, pause: int | None
) -> None:
    changes = buses.after_failures(bus, calls, FAULT, NOW, is_probe=is_probe)
    assert changes["failures"] == failures
    assert changes.get("paused_until") == (ahead(pause) if pause else None)
    if pause:
        assert "InternalException: oh" in changes["pause_reason"]


def test_calls_that_were_under_way_when_the_breaker_opened_do_not_make_it_worse() -> None:
    assert buses.after_failures(a_bus(failures=5, paused_until=ahead(5)), 7, FAULT, NOW, is_probe=False) == {}
    late = buses.after_refusal(a_bus(refusals=1, paused_until=ahead(5)), REFUSAL, NOW, is_probe=False)
    assert late.keys() == {"pause_reason"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ResourceNotFoundException", Existence.MISSING),
        ("AccessDeniedException", Existence.DENIED),
        ("AccessDenied", Existence.DENIED),
        ("ThrottlingException", Existence.UNANSWERED),
        ("InternalException", Existence.UNANSWERED),
        ("ValidationException", Existence.UNANSWERED),
        # PutEvents will fail with the same, and says so
        ("ExpiredTokenException", Existence.UNANSWERED),
    ],
)
def test_only_a_clear_word_makes_a_bus_missing(code: str, expected: Existence) -> None:
    error = ClientError({"Error": {"Code": code, "Message": "text"}}, "DescribeEventBus")
    assert buses.finding_of(error) == Finding(expected, f"{code}: text")


def test_a_describe_that_gets_nowhere_says_nothing_of_the_bus() -> None:
    error = EndpointConnectionError(endpoint_url="http://x")
    assert buses.finding_of(error).existence is Existence.UNANSWERED
