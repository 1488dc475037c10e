"""Who calls, and which schema is meant: for any number of operations, in one query.

On PostgreSQL a process keeps what it found, and the statement that carries an operation out for a caller it kept asks
whether anything has changed since: a key that is revoked is of no use from that moment on.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connection

from blockforger.backend import json_values, rows
from blockforger.backend.models import SCHEMA_NAME, Schema
from blockforger.backend.rows import Columns
from tenants import api_keys
from tenants.errors import PermissionMissing
from tenants.models import ApiKey, Tenant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tenants.models import Permission

_KEY = Columns(ApiKey, "id", "tenant", "prefix", "digest", "permissions", "is_active", "expires_at", "last_used_at")
_TENANT = Columns(Tenant, "id", "name", "accepts_events", "configuration_version", "admission_version")
_SCHEMA = Columns(Schema, "id", "tenant", "name", "meta", "version", "updated_at")
_QUERY = (  # of names of our own columns
    "WITH asked(prefix, name) AS ({asked})"
    f" SELECT asked.prefix, asked.name, {_KEY.of('k')}, {_TENANT.of('t')}, {_SCHEMA.of('s')} FROM asked"
    " JOIN tenants_apikey k ON k.prefix = asked.prefix JOIN tenants_tenant t ON t.id = k.tenant_id"
    " LEFT JOIN backend_schema s ON s.tenant_id = t.id AND s.name = asked.name"
)


_MOST_KEPT = 2_000
_LARGEST_META_KEPT = 4_096
"""Characters, as compact JSON: a schema's `meta` can be as large as a request."""
_kept: dict[tuple[str, str], Caller] = {}


class Caller(NamedTuple):
    """The row of a key with its tenant, and that tenant's schema of the name asked for, if there is one."""

    api_key: ApiKey
    schema: Schema | None


def asked(api_key: str, schema_name: str) -> tuple[str, str]:
    """The prefix of the key, empty if it is none, and the name of the schema, empty if there can be none of it."""
    # A NUL or half a surrogate pair would be an error of the database's driver, not an empty result.
    return api_keys.prefix_of(api_key), schema_name if re.fullmatch(SCHEMA_NAME, schema_name) else ""


def find(asked: Collection[tuple[str, str]]) -> dict[tuple[str, str], Caller]:
    """The callers by the prefix of their key and the name of the schema. Keys that nobody made are left out.

    Whether the key is the one that was sent, and valid, is still to be checked.
    """
    found = {pair: _unchanged(pair, columns) or _caller(columns) for pair, columns in _read(asked)}
    if connection.vendor == "postgresql":
        for pair in asked:
            _keep(pair, found.get(pair))
    return found


def kept(asked: tuple[str, str]) -> Caller | None:
    """The caller as this process knows it, from the database if it does not; it may have changed since.

    Whoever relies on it must find, in the transaction of what is done, the tenant's two versions unchanged.
    """
    return _kept.get(asked) or find({asked}).get(asked)


def permitted(caller: Caller | None, api_key: str, *permissions: Permission, tenant_name: str) -> ApiKey:
    """The row of the key, if the key is valid for the tenant and has one of the permissions.

    Nowhere else is a permission asked for. Raises KeyMissing, KeyInvalid, and PermissionMissing for the first of them.
    """
    row = api_keys.authenticate(api_key, caller.api_key if caller else None, tenant_name=tenant_name)
    if not any(map(row.allows, permissions)):
        raise PermissionMissing(permissions[0])
    return row


def identified(api_key: str, *permissions: Permission, tenant_name: str, schema_name: str = "") -> Caller:
    """Who makes a request that is no operation on items, by the one query that every operation makes, too.

    Raises as `permitted` does.
    """
    pair = asked(api_key, schema_name)
    # Not one that is kept: what is done with it may load the schema's document, which can be large.
    caller = next((_caller(columns) for _, columns in _read({pair} if pair[0] else ())), None)
    row = permitted(caller, api_key, *permissions, tenant_name=tenant_name)
    return Caller(row, caller.schema if caller else None)


def _read(asked: Collection[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], list[Any]]]:
    """What the query finds, by the pair that was asked for."""
    if not asked:
        return
    shape = rows.shape_of(len(asked))
    if shape is None:
        values: list[str] = [json.dumps([{"prefix": prefix, "name": name} for prefix, name in asked])]
    else:
        values = [text for pair in asked for text in pair]
    for prefix, name, *columns in rows.fetched(_query(shape), values):
        yield (prefix, name), columns


def _unchanged(asked: tuple[str, str], columns: list[Any]) -> Caller | None:
    """The caller as it is kept, if that is how the database has it: it takes longer to make than to read."""
    caller = _kept.get(asked)
    if caller is None:
        return None
    tenant = caller.api_key.tenant
    tenant_id, _, _, *versions = columns[len(_KEY) : len(_KEY) + len(_TENANT)]
    now = (columns[0], tenant_id, *versions)
    as_kept = (caller.api_key.pk, tenant.pk, tenant.configuration_version, tenant.admission_version)
    return caller if now == as_kept else None


def _keep(asked: tuple[str, str], caller: Caller | None) -> None:
    if caller is not None and caller is _kept.get(asked):
        return
    if caller is None or caller.schema is None or len(json_values.compact(caller.schema.meta)) > _LARGEST_META_KEPT:
        _kept.pop(asked, None)  # or names that are nothing would push out those that are something
        return
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[asked] = caller


@cache
def _query(shape: int | None) -> str:
    if shape is None:
        return _QUERY.format(asked="SELECT * FROM json_to_recordset(%s::json) AS given(prefix text, name text)")
    return _QUERY.format(asked=f"VALUES {', '.join(['(%s, %s)'] * shape)}")


def _caller(columns: list[Any]) -> Caller:
    tenant_from, schema_from = len(_KEY), len(_KEY) + len(_TENANT)
    api_key = _KEY.row(columns[:tenant_from])
    api_key.tenant = _TENANT.row(columns[tenant_from:schema_from])
    if columns[schema_from] is None:
        return Caller(api_key, None)
    schema = _SCHEMA.row(columns[schema_from:])
    schema.tenant = api_key.tenant
    return Caller(api_key, schema)
