"""Money: whatever happens, the balance is the sum of the ledger, and the ledger is what was carried out."""

from __future__ import annotations

import json
import uuid
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from django.db import connection
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from blockforger.backend.models import Item
from eventing import consuming
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import EntryKind, LedgerEntry, Tenant, TokenAccount
from tests.cast import a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle
from tests.eventing.test_feedback import wants_feedback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]

COST = 10
WRITES = ("POST", "PUT", "PATCH", "DELETE")
LOST = "the answer to COMMIT is lost"


class Fault(Exception):
    """What a test makes happen."""


class Step(NamedTuple):
    """One operation. A fault is the number of the statement at which it happens, or LOST."""

    door: str
    method: str
    item_key: str = "1"
    name: Any = "Fluffy"
    # Of an event: one id for several events makes repetitions of the later ones.
    event_id: str | None = None
    with_key: bool = True
    fault: int | str | None = None


class Bank:
    """A tenant with its money, and what it must come to by what became of the items."""

    def __init__(self, tokens: int) -> None:
        self.tenant = a_tenant(f"t{uuid.uuid4().hex}", tokens=tokens)
        a_schema(self.tenant)
        a_rule(self.tenant)
        wants_feedback(self.tenant)
        self.key = a_key(self.tenant)
        self.paid_in = tokens
        self.reads = self.writes = 0

    def add(self, tokens: int) -> None:
        balances.top_up(self.tenant, amount=tokens, reference=uuid.uuid4().hex)
        self.paid_in += tokens

    def take(self, step: Step) -> bool | None:
        """Carry the step out. Returns whether it succeeded, as its door says; None: it was faulted."""
        before = self._items()
        with _faulted(step.fault) as happened:
            succeeded = self._send(step)
        changed = self._items() != before
        if step.method == "GET":
            self.reads += bool(succeeded)
        else:
            self.writes += changed
            if not happened:
                assert succeeded == changed
        self.check()
        return None if happened else succeeded

    def check(self) -> None:
        """The proof of point 5: balance = ledger = what was paid in - what the operations cost."""
        account = TokenAccount.objects.get(pk=self.tenant.pk)
        entries = LedgerEntry.objects.filter(account=account)
        carried_out = self.reads + self.writes
        assert account.balance == entries.aggregate(sum=Sum("amount"))["sum"]
        assert account.balance == self.paid_in - COST * carried_out
        assert account.balance >= 0
        assert entries.filter(kind=EntryKind.DEBIT).count() == carried_out
        assert account.sequence == self.writes
        sequences = OutboxEvent.objects.filter(tenant=self.tenant, sequence__isnull=False).values_list("sequence")
        assert list(sequences.order_by("sequence")) == [(number,) for number in range(1, self.writes + 1)]
        assert list(balances.discrepancies()) == []

    def _items(self) -> list[Any]:
        return list(Item.objects.filter(schema__tenant=self.tenant).order_by("pk").values_list("pk", "version"))

    def _send(self, step: Step) -> bool:
        payload = {"id": step.item_key, "name": step.name}
        api_key = self.key if step.with_key else None
        if step.door == "event":
            ask = Ask(step.method, payload, tenant=self.tenant.name, api_key=api_key)
            event_id = f"{self.tenant.name}-{step.event_id or uuid.uuid4()}"
            return handle(json.dumps(envelope(ask, event_id=event_id))) is consuming.Disposition.CARRIED_OUT
        path = f"/api/{self.tenant.name}/petstore" + ("" if step.method == "POST" else f"/{step.item_key}")
        response = APIClient(raise_request_exception=False).generic(
            step.method,
            path,
            "" if step.method == "GET" else json.dumps(payload),
            content_type="application/json",
            headers={"X-API-Key": api_key} if api_key else {},
        )
        return bool(response.status_code < 400)


