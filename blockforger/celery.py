"""The Celery application: a nudge and a clock for the outbox, never the carrier of an event."""

import os

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

TRANSPORT_ALIASES["filesystem"] = "blockforger.file_broker:Transport"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "blockforger.settings")

app = Celery("blockforger")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
