"""A schema that changes, or is gone, is one that processes no longer know (see tenants.0003_admission_version)."""

from django.db import migrations

POSTGRESQL = """
CREATE TRIGGER admission_changed AFTER DELETE OR UPDATE ON backend_schema
    FOR EACH ROW EXECUTE FUNCTION tenants_admission_changed();
"""
POSTGRESQL_REVERSE = "DROP TRIGGER admission_changed ON backend_schema"


def add_trigger(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL, params=None)


def drop_trigger(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL_REVERSE, params=None)


class Migration(migrations.Migration):
    dependencies = [("backend", "0003_answer_of_a_request"), ("tenants", "0003_admission_version")]

    operations = [migrations.RunPython(add_trigger, drop_trigger)]
