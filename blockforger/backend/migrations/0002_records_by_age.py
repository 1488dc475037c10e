"""Retention finds the oldest records of an origin by an index; making it keeps no writer waiting."""

from django.db import migrations, models

from blockforger.backend.live_indexes import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("backend", "0001_initial")]

    operations = [
        AddIndexWithoutLock(
            model_name="operationrecord",
            index=models.Index(fields=["origin", "received_at"], name="records_by_age"),
        ),
    ]
