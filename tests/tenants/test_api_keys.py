from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tenants import api_keys
from tenants.errors import KeyInvalid, KeyMissing
from tenants.models import ApiKey, Permission
from tests.cast import a_key, a_tenant, the_caller

pytestmark = pytest.mark.django_db


def test_a_key_opens_its_own_tenant_only() -> None:
    key = a_key(a_tenant("mytenant"))
    a_tenant("other")
    assert the_caller(key).tenant.name == "mytenant"
    with pytest.raises(KeyInvalid):
        the_caller(key, tenant_name="other")


def test_the_key_itself_is_nowhere_in_the_database() -> None:
    key = a_key(a_tenant())
    secret = key.split("_", 2)[2]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM tenants_apikey")
        assert all(secret not in str(value) for row in cursor.fetchall() for value in row)


@pytest.mark.parametrize(
    "key",
    [
        "nonsense",
        # the form of a key, of which there is no row
        "bf_0123456789ab_" + "x" * 43,
        # a text that no database driver takes
        "bf_\0",
        "bf_é",
    ],
)
def test_a_key_that_nobody_made_is_invalid(key: str) -> None:
    a_key(a_tenant())
    with pytest.raises(KeyInvalid):
        the_caller(key)


def test_a_key_with_the_right_prefix_and_another_secret_is_invalid() -> None:
    key = a_key(a_tenant())
    with pytest.raises(KeyInvalid):
        the_caller(key[:-3] + ("aaa" if key[-3:] != "aaa" else "bbb"))


def test_no_key_is_told_apart_from_a_wrong_one() -> None:
    with pytest.raises(KeyMissing):
        the_caller("")


def test_the_last_use_is_written_once_a_minute(django_assert_num_queries) -> None:  # type: ignore[no-untyped-def]
    key = a_key(a_tenant())
    with django_assert_num_queries(2):
        the_caller(key)
    with django_assert_num_queries(1):
        the_caller(key)
    last_used_at = ApiKey.objects.get().last_used_at
    assert last_used_at is not None
    assert timezone.now() - last_used_at < timedelta(minutes=1)


def test_a_rotated_key_and_its_successor_work_side_by_side_until_the_overlap_ends() -> None:
    tenant = a_tenant()
    old_key = a_key(tenant)
    old = ApiKey.objects.get()
    new, new_key = api_keys.rotate(old, overlap=timedelta(hours=1))
    assert new.permissions == [Permission.BACKEND_CALLS]
    for key in (old_key, new_key):
        the_caller(key)

    ApiKey.objects.filter(pk=old.pk).update(expires_at=timezone.now())
    the_caller(new_key)
    with pytest.raises(KeyInvalid):
        the_caller(old_key)


def test_a_rotation_never_lengthens_the_life_of_the_old_key() -> None:
    a_key(a_tenant())
    soon = timezone.now() + timedelta(minutes=1)
    ApiKey.objects.update(expires_at=soon)
    api_keys.rotate(ApiKey.objects.get(), overlap=timedelta(days=1))
    assert ApiKey.objects.get(replaced_by__isnull=False).expires_at == soon


def test_a_key_is_rotated_once() -> None:
    a_key(a_tenant())
    old = ApiKey.objects.get()
    api_keys.rotate(old, overlap=timedelta(hours=1))
    with pytest.raises(api_keys.NotRotatable):
        api_keys.rotate(old, overlap=timedelta(hours=1))
    assert ApiKey.objects.count() == 2


def test_create_api_key_prints_only_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    a_tenant()
    call_command("create_api_key", "mytenant", "--name", "ci", "--permission", "backend_calls")
    key = capsys.readouterr().out.strip()
    row = the_caller(key)
    assert row.name == "ci"
    assert row.allows(Permission.BACKEND_CALLS)


def test_create_api_key_names_the_remedy_for_an_unknown_tenant() -> None:
    with pytest.raises(CommandError, match="There is no tenant 'nobody'. import_tenant_properties makes one"):
        call_command("create_api_key", "nobody", "--name", "ci")


def test_rotate_api_key_prints_only_the_new_key(capsys: pytest.CaptureFixture[str]) -> None:
    old = a_key(a_tenant())
    call_command("rotate_api_key", old.split("_")[1], "--overlap-hours", "2")
    new = capsys.readouterr().out.strip()
    assert new != old
    assert the_caller(new)


def test_rotate_api_key_names_an_unknown_prefix() -> None:
    with pytest.raises(CommandError, match="There is no key with the prefix 'nope'"):
        call_command("rotate_api_key", "nope")
