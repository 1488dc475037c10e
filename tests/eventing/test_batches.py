"""Operations in one transaction: the same as one by one, in fewer statements."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from django.db import connection

from blockforger.backend import rows, signals
from blockforger.backend.models import OperationRecord
from blockforger.backend.operations import Operation, execute, execute_batch
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import LedgerEntry, TokenAccount
from tests.cast import FLUFFY, a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import an_event
from tests.eventing.statements import statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockforger.backend.outcomes import Outcome

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nudged")]


def posts(key: str, numbers: Sequence[int], *, tenant: str = "mytenant") -> list[Operation]:
    return [
        an_event(key, "POST", {**FLUFFY, "id": str(number)}, event_id=f"{tenant} {number}", tenant=tenant)
        for number in numbers
    ]


@pytest.fixture
def key() -> str:
    return a_caller("mytenant")


def a_caller(name: str, *, tokens: int = 1000) -> str:
    tenant = a_tenant(name, tokens=tokens)
    a_schema(tenant)
    a_rule(tenant)
    return a_key(tenant)


def statuses(outcomes: Sequence[Outcome]) -> list[int]:
    return [outcome.status for outcome in outcomes]


def test_a_batch_takes_no_more_statements_than_one_event(key: str) -> None:
    execute(posts(key, [0])[0])
    # records, items looked for, and all that is written; without such statements it is four: items, account, ledger,
    # outbox
    written = 1 if connection.vendor == "postgresql" else 4
    assert statements(lambda: execute_batch(posts(key, range(1, 21)))) == (1, 2 + written)
    changes = [an_event(key, "PUT", {**FLUFFY, "id": str(number)}, event_id=f"put {number}") for number in range(20)]
    assert statements(lambda: execute_batch(changes)) == (1, 2 + written)
    assert TokenAccount.objects.get().balance == 1000 - 41 * 10


def test_events_that_are_too_much_for_one_transaction_take_several(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "MAX_TOLD_BYTES", 4000)  # two or three of them
    batch = posts(key, range(6))
    batch[3] = an_event(key, "POST", {**FLUFFY, "id": "large", "name": "x" * 4000}, event_id="large")
    outcomes = execute_batch([*batch, an_event(key, "DELETE", {"id": "0"}, event_id="last")])
    assert statuses(outcomes) == [201, 201, 201, 413, 201, 201, 204]
    assert OutboxEvent.objects.count() == 6
    assert TokenAccount.objects.get().balance == 1000 - 6 * 10
    assert OperationRecord.objects.get(idempotency_key="large").status == 413
    assert statuses(execute_batch(batch)) == [201, 201, 201, 413, 201, 201]
    assert OutboxEvent.objects.count() == 6


def test_a_batch_of_several_tenants_takes_no_more(key: str) -> None:
    other = a_caller("other")
    execute_batch([*posts(key, [0]), *posts(other, [0], tenant="other")])
    batch = [*posts(other, range(1, 6), tenant="other"), *posts(key, range(1, 6))]
    assert statements(lambda: execute_batch(batch)) == (1, 3 if connection.vendor == "postgresql" else 6)
    assert list(TokenAccount.objects.values_list("balance", "sequence")) == [(940, 6), (940, 6)]


def test_numbers_follow_the_order_of_the_batch_and_have_no_gap(key: str) -> None:
    execute_batch(posts(key, [5, 3, 9, 1]))
    events = OutboxEvent.objects.order_by("sequence").values_list("sequence", "item_key")
    assert list(events) == [(1, "5"), (2, "3"), (3, "9"), (4, "1")]
    entries = LedgerEntry.objects.filter(kind="debit").order_by("sequence").values_list("sequence", "balance_after")
    assert list(entries) == [(1, 990), (2, 980), (3, 970), (4, 960)]
    assert list(balances.discrepancies()) == []


def test_the_first_of_a_batch_are_paid_for_as_far_as_the_balance_goes(key: str) -> None:
    poor = a_caller("poor", tokens=35)
    batch = [
        *posts(poor, range(2), tenant="poor"),
        an_event(poor, "DELETE", {"id": "none"}, event_id="not there, and free", tenant="poor"),
        *posts(poor, range(2, 5), tenant="poor"),
        *posts(key, range(3)),
    ]
    assert statuses(execute_batch(batch)) == [201, 201, 404, 201, 402, 402, 201, 201, 201]
    refused = OperationRecord.objects.get(idempotency_key="poor 4")
    assert (refused.tokens, refused.problem and refused.problem["balance"]) == (0, 5)
    assert dict(TokenAccount.objects.values_list("tenant__name", "balance")) == {"mytenant": 970, "poor": 5}
    assert list(balances.discrepancies()) == []


def test_operations_on_one_item_follow_each_other(key: str) -> None:
    batch = [
        an_event(key, "POST", {"id": "1", "name": "first"}, event_id="a"),
        an_event(key, "PUT", {"id": "1", "name": "second"}, event_id="b"),
        an_event(key, "PATCH", {"id": "1", "status": "sold"}, event_id="c"),
        an_event(key, "DELETE", {"id": "1"}, event_id="d"),
        an_event(key, "POST", {"id": "1", "name": "again"}, event_id="e"),
    ]
    assert statuses(execute_batch(batch)) == [201, 200, 200, 204, 201]
    in_order = list(OutboxEvent.objects.order_by("sequence").values_list("operation", flat=True))
    assert in_order == ["POST", "PUT", "PATCH", "DELETE", "POST"]


def test_an_event_that_stands_twice_in_a_batch_has_one_effect(key: str) -> None:
    first, second = execute_batch(posts(key, [7]) + posts(key, [7]))
    assert (first.status, first.repeated, second.status, second.repeated) == (201, False, 201, True)
    assert TokenAccount.objects.get().balance == 990


def test_what_has_no_idempotency_key_comes_alone(key: str) -> None:
    nameless = [replace(operation, idempotency_key="") for operation in posts(key, range(2))]
    with pytest.raises(ValueError, match="need idempotency keys"):
        execute_batch(nameless)
    assert not LedgerEntry.objects.filter(kind="debit").exists()


def test_more_rows_than_a_statement_takes_are_inserted_in_parts(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_ROWS_OF_A_STATEMENT", 7)
    assert statuses(execute_batch(posts(key, range(20)))) == [201] * 20
    assert statuses(execute_batch(posts(key, [19, 20, 21]))) == [201, 201, 201]
    assert (OutboxEvent.objects.count(), OperationRecord.objects.count()) == (22, 22)
    assert list(balances.discrepancies()) == []
