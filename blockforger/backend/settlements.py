"""Settlements: what operations leave in the database when they are carried out, but for their records.

PostgreSQL writes all of it in one statement: a round trip where there were five, and an account that is locked for
as long as a commit takes. SQLite, which has no round trips and no such statement, writes one thing after the other.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import IntegrityError, OperationalError, connection, transaction

from blockforger.backend import deadlocks, rows, settlement_statements
from blockforger.backend.deadlocks import Overtaken
from blockforger.backend.models import Item
from blockforger.backend.settlement_statements import CHANGED, COUNTED, tenant_column
from tenants import balances
from tenants.balances import Debit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from django.db.models import Model

    from tenants.balances import Claim
    from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Settlement:
    """Items, no two in the same place, claims on accounts by tenant, and the rows that tell of them.

    The columns `sequence` and `balance_after` of a row count from the account of its tenant as it was before: the
    first write has the sequence 1.
    """

    created: Sequence[Item]
    # As they shall be, their version one more than that of the state from which they were made.
    changed: Sequence[Item]
    # As they are.
    gone: Sequence[Item]
    claims: Mapping[int, Claim]
    rows: Sequence[Model]
    # Items that must be there: a schema's number and a key. Only where the settlement is a transaction of its own.
    reads: Sequence[tuple[int, str]] = ()
    # Whether somebody is told the numbers of the new items.
    numbers_are_told: bool = True

    @property
    def items(self) -> int:
        """How many items there are to be written or read."""
        return len(self.reads) + len(self.created) + len(self.changed) + len(self.gone)


def settle(settlement: Settlement) -> dict[int, Debit]:
    """Write it in the caller's transaction, and give the accounts as they were, by tenant.

    New items get their numbers, if these are told.
    Locks the items, then the accounts in the order of their tenants. Raises NotCovered for accounts that hold too
    little, and Overtaken if an item is no longer as it was: the transaction has then to be undone.
    """
    if not settlement.claims:
        rows.insert(settlement.rows)
        return {}
    if not rows.is_postgresql():
        return _settle_in_turn(settlement)
    written = _write(settlement, ())
    if written.items < settlement.items:
        raise Overtaken
    if poor := settlement.claims.keys() - written.accounts.keys():
        raise balances.not_covered(poor)
    return written.accounts


def can_be_at_once() -> bool:
    """Whether the database has such statements."""
    return rows.is_postgresql()


def settle_at_once(settlement: Settlement, tenants: Collection[Tenant]) -> Written | None:
    """Write it as a transaction of its own, of one statement, if the tenants' configurations are still those given.

    Gives the accounts as they were, and what was read. They lack some, and nothing was written, if for that reason, for
    want of tokens, or because an item is no longer as it was. None: nothing was written, and nothing is known, because
    another came in between, or for several items one had to wait for a lock.
    Only PostgreSQL can.
    """
    try:
        # Within another transaction this is an error, but in tests that undo everything.
        with transaction.atomic(durable=True) if connection.in_atomic_block else nullcontext():
            return _write(settlement, tenants)
    except (IntegrityError, OperationalError) as error:
        # Such as: another took the tokens after the statement had begun, and the account's constraint undid it.
        if deadlocks.is_worth_another_try(error) or deadlocks.gave_up_waiting(error):
            return None
        raise


class Written(NamedTuple):
    """What a statement found, and what it wrote if it has the accounts, as they were before."""

    # How many items there were to be written or read.
    items: int
    accounts: dict[int, Debit]
    # By their index in the settlement's `reads`.
    found: dict[int, Item]
    # Of several: the tenants of whom nothing has changed and who can pay; and what is in the way, which is the numbers
    # of items that are no longer of their version, and the places (schema and key) that are taken.
    admitted: set[int]
    in_the_way: set[tuple[int | None, int | None, str | None]]


def _settle_in_turn(settlement: Settlement) -> dict[int, Debit]:
    rows.insert_unless_taken(settlement.created, unique=("schema", "key"))
    rows.update(settlement.changed, CHANGED[1:])
    if settlement.gone:
        Item.objects.filter(pk__in=[item.pk for item in settlement.gone]).delete()
    accounts = balances.debit(settlement.claims)
    for row in settlement.rows:
        _count_from(accounts.get(_tenant_of(row)), row)
    rows.insert(settlement.rows)
    return accounts


def _count_from(account: Debit | None, row: Any) -> None:
    for column, of_account in COUNTED.items():
        if account is not None and getattr(row, column, None) is not None:
            setattr(row, column, getattr(row, column) + getattr(account, of_account))


def _tenant_of(row: Model) -> int:
    number: int = getattr(row, tenant_column(type(row)))
    return number


def _write(settlement: Settlement, tenants: Collection[Tenant]) -> Written:
    """One statement; with tenants if it is to be a transaction of its own."""
    shape, parameters = settlement_statements.of(settlement, tenants)
    written = Written(0, {}, {}, set(), set())
    numbers: dict[tuple[int, str], int] = {}
    for kind, first, second, third, text in rows.fetched(settlement_statements.text_of(shape), parameters):
        if kind == "account":
            written.accounts[first] = Debit(second, third)
        elif kind == "created":
            numbers[first, text] = second
        elif kind == "found":
            schema, key = settlement.reads[third - 1]
            item = Item(id=first, schema_id=schema, key=key, payload=json.loads(text), version=second)
            written.found[third - 1] = item
        elif kind == "admitted":
            written.admitted.add(first)
        elif kind == "in the way":
            written.in_the_way.add((first, second, text))
        else:
            written = written._replace(items=first)
    for item in settlement.created if shape.tells_numbers else ():
        item.pk = numbers.get((item.schema_id, item.key))
    return written
