from django.db import migrations, models


class Migration(migrations.Migration):
    """Safe while rules are read and written: no row is rewritten, and the database fills in what old processes omit."""

    dependencies = [
        ("eventing", "0007_replay_requests"),
    ]

    operations = [
        migrations.AddField(
            "outputrule",
            "enabled",
            models.BooleanField(db_default=True, default=True, help_text="Off: it matches nothing, and keeps its place."),
        ),
        migrations.AddField(
            "outputrule",
            "filter",
            models.JSONField(
                blank=True,
                help_text="Conditions on the item, as in EventBridge's rules: {\"status\": [\"sold\"]}. Empty: none.",
                null=True,
            ),
        ),
        migrations.AddField(
            "outputrule",
            "on_change",
            models.JSONField(
                blank=True,
                db_default=models.Value([], models.JSONField()),
                default=list,
                help_text='Paths such as ["status", "owner.city"], of which one must have changed. Empty: none.',
            ),
        ),
        migrations.AddField(
            "outputrule",
            "fields",
            models.JSONField(
                blank=True,
                help_text='What is sent: {"keep": […]} or {"drop": […]}, and {"mask": […]} for "***". Empty: all.',
                null=True,
            ),
        ),
    ]
