"""The tenant's AsyncAPI document over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockforger.backend import json_values
from blockforger.backend.descriptions import described
from blockforger.backend.requests import ManagementViewSet, check_parameters
from eventing import asyncapi
from eventing.openapi import DESCRIBERS

if TYPE_CHECKING:
    from django.http import HttpResponse
    from rest_framework.request import Request


class AsyncApiViewSet(ManagementViewSet):
    """A tenant's AsyncAPI document."""

    def retrieve(self, request: Request, tenant: str) -> HttpResponse:
        owner = self.caller_of(request, tenant, *DESCRIBERS).api_key.tenant
        check_parameters(request, [])
        return described(request, json_values.compact(asyncapi.of_tenant(owner)))
