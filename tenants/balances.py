"""Balances: what is paid in, what operations cost, and the proof that both add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import connection, transaction
from django.db.models import F, Max, Sum, Window
from django.db.models.functions import Coalesce, Lag

from tenants.models import EntryKind, LedgerEntry, TokenAccount
from tenants.new_rows import NewRows

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime

    from tenants.models import Tenant

_NEW_ENTRY = NewRows(LedgerEntry)


class TopUpRefused(ValueError):
    """A top-up that cannot be made; the text says why."""


class NotCovered(Exception):
    """Accounts that hold less than is claimed of them: their balances, by tenant. Nothing was taken from any."""

    def __init__(self, balances: dict[int, int]) -> None:
        super().__init__(balances)
        self.balances = balances


@dataclass(frozen=True, slots=True)
class Claim:
    """What operations take from an account: tokens, and sequence numbers."""

    tokens: int
    numbers: int

    def __add__(self, other: Claim) -> Claim:
        return Claim(self.tokens + other.tokens, self.numbers + other.numbers)


NOTHING = Claim(0, 0)


@dataclass(frozen=True, slots=True)
class Debit:
    """An account as it was before a claim was taken from it: its balance in tokens, and the last number taken."""

    balance: int
    sequence: int


def debit(claims: Mapping[int, Claim]) -> dict[int, Debit]:
    """Take what is claimed from each tenant's account, or nothing at all. Gives the accounts as they were, by tenant.

    For databases where a transaction that writes is alone, as SQLite is: elsewhere two that debit several accounts
    could wait for each other. Raises NotCovered; the caller's transaction has then to be undone.
    """
    values = ", ".join(["(%s, %s, %s)"] * len(claims))
    parameters = [value for tenant, claim in sorted(claims.items()) for value in (tenant, claim.tokens, claim.numbers)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH claim(tenant, tokens, numbers) AS (VALUES {values})"  # noqa: S608 - placeholders alone
            " UPDATE tenants_tokenaccount SET balance = balance - claim.tokens, sequence = sequence + claim.numbers"
            " FROM claim WHERE tenant_id = claim.tenant AND balance >= claim.tokens"
            " RETURNING tenant_id, balance, sequence",
            parameters,
        )
        taken = {
            tenant: Debit(balance + claims[tenant].tokens, sequence - claims[tenant].numbers)
            for tenant, balance, sequence in cursor.fetchall()
        }
    if poor := claims.keys() - taken.keys():
        raise not_covered(poor)
    return taken


def not_covered(tenants: Collection[int]) -> NotCovered:
    """The error that tells what these accounts hold."""
    held = dict(TokenAccount.objects.filter(pk__in=tenants).values_list("pk", "balance"))
    return NotCovered({tenant: held.get(tenant, 0) for tenant in tenants})


def debit_entry(
    tenant_id: int,
    *,
    cost: int,
    balance_after: int,
    operation: uuid.UUID,
    sequence: int | None,
    api_key_prefix: str,
    reference: str,
    at: datetime,
) -> LedgerEntry:
    """The unsaved ledger entry of one operation: it must be inserted in the transaction of the debit."""
    return _NEW_ENTRY(
        account_id=tenant_id,
        kind=EntryKind.DEBIT,
        amount=-cost,
        balance_after=balance_after,
        operation=operation,
        sequence=sequence,
        api_key_prefix=api_key_prefix,
        reference=reference,
        created_at=at,
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
