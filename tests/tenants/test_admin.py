from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tenants import admin, admin_keys, balances
from tenants.errors import KeyInvalid
from tenants.fresh_forms import OUTDATED
from tenants.models import ApiKey, EntryKind, LedgerEntry, Membership, Permission, Role, Tenant, TokenAccount
from tests.admin_pages import (
    Page,
    act,
    an_ordinary_staff_client,
    ask,
    check_superusers_alone_see,
    errors_of,
    listed,
    saved,
    text_of,
    url_of,
)
from tests.cast import a_key, a_tenant, the_caller

if TYPE_CHECKING:
    from django.db.models import Model
    from django.test import Client

pytestmark = pytest.mark.django_db

READ_ONLY = {"add": 403, "delete": 403}


def key_in(response: Any) -> str:
    """The API key that a page shows."""
    return text_of(response).split('<code id="new-key">')[1].split("</code>")[0]


def database_dump() -> str:
    """Every value of every row, sessions decoded."""
    rows = [row for model in apps.get_models() for row in model._base_manager.values()]
    return f"{rows}{[session.get_decoded() for session in Session.objects.all()]}"


def test_superusers_alone_see_the_pages(admin_client: Client) -> None:
    tenant = a_tenant()
    a_key(tenant)
    rows: dict[Model, dict[str, int]] = {
        tenant: {},
        tenant.api_keys.get(): {"delete": 403},
        tenant.account: READ_ONLY,
        tenant.account.entries.get(): {"delete": 403},
    }
    check_superusers_alone_see(rows, admin_client)


def test_the_index_tells_ordinary_staff_nothing_of_tenants() -> None:
    response: Any = an_ordinary_staff_client().get("/admin/")
    assert response.context["app_list"] == []


