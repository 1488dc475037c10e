"""Kinto on PostgreSQL, its collections' schemas enforced.

Usage: python app.py   (makes the tables); `granian app:application` serves
"""

import os
from pathlib import Path

from pyramid.paster import get_app
from pyramid.scripting import prepare

INI = Path(os.environ["PEER_STATE"]) / "kinto.ini"
INI.write_text(
    f"""
[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.postgresql
kinto.storage_url = {os.environ["PEER_DATABASE_URL"].replace("postgres://", "postgresql://")}
kinto.permission_backend = kinto.core.permission.postgresql
kinto.permission_url = {os.environ["PEER_DATABASE_URL"].replace("postgres://", "postgresql://")}
kinto.cache_backend = kinto.core.cache.memory
kinto.userid_hmac_secret = only-for-benchmarks
kinto.bucket_create_principals = system.Authenticated
kinto.experimental_collection_schema_validation = true
multiauth.policies = basicauth
"""
)

application = get_app(str(INI))

if __name__ == "__main__":
    from kinto.core.scripts import migrate

    with prepare(registry=application.registry) as environment:
        migrate(environment)
