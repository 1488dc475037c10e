"""What has to be tried again is counted tenant by tenant; no writer waits for the index."""

from django.db import migrations, models

from blockforger.backend.live_indexes import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("eventing", "0010_looking_back")]

    operations = [
        AddIndexWithoutLock(
            model_name="outboxevent",
            index=models.Index(
                condition=models.Q(("next_attempt_at__isnull", False), ("status", "pending"), ("tenant__gte", 0)),
                fields=["tenant", "id"],
                name="outbox_retried_of_a_tenant",
            ),
        ),
    ]
