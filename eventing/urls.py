"""Where rules and events are over REST: under names that no schema can have."""

from django.urls import re_path

from eventing.rules_api import RulesViewSet

_TENANT = r"^(?P<tenant>[^/]+)"

urlpatterns = [
    re_path(rf"{_TENANT}/\$rules/?$", RulesViewSet.as_view({"get": "retrieve", "put": "update"}), name="rules"),
]
