"""The product's settings, with state of their own and a broker in memory unless a real one is named."""

import os
import tempfile

os.environ.setdefault("BLOCKFORGER_STATE_DIR", tempfile.mkdtemp(prefix="blockforger-tests-"))
os.environ.setdefault("CELERY_BROKER_URL", "memory://")

from blockforger.settings import *  # noqa: F403
from blockforger.settings import DATABASES, STATE_DIR

# A file, because a database in memory cannot be shared by connections that wait for each other's locks.
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["TEST"] = {"NAME": str(STATE_DIR / "tests.sqlite3")}
else:
    # A test database cannot be dropped while connections to it are kept.
    DATABASES["default"]["CONN_MAX_AGE"] = 0
    DATABASES["default"]["ENGINE"] = "tests.postgresql"
    # What a test commits need not outlive the machine.
    DATABASES["default"]["OPTIONS"]["options"] += " -c synchronous_commit=off"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# What one test counts, another would be limited by.
BLOCKFORGER_RATE_LIMIT_REDIS_URL = ""
