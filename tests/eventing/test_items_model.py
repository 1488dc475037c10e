"""Any sequence of operations at either door, single ones and many at once, does what a plain dictionary does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from rest_framework.test import APIClient

from blockforger.backend.merge_patch import merged
from blockforger.backend.models import Item
from eventing import rules
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import TokenAccount
from tests.cast import a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, as_event

pytestmark = pytest.mark.usefixtures("nudged")

PETS = "/api/mytenant/petstore"
TOKENS = 400
KEYS = st.sampled_from(["1", "2", "3"])
# A member to set, to remove or to break.
MEMBERS = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(["Rex", "Bella", 7, None]), "status": st.sampled_from(["sold", "none", None])}
)
WRITES = st.tuples(st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]), KEYS, MEMBERS)


class Model:
    """What the items, the bill and the events ought to be."""

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.balance = TOKENS
        self.events: list[tuple[str, Any]] = []

    def write(self, writes: list[tuple[str, str, Any]]) -> int:
        """Carry all out, or nothing. Returns the status of the first that is refused, or 0."""
        draft, events = dict(self.items), []
        for method, key, members in writes:
            sent = {"id": key} if method == "DELETE" else {"id": key, **members}
            if status := self._refusal(method, key, sent, draft):
                return status
            if method == "DELETE":
                del draft[key]
            else:
                draft[key] = merged(draft[key], sent) if method == "PATCH" else sent
            events.append((f"petstore.{method}", sent))
        if self.balance < 10 * len(writes):
            return 402
        self.items, self.balance = draft, self.balance - 10 * len(writes)
        self.events += events
        return 0

    @staticmethod
    def _refusal(method: str, key: str, sent: Any, items: dict[str, Any]) -> int:
        if method in {"POST", "PUT"} and not _fits(sent):
            return 400
        if method == "POST":
            return 409 if key in items else 0
        if key not in items:
            return 404
        return 400 if method == "PATCH" and not _fits(merged(items[key], sent)) else 0


def _fits(item: Any) -> bool:
    return isinstance(item.get("name"), str) and item.get("status", "sold") == "sold"


class ItemsAgainstTheModel(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        rules.clear_cache()
        # As Django's TestCase does it, so that durable transactions may begin in it.
        block: Any = transaction.atomic()
        block._from_testcase = True
        block.__enter__()
        self.block = block
        self.tenant = a_tenant(tokens=TOKENS)
        a_schema(self.tenant)
        a_rule(self.tenant)
        self.key = a_key(self.tenant)
        self.client: Any = APIClient(headers={"X-API-Key": self.key})
        self.model = Model()
        self.sent = 0
        self.repeatable: list[tuple[tuple[str, str, Any, str], int]] = []

    def teardown(self) -> None:
        if hasattr(self, "block"):
            transaction.set_rollback(True)
            self.block.__exit__(None, None, None)

    def send(self, method: str, path: str, payload: Any, **headers: str) -> Any:
        return self.client.generic(method, path, json.dumps(payload), content_type="application/json", headers=headers)

    @rule(write=WRITES)
    def one_over_rest(self, write: tuple[str, str, Any]) -> None:
        method, key, members = write
        path = PETS if method == "POST" else f"{PETS}/{key}"
        self.sent += 1
        request = (method, path, {"id": key, **members}, f"number-{self.sent}")
        answer = self.send(*request[:3], **{"Idempotency-Key": request[3]})
        expected = self.model.write([write])
        assert (answer.status_code if answer.status_code >= 400 else 0) == expected
        if expected != 402:
            self.repeatable.append((request, answer.status_code))

    @rule(which=st.integers(0, 100))
    def one_again(self, which: int) -> None:
        if self.repeatable:
            (method, path, payload, key), status = self.repeatable[which % len(self.repeatable)]
            answer = self.send(method, path, payload, **{"Idempotency-Key": key})
            assert (answer.status_code, answer["Idempotent-Replayed"]) == (status, "true")

    @rule(write=WRITES)
    def one_as_an_event(self, write: tuple[str, str, Any]) -> None:
        method, key, members = write
        answer = as_event(Ask(method, {"id": key, **members}, api_key=self.key))
        assert (answer.status if answer.problem else 0) == self.model.write([write])

    @rule(write=WRITES, is_stale=st.booleans())
    def one_with_an_etag(self, write: tuple[str, str, Any], is_stale: bool) -> None:
        method, key, members = write
        item = Item.objects.filter(key=key).first()
        if method == "POST" or item is None:
            return
        etag = '"stale"' if is_stale else item.etag
        answer = self.send(method, f"{PETS}/{key}", {"id": key, **members}, **{"If-Match": etag})
        if is_stale:
            # a PUT that fits no item is refused before one is looked for
            assert answer.status_code in {400, 412}
        else:
            assert (answer.status_code if answer.status_code >= 400 else 0) == self.model.write([write])

    @rule(
        method=st.sampled_from(["POST", "PATCH", "DELETE"]),
        members=st.dictionaries(KEYS, MEMBERS, min_size=1),
        repeats=st.booleans(),
    )
    def many(self, method: str, members: dict[str, Any], repeats: bool) -> None:
        payload = [{"id": key, **of_it} for key, of_it in members.items()]
        payload += payload[:1] if repeats else []
        answer = self.send(method, PETS, [item["id"] for item in payload] if method == "DELETE" else payload)
        if repeats:
            assert answer.status_code == 400
            return
        writes = [(method, key, of_it) for key, of_it in members.items()]
        expected = self.model.write(writes)
        assert bool(expected) == (answer.status_code >= 400)
        if expected == 402:
            assert answer.status_code == 402

    @rule(method=st.sampled_from(["POST", "PATCH", "DELETE"]), lines=st.lists(st.tuples(KEYS, MEMBERS), max_size=4))
    def a_stream(self, method: str, lines: list[tuple[str, Any]]) -> None:
        if self.model.balance < 10 * len(lines):
            return  # the order of items, and so who is paid for, is not the lines'
        values = [key if method == "DELETE" else {"id": key, **members} for key, members in lines]
        body = "\n".join(map(json.dumps, values))
        answer = self.client.generic(method, PETS, body, content_type="application/x-ndjson")
        results = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
        expected = [self.model.write([(method, key, members)]) for key, members in lines]
        assert [result["status"] if "problem" in result else 0 for result in results] == expected

    @invariant()
    def items_bill_and_events_are_the_models(self) -> None:
        if not hasattr(self, "model"):
            return
        assert dict(Item.objects.values_list("key", "payload")) == self.model.items
        account = TokenAccount.objects.get()
        assert (account.balance, account.sequence) == (self.model.balance, len(self.model.events))
        events = OutboxEvent.objects.order_by("sequence").values_list("detail_type", "detail")
        sent = [(detail_type, json.loads(detail)["payload"]) for detail_type, detail in events]
        assert _by_item(sent) == _by_item(self.model.events)
        assert list(balances.discrepancies()) == []


def _by_item(events: list[tuple[str, Any]]) -> dict[str, list[tuple[str, Any]]]:
    """The events of each item, in their order: those of several items have none among them in a stream."""
    of_items: dict[str, list[tuple[str, Any]]] = {}
    for event in events:
        of_items.setdefault(event[1]["id"], []).append(event)
    return of_items


@pytest.mark.django_db
def test_any_sequence_of_operations_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        ItemsAgainstTheModel, settings=hypothesis_settings(max_examples=20, stateful_step_count=20)
    )
