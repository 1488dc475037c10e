import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

WRITES = ["POST", "PUT", "PATCH", "DELETE"]


class AddConstraintNotValid(migrations.AddConstraint):
    """Adds a constraint that PostgreSQL asks of new rows only, until the next migration has it look at the others.

    That takes a moment; to check millions of rows under the same lock would keep every writer waiting.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.execute(f"{self.constraint.create_sql(model, schema_editor)} NOT VALID", params=None)


def delete_feedback(apps, schema_editor):
    """What the tables of before cannot hold."""
    apps.get_model("eventing", "OutboxEvent").objects.filter(sequence=None).delete()


class Migration(migrations.Migration):
    """Safe while events are written: columns that may be empty and an unproved constraint change no row."""

    dependencies = [
        ("eventing", "0003_bus_verification"),
        ("tenants", "0002_ledger_is_append_only"),
    ]

    operations = [
        migrations.CreateModel(
            name="FeedbackBus",
            fields=[
                ("tenant", models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name="feedback_bus", serialize=False, to="tenants.tenant")),
                ("eventbridge_arn", models.CharField(max_length=400, verbose_name="event bus ARN")),
            ],
            options={
                "verbose_name": "feedback on input events (eventbridge-feedback)",
                "verbose_name_plural": "feedback on input events (eventbridge-feedback)",
            },
        ),
        migrations.RemoveConstraint(model_name="outboxevent", name="outbox_operation_is_a_write"),
        migrations.AlterField("outboxevent", "sequence", models.PositiveBigIntegerField(blank=True, null=True)),
        migrations.AlterField("outboxevent", "rule_id", models.BigIntegerField(blank=True, null=True)),
        migrations.AlterField("outboxevent", "item_key", models.CharField(blank=True, max_length=255)),
        migrations.AlterField("outboxevent", "operation", models.CharField(blank=True, max_length=8)),
        AddConstraintNotValid(
            model_name="outboxevent",
            constraint=models.CheckConstraint(
                condition=(
                    Q(operation__in=WRITES, sequence__isnull=False, rule_id__isnull=False)
                    | Q(operation__in=["", *WRITES], sequence__isnull=True, rule_id__isnull=True)
                ),
                name="outbox_event_is_a_write_or_feedback",
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, delete_feedback),
    ]
