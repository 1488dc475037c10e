"""Who calls, and which schema is meant: for any number of operations, in a query or two.

On PostgreSQL a process keeps what it found, and the statement that carries an operation out for a caller it kept asks
whether anything has changed since: a key that is revoked is of no use from that moment on.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from blockforger.backend import json_values, rows
from blockforger.backend.models import SCHEMA_NAME, Schema
from blockforger.backend.rows import Columns
from tenants import api_keys
from tenants.errors import PermissionMissing
from tenants.models import ApiKey, Tenant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Set

    from tenants.models import Permission

_KEY = Columns(ApiKey, "id", "tenant", "prefix", "digest", "permissions", "is_active", "expires_at", "last_used_at")
_TENANT = Columns(Tenant, "id", "name", "accepts_events", "configuration_version", "admission_version")
_SCHEMA = Columns(Schema, "id", "tenant", "name", "meta", "version", "updated_at")
_COLUMNS = f"{_KEY.of('k')}, {_TENANT.of('t')}, {_SCHEMA.of('s')}"
# What is the same as long as nothing has changed: of the key and the tenant, and whatever concerns them.
_VERSIONS = "k.id, t.id, t.configuration_version, t.admission_version"
_QUERY = (  # of names of our own columns
    "WITH asked(prefix, name) AS ({asked}) SELECT asked.prefix, asked.name, {columns} FROM asked"
    " JOIN tenants_apikey k ON k.prefix = asked.prefix JOIN tenants_tenant t ON t.id = k.tenant_id"
    " LEFT JOIN backend_schema s ON s.tenant_id = t.id AND s.name = asked.name"
)


_MOST_KEPT = 2_000
_LARGEST_META_KEPT = 4_096
"""Characters, as compact JSON: a schema's `meta` can be as large as a request."""
_SCHEMA_NAME = re.compile(SCHEMA_NAME)
_kept: dict[tuple[str, str], Caller] = {}


class Caller(NamedTuple):
    """The row of a key with its tenant, and that tenant's schema of the name asked for, if there is one."""

    api_key: ApiKey
    schema: Schema | None


def asked(api_key: str, schema_name: str) -> tuple[str, str]:
    """The prefix of the key, empty if it is none, and the name of the schema, empty if there can be none of it."""
    # A NUL or half a surrogate pair would be an error of the database's driver, not an empty result.
    return api_keys.prefix_of(api_key), schema_name if _SCHEMA_NAME.fullmatch(schema_name) else ""


def find(asked: Set[tuple[str, str]]) -> dict[tuple[str, str], Caller]:
    """The callers by the prefix of their key and the name of the schema. Keys that nobody made are left out.

    One query, or two if some of them are kept and others not.
    Whether the key is the one that was sent, and valid, is still to be checked.
    """
    unchanged = _unchanged({pair: caller for pair in asked if (caller := _kept.get(pair))})
    others = asked - unchanged.keys()
    found = {pair: _caller(columns) for pair, columns in _read(others)}
    if rows.is_postgresql():
        for pair in others:
            _keep(pair, found.get(pair))
    return unchanged | found


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
    query = _query(_COLUMNS, rows.shape_of(len(asked)))
    for prefix, name, *columns in rows.fetched(query, _named(asked)):
        yield (prefix, name), columns


def _unchanged(kept: Mapping[tuple[str, str], Caller]) -> dict[tuple[str, str], Caller]:
    """Those of these callers who are as the database has them: it takes longer to make them than to ask."""
    if not kept:
        return {}
    query = _query(_VERSIONS, rows.shape_of(len(kept)))
    now = {(prefix, name): tuple(versions) for prefix, name, *versions in rows.fetched(query, _named(kept))}
    return {pair: caller for pair, caller in kept.items() if now.get(pair) == _versions_of(caller)}


def _versions_of(caller: Caller) -> tuple[int, ...]:
    """Of the columns _VERSIONS."""
    tenant = caller.api_key.tenant
    return caller.api_key.pk, tenant.pk, tenant.configuration_version, tenant.admission_version


def _keep(asked: tuple[str, str], caller: Caller | None) -> None:
    if caller is None or caller.schema is None or len(json_values.compact(caller.schema.meta)) > _LARGEST_META_KEPT:
        _kept.pop(asked, None)  # or names that are nothing would push out those that are something
        return
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[asked] = caller


def _named(asked: Collection[tuple[str, str]]) -> list[str]:
    """The parameters of the query."""
    if rows.shape_of(len(asked)) is None:
        return [json_values.compact([{"prefix": prefix, "name": name} for prefix, name in asked])]
    return [text for pair in asked for text in pair]


@cache
def _query(columns: str, shape: int | None) -> str:
    if shape is None:
        asked = "SELECT * FROM json_to_recordset(%s::json) AS given(prefix text, name text)"
    else:
        asked = f"VALUES {', '.join(['(%s, %s)'] * shape)}"
    return _QUERY.format(asked=asked, columns=columns)


def _caller(columns: list[Any]) -> Caller:
    tenant_from, schema_from = len(_KEY), len(_KEY) + len(_TENANT)
    api_key = _KEY.row(columns[:tenant_from])
    api_key.tenant = _TENANT.row(columns[tenant_from:schema_from])
    if columns[schema_from] is None:
        return Caller(api_key, None)
    schema = _SCHEMA.row(columns[schema_from:])
    schema.tenant = api_key.tenant
    return Caller(api_key, schema)
