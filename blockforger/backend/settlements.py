"""Settlements: what operations leave in the database when they are carried out, but for their records.

PostgreSQL writes all of it in one statement: a round trip where there were five, and an account that is locked for
as long as a commit takes. SQLite, which has no round trips and no such statement, writes one thing after the other.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import IntegrityError, OperationalError, connection, transaction

from blockforger.backend import deadlocks, rows
from blockforger.backend.deadlocks import Overtaken
from blockforger.backend.models import Item
from tenants import balances
from tenants.balances import Debit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Sized

    from django.db.models import Model

    from tenants.balances import Claim
    from tenants.models import Tenant

_CREATED = ("schema", "key", "payload", "version", "created_at", "updated_at")
_CHANGED = ("id", "version", "payload", "updated_at")
_GONE = ("id", "version")
# What of a row is counted from the account as it was: by column, the account's.
_COUNTED = {"balance_after": "balance", "sequence": "sequence"}


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
    # An item that must be there: a schema's number and a key. Only where the settlement is a transaction of its own.
    read: tuple[int, str] | None = None
    # Whether somebody is told the numbers of the new items.
    numbers_are_told: bool = True


def settle(settlement: Settlement) -> dict[int, Debit]:
    """Write it in the caller's transaction, and give the accounts as they were, by tenant.

    New items get their numbers, if these are told.
    Locks the items, then the accounts in the order of their tenants. Raises NotCovered for accounts that hold too
    little, and Overtaken if an item is no longer as it was: the transaction has then to be undone.
    """
    if not settlement.claims:
        rows.insert(settlement.rows)
        return {}
    if connection.vendor != "postgresql":
        return _settle_in_turn(settlement)
    written = _write(settlement, None)
    if written.items < _items_of(settlement):
        raise Overtaken
    if poor := settlement.claims.keys() - written.accounts.keys():
        raise balances.not_covered(poor)
    return written.accounts


def can_be_at_once() -> bool:
    """Whether the database has such statements."""
    return connection.vendor == "postgresql"


def settle_at_once(settlement: Settlement, tenant: Tenant) -> Written | None:
    """Write it as a transaction of its own, of one statement, if the tenant's configuration is still the one given.

    Gives the accounts as they were, and what was read. None if nothing was written: for that reason, for want of
    tokens, or because an item is no longer as it was.
    Only PostgreSQL can.
    """
    try:
        # Within another transaction this is an error, but in tests that undo everything.
        with transaction.atomic(durable=True) if connection.in_atomic_block else nullcontext():
            written = _write(settlement, tenant)
    except (IntegrityError, OperationalError) as error:
        # Such as: another took the tokens after the statement had begun, and the account's constraint undid it.
        if deadlocks.is_worth_another_try(error):
            return None
        raise
    return written if written.accounts.keys() == settlement.claims.keys() else None


class Written(NamedTuple):
    """How many items there were to be written or read, the accounts as they were, and the item that was read."""

    items: int
    accounts: dict[int, Debit]
    read: Item | None


def _items_of(settlement: Settlement) -> int:
    return bool(settlement.read) + len(settlement.created) + len(settlement.changed) + len(settlement.gone)


def _settle_in_turn(settlement: Settlement) -> dict[int, Debit]:
    rows.insert_unless_taken(settlement.created, unique=("schema", "key"))
    rows.update(settlement.changed, _CHANGED[1:])
    if settlement.gone:
        Item.objects.filter(pk__in=[item.pk for item in settlement.gone]).delete()
    accounts = balances.debit(settlement.claims)
    for row in settlement.rows:
        _count_from(accounts.get(_tenant_of(row)), row)
    rows.insert(settlement.rows)
    return accounts


def _count_from(account: Debit | None, row: Any) -> None:
    for column, of_account in _COUNTED.items():
        if account is not None and getattr(row, column, None) is not None:
            setattr(row, column, getattr(row, column) + getattr(account, of_account))


def _tenant_of(row: Model) -> int:
    number: int = getattr(row, _tenant_column(type(row)))
    return number


def _tenant_column(model: type[Model]) -> str:
    """The column that names the row's account, which has the number of its tenant."""
    return "account_id" if hasattr(model, "account_id") else "tenant_id"


