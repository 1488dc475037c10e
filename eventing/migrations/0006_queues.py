"""The publisher's choice reads what it takes, and not what waits behind it; no writer waits for the indexes."""

from django.db import migrations, models

from blockforger.backend.live_indexes import AddIndexWithoutLock, RemoveIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("eventing", "0005_feedback_constraint_is_valid")]

    operations = [
        AddIndexWithoutLock(
            model_name="outboxevent",
            index=models.Index(
                models.F("lane"),
                models.F("bus_arn"),
                models.F("tenant"),
                models.Case(
                    models.When(replay__isnull=False, then=2), models.When(sequence__isnull=True, then=1), default=0
                ),
                models.F("sequence"),
                models.F("place"),
                models.F("id"),
                condition=models.Q(("next_attempt_at", None), ("status", "pending")),
                name="outbox_ready_by_queue",
            ),
        ),
        AddIndexWithoutLock(
            model_name="outboxevent",
            index=models.Index(
                fields=["lane", "next_attempt_at", "sequence", "place"],
                condition=models.Q(("lane__gte", 0), ("next_attempt_at__isnull", False), ("status", "pending")),
                name="outbox_waiting_by_time",
            ),
        ),
        AddIndexWithoutLock(
            model_name="outboxevent",
            index=models.Index(
                fields=["stream", "sequence", "place"],
                condition=models.Q(
                    ("next_attempt_at__isnull", False), ("sequence__isnull", False), ("status", "pending")
                ),
                name="outbox_waiting_in_stream",
            ),
        ),
        RemoveIndexWithoutLock(model_name="outboxevent", name="outbox_pending_by_lane"),
        RemoveIndexWithoutLock(model_name="outboxevent", name="outbox_waiting_by_stream"),
    ]
