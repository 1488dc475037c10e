"""The statement that writes a settlement, composed once for each shape that settlements have.

Each part that writes reads from the one before, so that locks are taken in that order: items, then accounts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from blockforger.backend import json_values, rows
from blockforger.backend.models import Item

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence, Sized

    from django.db.models import Model

    from blockforger.backend.json_values import JsonObject
    from blockforger.backend.settlements import Settlement
    from tenants.models import Tenant

CREATED = ("schema", "key", "payload", "version", "created_at", "updated_at")
CHANGED = ("id", "version", "payload", "updated_at")
GONE = ("id", "version")
COUNTED = {"balance_after": "balance", "sequence": "sequence"}
"""What of a row is counted from the account as it was: by column, the account's."""

_LOCK_TIMEOUT = "50ms"
"""For each lock, if several operations wait for it of which only one has to."""
# By the index, one by one: a join would read the whole table where the planner takes it to be small.
_ITEM_AT = "SELECT id, version, payload FROM backend_item WHERE schema_id = given.schema_id AND key = given.key LIMIT 1"
_NUMBER_AT = "(SELECT id FROM backend_item WHERE schema_id = given.schema_id AND key = given.key)"
_VERSION_NOW = "(SELECT version FROM backend_item WHERE id = given.id)"


class Shape(NamedTuple):
    """What a statement depends on: of what there is one, and of what there are many."""

    created: int
    changed: int
    gone: int
    reads: int
    claims: int
    rows: tuple[tuple[type[Model], int], ...]
    # Whether it is a transaction of its own, and of several operations, of which all are done or none.
    is_at_once: bool
    is_of_group: bool
    tells_numbers: bool


def of(settlement: Settlement, tenants: Collection[Tenant]) -> tuple[Shape, list[Any]]:
    """The shape and the parameters of its statement: with tenants if it is to be a transaction of its own."""
    by_model: dict[type[Model], list[Model]] = {}
    for row in settlement.rows:
        by_model.setdefault(type(row), []).append(row)
    shape = Shape(
        created=_one_or_many(settlement.created),
        changed=_one_or_many(settlement.changed),
        gone=_one_or_many(settlement.gone),
        reads=_one_or_many(settlement.reads),
        claims=_one_or_many(settlement.claims),
        rows=tuple((model, _one_or_many(of_model)) for model, of_model in by_model.items()),
        is_at_once=bool(tenants),
        # Reads that were made before have no items here, but tenants that must all be as they were.
        is_of_group=bool(tenants) and (settlement.items > 1 or len(settlement.claims) > 1),
        tells_numbers=settlement.numbers_are_told and bool(settlement.created),
    )
    return shape, [*_parameters(settlement, shape, by_model, tenants)]


def tenant_column(model: type[Model]) -> str:
    """The column that names the row's account, which has the number of its tenant."""
    return "account_id" if hasattr(model, "account_id") else "tenant_id"


def _one_or_many(things: Sized) -> int:
    return min(len(things), 2)


def _parameters(
    settlement: Settlement,
    shape: Shape,
    by_model: Mapping[type[Model], Sequence[Model]],
    tenants: Collection[Tenant],
) -> Iterator[Any]:
    """In the order in which the statement names them."""
    yield from _claim_parameters(settlement, tenants)
    if shape.reads == 1:
        yield from map(str, *settlement.reads)
    elif shape.reads:
        yield json_values.compact([{"schema_id": schema, "key": key} for schema, key in settlement.reads])
    for items, columns in (
        (settlement.created, CREATED),
        (settlement.changed, CHANGED),
        (settlement.gone, GONE),
    ):
        if items:
            yield from rows.parameters(items, rows.named(Item, columns))
    if shape.is_of_group:
        yield from (str(len(settlement.claims)), str(len(settlement.reads)))
    yield str(settlement.items)
    for model, of_model in by_model.items():
        yield from rows.parameters(of_model, rows.inserted(model))
        yield str(len(settlement.claims))