class TestTenants:
    def test_a_tenant_is_made_with_its_members(self, admin_client: Client) -> None:
        owner = User.objects.create_user("owner")
        page = Page(admin_client, url_of(Tenant, "add"))
        page.add_row("memberships", user=owner.username, role=Role.OWNER)
        assert saved(page.submit(name="mytenant", accepts_events="on"))
        tenant = Tenant.objects.get()
        assert (tenant.name, tenant.accepts_events) == ("mytenant", True)
        assert [(member.user, member.role) for member in tenant.memberships.all()] == [(owner, Role.OWNER)]

    def test_a_name_that_no_url_could_hold_is_refused(self, admin_client: Client) -> None:
        response = Page(admin_client, url_of(Tenant, "add")).submit(name="my tenant")
        assert list(errors_of(response)) == ["name"]

    def test_nobody_is_a_member_twice(self, admin_client: Client) -> None:
        tenant, user = a_tenant(), User.objects.create_user("owner")
        Membership.objects.create(tenant=tenant, user=user)
        page = Page(admin_client, url_of(Tenant, "change", tenant.pk))
        page.add_row("memberships", user=user.username, role=Role.ADMIN)
        assert not saved(page.submit())

    def test_the_page_shows_balance_clock_and_what_is_kept_for_others(self, admin_client: Client) -> None:
        tenant = a_tenant(tokens=990)
        Tenant.objects.update(extra_properties={"colour": "<blue>"})
        balances.debit({tenant.pk: balances.Claim(tokens=10, numbers=7)})
        text = Page(admin_client, url_of(Tenant, "change", tenant.pk)).text
        assert "980" in text
        assert "7 (the number of the last write)" in text
        assert '"colour": "<blue>"' in text

    def test_many_members_cost_no_more_queries_than_one(self, admin_client: Client) -> None:
        tenant, counts = a_tenant(), []
        for name in ("ada", "ben", "eve"):
            Membership.objects.create(tenant=tenant, user=User.objects.create_user(name))
            with CaptureQueriesContext(connection) as queries:
                page = Page(admin_client, url_of(Tenant, "change", tenant.pk))
            assert f'value="{name}"' in page.text
            counts.append(len(queries))
        assert counts[1] == counts[2]

    def test_a_tenant_without_an_account_has_no_tokens(self, admin_client: Client) -> None:
        tenant = Tenant.objects.create(name="new")
        assert "0 (the number of the last write)" in Page(admin_client, url_of(Tenant, "change", tenant.pk)).text
        assert listed(admin_client, Tenant) == [tenant]

    def test_the_name_stays_as_it_was_made(self, admin_client: Client) -> None:
        tenant = a_tenant("mytenant")
        assert saved(Page(admin_client, url_of(Tenant, "change", tenant.pk)).submit(name="renamed"))
        assert Tenant.objects.get().name == "mytenant"

    def test_saving_an_unchanged_page_changes_nothing(self, admin_client: Client) -> None:
        tenant = a_tenant()
        Tenant.objects.update(extra_properties={"colour": "blue"}, configuration_version=5)
        before = Tenant.objects.values().get()
        assert saved(Page(admin_client, url_of(Tenant, "change", tenant.pk)).submit())
        assert Tenant.objects.values().get() == before

    def test_a_page_that_was_opened_before_does_not_undo_what_others_have_done(self, admin_client: Client) -> None:
        tenant = a_tenant(accepts_events=True)
        for name, role in (("ada", Role.OWNER), ("ben", Role.OWNER)):
            Membership.objects.create(tenant=tenant, user=User.objects.create_user(name), role=role)
        page = Page(admin_client, url_of(Tenant, "change", tenant.pk))
        Membership.objects.filter(user__username="ben").update(role=Role.VIEWER)
        page.add_row("allowed_origins", origin="https://shop.example")
        response = page.submit()
        assert errors_of(response) == {"memberships-1-__all__": [OUTDATED]}
        assert OUTDATED in text_of(response)
        assert Membership.objects.get(user__username="ben").role == Role.VIEWER
        page = Page(admin_client, url_of(Tenant, "change", tenant.pk))
        Tenant.objects.update(accepts_events=False)
        assert errors_of(page.submit()) == {"__all__": [OUTDATED]}
        assert not Tenant.objects.get().accepts_events

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks the whole database")
    def test_the_tenant_is_locked_before_it_is_saved(self, admin_client: Client) -> None:
        page = Page(admin_client, url_of(Tenant, "change", a_tenant().pk))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            page.submit()
        statements = [query["sql"] for query in queries if '"tenants_tenant"' in query["sql"]]
        assert any("FOR NO KEY UPDATE" in statement for statement in statements[:2])

    def test_its_lists_show_what_is_the_tenants_alone(self, admin_client: Client) -> None:
        ours, theirs = a_tenant("ours"), a_tenant("theirs")
        for tenant in (ours, theirs):
            a_key(tenant)
        page = Page(admin_client, url_of(Tenant, "change", ours.pk))
        for model in admin.TenantAdmin.linked:
            assert f"{url_of(model, 'changelist')}?tenant=ours" in page.text
        assert listed(admin_client, ApiKey, tenant="ours") == [ours.api_keys.get()]
        assert listed(admin_client, LedgerEntry, tenant="theirs") == [theirs.account.entries.get()]
        assert listed(admin_client, LedgerEntry, tenant="nobody") == []

    def test_a_tenant_with_an_account_stays_and_the_page_says_why(self, admin_client: Client) -> None:
        tenant = a_tenant("mytenant", tokens=30)
        url = url_of(Tenant, "delete", tenant.pk)
        for response in (
            admin_client.get(url),
            admin_client.post(url, {"post": "yes"}),
            act(admin_client, "delete_selected", tenant),
        ):
            assert "30 tokens of mytenant" in text_of(response)
        assert Tenant.objects.filter(pk=tenant.pk).exists()

    def test_a_tenant_that_never_had_tokens_can_go(self, admin_client: Client) -> None:
        tenant = Tenant.objects.create(name="mistake")
        assert admin_client.post(url_of(Tenant, "delete", tenant.pk), {"post": "yes"}).status_code == 302
        assert not Tenant.objects.exists()


