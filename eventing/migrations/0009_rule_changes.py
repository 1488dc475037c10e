import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes one table. Processes of the version before change rules without a word of it there."""

    dependencies = [
        ("eventing", "0008_rule_conditions"),
        ("tenants", "0004_allowed_origins"),
    ]

    operations = [
        migrations.CreateModel(
            name="RuleChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("schema_name", models.CharField(blank=True, max_length=64, verbose_name="schema")),
                ("rule_id", models.BigIntegerField(blank=True, null=True, verbose_name="rule")),
                (
                    "what",
                    models.CharField(
                        choices=[
                            ("added", "Added"),
                            ("changed", "Changed"),
                            ("removed", "Removed"),
                            ("restored", "Restored"),
                            ("moved", "Moved"),
                        ],
                        max_length=8,
                    ),
                ),
                ("who", models.CharField(max_length=150)),
                ("before", models.JSONField(blank=True, null=True)),
                ("after", models.JSONField(blank=True, null=True)),
                ("at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rule_changes",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "change of rules",
                "verbose_name_plural": "changes of rules",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["tenant", "id"], name="rule_changes_of_a_tenant"),
                    models.Index(fields=["rule_id", "id"], name="changes_of_a_rule"),
                ],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("who", ""), _negated=True), name="rule_change_says_who")
                ],
            },
        ),
    ]
