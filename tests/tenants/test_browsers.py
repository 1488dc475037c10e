"""CORS: pages of the origins that a tenant allows may call its API, and no others learn anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ValidationError
from django.db import OperationalError
from rest_framework.test import APIClient

from tenants import browsers
from tenants.models import AllowedOrigin, LedgerEntry, Tenant
from tests.admin_pages import Page, errors_of, saved, url_of
from tests.cast import FLUFFY, a_key, a_schema, a_tenant

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django import DjangoAssertNumQueries

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

SHOP = "https://shop.example"
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-api-key"}


def a_tenant_of_the_shop() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    AllowedOrigin.objects.create(tenant=tenant, origin=SHOP)
    return tenant


def preflight(origin: str, path: str = "/api/mytenant/petstore") -> Any:
    return APIClient().options(path, headers={"Origin": origin, **PREFLIGHT})


def told(response: Any) -> dict[str, str]:
    headers = {name.lower(): value for name, value in response.items()}
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


class TestPreflight:
    def test_a_page_of_an_allowed_origin_may_send_what_the_api_takes(self) -> None:
        a_tenant_of_the_shop()
        response = preflight(SHOP)
        assert response.status_code == 200
        assert response["Access-Control-Allow-Origin"] == SHOP
        assert {"PUT", "PATCH", "DELETE"} <= set(response["Access-Control-Allow-Methods"].split(", "))
        assert {"x-api-key", "if-match", "idempotency-key"} <= set(response["Access-Control-Allow-Headers"].split(", "))
        assert "Access-Control-Allow-Credentials" not in response

    def test_it_needs_no_key_and_costs_nothing(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        a_tenant_of_the_shop()
        before = LedgerEntry.objects.count()
        with django_assert_num_queries(1):
            preflight(SHOP)
        assert LedgerEntry.objects.count() == before

    @pytest.mark.parametrize(
        "origin",
        [
            "https://other.example",
            "http://shop.example",
            f"{SHOP}:8443",
            f"{SHOP}.evil.example",
            "null",
            "*",
            "https://[",
        ],
    )
    def test_a_page_of_another_origin_is_told_nothing(self, origin: str) -> None:
        a_tenant_of_the_shop()
        assert told(preflight(origin)) == {}

    def test_another_tenants_origin_is_none_of_this_one(self) -> None:
        a_tenant_of_the_shop()
        a_tenant("other")
        assert told(preflight(SHOP, "/api/other/petstore")) == {}

    def test_a_tenant_that_is_not_there_looks_like_one_that_does_not_allow_the_origin(self) -> None:
        a_tenant_of_the_shop()
        known, unknown = (
            preflight("https://other.example", f"/api/{name}/petstore") for name in ("mytenant", "nobody")
        )
        assert known.status_code == unknown.status_code == 200
        assert known.serialize_headers() == unknown.serialize_headers()
        assert known.content == unknown.content == b""

    def test_the_admin_is_for_no_other_origin(self) -> None:
        a_tenant_of_the_shop()
        assert told(preflight(SHOP, "/admin/")) == {}


class TestRequests:
    def test_a_page_reads_the_answer_and_its_headers(self) -> None:
        key = a_key(a_tenant_of_the_shop())
        headers = {"X-API-Key": key, "Origin": SHOP}
        response = APIClient().post("/api/mytenant/petstore", FLUFFY, format="json", headers=headers)
        assert response.status_code == 201
        assert response["Access-Control-Allow-Origin"] == SHOP
        assert {"ETag", "Location", "Token-Cost"} <= set(response["Access-Control-Expose-Headers"].split(", "))
        assert "origin" in response["Vary"].lower()

    def test_it_reads_refusals_too(self) -> None:
        a_tenant_of_the_shop()
        response = APIClient().get("/api/mytenant/petstore", headers={"Origin": SHOP})
        assert (response.status_code, response["Access-Control-Allow-Origin"]) == (401, SHOP)

    def test_a_request_that_no_browser_makes_asks_nothing_more(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        a_tenant_of_the_shop()
        with django_assert_num_queries(0):
            response = APIClient().get("/api/mytenant/petstore")
        assert told(response) == {}

    def test_a_database_that_fails_makes_no_fault_of_an_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Away:
            def filter(self, **_: object) -> None:
                raise OperationalError

        monkeypatch.setattr(browsers, "AllowedOrigin", SimpleNamespace(objects=Away()))
        response = APIClient().get("/api/mytenant/petstore", headers={"Origin": SHOP})
        assert (response.status_code, told(response)) == (401, {})


ORIGINS = {
    "https://shop.example": True,
    "http://localhost:3000": True,
    "http://127.0.0.1:5173": True,
    "http://[::1]:5173": True,
    "https://xn--bcher-kva.example": True,
    "*": False,
    "null": False,
    "https://*.shop.example": False,
    "https://Shop.example": False,
    "https://shop.example/": False,
    "https://shop.example:443": False,
    "http://shop.example:80": False,
    "shop.example": False,
    "ftp://shop.example": False,
    "https://user@shop.example": False,
    "https://shop.example\n": False,
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_what_an_origin_may_be(origin: str) -> None:
    row = AllowedOrigin(tenant=a_tenant(), origin=origin)
    try:
        row.full_clean()
        is_taken = True
    except ValidationError:
        is_taken = False
    assert is_taken == ORIGINS[origin]


def test_origins_are_set_on_the_tenants_page(admin_client: Client) -> None:
    tenant = a_tenant()
    page = Page(admin_client, url_of(Tenant, "change", tenant.pk))
    page.add_row("allowed_origins", origin=SHOP)
    response = page.submit()
    assert saved(response)
    assert told(preflight(SHOP))["access-control-allow-origin"] == SHOP


def test_the_page_says_what_an_origin_is(admin_client: Client) -> None:
    page = Page(admin_client, url_of(Tenant, "change", a_tenant().pk))
    page.add_row("allowed_origins", origin="https://shop.example/")
    response = page.submit()
    assert not saved(response)
    assert "no path" in str(errors_of(response))
