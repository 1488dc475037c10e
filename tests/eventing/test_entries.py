from __future__ import annotations

from collections import deque
from datetime import timedelta
from itertools import zip_longest
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from blockforger.backend import items, json_values, keys
from blockforger.backend.models import Method, Schema
from blockforger.backend.signals import ItemWritten, Told
from eventing import answers, backoff, entries, outbox, rules
from eventing.answers import Verdict
from eventing.entries import Ready
from eventing.models import OutboxEvent
from tenants.models import Tenant

WIDEST = "\U0001f600"


def event(detail: str = "{}") -> Ready:
    return Ready(
        pk=str(uuid4()), tenant_id=1, lane=0, stream=0, bus_arn="a", source="s", detail_type="t", detail=detail,
        item_urn="u", sequence=1, time=0,
    )  # fmt: skip


def test_the_size_of_an_entry_is_what_aws_counts() -> None:
    one = event(detail="ä")
    # Time, Source, DetailType, Detail in UTF-8, two resources
    assert entries.size_of(one) == 14 + 1 + 1 + 2 + 1 + len(f"urn:blockforger:event:{one.pk}:1")


def test_the_largest_payload_that_the_door_lets_in_fits_into_an_entry_of_any_rule(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    tenant, schema = Tenant(pk=1, name="t" * 64), Schema(name="s" * 64, tenant_id=1)
    widest = rules.Rule(
        pk=1,
        schema_id=None,
        eventbridge_arn="arn:aws:events:us-east-1:720291373173:event-bus/default",
        source=WIDEST * 256,
        detail_type=WIDEST * 128,
        operations=(),
        schema_names=(),
    )
    monkeypatch.setattr(rules, "matching", lambda *args, **states: [widest])
    monkeypatch.setattr("eventing.outbox.transaction.on_commit", lambda call, *, robust: None)
    key = WIDEST * keys.MAX_LENGTH
    limit = settings.BLOCKFORGER_MAX_EVENT_BYTES - items.EVENT_OVERHEAD
    payload: json_values.JsonObject = {"id": key, "x": ""}
    payload["x"] = "x" * (limit - len(json_values.compact(payload).encode()))
    written = ItemWritten(
        tenant=tenant, schema=schema, method=Method.DELETE, item_key=key, payload=payload, sequence=2**63 - 1,
        operation=OutboxEvent().id, at=timezone.now(), before=payload, after=None, told=Told(),
    )  # fmt: skip
    (largest,) = outbox.events_of(written)
    assert entries.size_of(largest) <= settings.BLOCKFORGER_MAX_EVENT_BYTES


@given(
    st.lists(st.integers(min_value=0, max_value=400), max_size=60),
    st.integers(min_value=100, max_value=2000),
)
def test_every_event_is_in_one_call_within_the_limits(lengths: list[int], limit: int) -> None:
    events = [event(detail="x" * length) for length in lengths]
    left, calls = deque(events), []
    while left:
        calls.append(entries.take_call(left, max_bytes=limit))
    assert [id(one) for call in calls for one in call] == list(map(id, events))
    for call, following in zip_longest(calls, calls[1:]):
        assert 1 <= len(call) <= 10
        assert len(call) == 1 or sum(map(entries.size_of, call)) <= limit
        # and a call is not shorter than it must be
        assert following is None or len(call) == 10 or sum(map(entries.size_of, [*call, following[0]])) > limit


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("InternalFailure", Verdict.RETRY),
        ("ThrottlingException", Verdict.RETRY),
        # AWS may add codes: they may pass, for a day
        ("SomethingNew", Verdict.RETRY),
        ("InvalidArgument", Verdict.REFUSED),
        ("MalformedDetail", Verdict.REFUSED),
        ("RedactionFailure", Verdict.REFUSED),
        ("NotAuthorizedForSourceException", Verdict.REFUSED),
        ("NotAuthorizedForDetailTypeException", Verdict.REFUSED),
        ("AccessDeniedException", Verdict.BUS_REFUSED),
        ("InvalidAccountIdException", Verdict.BUS_REFUSED),
    ],
)
def test_an_error_code_of_an_entry_has_a_verdict(code: str, verdict: Verdict) -> None:
    assert answers.of_entry({"ErrorCode": code}).verdict is verdict


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ClientError({"Error": {"Code": "ThrottlingException"}}, "PutEvents"), Verdict.RETRY),
        (ClientError({"Error": {"Code": "ServiceUnavailable"}}, "PutEvents"), Verdict.RETRY),
        (ClientError({}, "PutEvents"), Verdict.RETRY),
        (ClientError({"Error": {"Code": "ExpiredTokenException"}}, "PutEvents"), Verdict.BUS_REFUSED),
        (ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "PutEvents"), Verdict.BUS_REFUSED),
        (ClientError({"Error": {"Code": "ValidationException"}}, "PutEvents"), Verdict.REFUSED),
        (EndpointConnectionError(endpoint_url="http://nowhere"), Verdict.RETRY),
        (ReadTimeoutError(endpoint_url="http://nowhere"), Verdict.RETRY),
        (NoCredentialsError(), Verdict.BUS_REFUSED),
        (ParamValidationError(report="Detail"), Verdict.REFUSED),
    ],
)
def test_a_call_that_failed_as_a_whole_has_a_verdict(error: Any, verdict: Verdict) -> None:
    assert answers.of_failed_call(error).verdict is verdict


@given(st.integers(min_value=0, max_value=10_000))
def test_a_delay_doubles_up_to_its_cap_and_is_random_from_zero_on(failures: int) -> None:
    base, cap = timedelta(seconds=1), timedelta(minutes=15)
    doubled = backoff.doubled(failures, base=base, cap=cap)
    assert doubled == min(cap, base * 2 ** min(max(failures - 1, 0), 20))
    assert timedelta(0) <= backoff.full_jitter(failures, base=base, cap=cap) <= doubled
