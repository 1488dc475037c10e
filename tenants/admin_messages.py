"""What a page of the admin has to say on the next one: in a cookie, which is sent to the admin alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.messages.storage.fallback import FallbackStorage
from django.contrib.messages.storage.session import SessionStorage

if TYPE_CHECKING:
    from django.http import HttpResponseBase


class _AdminCookieStorage(CookieStorage):
    """Django's sets a cookie of all paths: a new API key, which is shown so, would be sent to all of them."""

    def _update_cookie(self, encoded_data: Any, response: HttpResponseBase) -> None:
        super()._update_cookie(encoded_data, response)  # type: ignore[misc]
        response.cookies[self.cookie_name]["path"] = settings.SESSION_COOKIE_PATH


class AdminStorage(FallbackStorage):
    storage_classes = (_AdminCookieStorage, SessionStorage)
