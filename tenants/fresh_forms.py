"""Forms of the admin that know what was stored when their page was opened."""

# Django's form classes take type arguments in their stubs only.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

OUTDATED = "Somebody else has changed this since you opened the page. Open it again, and change it as it is now."


class FreshForm(forms.ModelForm):
    """Refuses to overwrite what somebody else has saved since the page was opened.

    What was stored then goes to the browser beside each field, hidden, and comes back with it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            for field in self.fields.values():
                field.show_hidden_initial = True

    def clean(self) -> None:
        super().clean()
        if any(self._is_outdated(name) for name, field in self.fields.items() if field.show_hidden_initial):
            raise ValidationError(OUTDATED)

    def _is_outdated(self, name: str) -> bool:
        field, bound = self.fields[name], self[name]
        was = field.hidden_widget().value_from_datadict(self.data, self.files, bound.html_initial_name)
        return field.has_changed(bound.initial, was)
