"""The WSGI application that the web server runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import django
from django.core.cache import close_caches
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import request_finished, request_started
from django.db import reset_queries
from django.http import HttpRequest
from django.urls import get_resolver

from blockforger import garbage

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from django.http.response import HttpResponseBase


class Request(WSGIRequest):
    """Django's. Raises BadRequest for a Content-Type, or for a query in its charset, that Django cannot read."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        try:
            super().__init__(environ)
        except (ValueError, TypeError, LookupError, SuspiciousOperation) as error:
            raise BadRequest from error


class Application(WSGIHandler):
    """Django's, which leaves what goes wrong while it makes the request to the web server, as a fault of ours."""

    request_class = Request

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> HttpResponseBase:
        try:
            return super().__call__(environ, start_response)
        except BadRequest as error:  # others are answered by then
            handler: Any = get_resolver().resolve_error_handler(400)
            response: HttpResponseBase = handler(HttpRequest(), error)
            start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
            return response


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "blockforger.settings")
django.setup(set_prefix=False)  # as get_wsgi_application does

# No cache of Django's is used, and its list of queries is only for debugging, and bounded.
request_finished.disconnect(close_caches)
request_started.disconnect(reset_queries)

application = Application()
_ = get_resolver().url_patterns  # loaded now, not by the first request
garbage.settle_down()