class TestApiKeys:
    def make(self, client: Client, tenant: Tenant, **values: object) -> Any:
        page = Page(client, url_of(ApiKey, "add"))
        return page.submit(tenant=tenant.pk, **{"name": "shop", "permissions": [Permission.BACKEND_CALLS], **values})

    def test_a_new_key_is_shown_once(self, admin_client: Client) -> None:
        response = self.make(admin_client, a_tenant("mytenant"))
        key = key_in(response)
        row = the_caller(key)
        assert (row.name, row.permissions, row.expires_at) == ("shop", ["backend_calls"], None)
        assert key not in text_of(admin_client.get(url_of(ApiKey, "change", row.pk)))
        assert key not in text_of(admin_client.get(url_of(ApiKey, "changelist")))

    def test_a_key_is_nowhere_but_on_the_page(self, admin_client: Client) -> None:
        response = self.make(admin_client, a_tenant())
        made = key_in(response)
        rotated = key_in(ask(admin_client, ApiKey.objects.get(), "rotate", hours=24))
        assert LogEntry.objects.count() == 2
        dump = database_dump()
        for key in (made, rotated):
            assert ApiKey.objects.filter(prefix=key.split("_")[1]).exists()
            assert key not in dump
            assert key.split("_", 2)[2] not in dump
        assert all(made not in url for url, _ in response.redirect_chain)

    def test_a_key_does_not_go_through_the_session_when_many_messages_wait(self, admin_client: Client) -> None:
        tenant = a_tenant()
        a_key(tenant)
        for _ in range(20):  # nobody reads what the page says then
            data = {"tenant": tenant.pk, "amount": 1, "reference": secrets.token_hex(100)}
            assert admin_client.post(url_of(LedgerEntry, "add"), data).status_code == 302
        assert "was added successfully" in database_dump()
        url = f"{url_of(ApiKey, 'changelist')}{ApiKey.objects.get().pk}/rotate/"
        assert admin_client.post(url, {"hours": 24}).status_code == 302
        dump = database_dump()
        assert key_in(admin_client.get(url_of(ApiKey, "changelist"))) not in dump

    def test_a_key_goes_to_the_admin_alone_and_is_gone_once_shown(self, admin_client: Client) -> None:
        a_key(a_tenant())
        url = f"{url_of(ApiKey, 'changelist')}{ApiKey.objects.get().pk}/rotate/"
        cookie = admin_client.post(url, {"hours": 24}).cookies["messages"]
        assert (cookie["path"], cookie["httponly"]) == ("/admin/", True)
        gone = admin_client.get(url_of(ApiKey, "changelist")).cookies["messages"]
        assert (gone.value, gone["path"], gone["max-age"]) == ("", "/admin/", 0)

    def test_permissions_and_expiry_are_as_chosen(self, admin_client: Client) -> None:
        values = {"permissions": [], "expires_at_0": "2031-02-03", "expires_at_1": "04:05:06"}
        row = ApiKey.objects.get(prefix=key_in(self.make(admin_client, a_tenant(), **values)).split("_")[1])
        assert row.permissions == []
        assert row.expires_at is not None
        assert row.expires_at.isoformat() == "2031-02-03T04:05:06+00:00"

    def test_an_unknown_permission_is_refused(self, admin_client: Client) -> None:
        assert list(errors_of(self.make(admin_client, a_tenant(), permissions=["root"]))) == ["permissions"]
        assert not ApiKey.objects.exists()

    def test_a_key_is_revoked_by_whoever_was_told_what_stops(self, admin_client: Client) -> None:
        key = a_key(a_tenant("mytenant"))
        row = ApiKey.objects.get()
        asked = Page(admin_client, f"{url_of(ApiKey, 'changelist')}{row.pk}/revoke/")
        assert "It has never been used." in asked.text
        assert "whatever uses it to backend_calls stops" in asked.text
        assert the_caller(key).pk == row.pk
        assert "is revoked" in text_of(ask(admin_client, row, "revoke"))
        with pytest.raises(KeyInvalid):
            the_caller(key)
        ask(admin_client, row, "revoke")
        assert [entry.change_message for entry in LogEntry.objects.all()] == ["Revoked."]

    def test_what_others_write_meanwhile_is_kept(self, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        a_key(a_tenant())
        row, now = ApiKey.objects.get(), timezone.now()
        page = Page(admin_client, url_of(ApiKey, "change", row.pk))
        save = admin_keys.ApiKeyAdmin.save_model

        def save_late(*args: Any) -> None:
            ApiKey.objects.update(last_used_at=now)
            save(*args)

        monkeypatch.setattr(admin_keys.ApiKeyAdmin, "save_model", save_late)
        assert saved(page.submit(name="new name"))
        row.refresh_from_db()
        assert (row.name, row.last_used_at) == ("new name", now)

    def test_a_page_that_was_opened_before_does_not_undo_a_rotation(self, admin_client: Client) -> None:
        a_key(a_tenant())
        row = ApiKey.objects.get()
        page = Page(admin_client, url_of(ApiKey, "change", row.pk))
        ask(admin_client, row, "rotate", hours=24)
        assert errors_of(page.submit(name="new name")) == {"__all__": [OUTDATED]}
        row.refresh_from_db()
        assert row.expires_at is not None
        page = Page(admin_client, url_of(ApiKey, "change", row.pk))
        assert saved(page.submit(name="new name"))
        row.refresh_from_db()
        assert (row.name, row.expires_at is None) == ("new name", False)

    def test_the_digest_is_never_shown(self, admin_client: Client) -> None:
        a_key(a_tenant())
        row = ApiKey.objects.get()
        for url in (url_of(ApiKey, "changelist"), url_of(ApiKey, "change", row.pk)):
            assert row.digest not in text_of(admin_client.get(url))

    def test_a_rotated_key_works_a_day_longer(self, admin_client: Client) -> None:
        old_key = a_key(a_tenant("mytenant"))
        old = ApiKey.objects.get()
        new_key = key_in(ask(admin_client, old, "rotate", hours=24))
        for key in (old_key, new_key):
            assert the_caller(key).permissions == ["backend_calls"]
        old.refresh_from_db()
        assert old.expires_at is not None
        assert abs(old.expires_at - timezone.now() - timedelta(hours=24)) < timedelta(minutes=1)
        assert old.replaced_by is not None
        [entry] = LogEntry.objects.all()
        assert entry.change_message == f"Rotated: replaced by {old.replaced_by.prefix}."

    def test_a_key_is_rotated_once(self, admin_client: Client) -> None:
        a_key(a_tenant())
        key = ApiKey.objects.get()
        ask(admin_client, key, "rotate", hours=24)
        again = ask(admin_client, key, "rotate", hours=24)
        assert "has been rotated or revoked, or has expired" in text_of(again)
        assert ApiKey.objects.count() == 2

    @pytest.mark.parametrize("hours", ["", -1, 24 * 365])
    def test_an_overlap_that_is_none_is_refused(self, admin_client: Client, hours: object) -> None:
        a_key(a_tenant())
        response = ask(admin_client, ApiKey.objects.get(), "rotate", hours=hours)
        assert response.context["form"].errors.keys() == {"hours"}
        assert ApiKey.objects.count() == 1


class TestTokens:
    def top_up(self, client: Client, tenant: Tenant, *, amount: object = 500, reference: str = "invoice 1") -> Any:
        page = Page(client, f"{url_of(LedgerEntry, 'add')}?tenant={tenant.pk}")
        assert page.values["tenant"] == [str(tenant.pk)]
        return page.submit(amount=amount, reference=reference)

    def test_tokens_are_added_by_a_new_entry(self, admin_client: Client) -> None:
        tenant = Tenant.objects.create(name="mytenant")
        assert saved(self.top_up(admin_client, tenant))
        entry = LedgerEntry.objects.get()
        assert (entry.kind, entry.amount, entry.balance_after) == (EntryKind.TOP_UP, 500, 500)
        assert TokenAccount.objects.get(tenant=tenant).balance == 500
        assert LogEntry.objects.get().object_id == str(entry.pk)

    @pytest.mark.parametrize(
        ("amount", "problem"),
        [
            (500, "The 500 tokens of 'invoice 1' were added before."),
            (700, "The reference 'invoice 1' was used for a top-up of 500 tokens."),
        ],
    )
    def test_a_reference_adds_tokens_once(self, admin_client: Client, amount: int, problem: str) -> None:
        tenant = a_tenant(tokens=0)
        self.top_up(admin_client, tenant)
        response = self.top_up(admin_client, tenant, amount=amount)
        assert problem in text_of(response)
        # What was typed is still there.
        assert response.context["adminform"].form["amount"].value() == str(amount)
        assert TokenAccount.objects.get().balance == 500
        assert LogEntry.objects.count() == 1

    @pytest.mark.parametrize("amount", [0, -5, "many", 10**13])
    def test_an_amount_that_is_none_is_refused(self, admin_client: Client, amount: object) -> None:
        response = self.top_up(admin_client, a_tenant(tokens=0), amount=amount)
        assert list(errors_of(response)) == ["amount"]
        assert not LedgerEntry.objects.exists()

    def test_a_reference_is_needed(self, admin_client: Client) -> None:
        response = self.top_up(admin_client, a_tenant(tokens=0), reference=" ")
        assert list(errors_of(response)) == ["reference"]

    def test_accounts_and_entries_are_not_changed(self, admin_client: Client) -> None:
        account = a_tenant(tokens=30).account
        entry = account.entries.get()
        assert admin_client.post(url_of(TokenAccount, "change", account.pk), {"balance": 9}).status_code == 403
        assert admin_client.post(url_of(LedgerEntry, "change", entry.pk), {"amount": 9}).status_code == 403
        assert TokenAccount.objects.get().balance == 30

    def test_an_entry_is_found_by_its_operation_and_by_its_reference(self, admin_client: Client) -> None:
        tenant = a_tenant()
        wanted, _ = balances.top_up(tenant, amount=1, reference="invoice 1")
        balances.top_up(tenant, amount=1, reference="invoice 12")
        for term in (str(wanted.operation), "invoice 1"):
            assert listed(admin_client, LedgerEntry, q=term) == [wanted]
        assert listed(admin_client, LedgerEntry, q="invoice") == []

    def test_a_long_list_is_paged_without_counting_and_shows_each_entry_once(self, admin_client: Client) -> None:
        tenant = a_tenant()
        for number in range(119):
            balances.top_up(tenant, amount=1, reference=f"invoice {number}")
        before = list(LedgerEntry.objects.order_by("-pk"))
        seen: list[LedgerEntry] = []
        page, counts = "?", set()
        while page:
            with CaptureQueriesContext(connection) as queries:
                response: Any = admin_client.get(url_of(LedgerEntry, "changelist") + page)
            assert not [query["sql"] for query in queries if "COUNT(*)" in query["sql"] and "ledger" in query["sql"]]
            counts.add(len(queries))
            seen += response.context["cl"].result_list
            balances.top_up(tenant, amount=1, reference=f"meanwhile {len(seen)}")
            page = response.context["cl"].older_link
        assert seen == before
        assert len(counts) <= 2  # the last page is asked for nothing else

    def test_newer_leads_back_page_by_page(self, admin_client: Client) -> None:
        tenant = a_tenant()
        for number in range(119):
            balances.top_up(tenant, amount=1, reference=f"invoice {number}")
        pages: list[list[int]] = []
        query, cl = "?", None
        for link in ("older_link", "older_link", "newer_link", "newer_link"):
            cl = admin_client.get(url_of(LedgerEntry, "changelist") + query).context["cl"]
            pages.append([entry.pk for entry in cl.result_list])
            query = getattr(cl, link)
        last = admin_client.get(url_of(LedgerEntry, "changelist") + query).context["cl"]
        assert (pages[3], [entry.pk for entry in last.result_list]) == (pages[1], pages[0])
        assert (last.newer_link, bool(last.newest_link)) == ("", True)

    def test_the_ledger_at_a_moment_begins_with_what_was_entered_last(self, admin_client: Client) -> None:
        tenant = a_tenant()
        first = LedgerEntry.objects.get()
        balances.top_up(tenant, amount=1, reference="later")
        until = (first.created_at + timedelta(microseconds=1)).isoformat()
        assert listed(admin_client, LedgerEntry, tenant=tenant.name, until=until) == [first]
        assert len(listed(admin_client, LedgerEntry, until="no time")) == 2

    def test_a_place_that_is_none_leads_to_the_first_page(self, admin_client: Client) -> None:
        a_tenant()
        response = admin_client.get(url_of(LedgerEntry, "changelist"), {"before": "x"})
        assert response.status_code == 302
