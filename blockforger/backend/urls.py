"""Where items are: a trailing slash is optional, and a key may hold slashes (percent-encoded or not)."""

from django.urls import re_path

from blockforger.backend.api import ItemViewSet
from blockforger.backend.stream_api import or_stream

_COLLECTION = r"^(?P<tenant>[^/]+)/(?P<schema>[^/]+)"

urlpatterns = [
    re_path(
        rf"{_COLLECTION}/(?P<key>.+?)/?$",
        ItemViewSet.as_view({"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}),
        name="item",
    ),
    re_path(
        rf"{_COLLECTION}/?$",
        or_stream(
            ItemViewSet.as_view({"get": "list", "post": "create", "patch": "bulk_update", "delete": "bulk_destroy"})
        ),
        name="items",
    ),
]
