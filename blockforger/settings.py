"""One settings file. Everything that differs between machines comes from environment variables.

With none set, Blockforger runs on what needs no server: SQLite, Celery's filesystem broker, a local AWS.
docs/operations.md lists the variables.
"""

import contextlib
import secrets
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.templatetags.static import static

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

# Where the embedded defaults keep their state.
STATE_DIR = Path(env.str("BLOCKFORGER_STATE_DIR", default=str(BASE_DIR / "var")))
STATE_DIR.mkdir(parents=True, exist_ok=True)


def _secret_key_of_this_installation() -> str:
    """A random key, made once and kept in the state directory; `check --deploy` demands one from outside."""
    path = STATE_DIR / "secret_key"
    if not path.exists():
        # Linked into place whole, so that processes which start together agree on one.
        with tempfile.NamedTemporaryFile("w", dir=STATE_DIR) as draft:
            draft.write(secrets.token_urlsafe(64))
            draft.flush()
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(draft.name)
    return path.read_text()


SITE_URL = urlsplit(env.str("BLOCKFORGER_SITE_URL", default="http://127.0.0.1:8000"))
SECRET_KEY_IS_CONFIGURED = bool(env.str("SECRET_KEY", default=""))
SECRET_KEY = env.str("SECRET_KEY", default="") or _secret_key_of_this_installation()
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[SITE_URL.hostname or "", "localhost", "127.0.0.1"])
CSRF_TRUSTED_ORIGINS = [f"{SITE_URL.scheme}://{SITE_URL.netloc}"]

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",  # before Django's admin: its templates and styles
    "tenants.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "corsheaders",
    "drf_spectacular_sidecar",
    "tenants.apps.TenantsConfig",
    "blockforger.backend",
    "eventing",
]

MIDDLEWARE = [
    "corsheaders.middleware.CorsMiddleware",  # first: a preflight must not be sent elsewhere
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
# The API has no sessions, forms and files: what of the above its requests go through, in that order.
API_MIDDLEWARE = [
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "blockforger.urls"
# A trailing slash is optional in the API; a redirect would lose the body of a write.
APPEND_SLASH = False
WSGI_APPLICATION = "blockforger.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{STATE_DIR / 'blockforger.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # Writers queue for up to 20 s instead of failing, and take the write lock when they begin: a
        # transaction that reads first and writes later could not be retried by SQLite itself.
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = env.int("DATABASE_CONN_MAX_AGE", default=600)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["ENGINE"] = "blockforger.postgresql"  # whose health check asks only after an error
    _TIMEOUT = env.int("DATABASE_STATEMENT_TIMEOUT", default=30)
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        connect_timeout=5,
        # A process that froze in a transaction holds a tenant's account: PostgreSQL ends it.
        # What a cursor is opened for is read to its end: the planner is not to bet on a tenth of it.
        # Writers that wait for each other go on from what the other left: only READ COMMITTED lets them, and a role or
        # a database can have another default.
        options=f"-c statement_timeout={_TIMEOUT}s -c idle_in_transaction_session_timeout={_TIMEOUT}s"
        r" -c cursor_tuple_fraction=1 -c default_transaction_isolation=read\ committed",
        keepalives_idle=30,
        tcp_user_timeout=30_000,
        # What is executed again and again is planned once per connection. A pooler that hands connections out by
        # transaction must know of that (PgBouncer does from 1.21 on), or it is to be switched off.
        server_side_binding=True,
        prepare_threshold=5 if env.bool("DATABASE_PREPARED_STATEMENTS", default=True) else None,
    )

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = STATE_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)
WHITENOISE_USE_FINDERS = True  # serves the admin's assets without a `collectstatic` first

