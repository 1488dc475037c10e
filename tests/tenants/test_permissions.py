"""What a key may do, and that the documentation tells all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blockforger.backend import callers
from tenants.errors import KeyInvalid, KeyMissing, PermissionMissing
from tenants.models import Permission
from tests.cast import a_key, a_schema, a_tenant

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_documentation_lists_every_permission() -> None:
    section = DOCUMENTATION.read_text().partition("## Permissions")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == Permission.values


@pytest.mark.django_db
def test_one_of_the_permissions_asked_for_is_enough_and_the_first_is_named() -> None:
    tenant = a_tenant()
    key = a_key(tenant, permissions=[Permission.MANAGE_RULES])
    caller = callers.identified(
        key, Permission.MANAGE_SCHEMAS, Permission.MANAGE_RULES, tenant_name="mytenant", schema_name="petstore"
    )
    assert (caller.api_key.tenant, caller.schema) == (tenant, None)
    with pytest.raises(PermissionMissing) as refusal:
        callers.identified(key, Permission.READ_EVENTS, Permission.BACKEND_CALLS, tenant_name="mytenant")
    assert refusal.value.data == {"permission": "read_events"}


@pytest.mark.django_db
def test_whoever_has_no_key_of_the_tenant_does_not_learn_what_it_would_take() -> None:
    a_schema(a_tenant())
    other = a_key(a_tenant("other"), permissions=list(Permission))
    for key, refusal in [("", KeyMissing), ("nothing like a key", KeyInvalid), (other, KeyInvalid)]:
        with pytest.raises(refusal):
            callers.identified(key, Permission.READ_EVENTS, tenant_name="mytenant", schema_name="petstore")
