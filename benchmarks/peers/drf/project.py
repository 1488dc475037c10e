"""A ModelViewSet with API keys, tuned: connections that persist, no middleware, one renderer and one parser.

Usage: python project.py   (makes the tables and 10,000 items, prints a key); `granian project:application` serves
"""

import os
import sys

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

ITEMS = 10_000

settings.configure(
    SECRET_KEY="only-for-benchmarks",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="urls",
    INSTALLED_APPS=["rest_framework", "rest_framework_api_key", "items"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "USER": "postgres",
            "PORT": os.environ["PEER_DATABASE_PORT"],
            "NAME": os.environ["PEER_DATABASE"],
            "CONN_MAX_AGE": None,
        }
    },
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework_api_key.permissions.HasAPIKey"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
        "UNAUTHENTICATED_USER": None,
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
application = get_wsgi_application()


def prepare():
    from items.models import Item
    from rest_framework_api_key.models import APIKey

    call_command("migrate", run_syncdb=True, verbosity=0)
    items = (
        Item(id=f"item-{n}", name="Fluffy", status="available", price=129.5, tags=["small", "white"])
        for n in range(1, ITEMS + 1)
    )
    Item.objects.bulk_create(items)
    print(APIKey.objects.create_key(name="benchmark")[1])


if __name__ == "__main__":
    django.setup()
    sys.exit(prepare())