def _claim_parameters(settlement: Settlement, tenants: Collection[Tenant]) -> Iterator[str]:
    records: dict[int, JsonObject] = {
        tenant: {"tenant": tenant, "tokens": claim.tokens, "numbers": claim.numbers}
        for tenant, claim in settlement.claims.items()
    }
    for tenant in tenants:
        versions = {"configuration": tenant.configuration_version, "admission": tenant.admission_version}
        records[tenant.pk].update(versions)
    if len(records) == 1:
        for record in records.values():
            yield from map(str, record.values())
    else:
        yield json_values.compact([*records.values()])


@lru_cache(maxsize=1024)
def text_of(shape: Shape) -> str:
    """The statement of that shape."""
    given = (
        ("new_item", CREATED, shape.created),
        ("new_state", CHANGED, shape.changed),
        ("old_item", GONE, shape.gone),
    )
    writes = ((_creation, shape.created), (_change, shape.changed), (_removal, shape.gone))
    there = ("found", shape.reads), ("created", shape.created), ("changed", shape.changed), ("gone", shape.gone)
    items = " + ".join(f"(SELECT count(*) FROM {name})" for name, is_there in there if is_there) or "0"
    admitted = "EXISTS (SELECT FROM admitted)" if shape.is_at_once else "TRUE"
    parts = [
        _claims(shape),
        *([_admission(shape)] if shape.is_at_once else []),
        *([_found(shape.reads)] if shape.reads else []),
        *[_given(name, columns, count) for name, columns, count in given if count],
    ]
    if shape.is_of_group:
        parts += _clearance(shape)
        admitted = "EXISTS (SELECT FROM clear)"
    parts += [write(admitted) for write, count in writes if count]
    parts.append(_debit(shape, items, admitted))
    parts += [_insertion(f"told_{index}", model, count) for index, (model, count) in enumerate(shape.rows)]
    return f"WITH {', '.join(parts)} {_told(shape, items)}"


def _told(shape: Shape, items: str) -> str:
    """What the statement gives: rows of a kind, three numbers and a text."""
    told = ["SELECT 'account', tenant_id, balance, sequence, NULL::text FROM account"]
    if shape.reads:
        told.append("SELECT 'found', id, version, place, payload::text FROM found")
    if shape.tells_numbers:
        told.append("SELECT 'created', schema_id, id, NULL::bigint, key FROM created")
    if shape.is_of_group:
        told.append("SELECT 'admitted', tenant, NULL::bigint, NULL::bigint, NULL::text FROM admitted")
        told.append("SELECT 'in the way', item, schema_id, NULL::bigint, key FROM in_the_way")
    told.append(f"SELECT 'items', {items}, NULL::bigint, NULL::bigint, NULL::text")
    return " UNION ALL ".join(told)


def _claims(shape: Shape) -> str:
    columns = ["tenant", "tokens", "numbers"]
    if shape.is_at_once:
        columns += ["configuration", "admission"]
    if shape.claims == 1:
        return f"claim({', '.join(columns)}) AS (VALUES ({', '.join(['%s::bigint'] * len(columns))}))"
    typed = ", ".join(f"{column} bigint" for column in columns)
    return f"claim AS (SELECT * FROM json_to_recordset(%s::json) AS given({typed}))"


def _admission(shape: Shape) -> str:
    """The tenants that are as they are thought to be, and can pay."""
    patience = f"CROSS JOIN (SELECT set_config('lock_timeout', '{_LOCK_TIMEOUT}', true)) AS patience "
    return (
        "admitted AS (SELECT claim.tenant FROM claim JOIN tenants_tenant t ON t.id = claim.tenant"
        f" JOIN tenants_tokenaccount a ON a.tenant_id = claim.tenant {patience if shape.is_of_group else ''}"
        "WHERE t.configuration_version = claim.configuration AND t.admission_version = claim.admission"
        " AND a.balance >= claim.tokens)"
    )