class _Shape(NamedTuple):
    """What a statement depends on: of what there is one, and of what there are many."""

    created: int
    changed: int
    gone: int
    claims: int
    rows: tuple[tuple[type[Model], int], ...]
    is_at_once: bool
    reads: bool
    tells_numbers: bool


def _one_or_many(things: Sized) -> int:
    return min(len(things), 2)


def _write(settlement: Settlement, tenant: Tenant | None) -> Written:
    """One statement; `tenant` if it is to be a transaction of its own."""
    by_model: dict[type[Model], list[Model]] = {}
    for row in settlement.rows:
        by_model.setdefault(type(row), []).append(row)
    shape = _Shape(
        created=_one_or_many(settlement.created),
        changed=_one_or_many(settlement.changed),
        gone=_one_or_many(settlement.gone),
        claims=_one_or_many(settlement.claims),
        rows=tuple((model, _one_or_many(of_model)) for model, of_model in by_model.items()),
        is_at_once=tenant is not None,
        reads=settlement.read is not None,
        tells_numbers=settlement.numbers_are_told and bool(settlement.created),
    )
    parameters = [*_parameters(settlement, by_model, tenant)]
    accounts: dict[int, Debit] = {}
    places: dict[tuple[int, str], int] = {}
    items, read = 0, None
    for kind, first, second, third, text in rows.fetched(_statement(shape), parameters):
        if kind == "account":
            accounts[first] = Debit(second, third)
        elif kind == "created":
            places[first, text] = second
        elif kind == "found" and settlement.read:
            schema, key = settlement.read
            read = Item(id=first, schema_id=schema, key=key, payload=json.loads(text), version=second)
        else:
            items = first
    if shape.tells_numbers:
        for item in settlement.created:
            item.pk = places.get((item.schema_id, item.key))
    return Written(items, accounts, read)


def _parameters(
    settlement: Settlement, by_model: Mapping[type[Model], Sequence[Model]], tenant: Tenant | None
) -> Iterator[Any]:
    """In the order in which the statement names them."""
    if tenant is not None:
        (claim,) = settlement.claims.values()
        versions = tenant.configuration_version, tenant.admission_version
        yield from map(str, (tenant.pk, *versions, claim.tokens))
    if settlement.read is not None:
        yield from map(str, settlement.read)
    for items, columns in (
        (settlement.created, _CREATED),
        (settlement.changed, _CHANGED),
        (settlement.gone, _GONE),
    ):
        if items:
            yield from rows.parameters(items, rows.named(Item, columns))
    claims = [(tenant_id, claim.tokens, claim.numbers) for tenant_id, claim in settlement.claims.items()]
    if len(claims) == 1:
        yield from map(str, claims[0])
    else:
        yield json.dumps([{"tenant": first, "tokens": second, "numbers": third} for first, second, third in claims])
    yield str(_items_of(settlement))
    for model, of_model in by_model.items():
        yield from rows.parameters(of_model, rows.inserted(model))
        yield str(len(claims))


@lru_cache(maxsize=256)
def _statement(shape: _Shape) -> str:
    """The statement. Each part that writes reads from the one before, so that locks are taken in that order."""
    parts = []
    if shape.is_at_once:
        parts.append(
            "admitted AS (SELECT FROM tenants_tenant t JOIN tenants_tokenaccount a ON a.tenant_id = t.id"
            " WHERE t.id = %s::bigint AND t.configuration_version = %s::bigint AND t.admission_version = %s::bigint"
            " AND a.balance >= %s::bigint)"
        )
    admitted = "EXISTS (SELECT FROM admitted)" if shape.is_at_once else "TRUE"
    if shape.reads:
        parts.append(
            "found AS (SELECT id, version, payload FROM backend_item WHERE schema_id = %s::bigint AND key = %s::text)"
        )
    if shape.created:
        parts += [_given("new_item", _CREATED, shape.created), _creation(admitted)]
    if shape.changed:
        parts += [_given("new_state", _CHANGED, shape.changed), _change(admitted)]
    if shape.gone:
        parts += [_given("old_item", _GONE, shape.gone), _removal(admitted)]
    there = ("found", shape.reads), ("created", shape.created), ("changed", shape.changed), ("gone", shape.gone)
    items = " + ".join(f"(SELECT count(*) FROM {name})" for name, is_there in there if is_there) or "0"
    parts += [_claims(shape.claims), _debit(shape, items, admitted)]
    parts += [_insertion(f"told_{index}", model, count) for index, (model, count) in enumerate(shape.rows)]
    told = ["SELECT 'account', tenant_id, balance, sequence, NULL::text FROM account"]
    if shape.reads:
        told.append("SELECT 'found', id, version, NULL::bigint, payload::text FROM found")
    if shape.tells_numbers:
        told.append("SELECT 'created', schema_id, id, NULL::bigint, key FROM created")
    told.append(f"SELECT 'items', {items}, NULL::bigint, NULL::bigint, NULL::text")
    return f"WITH {', '.join(parts)} {' UNION ALL '.join(told)}"


