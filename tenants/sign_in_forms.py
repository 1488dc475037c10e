"""What a person fills in to get into the admin."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants import sign_ins


class SignInForm(AuthenticationForm):
    """Name and password, which may not be tried without end."""

    def clean(self) -> dict[str, Any]:
        address = self.request.META.get("REMOTE_ADDR", "") if self.request else ""
        if not sign_ins.may_try(self.cleaned_data.get("username") or "", address):
            raise ValidationError("That was tried too often. Wait 15 minutes, then try again.", code="too_many")
        return super().clean()


class CodeForm(forms.Form):
    """The code that an authenticator app shows, or a recovery code."""

    code = forms.CharField(
        max_length=40,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}
        ),
    )
