from django.db import migrations

VALIDATE = "ALTER TABLE eventing_outboxevent VALIDATE CONSTRAINT outbox_event_is_a_write_or_feedback"


def validate(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(VALIDATE)


class Migration(migrations.Migration):
    """A transaction of its own: it reads every event, under a lock that lets others read and write."""

    dependencies = [("eventing", "0004_feedback")]

    operations = [migrations.RunPython(validate, migrations.RunPython.noop)]
