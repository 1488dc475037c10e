from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from blockforger.backend.models import Item, OperationRecord
from eventing import aws as aws_clients
from eventing import consuming, input_queue, rules
from eventing.consuming import Disposition
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import LedgerEntry, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, over_rest, state

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django import DjangoAssertNumQueries

    from blockforger.backend.models import Schema
    from tenants.models import Tenant

# Real transactions: the consumer drops connections that it finds in an unknown state.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


@pytest.fixture
def key() -> str:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return a_key(tenant)


@pytest.fixture
def queue(stack: dict[str, str]) -> str:
    return aws_clients.input_queue_url()


def put_on_queue(queue: str, body: object) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    aws_clients.sqs_client().send_message(QueueUrl=queue, MessageBody=text)


def waiting(queue: str) -> tuple[int, int]:
    """Messages that can be received, and that are hidden."""
    attributes = aws_clients.sqs_client().get_queue_attributes(
        QueueUrl=queue,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    return (
        int(attributes["ApproximateNumberOfMessages"]),
        int(attributes["ApproximateNumberOfMessagesNotVisible"]),
    )


def test_an_event_on_the_bus_becomes_an_item_a_bill_and_an_output_event(key: str, queue: str) -> None:
    ask = Ask("POST", FLUFFY, api_key=key)
    event = envelope(ask)
    response = aws_clients.events_client("us-east-1").put_events(
        Entries=[
            {
                "Source": event["source"],
                "DetailType": event["detail-type"],
                "EventBusName": "default",
                "Detail": json.dumps(event["detail"]),
            }
        ]
    )
    assert consuming.drain() == {Disposition.CARRIED_OUT: 1}
    assert Item.objects.get().payload == FLUFFY
    assert TokenAccount.objects.get().balance == 990
    assert OutboxEvent.objects.get().detail_type == "petstore.POST"
    record = OperationRecord.objects.get()
    assert record.idempotency_key == response["Entries"][0]["EventId"]
    assert (record.status, record.tokens, record.item_key) == (201, 10, "123")
    assert waiting(queue) == (0, 0)


def test_an_event_that_arrives_twice_is_carried_out_and_billed_once(key: str, queue: str) -> None:
    event = envelope(Ask("POST", FLUFFY, api_key=key))
    for _ in range(2):
        put_on_queue(queue, event)
    assert consuming.drain() == {Disposition.CARRIED_OUT: 1, Disposition.REPEATED: 1}
    put_on_queue(queue, event)
    assert consuming.drain() == {Disposition.REPEATED: 1}
    assert Item.objects.count() == 1
    assert TokenAccount.objects.get().balance == 990
    assert LedgerEntry.objects.filter(amount=-10).count() == 1
    assert OutboxEvent.objects.count() == 1
    assert waiting(queue) == (0, 0)


def test_a_refused_event_is_refused_again_even_when_it_would_pass_by_now(key: str, queue: str) -> None:
    event = envelope(Ask("PUT", FLUFFY, api_key=key))
    put_on_queue(queue, event)
    assert consuming.drain() == {Disposition.REFUSED: 1}
    put_on_queue(queue, envelope(Ask("POST", FLUFFY, api_key=key)))
    put_on_queue(queue, event)
    assert consuming.drain() == {Disposition.CARRIED_OUT: 1, Disposition.REPEATED: 1}
    assert OperationRecord.objects.get(idempotency_key=event["id"]).status == 404


@pytest.mark.parametrize(
    "body",
    [
        "not JSON",
        "[1]",
        '{"detail": {}}',
        '{"id": "", "detail": {}}',
        '{"id": 7, "detail": {}}',
        '{"id": "with space", "detail": {}}',
        # deeper than Python's own parser goes
        "[" * 100_000,
    ],
)
def test_a_message_without_an_envelope_goes_to_the_dead_letter_queue(
    stack: dict[str, str], queue: str, body: str
) -> None:
    put_on_queue(queue, body)
    assert consuming.drain()[Disposition.UNREADABLE] == 20
    assert waiting(queue) == (0, 0)
    dead_letters = aws_clients.sqs_client().get_queue_url(QueueName="blockforger-input-dead-letter-local")["QueueUrl"]
    assert waiting(dead_letters) == (1, 0)
    assert not OperationRecord.objects.exists()


def test_a_fault_leaves_the_message_with_a_delay_and_nothing_changed(
    key: str, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rules, "matching", fault)
    before = state()
    put_on_queue(queue, envelope(Ask("POST", FLUFFY, api_key=key)))
    assert consuming.drain() == {Disposition.FAILED: 1}
    assert waiting(queue) == (0, 1)
    assert state() == before
    assert not OperationRecord.objects.exists()
    assert key not in caplog.text


def test_while_the_database_is_away_messages_are_handed_back(
    key: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(consuming, "execute_batch", away)
    monkeypatch.setattr(consuming, "database_answers", lambda: False)
    for number in range(3):
        put_on_queue(queue, envelope(Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key)))
    with pytest.raises(consuming.DatabaseAway):
        consuming.drain()
    # not at once, or five consumers would make dead letters of them before the database is back
    assert waiting(queue) == (0, 3)


def test_whether_the_database_answers_is_known_from_the_database(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(1):
        assert consuming.database_answers()


def test_a_consumer_that_is_stopped_finishes_the_batch_in_hand(
    key: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_hand, go_on = threading.Event(), threading.Event()

    def slow(bodies: list[str]) -> list[Disposition]:
        in_hand.set()
        go_on.wait(10)
        return [Disposition.CARRIED_OUT] * len(bodies)

    monkeypatch.setattr(consuming, "handle_all", slow)
    put_on_queue(queue, envelope(Ask("POST", FLUFFY, api_key=key)))
    consumer = consuming.Consumer()
    thread = threading.Thread(target=consumer.run, daemon=True)
    thread.start()
    assert in_hand.wait(10)
    consumer.stop()
    assert not consumer.has_ended(within=0.1)
    go_on.set()
    assert consumer.has_ended(within=10)
    thread.join(10)
    assert waiting(queue) == (0, 0)


def test_while_a_batch_is_in_hand_nobody_else_gets_its_messages(
    key: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: here two seconds, with messages that would come back after one."""
    monkeypatch.setattr(input_queue, "_VISIBILITY_SECONDS", 1)
    monkeypatch.setattr(input_queue, "_EXTENDED_EVERY_SECONDS", 0.3)
    handle_all, seen = consuming.handle_all, []

    def slow(bodies: list[str]) -> list[Disposition]:
        time.sleep(2)
        seen.append(waiting(queue))
        return handle_all(bodies)

    monkeypatch.setattr(consuming, "handle_all", slow)
    put_on_queue(queue, envelope(Ask("POST", FLUFFY, api_key=key)))
    assert consuming.drain() == {Disposition.CARRIED_OUT: 1}
    assert seen == [(0, 1)]
    assert waiting(queue) == (0, 0)


def test_a_full_queue_is_taken_by_the_hundred(key: str, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    handle_all, sizes = consuming.handle_all, []

    def noting(bodies: list[str]) -> list[Disposition]:
        sizes.append(len(bodies))
        return handle_all(bodies)

    monkeypatch.setattr(consuming, "handle_all", noting)
    for number in range(150):
        put_on_queue(queue, envelope(Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key)))
    tally = consuming.drain()
    del tally[Disposition.REPEATED]  # calls at the same moment may get the same message, of moto as of SQS
    assert tally == {Disposition.CARRIED_OUT: 100, Disposition.REFUSED: 50}
    assert max(sizes) > 60
    assert waiting(queue) == (0, 0)


@pytest.mark.parametrize(
    ("calls", "messages", "characters", "following"),
    [
        (1, 0, 10, 1),
        (1, 9, 10, 1),
        (1, 10, 10, 2),
        (8, 80, 10, 10),
        # SQS may give less than it has
        (10, 97, 10, 10),
        (10, 50, 10, 5),
        (2, 3, 10, 1),
        (10, 0, 10, 1),
        # all of it is in memory
        (1, 10, input_queue.MAX_CHARACTERS // 50, 1),
    ],
)
def test_the_fuller_the_queue_the_more_is_asked_of_it(
    calls: int, messages: int, characters: int, following: int
) -> None:
    received = [input_queue.Message(str(number), "x" * characters, 1) for number in range(messages)]
    assert input_queue._next_calls(calls, received) == following


def test_what_was_received_ahead_is_handed_back_by_a_consumer_that_is_stopped(
    key: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = consuming.Consumer()
    settled = in_the_second_batch(monkeypatch, consumer._stopping.set)
    for number in range(60):
        put_on_queue(queue, envelope(Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key)))
    assert consumer.consume(wait_seconds=1) > len(settled) > 10
    assert waiting(queue) == (60 - len(set(settled)), 0)  # calls at the same moment may get the same message


def test_and_hidden_for_a_while_when_the_database_is_away(
    key: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise consuming.DatabaseAway

    hidden: list[int] = []
    hide = input_queue.InputQueue.hide

    def noting(self: input_queue.InputQueue, messages: list[Any], *, seconds: int) -> None:
        hidden.append(seconds)
        hide(self, messages, seconds=seconds)

    monkeypatch.setattr(input_queue.InputQueue, "hide", noting)
    settled = in_the_second_batch(monkeypatch, away)
    for number in range(60):
        put_on_queue(queue, envelope(Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key)))
    with pytest.raises(consuming.DatabaseAway):
        consuming.drain()
    (visible, in_hand), lost = waiting(queue), 60 - len(set(settled))
    assert (visible + in_hand, hidden) == (lost, [60])
    # the second batch, and what was received beside it
    assert in_hand > 20


def in_the_second_batch(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> list[str]:
    """Let that happen before it is carried out. Gives the bodies that were carried out, as they come."""
    handle_all = consuming.handle_all
    settled: list[str] = []

    def handle(bodies: list[str]) -> list[Disposition]:
        if settled:
            happens()
        dispositions = handle_all(bodies)
        settled.extend(bodies)
        return dispositions

    monkeypatch.setattr(consuming, "handle_all", handle)
    return settled


def test_long_messages_are_carried_out_in_parts(key: str, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_queue, "MAX_CHARACTERS", 1500)
    handle_all, sizes = consuming.handle_all, []

    def noting(bodies: list[str]) -> list[Disposition]:
        sizes.append(len(bodies))
        return handle_all(bodies)

    monkeypatch.setattr(consuming, "handle_all", noting)
    for number in range(10):
        put_on_queue(queue, envelope(Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key)))
    assert consuming.drain() == {Disposition.CARRIED_OUT: 10}
    assert max(sizes) <= 3
    assert waiting(queue) == (0, 0)


def test_a_consumer_that_is_stopped_between_parts_hands_the_rest_back(
    key: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_queue, "MAX_CHARACTERS", 1)
    consumer = consuming.Consumer()
    handle_all = consuming.handle_all

    def stopping(bodies: list[str]) -> list[Disposition]:
        consumer._stopping.set()
        return handle_all(bodies)

    monkeypatch.setattr(consuming, "handle_all", stopping)
    for number in range(3):
        put_on_queue(queue, envelope(Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key)))
    assert consumer.consume(wait_seconds=1) == 3
    assert (waiting(queue), Item.objects.count()) == ((2, 0), 1)


def test_one_events_fault_stops_no_other_of_its_batch(key: str, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matching = rules.matching

    def faulty(tenant: Tenant, schema: Schema, operation: str, **states: Any) -> list[rules.Rule]:
        if operation == "PUT":
            raise ZeroDivisionError
        return matching(tenant, schema, operation, **states)

    monkeypatch.setattr(rules, "matching", faulty)
    over_rest(Ask("POST", FLUFFY, api_key=key))
    put_on_queue(queue, envelope(Ask("PUT", FLUFFY, api_key=key)))
    for number in range(8):
        put_on_queue(queue, envelope(Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key)))
    assert consuming.drain() == {Disposition.CARRIED_OUT: 8, Disposition.FAILED: 1}
    assert (waiting(queue), OperationRecord.objects.count(), Item.objects.count()) == ((0, 1), 8, 9)
    assert list(balances.discrepancies()) == []


def test_a_consumer_that_dies_before_it_deletes_leaves_what_another_only_deletes(
    key: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*args: object) -> None:
        raise Killed

    event = envelope(Ask("POST", FLUFFY, api_key=key))
    put_on_queue(queue, event)
    with monkeypatch.context() as patch:
        patch.setattr(input_queue.InputQueue, "delete", kill)
        with pytest.raises(Killed):
            consuming.drain()
    assert (waiting(queue), Item.objects.count()) == ((0, 1), 1)
    put_on_queue(queue, event)  # as SQS delivers it again once its time is over
    assert consuming.drain() == {Disposition.REPEATED: 1}
    assert TokenAccount.objects.get().balance == 990


def test_consume_events_once_drains_and_prints_a_summary(
    key: str, queue: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        put_on_queue(queue, envelope(Ask("POST", {**FLUFFY, "id": str(number)}, api_key=key)))
    put_on_queue(queue, envelope(Ask("DELETE", {"id": "none"}, api_key=key)))
    call_command("consume_events", "--once")
    assert capsys.readouterr().out == "carried out 12, refused 1, repeated 0, unreadable 0, failed 0\n"


def test_consume_events_names_the_remedy_for_a_missing_queue(aws: str, settings: Any) -> None:
    settings.BLOCKFORGER_INPUT_QUEUE_NAME = "blockforger-input-nowhere"
    with pytest.raises(CommandError, match="There is no SQS queue 'blockforger-input-nowhere'.*deploy_stack"):
        call_command("consume_events", "--once")