@contextmanager
def _faulted(fault: int | str | None) -> Iterator[list[bool]]:
    """Raises at that statement, before or after which everything else goes well. Yields whether it did."""
    happened: list[bool] = []
    statements = iter(range(1_000_000))

    def fail() -> None:
        happened.append(True)
        raise Fault

    def at_statement(execute: Callable[..., Any], *arguments: Any) -> Any:
        if next(statements) == fault:
            fail()
        return execute(*arguments)

    with ExitStack() as stack:
        if fault == LOST:
            stack.enter_context(_commits_answered_by(fail))
        elif fault is not None:
            stack.enter_context(connection.execute_wrapper(at_statement))
        yield happened


@contextmanager
def _commits_answered_by(fail: Callable[[], None]) -> Iterator[None]:
    # The class of the database's own wrapper is not known to the types.
    really_commit: Callable[[], None] = connection._commit  # type: ignore[attr-defined]

    def commit() -> None:
        really_commit()
        fail()

    def execute(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        result = execute(sql, *arguments)
        if "admitted AS" in sql:  # a transaction of its own
            fail()
        return result

    with pytest.MonkeyPatch.context() as patch, connection.execute_wrapper(execute):
        patch.setattr(connection, "_commit", commit)
        yield


@pytest.mark.parametrize("door", ["rest", "event"])
@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("tokens", [30, 15], ids=["paid", "refused for want of tokens"])
def test_a_fault_at_any_statement_changes_nothing_and_costs_nothing(door: str, method: str, tokens: int) -> None:
    bank = Bank(tokens)
    item_key = "new" if method == "POST" else "1"
    assert bank.take(Step("rest", "POST"))
    paid = (bank.paid_in, bank.writes)
    statement = 0
    while bank.take(Step(door, method, item_key, event_id="one", fault=statement)) is None:
        assert (bank.paid_in, bank.writes) == paid
        statement += 1
    # On PostgreSQL one writes everything, a caller over REST is known, and a new item is not looked for. Else the
    # caller, the item, the debit, and what comes of it: the ledger, or the balance that does not pay.
    least = {"rest": 1, "event": 3} if connection.vendor == "postgresql" else {"rest": 4, "event": 4}
    assert statement >= least[door]
    assert bank.writes == (2 if tokens == 30 else 1)


@pytest.mark.parametrize("door", ["rest", "event"])
@pytest.mark.parametrize("method", WRITES)
def test_a_write_of_which_the_answer_is_lost_is_paid_once(door: str, method: str) -> None:
    bank = Bank(100)
    item_key = "new" if method == "POST" else "1"
    assert bank.take(Step("rest", "POST"))
    step = Step(door, method, item_key, event_id="one", fault=LOST)
    assert bank.take(step) is None
    assert bank.writes == 2
    if door == "event":
        # Nobody deleted the message: it comes again.
        assert bank.take(step._replace(fault=None)) is False
        assert bank.writes == 2


STEPS = st.one_of(
    st.integers(1, 35),
    st.builds(
        Step,
        door=st.sampled_from(["rest", "event"]),
        method=st.sampled_from(WRITES),
        item_key=st.sampled_from(["1", "2"]),
        name=st.sampled_from(["Fluffy", "Rex", 7]),
        event_id=st.sampled_from([None, None, "one", "two"]),
        with_key=st.sampled_from([True, True, True, False]),
        fault=st.one_of(st.none(), st.none(), st.integers(0, 14), st.just(LOST)),
    ),
    st.integers(-1, 8).map(lambda at: Step("rest", "GET", fault=None if at < 0 else at)),
)


@given(steps=st.lists(STEPS, max_size=12))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_after_any_operations_on_both_doors_the_money_adds_up(steps: list[int | Step]) -> None:
    bank = Bank(50)
    for step in steps:
        if isinstance(step, Step):
            bank.take(step)
        else:
            bank.add(step)
    bank.check()
    Tenant.objects.filter(pk=bank.tenant.pk).update(accepts_events=False)
    assert not bank.take(Step("event", "POST", "last"))
