"""The page for the dead-letter queue: what waits, its way back, and what is said when SQS is away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from eventing import admin_redrive, aws, redriving
from tests.admin_pages import text_of
from tests.cast import a_tenant
from tests.eventing.test_consuming import waiting
from tests.eventing.test_deliveries import INBOX, a_member
from tests.eventing.test_redrive_input import bodies_in, fill, queues

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django import Settings

__all__ = ["queues"]

PAGE = f"{INBOX}dead-letters/"

pytestmark = pytest.mark.django_db


@pytest.mark.usefixtures("stack")
class TestQueue:
    def test_it_tells_how_many_wait_and_what_will_happen(self, admin_client: Client, queues: tuple[str, str]) -> None:
        assert "The dead-letter queue is empty" in text_of(admin_client.get(PAGE))
        fill(queues[0], 3)
        text = text_of(admin_client.get(PAGE))
        assert "About 3 messages wait in the dead-letter queue" in text
        assert "they are carried out and billed, unless they were before" in text
        assert "body 00" not in text

    def test_it_moves_as_many_as_are_asked_for(self, admin_client: Client, queues: tuple[str, str]) -> None:
        bodies = fill(queues[0], 5)
        answer = admin_client.post(PAGE, {"at_most": "3"}, follow=True)
        text = text_of(answer)
        assert "3 messages were moved back to the input queue." in text
        assert "About 2 messages wait" in text
        moved = bodies_in(queues[1])
        assert len(moved) == 3
        assert set(moved) < set(bodies)

    def test_it_stops_when_its_time_is_over_and_loses_nothing(
        self, admin_client: Client, queues: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(queues[0], 3)
        now = iter([0.0, *[1.0] * 5, *[100.0] * 20])
        monkeypatch.setattr("eventing.redriving.time.monotonic", lambda: next(now))
        monkeypatch.setattr("eventing.redriving.time.sleep", lambda _: None)
        moved = redriving.redrive(at_most=3, per_second=1000, seconds=20)
        assert 1 <= moved < 3
        assert (waiting(queues[0]), waiting(queues[1])) == ((3 - moved, 0), (moved, 0))

    def test_what_fails_on_the_way_is_told_plainly(
        self, admin_client: Client, queues: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(queues[0], 2)

        def fail(**_: Any) -> None:
            raise ConnectTimeoutError(endpoint_url="https://sqs.example")

        monkeypatch.setattr(aws.sqs_checks_client(), "send_message", fail)
        text = text_of(admin_client.post(PAGE, {"at_most": "2"}, follow=True))
        assert "It stopped: what had been moved by then stays moved, nothing is lost." in text
        assert "See whether AWS can be reached, then try again." in text
        assert waiting(queues[0]) == (2, 0)

    @pytest.mark.parametrize("number", ["", "0", "501", "x"])
    def test_a_number_that_is_none_moves_nothing(
        self, admin_client: Client, queues: tuple[str, str], number: str
    ) -> None:
        fill(queues[0], 1)
        assert "errors" in text_of(admin_client.post(PAGE, {"at_most": number}))
        assert waiting(queues[0]) == (1, 0)

    def test_a_queue_that_is_missing_is_told_with_the_remedy(self, admin_client: Client, settings: Settings) -> None:
        settings.BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_NAME = "nowhere"
        text = text_of(admin_client.get(PAGE))
        assert "There is no SQS queue 'nowhere' in us-east-1. Make it with `manage.py deploy_stack`" in text


def test_a_page_never_waits_long_for_aws() -> None:
    config: Any = aws.sqs_checks_client().meta.config
    assert (config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]) == (2, 4, 1)
    assert admin_redrive.SECONDS <= 20


@pytest.mark.parametrize("role", ["owner", "admin", "viewer"])
def test_operators_alone_come_here(role: str) -> None:
    client = a_member(a_tenant(), role)
    assert client.get(PAGE).status_code == 403
    assert client.post(PAGE, {"at_most": "1"}).status_code == 403
    assert PAGE not in text_of(client.get(INBOX))
