"""Where schemas are, and what a tenant has used: a trailing slash is optional."""

from django.urls import re_path

from blockforger.backend.descriptions import OpenApiViewSet
from blockforger.backend.schemas_api import SchemaViewSet
from blockforger.backend.usage_api import UsageViewSet

_USAGE = r"^(?P<tenant>[^/]+)/\$usage"
_COLLECTION = r"^(?P<tenant>[^/]+)/(?P<schema>[^/]+)"

urlpatterns = [
    re_path(r"^(?P<tenant>[^/]+)/?$", SchemaViewSet.as_view({"get": "list"}), name="schemas"),
    re_path(r"^(?P<tenant>[^/]+)/openapi\.json/?$", OpenApiViewSet.as_view({"get": "retrieve"}), name="openapi"),
    re_path(rf"{_USAGE}/?$", UsageViewSet.as_view({"get": "retrieve"}), name="usage"),
    re_path(rf"{_USAGE}/entries/?$", UsageViewSet.as_view({"get": "list"}), name="ledger-entries"),
    re_path(
        rf"{_COLLECTION}/\$schema/?$",
        SchemaViewSet.as_view({"get": "retrieve", "put": "update", "delete": "destroy"}),
        name="schema",
    ),
]
