from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from django.core.management import CommandError, call_command

from blockforger.backend.models import Item
from eventing import aws as aws_clients
from eventing import consuming, redriving
from eventing.consuming import Disposition
from tenants.models import TokenAccount
from tests.cast import FLUFFY, a_key, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope
from tests.eventing.test_consuming import put_on_queue, waiting

if TYPE_CHECKING:
    from pytest_django import Settings

# Real transactions: the consumer drops connections that it finds in an unknown state.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged", "stack")]

FAST = ("--per-second", "1000")


@pytest.fixture
def queues(stack: dict[str, str], settings: Settings) -> tuple[str, str]:
    """The URLs of the dead-letter queue, and of the input queue."""
    settings.BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_NAME = "blockforger-input-dead-letter-local"
    settings.BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_URL = ""
    return aws_clients.input_dead_letter_queue_url(), aws_clients.input_queue_url()


@pytest.fixture
def key() -> str:
    tenant = a_tenant()
    a_schema(tenant)
    return a_key(tenant)


def bodies_in(queue: str) -> list[str]:
    sqs, found = aws_clients.sqs_client(), []
    # Without the last, an empty queue is waited for as long as the template says: 20 seconds.
    receive = partial(sqs.receive_message, QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
    while messages := receive().get("Messages"):
        found += [message["Body"] for message in messages]
    return sorted(found)


def fill(queue: str, number: int) -> list[str]:
    bodies = [f"body {index:02}" for index in range(number)]
    for body in bodies:
        put_on_queue(queue, body)
    return bodies


def test_it_says_how_many_there_are_and_moves_them(queues: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    dead_letters, queue = queues
    bodies = fill(dead_letters, 23)
    call_command("redrive_input", *FAST)
    assert capsys.readouterr().out == (
        f"About 23 messages in {dead_letters}: moving at most 23 to {queue}, 1000 a second.\nMoved 23 messages.\n"
    )
    assert waiting(dead_letters) == (0, 0)
    assert bodies_in(queue) == bodies


def test_it_moves_no_more_than_the_limit(queues: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    dead_letters, queue = queues
    fill(dead_letters, 13)
    call_command("redrive_input", "--limit", "12", *FAST)
    assert capsys.readouterr().out.endswith("\nMoved 12 messages.\n")
    assert waiting(dead_letters) == (1, 0)
    assert waiting(queue) == (12, 0)


def test_an_empty_queue_is_no_error(queues: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("redrive_input")
    assert capsys.readouterr().out == (
        f"About 0 messages in {queues[0]}: moving at most 0 to {queues[1]}, 10 a second.\nMoved 0 messages.\n"
    )


def test_an_event_that_failed_is_carried_out_after_all_and_its_api_key_shown_to_nobody(
    key: str, queues: tuple[str, str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    put_on_queue(queues[0], envelope(Ask("POST", FLUFFY, api_key=key)))
    call_command("redrive_input")
    assert consuming.drain() == {Disposition.CARRIED_OUT: 1}
    assert Item.objects.get().payload == FLUFFY
    output = capsys.readouterr()
    assert key not in output.out + output.err + caplog.text


def test_an_event_that_was_carried_out_before_is_not_carried_out_again(key: str, queues: tuple[str, str]) -> None:
    event = envelope(Ask("POST", FLUFFY, api_key=key))
    put_on_queue(queues[1], event)
    consuming.drain()
    put_on_queue(queues[0], event)
    call_command("redrive_input")
    assert consuming.drain() == {Disposition.REPEATED: 1}
    assert TokenAccount.objects.get().balance == 990


@pytest.mark.parametrize("fails", ["send_message", "delete_message"])
def test_whatever_fails_on_the_way_no_message_is_lost(
    queues: tuple[str, str], monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    dead_letters, queue = queues
    bodies = fill(dead_letters, 5)
    client, calls = aws_clients.sqs_client(), 0
    call = getattr(client, fails)

    def failing(**arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise EndpointConnectionError(endpoint_url="https://sqs.example")
        return call(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(client, fails, failing)
        with pytest.raises(CommandError, match="Could not connect to the endpoint URL"):
            call_command("redrive_input", *FAST)
    # What was not moved can be received again at once; what was sent but not deleted is there twice, which is harmless.
    assert waiting(dead_letters) == (3, 0)
    assert waiting(queue) == ((2, 0) if fails == "send_message" else (3, 0))
    call_command("redrive_input", *FAST)
    assert set(bodies_in(queue)) == set(bodies)


def test_what_fails_again_does_not_go_in_circles(queues: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    dead_letters, _ = queues
    fill(dead_letters, 3)
    client = aws_clients.sqs_client()
    send = client.send_message
    # A consumer that fails at once.
    monkeypatch.setattr(client, "send_message", lambda **message: send(**{**message, "QueueUrl": dead_letters}))
    assert redriving.redrive(at_most=redriving.waiting(), per_second=1000) == 3
    assert waiting(dead_letters) == (3, 0)


def test_it_keeps_to_the_rate(queues: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    fill(queues[0], 3)
    sleeps: list[float] = []
    monkeypatch.setattr("eventing.redriving.time.sleep", sleeps.append)
    redriving.redrive(at_most=3, per_second=2)
    assert sleeps == pytest.approx([0.5, 0.5], abs=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limit", "0"], "--limit must be at least 1."),
        (["--per-second", "0"], "--per-second must be 1 to 1000."),
        (["--per-second", "1001"], "--per-second must be 1 to 1000."),
    ],
)
def test_what_it_refuses_and_what_it_says(options: list[str], message: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("redrive_input", *options)
    assert str(refused.value) == message


def test_it_names_the_remedy_for_a_missing_queue(settings: Settings) -> None:
    settings.BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_NAME = "nowhere"
    with pytest.raises(CommandError) as refused:
        call_command("redrive_input")
    assert str(refused.value) == (
        "There is no SQS queue 'nowhere' in us-east-1. Make it with `manage.py deploy_stack`, or name another by "
        "BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_URL or BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_NAME."
    )


def test_a_configured_url_is_not_looked_up(settings: Settings) -> None:
    settings.BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_URL = "https://sqs.example/dead"
    assert aws_clients.input_dead_letter_queue_url() == "https://sqs.example/dead"
