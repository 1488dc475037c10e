"""Middleware of the pages that people see. Requests to the API, which knows no sessions, pass it by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.middleware import AuthenticationMiddleware as Authentication
from django.contrib.messages.middleware import MessageMiddleware as Messages
from django.contrib.sessions.middleware import SessionMiddleware as Sessions

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.utils.deprecation import MiddlewareMixin

    Base = MiddlewareMixin
else:
    Base = object

_API = "/api/"


class PagesOnly(Base):
    """Of a middleware, that it is not for the API."""

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(_API):
            return self.get_response(request)
        return super().__call__(request)


class SessionMiddleware(PagesOnly, Sessions):
    """Django's, for pages."""


class AuthenticationMiddleware(PagesOnly, Authentication):
    """Django's, for pages; the API authenticates by keys."""


class MessageMiddleware(PagesOnly, Messages):
    """Django's, for pages."""
