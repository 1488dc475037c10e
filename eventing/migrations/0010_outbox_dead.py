"""What died is counted tenant by tenant; no writer waits for the index."""

from django.db import migrations, models

from blockforger.backend.live_indexes import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("eventing", "0009_rule_changes")]

    operations = [
        AddIndexWithoutLock(
            model_name="outboxevent",
            index=models.Index(
                condition=models.Q(("status", "dead")),
                fields=["tenant", "id"],
                name="outbox_dead_of_a_tenant",
            ),
        ),
    ]
