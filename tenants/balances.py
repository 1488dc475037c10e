"""Balances: what is paid in, what operations cost, and the proof that both add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import connection, transaction
from django.db.models import F, Max, Sum, Window
from django.db.models.functions import Coalesce, Lag

from tenants.errors import NotEnoughTokens
from tenants.models import EntryKind, LedgerEntry, TokenAccount

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from tenants.models import Tenant


class TopUpRefused(ValueError):
    """A top-up that cannot be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Debit:
    """An account after a debit: tokens left, and the last sequence number that was taken (if any was)."""

    cost: int
    balance: int
    sequence: int


def debit(tenant_id: int, *, cost: int, sequence_numbers: int) -> Debit:
    """Take tokens, and that many of the tenant's sequence numbers, in one statement.

    Locks the account until the transaction ends: call it as late as possible. Raises NotEnoughTokens.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE tenants_tokenaccount SET balance = balance - %s, sequence = sequence + %s"
            " WHERE tenant_id = %s AND balance >= %s RETURNING balance, sequence",
            [cost, sequence_numbers, tenant_id, cost],
        )
        row = cursor.fetchone()
    if row is None:
        raise NotEnoughTokens(balance=_balance(tenant_id), cost=cost)
    return Debit(cost=cost, balance=row[0], sequence=row[1])


def debit_entry(
    tenant_id: int,
    taken: Debit,
    *,
    operation: uuid.UUID,
    sequence: int | None,
    api_key_prefix: str,
    reference: str,
) -> LedgerEntry:
    """The unsaved ledger entry of a debit: it must be inserted in the same transaction."""
    return LedgerEntry(
        account_id=tenant_id,
        kind=EntryKind.DEBIT,
        amount=-taken.cost,
        balance_after=taken.balance,
        operation=operation,
        sequence=sequence,
        api_key_prefix=api_key_prefix,
        reference=reference,
    )


def top_up(tenant: Tenant, *, amount: int, reference: str) -> tuple[LedgerEntry, bool]:
    """Add tokens once per reference. Returns the entry and whether it is new.

    A second call with the same reference and amount changes nothing. Raises TopUpRefused for an amount below 1, an
    empty reference, or a reference that was used for another amount.
    """
    if amount < 1 or not reference:
        raise TopUpRefused(
            "A top-up needs an amount of at least 1 token and a reference, for example an invoice number."
        )
    with transaction.atomic():
        TokenAccount.objects.get_or_create(tenant=tenant)
        account = TokenAccount.objects.select_for_update().get(tenant=tenant)
        earlier = account.entries.filter(kind=EntryKind.TOP_UP, reference=reference).first()
        if earlier is not None:
            if earlier.amount != amount:
                raise TopUpRefused(f"The reference '{reference}' was used for a top-up of {earlier.amount} tokens.")
            return earlier, False
        account.balance += amount
        account.save(update_fields=["balance"])
        entry = LedgerEntry.objects.create(
            account=account,
            kind=EntryKind.TOP_UP,
            amount=amount,
            balance_after=account.balance,
            reference=reference,
        )
    return entry, True


def discrepancies() -> Iterator[str]:
    """A sentence for each account whose ledger does not prove its balance and clock; none when all is well.

    Each check is one statement, so it sees one state of the database while writers go on.
    """
    accounts = TokenAccount.objects.select_related("tenant").annotate(
        entries_sum=Coalesce(Sum("entries__amount"), 0), last_sequence=Coalesce(Max("entries__sequence"), 0)
    )
    for account in accounts:
        if account.balance != account.entries_sum:
            yield (
                f"{account.tenant}: the balance is {account.balance}, "
                f"the ledger's entries add up to {account.entries_sum}."
            )
        if account.sequence != account.last_sequence:
            yield (
                f"{account.tenant}: the clock stands at {account.sequence}, "
                f"the ledger's last number is {account.last_sequence}."
            )
    before = Window(Lag("balance_after", default=0), partition_by=F("account_id"), order_by=F("id").asc())
    broken = (
        LedgerEntry.objects.annotate(balance_before=before)
        .exclude(balance_after=F("balance_before") + F("amount"))
        .select_related("account__tenant")
        .order_by("id")
    )
    for entry in broken:
        yield f"{entry.account.tenant}: entry {entry.pk} ({entry}) does not follow from the entry before it."


def _balance(tenant_id: int) -> int:
    return TokenAccount.objects.filter(pk=tenant_id).values_list("balance", flat=True).first() or 0
