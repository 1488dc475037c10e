"""Two outbox packages for Django, each with a handler that puts its events on EventBridge by boto3.

Usage: python app.py migrate | python app.py enqueue PACKAGE COUNT | python app.py publish PACKAGE
PACKAGE is django-outbox-pattern or django-jaiminho.
"""

import json
import os
import sys
import uuid

import boto3
import django
from django.conf import settings
from django.core.management import call_command
from django.db import transaction

settings.configure(
    SECRET_KEY="only-for-benchmarks",
    INSTALLED_APPS=["django_outbox_pattern", "jaiminho"],
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
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    JAIMINHO_CONFIG={"PUBLISH_STRATEGY": "keep-order", "DEFAULT_CAPTURE_EXCEPTION": None},
    USE_TZ=True,
)
django.setup()
_clients = {}


def put_event(entry):
    """The handler: one PutEvents for one event, as both packages call it."""
    if "events" not in _clients:
        _clients["events"] = boto3.client("events")
    answer = _clients["events"].put_events(Entries=[entry])
    if answer["FailedEntryCount"]:
        raise RuntimeError(answer["Entries"])


class Connection:
    """What django-outbox-pattern takes for a STOMP connection."""

    def connect(self, **_):
        pass

    def is_connected(self):
        return True

    def disconnect(self):
        pass

    def send(self, body, destination, **_):
        put_event({**json.loads(body), "EventBusName": destination})


def enqueue(package, count):
    from django_outbox_pattern.models import Published
    from jaiminho.send import save_to_outbox

    save = save_to_outbox(put_event)
    for number in range(count):
        entry = entry_of(number)
        with transaction.atomic():
            if package == "django-jaiminho":
                save(entry)
            else:
                Published.objects.create(destination=entry.pop("EventBusName"), body=entry)


def publish(package):
    if package == "django-jaiminho":
        call_command("events_relay")
    else:
        from django_outbox_pattern.producers import Producer

        Producer(Connection(), "", "").publish_message_from_database()


def entry_of(number):
    payload = {"id": f"item-{number}", "name": "Fluffy", "status": "available", "price": 129.5, "tags": ["small"]}
    tenant = f"tenant-{number % 100:03}"
    detail = {"tenant": tenant, "rootSchema": "pets", "operation": "POST", "payload": payload}
    return {
        "Source": "blockforger-output",
        "DetailType": "pets.POST",
        "EventBusName": f"arn:aws:events:us-east-1:720291373173:event-bus/bench-{number % 2}",
        "Resources": [f"urn:peer:item:{tenant}:{number}", f"urn:peer:event:{uuid.uuid4()}:{number}"],
        "Detail": json.dumps(detail),
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["migrate"]:
            call_command("migrate", verbosity=0)
        case ["enqueue", package, count]:
            enqueue(package, int(count))
        case ["publish", package]:
            publish(package)
