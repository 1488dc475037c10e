"""A number that changes when a caller may no longer be what a process has kept of it.

Triggers keep it, so that whoever changes a row, by whatever way, need not think of it. SQLite needs none: nothing is
kept there.
"""

from django.db import migrations, models

POSTGRESQL = """
CREATE FUNCTION tenants_admission_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tenants_tenant SET admission_version = admission_version + 1 WHERE id = OLD.tenant_id;
    RETURN NULL;
END $$;
CREATE TRIGGER admission_changed AFTER DELETE OR UPDATE
    OF tenant_id, prefix, digest, permissions, is_active, expires_at ON tenants_apikey
    FOR EACH ROW EXECUTE FUNCTION tenants_admission_changed();

CREATE FUNCTION tenants_versions_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.configuration_version := GREATEST(NEW.configuration_version, OLD.configuration_version);
    NEW.admission_version := GREATEST(NEW.admission_version, OLD.admission_version);
    IF (NEW.name, NEW.accepts_events) IS DISTINCT FROM (OLD.name, OLD.accepts_events) THEN
        NEW.admission_version := OLD.admission_version + 1;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER versions_only_grow BEFORE UPDATE ON tenants_tenant
    FOR EACH ROW EXECUTE FUNCTION tenants_versions_only_grow();
"""
POSTGRESQL_REVERSE = """
DROP TRIGGER versions_only_grow ON tenants_tenant;
DROP FUNCTION tenants_versions_only_grow();
DROP TRIGGER admission_changed ON tenants_apikey;
DROP FUNCTION tenants_admission_changed();
"""


def add_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL, params=None)


def drop_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL_REVERSE, params=None)


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_ledger_is_append_only")]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="admission_version",
            field=models.PositiveBigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.RunPython(add_triggers, drop_triggers),
    ]
