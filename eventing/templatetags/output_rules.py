"""The tenant's rules on its page, which is another app's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template

if TYPE_CHECKING:
    from tenants.models import Tenant

register = template.Library()


@register.inclusion_tag("admin/rules/panel.html", takes_context=True)
def rules_of(context: template.Context, tenant: Tenant) -> dict[str, Any]:
    from eventing import admin_rules  # which needs unfold, which looks for tags when it is loaded

    return {"csrf_token": context.get("csrf_token"), **admin_rules.panel(context["request"], tenant)}