HTTPS = SITE_URL.scheme == "https"
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^(livez|readyz)$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# The admin's alone: browsers send them nowhere else, and no script reads them.
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = "/admin/"
MESSAGE_STORAGE = "tenants.admin_messages.AdminStorage"
CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = env.int("BLOCKFORGER_SESSION_HOURS", default=12) * 3600
if env.bool("BLOCKFORGER_BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        # Cuts every API key down to its prefix: at DEBUG, botocore logs whole messages.
        "line": {
            "class": "tenants.redaction.RedactingFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        },
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        # Every response with a 4xx status would be a warning here; they are the clients' business.
        "django.request": {"level": "ERROR"},
        "botocore": {"level": "WARNING"},
        # The sweep runs each second: a line for each would bury the rest.
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
    },
}

REST_FRAMEWORK = {
    # Keys are checked by the backend's `execute`, the one path of REST and events alike.
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "blockforger.backend.negotiation.JsonNegotiation",
    "EXCEPTION_HANDLER": "blockforger.backend.api.problem_of_exception",
}

# Which origins may call is each tenant's own: tenants/browsers.py. Keys are sent by scripts, cookies never.
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
CORS_ALLOW_HEADERS = [
    *("accept", "authorization", "content-type", "x-api-key"),
    *("idempotency-key", "if-match", "if-none-match"),
]
CORS_EXPOSE_HEADERS = [
    *("ETag", "Idempotent-Replayed", "Link", "Location", "RateLimit", "RateLimit-Policy"),
    *("Retry-After", "Schema-Version", "Token-Balance", "Token-Cost"),
]
CORS_PREFLIGHT_MAX_AGE = 7200  # the longest that browsers keep

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="filesystem://")
if CELERY_BROKER_URL.startswith("filesystem:"):
    _BROKER_DIR = STATE_DIR / "broker"
    _BROKER_DIR.mkdir(exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_BROKER_DIR),
        "data_folder_out": str(_BROKER_DIR),
        "control_folder": str(_BROKER_DIR / "control"),
        "polling_interval": 0.05,
    }
