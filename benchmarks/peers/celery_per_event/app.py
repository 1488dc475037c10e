"""The usual way to send events from Django: on commit, one Celery task, one PutEvents.

Usage: python app.py enqueue COUNT    (then `celery -A app worker` sends them)
"""

import json
import os
import sys
import time
import uuid
from functools import partial

import boto3
import django
from celery import Celery
from django.conf import settings
from django.db import connection, transaction

settings.configure(
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
    USE_TZ=True,
)
django.setup()

app = Celery("peer", broker=os.environ["PEER_BROKER"])
app.conf.task_ignore_result = True
_clients = {}


@app.task(name="put_event")
def put_event(entry):
    if "events" not in _clients:
        _clients["events"] = boto3.client("events")
    answer = _clients["events"].put_events(Entries=[entry])
    if answer["FailedEntryCount"]:
        raise RuntimeError(answer["Entries"])


def enqueue(count):
    """Commit a row and, on commit, enqueue its event. Prints the milliseconds that an enqueue alone takes."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS items (id serial PRIMARY KEY, payload jsonb)")
    spent = 0.0
    for number in range(count):
        entry = entry_of(number)
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO items (payload) VALUES (%s)", [entry["Detail"]])
            transaction.on_commit(partial(put_event.delay, entry))
            started = time.perf_counter()
        spent += time.perf_counter() - started
    print(json.dumps({"enqueue_ms": 1000 * spent / count}))


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


if __name__ == "__main__" and sys.argv[1] == "enqueue":
    enqueue(int(sys.argv[2]))
