"""Calls to AWS that are made a hundred times a second: as boto3 makes them, in a tenth of its time.

Endpoint, credentials, the reading of errors and the errors themselves are botocore's. What is left out is what it does
around each call: checks of parameters, rules of endpoints, hooks, retries. A proxy is left to boto3.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from email.parser import BytesHeaderParser
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import pycurl
from botocore import xform_name
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import get_cert_path
from botocore.parsers import create_parser
from botocore.utils import get_environ_proxies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from botocore.credentials import Credentials, ReadOnlyCredentials

Answer = dict[str, Any]
Argument = TypeVar("Argument")

_UNREACHABLE = {pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT}
_UNTRUSTED = {
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_CIPHER,
}
_LONGEST_WAIT_SECONDS = 1.0
# Between two looks at sockets that select() cannot watch, as those beyond the first 1,024 of a process.
_GLANCE_SECONDS = 0.005


class _Response(NamedTuple):
    status: int
    headers: bytes
    body: bytes


class _Line:
    """What one call at a time is made with."""

    def __init__(self) -> None:
        self.curl = pycurl.Curl()
        self._headers, self._body = BytesIO(), BytesIO()
        self.curl.setopt(pycurl.HEADERFUNCTION, self._headers.write)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._body.write)

    def response(self) -> _Response:
        return _Response(self.curl.getinfo(pycurl.RESPONSE_CODE), self._headers.getvalue(), self._body.getvalue())

    def clear(self) -> None:
        """Make it ready for the next call, whatever became of this one."""
        for received in (self._headers, self._body):
            received.seek(0)
            received.truncate()


class Calls:
    """The calls of one client, for any number of threads. Connections are kept, but none that the server closed."""

    def __init__(self, client: Any, credentials: Credentials | None, *, ca_bundle: str | None) -> None:
        self._client, self._credentials = client, credentials
        self._model, self._config = client.meta.service_model, client.meta.config
        endpoint = urlsplit(client.meta.endpoint_url)
        host, path = endpoint.netloc.rpartition("@")[2], endpoint.path or "/"
        self.url = f"{endpoint.scheme}://{endpoint.netloc}{path}"
        # What stands before the host are no credentials of AWS.
        self._url = f"{endpoint.scheme}://{host}{path}"
        self._needs_proxy = endpoint.scheme in get_environ_proxies(self.url)
        self._ca_bundle = ca_bundle or get_cert_path(verify=True)
        self._signs_for = f"aws:amz:{client.meta.region_name}:{self._model.signing_name}"
        self._parser = create_parser("json")
        metadata = self._model.metadata
        self._target_prefix = metadata["targetPrefix"]
        self._headers = [
            f"Host: {host}",
            f"Content-Type: application/x-amz-json-{metadata['jsonVersion']}",
            "Expect:",  # without a value: no header, and so no wait for leave to send the body
        ]
        # Each is used by one thread at a time. Connections are a line's own if it was used alone, else its bundle's:
        # who makes calls in both ways with one client makes connections anew.
        self._idle: list[_Line] = []
        self._idle_bundles: list[pycurl.CurlMulti] = []

    def __call__(self, operation: str, body: bytes) -> Answer:
        """Make the call. The body holds the parameters as JSON. Raises what boto3 would raise.

        Only if a connection that was kept turns out to be closed, with no byte of an answer, does it go out once more.
        """
        if self._needs_proxy:
            return self._by_client(operation, body)
        line = self._prepared(self._frozen_credentials(), operation, body)
        try:
            line.curl.perform()
            return self._answer(operation, line.response())
        except pycurl.error as error:
            raise self._failure(line.curl, error) from error
        finally:
            self._let_go(line)

    def together(self, operation: str, bodies: Sequence[bytes]) -> list[Answer | Exception]:
        """Make several calls at once, in this thread. Gives in their order what each is answered, or boto3 would raise.

        Each goes out once more as one alone does. Raises what keeps all of them from being made, such as a want of
        credentials.
        """
        if self._needs_proxy:
            return at_once(partial(self._by_client, operation), bodies)
        credentials = self._frozen_credentials()
        lines = [self._prepared(credentials, operation, body) for body in bodies]
        try:
            errors = self._perform([line.curl for line in lines])
            return [self._result(operation, line, errors.get(line.curl)) for line in lines]
        finally:
            for line in lines:
                self._let_go(line)

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().curl.close()
        while self._idle_bundles:
            self._idle_bundles.pop().close()

    def _by_client(self, operation: str, body: bytes) -> Answer:
        return cast("Answer", getattr(self._client, xform_name(operation))(**json.loads(body)))

    def _frozen_credentials(self) -> ReadOnlyCredentials:
        """As they are now: they may have been renewed."""
        if self._credentials is None:
            raise NoCredentialsError
        return self._credentials.get_frozen_credentials()

    def _prepared(self, credentials: ReadOnlyCredentials, operation: str, body: bytes) -> _Line:
        headers = [*self._headers, f"X-Amz-Target: {self._target_prefix}.{operation}"]
        if credentials.token:
            headers.append(f"X-Amz-Security-Token: {credentials.token}")
        line = self._free_line()
        line.curl.setopt(pycurl.USERNAME, credentials.access_key)
        line.curl.setopt(pycurl.PASSWORD, credentials.secret_key)
        line.curl.setopt(pycurl.HTTPHEADER, headers)
        line.curl.setopt(pycurl.POSTFIELDS, body)
        return line

    def _free_line(self) -> _Line:
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_line()

    def _new_line(self) -> _Line:
        """It signs, ends in time, and takes proxy and certificates from nobody's environment."""
        line = _Line()
        curl = line.curl
        curl.setopt(pycurl.URL, self._url)
        curl.setopt(pycurl.POST, 1)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.USERAGENT, self._config.user_agent)
        curl.setopt(pycurl.AWS_SIGV4, self._signs_for)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(self._config.connect_timeout * 1000))
        curl.setopt(pycurl.TIMEOUT_MS, int((self._config.connect_timeout + self._config.read_timeout) * 1000))
        curl.setopt(pycurl.TCP_KEEPALIVE, 1)
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.CAINFO, self._ca_bundle)
        return line

    def _let_go(self, line: _Line) -> None:
        line.clear()
        self._idle.append(line)

    def _perform(self, curls: Sequence[pycurl.Curl]) -> dict[pycurl.Curl, pycurl.error]:
        """Perform them at once. Gives what went wrong with which: with all, if it was with the bundle."""
        bundle = None
        try:
            bundle = self._free_bundle()
            for curl in curls:
                bundle.add_handle(curl)
            _, running = bundle.perform()
            while running:
                _wait(bundle, running)
                _, running = bundle.perform()
            _, _, failed = bundle.info_read()
            for curl in curls:
                bundle.remove_handle(curl)
        except BaseException as error:
            if bundle is not None:
                bundle.close()  # and with it what was under way
            if not isinstance(error, pycurl.error):
                raise
            return dict.fromkeys(curls, error)
        self._idle_bundles.append(bundle)
        return {curl: pycurl.error(code, message) for curl, code, message in failed}

    def _free_bundle(self) -> pycurl.CurlMulti:
        try:
            return self._idle_bundles.pop()
        except IndexError:
            return pycurl.CurlMulti()

    def _result(self, operation: str, line: _Line, error: pycurl.error | None) -> Answer | Exception:
        if error is not None:
            failure = self._failure(line.curl, error)
            failure.__cause__ = error
            return failure
        try:
            return self._answer(operation, line.response())
        except Exception as fault:  # whoever asked for it raises it, or asks again
            return fault

    def _answer(self, operation: str, response: _Response) -> Answer:
        """What it says. Raises what boto3 makes of an error."""
        if response.status >= 300:
            raise self._error(operation, response)
        try:
            answer = json.loads(response.body)
        except ValueError:
            answer = None
        return answer if isinstance(answer, dict) else {}

    def _failure(self, curl: pycurl.Curl, error: pycurl.error) -> Exception:
        """What boto3 calls it."""
        code = error.args[0]
        if code in _UNREACHABLE:
            return EndpointConnectionError(endpoint_url=self.url, error=error)
        if code in _UNTRUSTED:
            return SSLError(endpoint_url=self.url, error=error)
        if code != pycurl.E_OPERATION_TIMEDOUT:
            return ConnectionClosedError(endpoint_url=self.url, error=error)
        # A connection that was kept has no time in which it was made.
        if curl.getinfo(pycurl.CONNECT_TIME) or curl.getinfo(pycurl.REQUEST_SIZE):
            return ReadTimeoutError(endpoint_url=self.url, error=error)
        return ConnectTimeoutError(endpoint_url=self.url, error=error)

    def _error(self, operation: str, response: _Response) -> Exception:
        """As botocore reads it."""
        # Of the last answer: one that says that it will come has headers, too.
        *_, last = response.headers.rpartition(b"HTTP/")
        headers = BytesHeaderParser().parsebytes(last.partition(b"\r\n")[2])
        answer = {"status_code": response.status, "headers": headers, "body": response.body, "context": {}}
        parsed = self._parser.parse(answer, self._model.operation_model(operation).output_shape)
        error = parsed.get("Error", {})
        kind = self._client.exceptions.from_code(error.get("QueryErrorCode") or error.get("Code"))
        return cast("Exception", kind(parsed, operation))


def at_once(call: Callable[[Argument], Answer], arguments: Sequence[Argument]) -> list[Answer | Exception]:
    """Make these calls; several in a thread of its own each. Gives in their order what each returned, or raised."""

    def result_of(argument: Argument) -> Answer | Exception:
        try:
            return call(argument)
        except Exception as fault:  # as above
            return fault

    if len(arguments) == 1:  # in this thread: a process that ends waits for those of a pool
        return [result_of(arguments[0])]
    with ThreadPoolExecutor(max(len(arguments), 1)) as threads:
        return list(threads.map(result_of, arguments))


def _wait(bundle: pycurl.CurlMulti, running: int) -> None:
    """Wait until there is something to do for one of so many calls."""
    milliseconds = bundle.timeout()  # negative: nothing but sockets are waited for
    seconds = min(milliseconds / 1000, _LONGEST_WAIT_SECONDS) if milliseconds >= 0 else _LONGEST_WAIT_SECONDS
    watched = {file for files in bundle.fdset() for file in files}
    if len(watched) < running:  # there are some that it cannot watch
        seconds = min(seconds, _GLANCE_SECONDS)
    if watched:
        bundle.select(seconds)
    else:
        time.sleep(seconds)
