"""Where items are: a trailing slash is optional, and a key may hold slashes (percent-encoded or not)."""

from django.urls import re_path

from blockforger.backend.api import ItemViewSet

_COLLECTION = r"^(?P<tenant>[^/]+)/(?P<schema>[^/]+)"

urlpatterns = [
    re_path(
        rf"{_COLLECTION}/(?P<key>.+?)/?$",
        ItemViewSet.as_view({"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}),
        name="item",
    ),
    re_path(rf"{_COLLECTION}/?$", ItemViewSet.as_view({"get": "list", "post": "create"}), name="items"),
]
