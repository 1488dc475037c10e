"""Output rules over REST: translation from and to HTTP, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.response import Response

from blockforger.backend.errors import ResourceUnknown
from blockforger.backend.request_bodies import PayloadParser
from blockforger.backend.requests import ManagementViewSet, check_parameters, payload_of, preconditions_of
from eventing import backtests, explanations, rule_lists, rule_requests, rule_tests, rules
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
        api_key = self.caller_of(request, tenant, Permission.MANAGE_RULES).api_key
        check_parameters(request, [])
        value, who = payload_of(request), f"API key {api_key}"
        return _rules(rule_lists.replace(api_key.tenant, value, preconditions_of(request), who=who))


def _rules(tenant: Tenant) -> Response:
    return Response(rule_lists.document_of(tenant), headers={"ETag": rule_lists.etag_of(tenant)})


class RuleExplanationsViewSet(ManagementViewSet):
    """What the rules make of a write that might be."""

    parser_classes = [PayloadParser]

    def create(self, request: Request, tenant: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.MANAGE_RULES).api_key.tenant
        check_parameters(request, [])
        asked = payload_of(request)
        if rule_requests.names_item(asked):  # what is told of it shows some of it
            self.caller_of(request, tenant, Permission.BACKEND_CALLS)
        schema, write = rule_requests.write(asked, owner)
        found = explanations.explain(owner, schema, write)
        entries, left_out = explanations.shown(found)
        documents = [explanation.document(entry) for explanation, entry in zip(found, entries, strict=True)]
        warnings = [*left_out, *map(str, rule_lists.warnings_of(owner))]
        return Response({"rules": documents, "warnings": warnings})


class RuleTestsViewSet(ManagementViewSet):
    """Sample events, sent to see what the bus says."""

    parser_classes = [PayloadParser]

    def create(self, request: Request, tenant: str, number: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.MANAGE_RULES).api_key.tenant
        check_parameters(request, [])
        payload = rule_requests.sample(payload_of(request))
        rule = rules.find(owner, int(number))
        if rule is None:
            raise ResourceUnknown("The tenant has no rule with that id. See which ids there are at $rules.")
        allowance = rule_tests.allowance_of(owner)
        if allowance and allowance.left < 0:
            self.allowance = allowance  # whose Retry-After is the answer's
            allowance.check()
        return Response(rule_tests.send(rule, owner, payload).document)


class BacktestsViewSet(ManagementViewSet):
    """What other rules would have sent for the last writes."""

    parser_classes = [PayloadParser]

    def create(self, request: Request, tenant: str) -> Response:
        owner = self.caller_of(request, tenant, Permission.MANAGE_RULES).api_key.tenant
        self.caller_of(request, tenant, Permission.READ_EVENTS)  # the answer shows some
        check_parameters(request, [])
        document, last = rule_requests.backtest(payload_of(request))
        return Response(backtests.compare(owner, rule_lists.read(owner, document), last=last).document)
