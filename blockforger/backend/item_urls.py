"""Where items are: a trailing slash is optional, and a key may hold slashes (percent-encoded or not).

These come before every other URL of the API, because nearly all requests are for them. What begins with `$` is no name
of a schema and no key, and what ends in `.json` is no name of a schema: `unknown` takes what nobody else has taken, and
answers as for any other unknown name.
"""

from django.urls import re_path

from blockforger.backend.api import ItemViewSet
from blockforger.backend.stream_api import or_stream

_item = ItemViewSet.as_view({"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"})
_items = or_stream(
    ItemViewSet.as_view({"get": "list", "post": "create", "patch": "bulk_update", "delete": "bulk_destroy"})
)
_TENANT = r"^api/(?P<tenant>[^/]+)"

urlpatterns = [
    re_path(rf"{_TENANT}/(?P<schema>[^/$][^/]*)/(?P<key>[^$].*?)/?$", _item, name="item"),
    re_path(rf"{_TENANT}/(?P<schema>[^/$][^/]*(?<!\.json))/?$", _items, name="items"),
]
unknown = [
    re_path(rf"{_TENANT}/(?P<schema>[^/]+)/(?P<key>.+?)/?$", _item, name="item"),
    re_path(rf"{_TENANT}/(?P<schema>[^/]+)/?$", _items, name="items"),
]
