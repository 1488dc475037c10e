"""What died and what has to be tried again is counted tenant by tenant; no writer waits for the index."""

from django.db import migrations, models

from blockforger.backend.live_indexes import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("eventing", "0008_rule_conditions")]

    operations = [
        AddIndexWithoutLock(
            model_name="outboxevent",
            index=models.Index(
                condition=models.Q(
                    models.Q(
                        ("status", "dead"),
                        models.Q(("next_attempt_at__isnull", False), ("status", "pending")),
                        _connector="OR",
                    ),
                    ("tenant__gte", 0),
                ),
                fields=["tenant", "id"],
                name="outbox_troubles_of_a_tenant",
            ),
        ),
    ]
