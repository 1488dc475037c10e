"""The WSGI application that the web server runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.cache import close_caches
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.core.handlers.exception import convert_exception_to_response
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import request_finished, request_started
from django.db import reset_queries
from django.http import HttpRequest, HttpResponse
from django.http.request import HttpHeaders
from django.urls import get_resolver
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from blockforger import garbage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment

    from django.http.response import HttpResponseBase

    GetResponse = Callable[[HttpRequest], HttpResponseBase]

_API = "/api/"


class Headers(Mapping[str, str]):
    """The headers of a request, looked up one by one; Django's copies all of them first."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        value: str = self._environ[HttpHeaders.to_wsgi_name(name)]
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping; most of what is asked for is not there, and that is no reason to raise and to catch."""
        return self._environ.get(HttpHeaders.to_wsgi_name(name), default)

    def __iter__(self) -> Iterator[str]:
        return (name for name in HttpHeaders(self._environ) if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Request(WSGIRequest):
    """Django's. Raises BadRequest for a Content-Type, or for a query in its charset, that Django cannot read."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        try:
            super().__init__(environ)
        except (ValueError, TypeError, LookupError, SuspiciousOperation) as error:
            raise BadRequest from error

    @cached_property
    def headers(self) -> Headers:  # type: ignore[override] # nobody asks for more than a mapping
        return Headers(self.META)


class Application(WSGIHandler):
    """Django's, in which requests to the API pass middleware of their own.

    It leaves what goes wrong while it makes the request to the web server, as a fault of ours.
    """

    request_class = Request
    # Django's types do not know them.
    _get_response: GetResponse
    _middleware_chain: GetResponse

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's signature
        super().load_middleware(is_async)
        pages, api = self._middleware_chain, self._chain_of(settings.API_MIDDLEWARE)
        self._middleware_chain = lambda request: (api if request.path_info.startswith(_API) else pages)(request)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        try:
            response: Any = super().__call__(environ, start_response)
        except BadRequest as error:  # others are answered by then
            handler: Any = get_resolver().resolve_error_handler(400)
            response = handler(HttpRequest(), error)
            start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
        if not isinstance(response, HttpResponse):  # a stream, or what the server sends files with
            return response
        # A list is sent at once; of anything else a server asks for part after part.
        body = [response.content]
        response.close()
        return body

    def _chain_of(self, paths: Sequence[str]) -> GetResponse:
        handler: Any = convert_exception_to_response(self._get_response)
        for path in reversed(paths):
            handler = convert_exception_to_response(import_string(path)(handler))
        chain: GetResponse = handler
        return chain


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "blockforger.settings")
django.setup(set_prefix=False)  # as get_wsgi_application does

# No cache of Django's is used, and its list of queries is only for debugging, and bounded.
request_finished.disconnect(close_caches)
request_started.disconnect(reset_queries)

application = Application()
_ = get_resolver().url_patterns  # loaded now, not by the first request
garbage.settle_down()
