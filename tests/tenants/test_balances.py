from __future__ import annotations

import uuid

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from tenants import balances
from tenants.models import EntryKind, LedgerEntry, Tenant, TokenAccount
from tests.cast import a_tenant

pytestmark = pytest.mark.django_db


def take(tenant: Tenant, *, tokens: int = 10, numbers: int = 1) -> balances.Debit:
    return balances.debit({tenant.pk: balances.Claim(tokens, numbers)})[tenant.pk]


def debit(tenant: Tenant, *, cost: int = 10, operation: uuid.UUID | None = None) -> balances.Debit:
    before = take(tenant, tokens=cost)
    balances.debit_entry(
        tenant.pk,
        cost=cost,
        balance_after=before.balance - cost,
        operation=operation or uuid.uuid4(),
        sequence=before.sequence + 1,
        api_key_prefix="",
        reference="POST petstore",
        at=timezone.now(),
    ).save()
    return before


def test_a_debit_takes_tokens_and_the_next_number() -> None:
    tenant = a_tenant(tokens=25)
    assert debit(tenant) == balances.Debit(balance=25, sequence=0)
    assert debit(tenant) == balances.Debit(balance=15, sequence=1)
    account = TokenAccount.objects.get()
    assert (account.balance, account.sequence) == (5, 2)


def test_several_accounts_are_debited_in_one_statement(django_assert_num_queries) -> None:  # type: ignore[no-untyped-def]
    rich, richer = a_tenant("rich", tokens=100), a_tenant("richer", tokens=200)
    with django_assert_num_queries(1):
        before = balances.debit({richer.pk: balances.Claim(30, 3), rich.pk: balances.Claim(20, 0)})
    assert before == {rich.pk: balances.Debit(100, 0), richer.pk: balances.Debit(200, 0)}
    assert list(TokenAccount.objects.order_by("pk").values_list("balance", "sequence")) == [(80, 0), (170, 3)]


def test_a_claim_beyond_the_balance_is_not_covered() -> None:
    rich, poor = a_tenant("rich"), a_tenant("poor", tokens=9)
    with pytest.raises(balances.NotCovered) as error:
        balances.debit({tenant.pk: balances.Claim(10, 1) for tenant in (rich, poor)})
    assert error.value.balances == {poor.pk: 9}
    assert TokenAccount.objects.get(tenant=poor).sequence == 0


def test_a_tenant_without_an_account_has_nothing_to_spend() -> None:
    tenant = Tenant.objects.create(name="none")
    with pytest.raises(balances.NotCovered) as error:
        take(tenant)
    assert error.value.balances == {tenant.pk: 0}


def test_the_database_refuses_a_negative_balance() -> None:
    a_tenant(tokens=5)
    with pytest.raises(IntegrityError), transaction.atomic():
        TokenAccount.objects.update(balance=-1)


def test_the_database_refuses_a_second_debit_of_one_operation() -> None:
    tenant, operation = a_tenant(), uuid.uuid4()
    debit(tenant, operation=operation)
    with pytest.raises(IntegrityError), transaction.atomic():
        debit(tenant, operation=operation)


def test_the_database_refuses_to_change_an_entry() -> None:
    a_tenant()
    with pytest.raises(DatabaseError, match="ledger entries are never changed or deleted"), transaction.atomic():
        LedgerEntry.objects.update(reference="another")


def test_postgresql_refuses_to_delete_an_entry() -> None:
    a_tenant()
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no way to empty a table but DELETE, so there deleting is not refused")
    with pytest.raises(DatabaseError, match="ledger entries are never changed or deleted"), transaction.atomic():
        LedgerEntry.objects.all().delete()


def test_a_top_up_happens_once_per_reference() -> None:
    tenant = a_tenant(tokens=0)
    assert balances.top_up(tenant, amount=100, reference="invoice 7")[1]
    assert not balances.top_up(tenant, amount=100, reference="invoice 7")[1]
    with pytest.raises(balances.TopUpRefused, match="was used for a top-up of 100 tokens"):
        balances.top_up(tenant, amount=50, reference="invoice 7")
    assert TokenAccount.objects.get().balance == 100


@pytest.mark.parametrize(("amount", "reference"), [(0, "x"), (-5, "x"), (10, "")])
def test_a_top_up_needs_an_amount_and_a_reference(amount: int, reference: str) -> None:
    with pytest.raises(balances.TopUpRefused, match="at least 1 token and a reference"):
        balances.top_up(a_tenant(tokens=0), amount=amount, reference=reference)


def test_add_tokens_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    a_tenant(tokens=0)
    call_command("add_tokens", "mytenant", "500", "--reference", "invoice 7")
    call_command("add_tokens", "mytenant", "500", "--reference", "invoice 7")
    assert capsys.readouterr().out.splitlines() == [
        "Added 500 tokens. The balance of mytenant is 500.",
        "Nothing to do: the 500 tokens of 'invoice 7' were added before.",
    ]


def test_audit_ledger_finds_nothing_where_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    tenant = a_tenant()
    debit(tenant)
    call_command("audit_ledger")
    assert capsys.readouterr().out == "1 accounts and 2 entries agree.\n"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"balance": 991}, "the balance is 991, the ledger's entries add up to 990."),
        ({"sequence": 2}, "the clock stands at 2, the ledger's last number is 1."),
    ],
)
def test_audit_ledger_finds_an_account_that_was_tampered_with(
    capsys: pytest.CaptureFixture[str], change: dict[str, int], found: str
) -> None:
    debit(a_tenant())
    TokenAccount.objects.update(**change)
    with pytest.raises(CommandError, match="The ledger has 1 discrepancies"):
        call_command("audit_ledger")
    assert capsys.readouterr().out == f"mytenant: {found}\n"


def test_audit_ledger_finds_an_entry_that_does_not_follow(capsys: pytest.CaptureFixture[str]) -> None:
    tenant = a_tenant()
    LedgerEntry.objects.create(
        account=tenant.account, kind=EntryKind.DEBIT, amount=-10, balance_after=980, reference="POST petstore"
    )
    TokenAccount.objects.update(balance=990)
    with pytest.raises(CommandError):
        call_command("audit_ledger")
    assert "does not follow from the entry before it" in capsys.readouterr().out


class LedgerInvariant(TestCase):
    @given(st.lists(st.integers(min_value=-40, max_value=60).filter(bool), max_size=30))
    def test_the_balance_is_the_sum_of_the_ledger_after_any_sequence(self, amounts: list[int]) -> None:
        tenant, expected, numbers = a_tenant(tokens=0), 0, 0
        for index, amount in enumerate(amounts):
            if amount > 0:
                balances.top_up(tenant, amount=amount, reference=str(index))
                expected += amount
            elif expected + amount >= 0:
                debit(tenant, cost=-amount)
                expected, numbers = expected + amount, numbers + 1
            else:
                with pytest.raises(balances.NotCovered):
                    debit(tenant, cost=-amount)
        account = TokenAccount.objects.get(tenant=tenant)
        assert (account.balance, account.sequence) == (expected, numbers)
        assert list(balances.discrepancies()) == []
