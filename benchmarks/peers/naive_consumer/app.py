"""A consumer as it is usually written: one message at a time, the ORM, no dedupe, one delete each.

Usage: python app.py migrate | consume QUEUE | create NUMBER | create-bare NUMBER

The third writes in a loop, as it is done without bulk requests: item, bill, ledger's entry and event. The last leaves
nothing but the items.
"""

import json
import os
import sys
import time
import uuid

import boto3
import django
from django.conf import settings
from django.core.management import call_command
from django.db import transaction
from django.db.models import F

settings.configure(
    INSTALLED_APPS=["items"],
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
    USE_TZ=True,
)
django.setup()

from items.models import Account, Event, Item, LedgerEntry

COST = 10


def consume(queue):
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    print("consuming", flush=True)
    while True:
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        for message in received.get("Messages", []):
            handle(json.loads(message["Body"])["detail"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@transaction.atomic
def handle(detail):
    payload = detail["payload"]
    item = Item.objects.create(tenant=detail["tenant"], key=payload["id"], payload=payload)
    Account.objects.filter(tenant=detail["tenant"]).update(balance=F("balance") - COST)
    LedgerEntry.objects.create(tenant=detail["tenant"], amount=-COST, operation=uuid.uuid4(), reference="POST pets")
    Event.objects.create(id=uuid.uuid4(), tenant=detail["tenant"], item_key=item.key, detail=json.dumps(detail))


def create_bare(detail):
    payload = detail["payload"]
    Item.objects.create(tenant=detail["tenant"], key=payload["id"], payload=payload)


def repeat(create, number):
    pet = {"name": "Fluffy", "status": "available", "price": 129.5, "tags": ["small", "white"]}
    started = time.monotonic()
    for index in range(number):
        create(
            {"tenant": "tenant-000", "schema": "pets", "operation": "POST", "payload": {"id": f"loop-{index}", **pet}}
        )
    print(json.dumps({"seconds": time.monotonic() - started}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["migrate"]:
            call_command("migrate", run_syncdb=True, verbosity=0)
            Account.objects.bulk_create(Account(tenant=f"tenant-{number:03}") for number in range(100))
        case ["consume", queue]:
            consume(queue)
        case ["create", number]:
            repeat(handle, int(number))
        case ["create-bare", number]:
            repeat(create_bare, int(number))
