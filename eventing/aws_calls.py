"""Calls to AWS that are made a hundred times a second: as boto3 makes them, in a tenth of its time.

Endpoint, credentials, the reading of errors and the errors themselves are botocore's. What is left out is what it does
around each call: checks of parameters, rules of endpoints, hooks, retries. A proxy is left to boto3.
"""

from __future__ import annotations

import json
from email.parser import BytesHeaderParser
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, cast
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
    from botocore.credentials import Credentials

Answer = dict[str, Any]

_UNREACHABLE = {pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT}
_UNTRUSTED = {
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_CIPHER,
}


class _Response(NamedTuple):
    status: int
    headers: bytes
    body: bytes


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
        # Each has its own connection and is used by one thread at a time.
        self._idle: list[pycurl.Curl] = []

    def __call__(self, operation: str, body: bytes) -> Answer:
        """Make the call. The body holds the parameters as JSON. Raises what boto3 would raise.

        Only if a connection that was kept turns out to be closed, with no byte of an answer, does it go out once more.
        """
        if self._needs_proxy:
            return cast("Answer", getattr(self._client, xform_name(operation))(**json.loads(body)))
        response = self._send(operation, body)
        if response.status >= 300:
            raise self._error(operation, response)
        try:
            answer = json.loads(response.body)
        except ValueError:
            answer = None
        return answer if isinstance(answer, dict) else {}

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    def _send(self, operation: str, body: bytes) -> _Response:
        if self._credentials is None:
            raise NoCredentialsError
        # They may have been renewed meanwhile.
        credentials = self._credentials.get_frozen_credentials()
        headers = [*self._headers, f"X-Amz-Target: {self._target_prefix}.{operation}"]
        if credentials.token:
            headers.append(f"X-Amz-Security-Token: {credentials.token}")
        received = BytesIO()
        curl = self._free_curl()
        curl.setopt(pycurl.USERNAME, credentials.access_key)
        curl.setopt(pycurl.PASSWORD, credentials.secret_key)
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.HEADERFUNCTION, received.write)
        try:
            content = curl.perform_rb()
            return _Response(curl.getinfo(pycurl.RESPONSE_CODE), received.getvalue(), content)
        except pycurl.error as error:
            raise self._failure(curl, error) from error
        finally:
            self._idle.append(curl)

    def _free_curl(self) -> pycurl.Curl:
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_curl()

    def _new_curl(self) -> pycurl.Curl:
        """It signs, ends in time, and takes proxy and certificates from nobody's environment."""
        curl = pycurl.Curl()
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
        return curl

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
