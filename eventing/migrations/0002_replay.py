import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """Safe while events are written: the new column is empty, so that no row is rewritten or checked."""

    dependencies = [
        ('eventing', '0001_initial'),
        ('tenants', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Replay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('who', models.CharField(max_length=150)),
                ('why', models.TextField()),
                ('selection', models.JSONField()),
                ('events', models.PositiveBigIntegerField(default=0)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('tenant', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='replays', to='tenants.tenant')),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('who', ''), _negated=True), name='replay_says_who'),
                    models.CheckConstraint(condition=models.Q(('why', ''), _negated=True), name='replay_says_why'),
                ],
            },
        ),
        migrations.AddField(
            model_name='outboxevent',
            name='replay',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.RESTRICT, related_name='replayed_events', to='eventing.replay'),
        ),
    ]
