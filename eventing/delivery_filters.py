"""The filters of the outbox's and the inbox's lists: a form, read as the query strings of the REST API are."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from blockforger.backend.errors import Malformed
from blockforger.backend.models import Origin
from eventing.models import OutboxStatus
from tenants.admin_keyset import tenants_looked_at
from tenants.admin_scope import access_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http import HttpRequest

T = TypeVar("T")

_TIMES = ("since", "until")
_EVENT = re.compile(r"(?:urn:blockforger:event:)?([0-9a-fA-F-]{32,36})(?::[0-9]*)?")


class _Time(UnfoldAdminTextInputWidget):
    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(attrs={"step": "1"})


def _text(label: str, **attrs: str) -> forms.CharField:
    return forms.CharField(label=label, required=False, widget=UnfoldAdminTextInputWidget(attrs=attrs))


class Filters(forms.Form):
    """Always bound: a list without filters is one whose filters are empty."""

    tenant = _text("Tenant")
    schema = _text("Schema", placeholder="petstore")
    key = _text("Item key", placeholder="123")
    since = forms.CharField(label="Since (UTC)", required=False, widget=_Time)
    until = forms.CharField(label="Until (UTC)", required=False, widget=_Time)

    def __init__(self, request: HttpRequest) -> None:
        data = {name: request.GET.get(name, "").strip() for name in self.base_fields}
        super().__init__(data | {name: _local(data[name]) for name in _TIMES})
        access = access_of(request)
        if not access.is_operator and len(access.roles) < 2:
            del self.fields["tenant"]
        self.full_clean()
        if "tenant" in self.fields and tenants_looked_at(request) == []:
            self.add_error("tenant", "You see no tenant of that name.")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of the parameters that the form reads."""
        return tuple(cls.base_fields)

    @property
    def parameters(self) -> dict[str, str]:
        """What is filled in, but for the tenant."""
        values = {name: str(self.data[name]) for name in self.names() if name != "tenant" and self.data[name]}
        return values | {name: _with_zone(values[name]) for name in _TIMES if name in values}

    @property
    def is_active(self) -> bool:
        return bool(self.parameters)

    def wanted(self, read: Callable[[Mapping[str, str]], T]) -> T | None:
        """What `read` makes of the parameters; None if it refuses one, which is then told at its field."""
        try:
            return read(self.parameters)
        except Malformed as refusal:
            name: Any = refusal.data.get("parameter")
            self.add_error(name if name in self.fields else None, refusal.message)
            return None


class SentFilters(Filters):
    status = forms.CharField(
        required=False, widget=UnfoldAdminSelectWidget(choices=[("", "Any"), *OutboxStatus.choices])
    )
    rule = _text("Rule (its number)", inputmode="numeric")

    field_order = ("tenant", "status", "schema", "key", "rule", "since", "until")


class ReceivedFilters(Filters):
    status = _text("Status", placeholder="done, refused or 404")
    origin = forms.ChoiceField(
        required=False, choices=[("", "Any"), *Origin.choices], label="Came by", widget=UnfoldAdminSelectWidget
    )

    field_order = ("tenant", "status", "schema", "key", "origin", "since", "until")

    @property
    def parameters(self) -> dict[str, str]:
        return {name: value for name, value in super().parameters.items() if name != "origin"}

    @property
    def wanted_origin(self) -> Origin | None:
        chosen = self.data["origin"]
        return Origin(chosen) if chosen in Origin.values else None


def event_named(text: str) -> UUID | None:
    """The id of an event, by itself or in the resource that names the event."""
    form = _EVENT.fullmatch(text.strip())
    try:
        return UUID(form[1]) if form else None
    except ValueError:
        return None


def _local(text: str) -> str:
    """A time as the browser's field has it, if it is one: without a zone."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None).isoformat()
    except (ValueError, OverflowError):
        return text


def _with_zone(text: str) -> str:
    try:
        return text if datetime.fromisoformat(text).tzinfo else f"{text}+00:00"
    except ValueError:
        return text
