"""Arguments that several commands take."""

from __future__ import annotations

from django.core.management.base import CommandError

from tenants.models import Tenant


def tenant_named(name: str) -> Tenant:
    """The tenant of that name. Raises CommandError if there is none."""
    tenant = Tenant.objects.filter(name=name).first()
    if tenant is None:
        raise CommandError(f"There is no tenant '{name}'. import_tenant_properties makes one, and so does the admin.")
    return tenant
