"""What comes to the admin's pages by hand and makes no sense is refused, or passed over; nothing fails."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.utils import timezone

from eventing import live_tail
from tenants.models import Membership
from tests.admin_pages import url_of
from tests.cast import a_tenant

if TYPE_CHECKING:
    from django.db.models import Model
    from django.test import Client

pytestmark = pytest.mark.django_db

MODELS = list(admin.site._registry)
QUERIES = [
    "tenant",
    "q",
    "role__exact",
    "what__exact",
    "kind__exact",
    "schema__exact",
    "status",
    "before",
    "after",
    "o",
]
ENDS_OF_TIME = [
    *("0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"),
    *("0001-01-01", "9999-12-31T23:59:59"),
]
TIMELINE = "/admin/eventing/outboxevent/timeline/"


@pytest.mark.parametrize("model", MODELS)
def test_lists_take_nul_for_nothing(admin_client: Client, model: type[Model]) -> None:
    a_tenant()
    for name in QUERIES:
        answer = admin_client.get(url_of(model, "changelist"), {name: "\0"})
        assert answer.status_code in (200, 302, 400), name


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/admin/dashboard/%00/", {}, 403),
        ("/admin/live/%00/", {}, 403),
        ("/admin/live/%00/events/", {}, 403),
        (TIMELINE, {"tenant": "\0", "schema": "petstore", "key": "1"}, 404),
        ("/admin/eventing/outputrule/add/", {"tenant": "\0"}, 302),
        (
            "/admin/autocomplete/",
            {"app_label": "tenants", "model_name": "apikey", "field_name": "tenant", "term": "\0"},
            200,
        ),
    ],
)
def test_pages_take_nul_for_nothing(admin_client: Client, path: str, query: dict[str, str], status: int) -> None:
    a_tenant()
    assert admin_client.get(path, query).status_code == status


@pytest.mark.parametrize("text", ENDS_OF_TIME)
def test_the_ends_of_time_are_no_times(admin_client: Client, text: str) -> None:
    a_tenant("mytenant")
    of_item = {"tenant": "mytenant", "schema": "petstore", "key": "1"}
    assert admin_client.get(TIMELINE, {**of_item, "before": text}).status_code == 200
    assert admin_client.get("/admin/tenants/ledgerentry/", {"tenant": "mytenant", "until": text}).status_code == 200
    for name in ("outboxevent", "operationrecord"):
        app = "eventing" if name == "outboxevent" else "backend"
        for side in ("since", "until"):
            answer = admin_client.get(f"/admin/{app}/{name}/", {"tenant": "mytenant", side: text})
            assert answer.status_code == 200
    answer = admin_client.get("/admin/live/mytenant/events/", headers={"Last-Event-ID": text})
    assert answer.status_code == 200
    answer.close()


def test_what_the_live_tail_begins_with_is_neither_long_ago_nor_to_come() -> None:
    now = timezone.now()
    told = {text: live_tail._moment(text, now) for text in ENDS_OF_TIME[:4]}
    assert list(told.values()) == [
        *[now - datetime.timedelta(minutes=10)] * 2,
        *[now - datetime.timedelta(seconds=30)] * 2,
    ]


@pytest.mark.django_db(transaction=True)
def test_a_history_that_is_posted_to_is_shown(admin_client: Client) -> None:
    member = Membership.objects.create(tenant=a_tenant(), user=User.objects.create_user("ada"))
    assert admin_client.post(url_of(Membership, "history", member.pk)).status_code == 200
