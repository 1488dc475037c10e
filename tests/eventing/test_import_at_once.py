"""Imports that are confirmed while others change the same."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from blockforger.backend import schema_changes
from blockforger.backend.schema_changes import Draft
from eventing import tenant_archives, tenant_import
from eventing.models import OutputRule
from eventing.tenant_import import PlanOutdated
from tests.cast import a_rule, a_schema, a_tenant
from tests.eventing.tenant_folders import rules_property
from tests.eventing.test_concurrency import at_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenants.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True)


def planned(source: str) -> Callable[[], bool]:
    """Plan an import. What is returned confirms it, and says whether that was still what it would do."""
    properties = rules_property({"source": source}).encode()
    files = {"tenant.properties": properties, "petstore.json": f'{{"title": "{source}"}}'.encode()}
    folders = tenant_archives.folders(files, tenant="mytenant")
    fingerprint = tenant_import.fingerprint_of(tenant_import.plan_of(folders))

    def confirm() -> bool:
        try:
            tenant_import.carry_out_planned(folders, fingerprint, who="ada")
        except PlanOutdated:
            return False
        return True

    return confirm


@pytest.fixture
def tenant() -> Tenant:
    tenant = a_tenant()
    a_schema(tenant)
    a_rule(tenant)
    return tenant


def test_of_plans_that_are_confirmed_at_the_same_moment_one_is_carried_out(tenant: Tenant) -> None:
    names = ["a", "b", "c", "d"]
    done = at_once([planned(name) for name in names])
    [winner] = [name for name, is_done in zip(names, done, strict=True) if is_done]
    assert OutputRule.objects.get().source == winner
    assert winner in tenant.schemas.get().document


def test_a_schema_that_is_changed_at_the_same_moment_is_not_lost(tenant: Tenant) -> None:
    for number in range(5):
        text = f'{{"title": "{number}"}}'
        at_once([planned("imported"), partial(schema_changes.put, tenant, "petstore", Draft.read("petstore", text))])
        # Whichever was first: the import that came second did not know of it, and was not carried out.
        assert tenant.schemas.get().document == text


def test_schemas_are_locked_as_their_changes_lock_them_and_then_the_tenant(tenant: Tenant) -> None:
    confirm = planned("imported")
    with CaptureQueriesContext(connection) as queries:
        assert confirm()
    locks = [query["sql"] for query in queries if "FOR NO KEY UPDATE" in query["sql"]]
    tables = [sql.partition(' FROM "')[2].partition('"')[0] for sql in locks]
    assert tables == (["backend_schema", "tenants_tenant"] if connection.features.has_select_for_update else [])
