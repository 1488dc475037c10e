"""What the database can tell: read at the end, and watched by a trigger meanwhile."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from tests.chaos.observations import Entry, Observations, Record

# A publisher that lost its lease must not write over its successor's result: what is settled stays as it is.
_TRIGGER = """
CREATE TABLE chaos_rewritten (event text, old text, new text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_rewritten (event, old, new) VALUES (OLD.id, OLD.status, NEW.status);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_settled_events_stay AFTER UPDATE ON eventing_outboxevent
    FOR EACH ROW WHEN (OLD.status <> 'pending') EXECUTE FUNCTION chaos_note();
"""
_ENTRIES = """
SELECT tenant.name, entry.kind, entry.amount, entry.operation::text, entry.sequence, entry.reference
FROM tenants_ledgerentry entry JOIN tenants_tenant tenant ON tenant.id = entry.account_id ORDER BY entry.id
"""
_BALANCES = """
SELECT tenant.name, account.balance
FROM tenants_tokenaccount account JOIN tenants_tenant tenant ON tenant.id = account.tenant_id
"""
_ITEMS = """
SELECT tenant.name, schema.name, item.key, item.payload::text
FROM backend_item item JOIN backend_schema schema ON schema.id = item.schema_id
JOIN tenants_tenant tenant ON tenant.id = schema.tenant_id
"""
_RECORDS = "SELECT idempotency_key, status, tokens, operation::text FROM backend_operationrecord WHERE origin = 'event'"
_UNDELIVERED = "SELECT status, count(*) FROM eventing_outboxevent WHERE status <> 'delivered' GROUP BY status"
_REWRITTEN = "SELECT event, old, new FROM chaos_rewritten ORDER BY at"


class Witness:
    """Reads the product's database, past the product."""

    def __init__(self, url: str) -> None:
        self._url = url

    def watch(self) -> None:
        """Have the database note from now on what must not happen."""
        self._connect().execute(_TRIGGER)

    def rewritten(self) -> list[str]:
        """Events that were settled and then written again."""
        return [
            f"fencing: the event {event} was {old}, and was written again as {new}."
            for event, old, new in self._rows(_REWRITTEN)
        ]

    def pending(self) -> int:
        """Events that wait in the outbox."""
        return int(dict(self._rows(_UNDELIVERED)).get("pending", 0))

    def tell(self, seen: Observations) -> None:
        """Add what the database holds."""
        seen.entries = [Entry(*row) for row in self._rows(_ENTRIES)]
        seen.balances = {str(name): int(balance) for name, balance in self._rows(_BALANCES)}
        seen.records = [Record(*row) for row in self._rows(_RECORDS)]
        seen.items = {(row[0], row[1], row[2]): json.loads(row[3]) for row in self._rows(_ITEMS)}
        seen.undelivered = {str(status): int(count) for status, count in self._rows(_UNDELIVERED)}
        seen.rewritten = self.rewritten()

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url, autocommit=True, connect_timeout=5)

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._connect() as connection:
            return connection.execute(query.encode()).fetchall()
