"""What a tenant has used: its balance, what operations burnt of it, and the entries of its ledger."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from django.db.models import Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from blockforger.backend.deeds import COST
from tenants import by_time
from tenants.models import EntryKind, LedgerEntry, TokenAccount

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject
    from tenants.models import Tenant

MAX_DAYS = 31
# By this much the clocks of hosts may differ.
_SLACK = timedelta(hours=1)
# What operations.py writes on a bill: the method, the schema, and how many items if they were many.
_SCHEMA_ON_BILL = re.compile(r"\S+ ([^\s,]+)")


def of(tenant: Tenant, *, days: int) -> JsonObject:
    """The balance, and the tokens that were spent today and on the days before, by day (UTC) and by schema.

    Reads what the ledger has of these days, and nothing else.
    """
    today = timezone.now().astimezone(UTC).date()
    begin = datetime.combine(today - timedelta(days=days - 1), time(), UTC)
    per_day: Counter[str] = Counter({str(begin.date() + timedelta(days=day)): 0 for day in range(days)})
    per_schema: Counter[str] = Counter()
    rows = LedgerEntry.objects.filter(account=tenant.pk)
    first = by_time.first_pk_since(rows, "created_at", begin - _SLACK)
    if first is not None:
        spent = (
            rows.filter(pk__gte=first, created_at__gte=begin, kind=EntryKind.DEBIT)
            .order_by()
            .values_list(TruncDate("created_at", tzinfo=UTC), "reference")
            .annotate(Sum("amount"))
        )
        for day, reference, amount in spent:
            per_day[str(day)] -= amount
            form = _SCHEMA_ON_BILL.match(reference)
            per_schema[form[1] if form else ""] -= amount
    balance = TokenAccount.objects.filter(pk=tenant.pk).values_list("balance", flat=True).first()
    return {
        "balance": balance or 0,
        "cost": COST,
        "days": [{"day": day, **_burnt(tokens)} for day, tokens in sorted(per_day.items())],
        "schemas": [{"schema": name, **_burnt(tokens)} for name, tokens in per_schema.most_common()],
    }


def entries(tenant: Tenant, *, before: int | None, limit: int) -> tuple[list[LedgerEntry], int | None]:
    """Entries of the ledger, the newest first, and what the next page comes before; None if there is none."""
    rows = LedgerEntry.objects.filter(account=tenant.pk).order_by("-pk")
    found = list((rows.filter(pk__lt=before) if before is not None else rows)[: limit + 1])
    return found[:limit], found[limit - 1].pk if len(found) > limit else None


def as_json(entry: LedgerEntry) -> JsonObject:
    """What a list says of an entry."""
    return {
        "id": entry.pk,
        "kind": entry.kind,
        "amount": entry.amount,
        "balance_after": entry.balance_after,
        "operation": str(entry.operation),
        "sequence": entry.sequence,
        "api_key": entry.api_key_prefix or None,
        "reference": entry.reference,
        "created_at": entry.created_at.isoformat(),
    }


def _burnt(tokens: int) -> JsonObject:
    return {"tokens": tokens, "operations": tokens // COST}