def _found(count: int) -> str:
    given = "(VALUES (%s::bigint, %s::text, 1)) AS given(schema_id, key, place)"
    if count > 1:
        records = "ROWS FROM (json_to_recordset(%s::json) AS (schema_id bigint, key text)) WITH ORDINALITY"
        given = f"{records} AS given(schema_id, key, place)"
    return f"found AS (SELECT item.*, given.place FROM {given} CROSS JOIN LATERAL ({_ITEM_AT}) AS item)"


def _clearance(shape: Shape) -> list[str]:
    """What is known to be in the way of some of a group, and a row if nothing is: nothing has then to be undone."""
    found = "SELECT count(*) FROM found" if shape.reads else "SELECT 0"
    in_the_way = ["SELECT NULL::bigint, NULL::bigint, NULL::text WHERE FALSE"]
    if shape.created:
        in_the_way.append(f"SELECT NULL, schema_id, key FROM new_item given WHERE {_NUMBER_AT} IS NOT NULL")
    for name, version, is_there in (
        ("new_state", "given.version - 1", shape.changed),
        ("old_item", "given.version", shape.gone),
    ):
        if is_there:
            is_stale = f"{_VERSION_NOW} IS DISTINCT FROM {version}"
            in_the_way.append(f"SELECT given.id, NULL, NULL FROM {name} given WHERE {is_stale}")
    are_there = f"(SELECT count(*) FROM admitted) = %s::bigint AND ({found}) = %s::bigint"
    return [
        f"in_the_way(item, schema_id, key) AS ({' UNION ALL '.join(in_the_way)})",
        f"clear AS (SELECT WHERE {are_there} AND NOT EXISTS (SELECT FROM in_the_way))",
    ]


def _given(name: str, columns: tuple[str, ...], count: int) -> str:
    fields = rows.named(Item, columns)
    return f"{name}({', '.join(map(rows.quoted, fields))}) AS ({rows.table(fields, rows.shape_of(count))})"


def _creation(admitted: str) -> str:
    names = ", ".join(map(rows.quoted, rows.named(Item, CREATED)))
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


def _debit(shape: Shape, items: str, admitted: str) -> str:
    """Alone, the statement commits what it wrote: the account's constraint must undo what is not to be."""
    condition, balance = f"{items} = %s::bigint AND {admitted}", "account.balance - claim.tokens"
    if shape.is_of_group:
        # Some items were changed a moment ago, and others are written. Counted before, they are locked before.
        condition, balance = (
            f"{admitted} AND {items} >= 0",
            f"CASE WHEN {items} = %s::bigint THEN {balance} ELSE -1 END",
        )
    claimed = f"(SELECT * FROM claim WHERE {condition})"
    if shape.claims > 1:
        # The rows are locked in this order, not in that of the update.
        claimed = (
            "(SELECT claim.* FROM claim JOIN tenants_tokenaccount locked ON locked.tenant_id = claim.tenant"
            f" WHERE {condition} ORDER BY claim.tenant FOR UPDATE OF locked)"
        )
    covered = "" if shape.is_at_once else " AND account.balance >= claim.tokens"
    return (
        f"account AS (UPDATE tenants_tokenaccount account SET balance = {balance},"
        f" sequence = account.sequence + claim.numbers FROM {claimed} claim WHERE tenant_id = claim.tenant{covered}"
        " RETURNING account.tenant_id, account.balance + claim.tokens AS balance,"
        " account.sequence - claim.numbers AS sequence)"
    )


def _insertion(name: str, model: type[Model], count: int) -> str:
    fields = rows.inserted(model)
    values = ", ".join(
        f"account.{COUNTED[str(field.column)]} + given.{rows.quoted(field)}"
        if field.column in COUNTED
        else f"given.{rows.quoted(field)}"
        for field in fields
    )
    return (
        f"{name} AS (INSERT INTO {rows.quoted_table(model)} ({', '.join(map(rows.quoted, fields))}) SELECT {values}"
        f" FROM {rows.numbered_table(fields, rows.shape_of(count), name='given')}"
        f" LEFT JOIN account ON account.tenant_id = given.{tenant_column(model)}"
        " WHERE (SELECT count(*) FROM account) = %s::bigint ORDER BY given.row_number)"
    )