def _given(name: str, columns: tuple[str, ...], count: int) -> str:
    fields = rows.named(Item, columns)
    return f"{name}({', '.join(map(rows.quoted, fields))}) AS ({rows.table(fields, rows.shape_of(count))})"


def _creation(admitted: str) -> str:
    names = ", ".join(map(rows.quoted, rows.named(Item, _CREATED)))
    return (
        f"created AS (INSERT INTO backend_item ({names}) SELECT {names} FROM new_item WHERE {admitted}"
        " ON CONFLICT (schema_id, key) DO NOTHING RETURNING id, schema_id, key)"
    )


def _change(admitted: str) -> str:
    return (
        "changed AS (UPDATE backend_item SET payload = s.payload, version = s.version, updated_at = s.updated_at"
        f" FROM new_state s WHERE backend_item.id = s.id AND backend_item.version = s.version - 1 AND {admitted}"
        " RETURNING backend_item.id)"
    )


def _removal(admitted: str) -> str:
    return (
        "gone AS (DELETE FROM backend_item USING old_item o WHERE backend_item.id = o.id"
        f" AND backend_item.version = o.version AND {admitted} RETURNING backend_item.id)"
    )


def _claims(count: int) -> str:
    if count == 1:
        return "claim(tenant, tokens, numbers) AS (VALUES (%s::bigint, %s::bigint, %s::bigint))"
    return "claim AS (SELECT * FROM json_to_recordset(%s::json) AS given(tenant bigint, tokens bigint, numbers bigint))"


def _debit(shape: _Shape, items: str, admitted: str) -> str:
    """Alone, the statement commits what it wrote: an account that cannot pay must then undo it by its constraint."""
    condition = f"{items} = %s::bigint AND {admitted}"
    claimed = f"(SELECT * FROM claim WHERE {condition})"
    if shape.claims > 1:
        # The rows are locked in this order, not in that of the update.
        claimed = (
            "(SELECT claim.* FROM claim JOIN tenants_tokenaccount locked ON locked.tenant_id = claim.tenant"
            f" WHERE {condition} ORDER BY claim.tenant FOR UPDATE OF locked)"
        )
    covered = "" if shape.is_at_once else " AND account.balance >= claim.tokens"
    return (
        "account AS (UPDATE tenants_tokenaccount account SET balance = account.balance - claim.tokens,"
        f" sequence = account.sequence + claim.numbers FROM {claimed} claim WHERE tenant_id = claim.tenant{covered}"
        " RETURNING account.tenant_id, account.balance + claim.tokens AS balance,"
        " account.sequence - claim.numbers AS sequence)"
    )


def _insertion(name: str, model: type[Model], count: int) -> str:
    fields = rows.inserted(model)
    values = ", ".join(
        f"account.{_COUNTED[str(field.column)]} + given.{rows.quoted(field)}"
        if field.column in _COUNTED
        else f"given.{rows.quoted(field)}"
        for field in fields
    )
    return (
        f"{name} AS (INSERT INTO {rows.quoted_table(model)} ({', '.join(map(rows.quoted, fields))}) SELECT {values}"
        f" FROM {rows.numbered_table(fields, rows.shape_of(count), name='given')}"
        f" LEFT JOIN account ON account.tenant_id = given.{_tenant_column(model)}"
        " WHERE (SELECT count(*) FROM account) = %s::bigint ORDER BY given.row_number)"
    )
