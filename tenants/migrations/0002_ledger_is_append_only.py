"""Ledger entries are only ever added: the database itself refuses to change one, and PostgreSQL to delete one.

SQLite lets entries be deleted, because its only way to empty a table (as a test's clean-up does) is DELETE.
"""

from django.db import migrations

POSTGRESQL = """
CREATE FUNCTION tenants_ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger entries are never changed or deleted' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE ON tenants_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION tenants_ledger_is_append_only();
"""
POSTGRESQL_REVERSE = """
DROP TRIGGER ledger_is_append_only ON tenants_ledgerentry;
DROP FUNCTION tenants_ledger_is_append_only();
"""
SQLITE = """
CREATE TRIGGER ledger_is_append_only BEFORE UPDATE ON tenants_ledgerentry
BEGIN SELECT RAISE(ABORT, 'ledger entries are never changed or deleted'); END
"""
SQLITE_REVERSE = "DROP TRIGGER ledger_is_append_only"


def add_trigger(apps, schema_editor):
    schema_editor.execute(POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE, params=None)


def drop_trigger(apps, schema_editor):
    is_postgresql = schema_editor.connection.vendor == "postgresql"
    schema_editor.execute(POSTGRESQL_REVERSE if is_postgresql else SQLITE_REVERSE, params=None)


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [migrations.RunPython(add_trigger, drop_trigger)]
