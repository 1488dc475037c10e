"""Lists of refusals, and of one item, read what they show; no writer waits for the indexes."""

from django.db import migrations, models

from blockforger.backend.live_indexes import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("backend", "0004_schemas_admit_callers")]

    operations = [
        AddIndexWithoutLock(
            model_name="operationrecord",
            index=models.Index(
                fields=["tenant", "schema_name", "item_key", "id"],
                condition=models.Q(("item_key", ""), _negated=True),
                name="records_of_an_item",
            ),
        ),
        AddIndexWithoutLock(
            model_name="operationrecord",
            index=models.Index(
                fields=["tenant", "id"], condition=models.Q(("status__gte", 400)), name="records_refused_of_a_tenant"
            ),
        ),
    ]
