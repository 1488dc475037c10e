"""The four bare statements of a write, on the product's own tables: what the machine could do if nothing was asked.

Insert the item, update the account, insert the ledger's entry, insert the event: no key, no check, no sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import rows

if TYPE_CHECKING:
    import psycopg

ITEMS, LEDGER, ACCOUNTS = "backend_item", "tenants_ledgerentry", "tenants_tokenaccount"


def statements(connection: psycopg.Connection[Any], *, tenant: str, key: str) -> list[str]:
    """Their texts, with the expressions for a tenant's number (from 0) and an item's key put in.

    The database must hold a write of the product itself, which they imitate.
    """
    ((first_tenant, first_schema),) = connection.execute(
        "SELECT (SELECT min(id) FROM tenants_tenant), (SELECT min(id) FROM backend_schema)"
    ).fetchall()
    tenant_id, schema_id = f"{first_tenant} + {tenant}", f"{first_schema} + {tenant}"
    uuid = (
        "(lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '7' ||"
        f" substr(md5({key}), 1, 3) || '8' || substr(md5({key}), 4, 15))::uuid"
    )
    ((payload, urn, detail),) = connection.execute(
        "SELECT quote_literal(i.payload::text), quote_literal(o.item_urn), quote_literal(o.detail)"
        " FROM backend_item i JOIN eventing_outboxevent o ON o.item_key = i.key WHERE i.key = %s LIMIT 1",
        [rows.SEED_KEY],
    ).fetchall()

    def keyed(literal: str) -> str:
        return f"replace({literal}, '{rows.SEED_KEY}', {key})"

    item = {"schema_id": schema_id, "key": key, "payload": f"{keyed(payload)}::jsonb"}
    event = {
        "id": uuid,
        "tenant_id": tenant_id,
        "item_key": key,
        "item_urn": keyed(urn),
        "detail": keyed(detail),
        "stream": f"hashtextextended({key}, 0)",
        "lane": f"abs(mod(hashtext({key}), 64))",
    }
    return [
        rows.literal_insert(connection, ITEMS, item, where=f"key = '{rows.SEED_KEY}'"),
        f"UPDATE {ACCOUNTS} SET balance = balance - 10, sequence = sequence + 1 WHERE tenant_id = {tenant_id};",
        rows.literal_insert(connection, LEDGER, {"account_id": tenant_id, "operation": uuid}, where="amount < 0"),
        rows.literal_insert(connection, rows.OUTBOX, event, where=f"item_key = '{rows.SEED_KEY}'"),
    ]
