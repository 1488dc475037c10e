"""Usage over REST: translation from and to HTTP, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rest_framework.response import Response

from blockforger.backend import usage
from blockforger.backend.errors import Malformed
from blockforger.backend.requests import ManagementViewSet, Page, check_parameters
from tenants.models import Permission

if TYPE_CHECKING:
    from rest_framework.request import Request

DEFAULT_DAYS = 7


class UsageViewSet(ManagementViewSet):
    """What a tenant has used."""

    remedy_of_slowness = "It reads every entry of the days that are asked for: ask for fewer, by the parameter 'days'."

    def retrieve(self, request: Request, tenant: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.BACKEND_CALLS).api_key.tenant
        check_parameters(request, ["days"])
        text = request.query_params.get("days", str(DEFAULT_DAYS))
        days = int(text) if re.fullmatch("[0-9]{1,2}", text) else 0
        if not 1 <= days <= usage.MAX_DAYS:
            raise Malformed(f"The parameter 'days' must be a number from 1 to {usage.MAX_DAYS}.", parameter="days")
        return Response(usage.of(owner, days=days))

    def list(self, request: Request, tenant: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.BACKEND_CALLS).api_key.tenant
        check_parameters(request, ["limit", "cursor"])
        page = Page.read(request.query_params, cursors="[0-9]{1,18}")
        rows, following = usage.entries(owner, before=int(page.cursor) if page.cursor else None, limit=page.limit)
        return Response({"entries": [usage.as_json(entry) for entry in rows], "next": following and str(following)})
