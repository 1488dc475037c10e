"""The admin as a browser meets it: pages whose forms are read, filled in and sent back."""

from __future__ import annotations

import html
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import Model

TEMPLATE = "__prefix__"


class Page(HTMLParser):
    """A page with a form. `values` is what a browser would send if the form were submitted as it is."""

    def __init__(self, client: Client, url: str) -> None:
        super().__init__()
        self.client, self.url = client, url
        self.values: dict[str, list[str]] = {}
        self._select = self._textarea = ""
        response = client.get(url)
        assert response.status_code == 200
        self.text = html.unescape(response.content.decode())
        self.feed(response.content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, kind = given.get("name") or "", given.get("type")
        if tag == "select":
            self._select = name
        elif tag == "textarea":
            self._textarea = name
            self.values[name] = [""]
        elif tag == "option" and "selected" in given:
            self.values.setdefault(self._select, []).append(given.get("value") or "")
        elif tag == "input" and kind not in ("submit", "button") and (kind != "checkbox" or "checked" in given):
            self.values.setdefault(name, []).append(given.get("value") or ("on" if kind == "checkbox" else ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            # The line end that follows the tag is none of the text's; within it, browsers send CRLF.
            text = self.values[self._textarea][0].removeprefix("\n")
            self.values[self._textarea] = ["\r\n".join(text.splitlines()) + "\r\n" * text.endswith("\n")]
            self._textarea = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.values[self._textarea][0] += data

    def fill_in(self, prefix: str = "", **values: object) -> None:
        """Type or choose the values; a list ticks these boxes and no others."""
        for name, value in values.items():
            chosen = value if isinstance(value, list) else [value]
            self.values[prefix + name] = [str(element) for element in chosen]

    def add_row(self, inline: str, **values: object) -> str:
        """Press "Add another" and fill in the new row. Returns the prefix of its names."""
        [total] = self.values[f"{inline}-TOTAL_FORMS"]
        self.values[f"{inline}-TOTAL_FORMS"] = [str(int(total) + 1)]
        template, prefix = f"{inline}-{TEMPLATE}-", f"{inline}-{total}-"
        for name in [name for name in self.values if name.startswith(template)]:
            self.values[name.replace(template, prefix)] = self.values[name]
        self.fill_in(prefix, **values)
        return prefix

    def submit(self, **values: object) -> Any:
        """Fill in these values as well and press "Save and continue editing". Follows redirects."""
        self.fill_in("", **values)
        sent = {name: value for name, value in self.values.items() if TEMPLATE not in name}
        return self.client.post(self.url, {**sent, "_continue": "1"}, follow=True)


def url_of(model: type[Model], page: str, *args: object) -> str:
    """The URL of one of a model's admin pages: changelist, add, change, delete or history."""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def listed(client: Client, model: type[Model], **query: str) -> list[Any]:
    """What a list shows for a query string."""
    response: Any = client.get(url_of(model, "changelist"), query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def ask(client: Client, row: Model, verb: str, **values: object) -> Any:
    """Press a button at the head of a row's page, and then the one that confirms it. Follows redirects."""
    url = f"{url_of(type(row), 'changelist')}{row.pk}/{verb}/"
    assert client.get(url).status_code == 200
    return client.post(url, {"confirmed": "yes", **values}, follow=True)


def act(client: Client, action: str, *rows: Model) -> Any:
    """Choose rows of a list and run an action on them. Follows redirects."""
    data = {"action": action, "_selected_action": [row.pk for row in rows], "index": "0"}
    return client.post(url_of(type(rows[0]), "changelist"), data, follow=True)


def text_of(response: Any) -> str:
    """The text of a page, with character references resolved."""
    return html.unescape(response.content.decode())


def errors_of(response: Any) -> dict[str, list[str]]:
    """The errors of a page that was not saved, by the name of the field that they stand at."""
    forms = [response.context["adminform"].form]
    for inline in response.context["inline_admin_formsets"]:
        forms += inline.formset.forms
    return {form.add_prefix(name): list(messages) for form in forms for name, messages in form.errors.items()}


def saved(response: Any) -> bool:
    """Whether a page was saved, and so came back by a redirect."""
    return bool(response.redirect_chain)


def an_ordinary_staff_client() -> Client:
    """The browser of a member of staff who was given every permission, but is no superuser and no tenant's member."""
    user = User.objects.create_user("ordinary", is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(user)
    return client


def check_superusers_alone_see(rows: Mapping[Model, Mapping[str, int]], admin_client: Client) -> None:
    """Each row's pages answer superusers with the given status, 200 where none is given, and others with 403."""
    ordinary = an_ordinary_staff_client()
    for row, expected in rows.items():
        for page in ("changelist", "add", "change", "delete", "history"):
            url = url_of(type(row), page, *([] if page in ("changelist", "add") else [row.pk]))
            assert admin_client.get(url).status_code == expected.get(page, 200), url
            # The history sends on whoever asks for what is not there.
            assert ordinary.get(url).status_code == (302 if page == "history" else 403), url
            assert Client().get(url).status_code == 302, url
