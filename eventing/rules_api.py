"""Output rules over REST: translation from and to HTTP, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.response import Response

from blockforger.backend.request_bodies import PayloadParser
from blockforger.backend.requests import ManagementViewSet, check_parameters, preconditions_of
from eventing import rule_lists
from tenants.models import Permission

if TYPE_CHECKING:
    from rest_framework.request import Request

    from tenants.models import Tenant


class RulesViewSet(ManagementViewSet):
    """A tenant's output rules, all of them at once: their order is part of what they mean."""

    parser_classes = [PayloadParser]

    def retrieve(self, request: Request, tenant: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.MANAGE_RULES).api_key.tenant
        check_parameters(request, [])
        preconditions = preconditions_of(request)
        # Read before the rules: should they change in between, the tag is the older one, and no PUT is let through.
        etag = rule_lists.etag_of(owner)
        preconditions.check_match(etag)
        if preconditions.is_known(etag):
            return Response(status=304, headers={"ETag": etag})
        return _rules(owner)

    def update(self, request: Request, tenant: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.MANAGE_RULES).api_key.tenant
        check_parameters(request, [])
        value = request.data if request.stream is not None else None
        return _rules(rule_lists.replace(owner, value, preconditions_of(request)))


def _rules(tenant: Tenant) -> Response:
    return Response(rule_lists.document_of(tenant), headers={"ETag": rule_lists.etag_of(tenant)})
