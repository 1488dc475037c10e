"""The page of the admin that asks before events are sent once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry

from eventing import replay_previews, tasks
from eventing.models import OutboxEvent, OutboxStatus, Replay
from tests.admin_pages import act, text_of, url_of
from tests.cast import a_tenant
from tests.eventing.test_admin import an_event
from tests.eventing.test_deliveries import OUTBOX, a_delivered, a_member, cl_of

if TYPE_CHECKING:
    from django.test import Client

    from tenants.models import Tenant

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

REPLAY = f"{OUTBOX}replay/"
DEAD, DELIVERED, PENDING = OutboxStatus.DEAD, OutboxStatus.DELIVERED, OutboxStatus.PENDING


@pytest.fixture
def tenant() -> Tenant:
    return a_tenant()


def test_one_event_is_sent_once_more(tenant: Tenant) -> None:
    client = a_member(tenant, "admin")
    event, other = a_delivered(tenant), a_delivered(tenant)
    asked: Any = client.get(f"{url_of(OutboxEvent, 'changelist')}{event.pk}/replay/", follow=True)
    text = text_of(asked)
    assert "Send 1 event once more?" in text
    assert "They carry old states of their items, and are out of order beside new events." in text
    answer = client.post(asked.redirect_chain[-1][0], {"why": "INC-42"}, follow=True)
    replay = Replay.objects.get()
    assert f"Replay {replay.pk} has been asked for." in text_of(answer)
    assert (replay.tenant, replay.who, replay.why) == (tenant, "the admin", "INC-42")
    assert replay.selection == {"ids": [str(event.pk)]}
    assert LogEntry.objects.get().object_id == str(replay.pk)
    tasks.carry_on_replays()
    event.refresh_from_db()
    other.refresh_from_db()
    assert (event.status, event.replay, other.status) == (PENDING, replay, DELIVERED)


def test_chosen_events_are_sent_once_more(admin_client: Client, tenant: Tenant) -> None:
    events = [a_delivered(tenant), an_event(tenant, status=DEAD), an_event(tenant)]
    asked = act(admin_client, "replay_chosen", *events)
    text = text_of(asked)
    assert "Send 2 events once more?" in text
    admin_client.post(asked.redirect_chain[-1][0], {"why": "INC-42"})
    assert len(Replay.objects.get().selection["ids"]) == 3


def test_what_filters_find_is_counted_and_sent_once_more(tenant: Tenant) -> None:
    client = a_member(tenant, "owner")
    for _ in range(3):
        an_event(tenant, status=DEAD)
    a_delivered(tenant)
    an_event(a_tenant("other"), status=DEAD)
    cl = cl_of(client, "?status=dead&schema=petstore")
    text = text_of(client.get(cl.replay_link))
    assert "Send 3 events once more?" in text
    assert "Selected: events of tenant mytenant, of schema petstore, that are dead." in text
    client.post(cl.replay_link, {"why": "mended"})
    replay = Replay.objects.get()
    assert replay.selection == {"status": "dead", "schema": "petstore"}
    tasks.carry_on_replays()
    assert OutboxEvent.objects.filter(replay=replay).count() == 3


def test_a_large_number_is_counted_so_far_only(
    tenant: Tenant, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_previews, "LOOK", 2)
    for _ in range(3):
        a_delivered(tenant)
    text = text_of(admin_client.get(f"{REPLAY}?tenant=mytenant&rule=1"))
    assert "Send at least 2 events once more?" in text
    assert "Counted among the newest 2 events that may be selected" in text


def test_the_same_is_not_begun_twice(admin_client: Client, tenant: Tenant) -> None:
    a_delivered(tenant)
    url = f"{REPLAY}?tenant=mytenant&rule=1"
    admin_client.post(url, {"why": "one"})
    assert "is still going on" in text_of(admin_client.get(url))
    answer = admin_client.post(url, {"why": "two"}, follow=True)
    assert "no other was begun" in text_of(answer)
    assert Replay.objects.get().why == "one"


def test_it_takes_a_reason(admin_client: Client, tenant: Tenant) -> None:
    a_delivered(tenant)
    answer = admin_client.post(f"{REPLAY}?tenant=mytenant&rule=1", {"why": " "})
    assert "This field is required." in text_of(answer)
    assert not Replay.objects.exists()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?status=dead", "Choose a tenant in the filters first"),
        ("?tenant=mytenant", "Choose a filter first"),
        ("?tenant=mytenant&status=pending", "Pending events are sent anyway."),
        ("?tenant=mytenant&rule=x", "The parameter 'rule' must be the id of a rule."),
        (f"?ids={UUID(int=1)}", "There are no such events, or their time is over."),
        ("?ids=x", "There are no such events, or their time is over."),
    ],
)
def test_what_cannot_be_asked_for_is_told(admin_client: Client, tenant: Tenant, query: str, said: str) -> None:
    assert said in text_of(admin_client.get(REPLAY + query, follow=True))
    admin_client.post(REPLAY + query, {"why": "x"})
    assert not Replay.objects.exists()


def test_events_of_two_tenants_are_two_replays(admin_client: Client, tenant: Tenant) -> None:
    asked = act(admin_client, "replay_chosen", a_delivered(tenant), a_delivered(a_tenant("other")))
    assert "Choose events of one tenant" in text_of(asked)


def test_viewers_and_strangers_send_nothing(tenant: Tenant) -> None:
    viewer, stranger = a_member(tenant, "viewer"), a_member(a_tenant("other"), "owner")
    event = a_delivered(tenant)
    one = f"{REPLAY}?ids={event.pk}"
    for url in (one, f"{REPLAY}?tenant=mytenant&rule=1", f"{OUTBOX}{event.pk}/replay/"):
        for client in (viewer, stranger):
            for answer in (client.get(url), client.post(url, {"why": "x"})):
                assert answer.status_code in (302, 403)
    act(viewer, "replay_chosen", event)
    assert not Replay.objects.exists()
    assert "once more" not in text_of(viewer.get(f"{OUTBOX}?rule=1"))
