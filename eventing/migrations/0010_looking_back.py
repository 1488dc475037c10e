"""Lists of what died, and of one item, read what they show; no writer waits for the indexes."""

from django.db import migrations, models

from blockforger.backend.live_indexes import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("eventing", "0009_rule_changes")]

    operations = [
        AddIndexWithoutLock(
            model_name="outboxevent",
            index=models.Index(
                fields=["tenant", "id"], condition=models.Q(("status", "dead")), name="outbox_dead_of_a_tenant"
            ),
        ),
        AddIndexWithoutLock(
            model_name="outboxevent",
            index=models.Index(
                fields=["tenant", "schema_name", "item_key", "id"],
                condition=models.Q(("status__in", ["delivered", "dead"])),
                name="outbox_settled_of_an_item",
            ),
        ),
    ]