else:
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 10, "health_check_interval": 30}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SOFT_TIME_LIMIT = 90
CELERY_TASK_TIME_LIMIT = 120
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(STATE_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    # The guarantee that nothing waits in the outbox: nudges only make it faster.
    "publish-pending-events": {
        "task": "eventing.tasks.publish_pending",
        "schedule": 1.0,
        "options": {"expires": 5},
    },
    "carry-on-replays": {
        "task": "eventing.tasks.carry_on_replays",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "prune-what-has-had-its-time": {
        "task": "eventing.tasks.prune",
        "schedule": 300.0,
        "options": {"expires": 120},
    },
    "make-and-drop-indexes-of-items": {
        "task": "backend.tasks.sync_item_indexes",
        "schedule": 60.0,
        "options": {"expires": 50},
    },
}

BLOCKFORGER_ENVIRONMENT = env.str("BLOCKFORGER_ENVIRONMENT", default="local")
# Nobody gets into the admin without the code of an authenticator app. Unset: those who have set one up.
BLOCKFORGER_REQUIRE_TWO_FACTOR = env.bool("BLOCKFORGER_REQUIRE_TWO_FACTOR", default=False)
OTP_TOTP_ISSUER = f"Blockforger {SITE_URL.netloc}"
UNFOLD = {
    "SITE_TITLE": "Blockforger",
    "SITE_HEADER": "Blockforger",
    "SITE_URL": None,
    "SITE_ICON": lambda _: static("blockforger/icon.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _: static("blockforger/icon.svg")}],
    "STYLES": [lambda _: static("blockforger/admin.css")],
    "SCRIPTS": [lambda _: static("blockforger/admin.js")],
    "ENVIRONMENT": "tenants.admin_site.environment",
    "DASHBOARD_CALLBACK": "eventing.admin_dashboard.overview",
    "SHOW_HISTORY": True,
    "BORDER_RADIUS": "6px",
    "SIDEBAR": {"show_search": False, "show_all_applications": False, "navigation": "blockforger.navigation.groups"},
    "ACCOUNT": {"navigation": "blockforger.navigation.account"},
}
# How many people may watch events as they pass, of each web process: each of them holds one of its threads.
BLOCKFORGER_LIVE_TAILS = env.int("BLOCKFORGER_LIVE_TAILS", default=8)
# Pre-filled in the admin's form for a new rule; a rule in a file names its bus.
BLOCKFORGER_DEFAULT_BUS_ARN = env.str(
    "BLOCKFORGER_DEFAULT_BUS_ARN", default="arn:aws:events:us-east-1:720291373173:event-bus/default"
)
# Shell-style patterns of the buses that tenants may name. Unset: every bus, with a warning of `check --deploy`.
BLOCKFORGER_ALLOWED_BUS_ARNS = env.list("BLOCKFORGER_ALLOWED_BUS_ARNS", default=[])
# Largest entry, and largest PutEvents call, in bytes. AWS takes 1 MiB; the delivered event is a little larger
# than the entry, and China's regions still say 256 KiB.
BLOCKFORGER_MAX_EVENT_BYTES = env.int("BLOCKFORGER_MAX_EVENT_BYTES", default=1_048_576 - 16_384)
# Largest body of a bulk request, in bytes: it is in memory several times over while it is carried out.
BLOCKFORGER_MAX_BULK_BYTES = env.int("BLOCKFORGER_MAX_BULK_BYTES", default=16 * 1_048_576)
# How many indexes schemas may have made on the table of items, which is everybody's: each costs every write a little.
BLOCKFORGER_MAX_ITEM_INDEXES = env.int("BLOCKFORGER_MAX_ITEM_INDEXES", default=100)
# Seconds after which another publisher takes over what one that died or hangs has in hand.
BLOCKFORGER_LEASE_SECONDS = env.int("BLOCKFORGER_LEASE_SECONDS", default=60)
# How many requests a key may make in how many seconds, such as 600/60. Empty: any number.
BLOCKFORGER_RATE_LIMIT = env.str("BLOCKFORGER_RATE_LIMIT", default="")
# Where they are counted: in Redis if that is the broker, or is named; else by each process for itself.
BLOCKFORGER_RATE_LIMIT_REDIS_URL = env.str(
    "BLOCKFORGER_RATE_LIMIT_REDIS_URL",
    default=CELERY_BROKER_URL if CELERY_BROKER_URL.startswith(("redis:", "rediss:")) else "",
)
# How many events a second a replay makes due that was asked for over REST.
BLOCKFORGER_REPLAYS_PER_SECOND = env.int("BLOCKFORGER_REPLAYS_PER_SECOND", default=50)
# The queue that `consume_events` reads: its URL, or its name where no URL is given.
BLOCKFORGER_INPUT_QUEUE_URL = env.str("BLOCKFORGER_INPUT_QUEUE_URL", default="")
BLOCKFORGER_INPUT_QUEUE_NAME = env.str(
    "BLOCKFORGER_INPUT_QUEUE_NAME", default=f"blockforger-input-{BLOCKFORGER_ENVIRONMENT}"
)
# Days that events are kept after they were delivered, or died, and for which an event that comes again is known.
# The last covers SQS's 14 days twice: a redrive from the dead-letter queue begins them anew.
BLOCKFORGER_KEEP_OUTBOX_DAYS = env.int("BLOCKFORGER_KEEP_OUTBOX_DAYS", default=30)
BLOCKFORGER_KEEP_DEAD_EVENTS_DAYS = env.int("BLOCKFORGER_KEEP_DEAD_EVENTS_DAYS", default=90)
BLOCKFORGER_KEEP_EVENT_RECORDS_DAYS = env.int("BLOCKFORGER_KEEP_EVENT_RECORDS_DAYS", default=30)
# Its dead-letter queue, from which `redrive_input` takes.
BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_URL = env.str("BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_URL", default="")
BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_NAME = env.str(
    "BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE_NAME", default=f"blockforger-input-dead-letter-{BLOCKFORGER_ENVIRONMENT}"
)
# The log group of output events, which `tail_events` reads.
BLOCKFORGER_EVENT_LOG_GROUP = env.str(
    "BLOCKFORGER_EVENT_LOG_GROUP", default=f"/aws/events/blockforger-{BLOCKFORGER_ENVIRONMENT}"
)
