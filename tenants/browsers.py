"""Which pages may call the API from a browser (CORS): those of the origins that the tenant of the URL allows."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from corsheaders.signals import check_request_enabled
from django.db import InterfaceError, OperationalError

from tenants.models import ORIGIN, TENANT_NAME, AllowedOrigin

if TYPE_CHECKING:
    from django.http import HttpRequest

logger = logging.getLogger(__name__)

_TENANT = re.compile(rf"/api/({TENANT_NAME})(?:/|\Z)")


def connect() -> None:
    check_request_enabled.connect(is_allowed, dispatch_uid="tenants.browsers")


def is_allowed(request: HttpRequest, **_: object) -> bool:
    """Whether the page that makes the request may, and read the answer. Asked of no request without an `Origin`.

    A tenant that is not there allows nothing, and so looks like any that does not know the origin.
    """
    origin, tenant = request.headers.get("Origin", ""), _TENANT.match(request.path_info)
    if tenant is None or not re.fullmatch(ORIGIN, origin):
        return False
    try:
        return AllowedOrigin.objects.filter(tenant__name=tenant[1], origin=origin).exists()
    except (OperationalError, InterfaceError):
        # It may be asked after a write was carried out, whose answer must not become a fault.
        logger.warning("The database failed when it was asked for a tenant's origins.", exc_info=True)
        return False
