"""Where rules and events are over REST: under names that no schema can have."""

from django.urls import re_path

from eventing.descriptions import AsyncApiViewSet
from eventing.events_api import ReceivedViewSet, ReplayViewSet, SentViewSet
from eventing.rules_api import BacktestsViewSet, RuleExplanationsViewSet, RulesViewSet, RuleTestsViewSet

_TENANT = r"^(?P<tenant>[^/]+)"
_RULES = rf"{_TENANT}/\$rules"
_OUT, _IN = rf"{_TENANT}/\$events/out", rf"{_TENANT}/\$events/in"
_NUMBER = "[0-9]{1,18}"
_UUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"

urlpatterns = [
    re_path(rf"{_RULES}/?$", RulesViewSet.as_view({"get": "retrieve", "put": "update"}), name="rules"),
    re_path(rf"{_RULES}/explain/?$", RuleExplanationsViewSet.as_view({"post": "create"}), name="rule-explanations"),
    re_path(rf"{_RULES}/backtest/?$", BacktestsViewSet.as_view({"post": "create"}), name="backtests"),
    re_path(
        rf"{_RULES}/(?P<number>{_NUMBER})/test/?$", RuleTestsViewSet.as_view({"post": "create"}), name="rule-tests"
    ),
    re_path(rf"{_TENANT}/asyncapi\.json/?$", AsyncApiViewSet.as_view({"get": "retrieve"}), name="asyncapi"),
    re_path(rf"{_OUT}/?$", SentViewSet.as_view({"get": "list"}), name="sent-events"),
    re_path(rf"{_OUT}/replay/?$", ReplayViewSet.as_view({"post": "create"}), name="replays"),
    re_path(rf"{_OUT}/replay/(?P<number>{_NUMBER})/?$", ReplayViewSet.as_view({"get": "retrieve"}), name="replay"),
    re_path(rf"{_OUT}/(?P<event>{_UUID})/?$", SentViewSet.as_view({"get": "retrieve"}), name="sent-event"),
    re_path(rf"{_IN}/?$", ReceivedViewSet.as_view({"get": "list"}), name="received-events"),
    re_path(rf"{_IN}/(?P<event>[^/]+)/?$", ReceivedViewSet.as_view({"get": "retrieve"}), name="received-event"),
]
