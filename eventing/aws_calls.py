"""Calls to AWS that are made a hundred times a second: as boto3 makes them, in a tenth of its time.

Endpoint, credentials, signature, the reading of errors and the errors themselves are botocore's. What is left out is
what it does around each call: checks of parameters, rules of endpoints, hooks, retries. A proxy is left to boto3.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from botocore import xform_name
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
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
from urllib3.util.wait import wait_for_read

if TYPE_CHECKING:
    from botocore.credentials import Credentials

Answer = dict[str, Any]


class Calls:
    """The calls of one client, for any number of threads. Connections are kept, but none that the server closed."""

    def __init__(self, client: Any, credentials: Credentials | None, *, ca_bundle: str | None) -> None:
        self._client, self._credentials = client, credentials
        self._model, config = client.meta.service_model, client.meta.config
        self._endpoint = urlsplit(client.meta.endpoint_url)
        self._path = self._endpoint.path or "/"
        self.url = f"{self._endpoint.scheme}://{self._endpoint.netloc}{self._path}"
        self._connect_timeout, self._read_timeout = config.connect_timeout, config.read_timeout
        self._needs_proxy = self._endpoint.scheme in get_environ_proxies(self.url)
        self._trust = (
            ssl.create_default_context(cafile=ca_bundle or get_cert_path(verify=True))
            if self._endpoint.scheme == "https"
            else None
        )
        self._parser = create_parser("json")
        # What nobody uses now; the last one comes first, so that those of a busier time grow old and are closed.
        self._idle: deque[socket.socket] = deque()

    def __call__(self, operation: str, body: bytes) -> Answer:
        """Make the call once. The body holds the parameters as JSON. Raises what boto3 would raise."""
        if self._needs_proxy:
            return cast("Answer", getattr(self._client, xform_name(operation))(**json.loads(body)))
        status, headers, content = self._send(body, self._signed(operation, body))
        if status >= 300:
            raise self._error(operation, status, headers, content)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        return answer if isinstance(answer, dict) else {}

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    def _signed(self, operation: str, body: bytes) -> dict[str, str]:
        """The headers of the call."""
        metadata = self._model.metadata
        headers = {
            "Host": self._endpoint.netloc.rpartition("@")[2],
            "Content-Type": f"application/x-amz-json-{metadata['jsonVersion']}",
            "X-Amz-Target": f"{metadata['targetPrefix']}.{operation}",
        }
        request = AWSRequest("POST", self.url, headers, body)
        if self._credentials is None:
            raise NoCredentialsError
        # They may have been renewed meanwhile.
        credentials = self._credentials.get_frozen_credentials()
        SigV4Auth(credentials, self._model.signing_name, self._client.meta.region_name).add_auth(request)
        return dict(request.headers.items())

    def _send(self, body: bytes, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": len(body)}.items()]
        connection = self._connection()
        try:
            # At once, because two packets cost twice.
            connection.sendall("\r\n".join([f"POST {self._path} HTTP/1.1", *lines, "", ""]).encode() + body)
            with http.client.HTTPResponse(connection, method="POST") as response:
                response.begin()
                content = response.read()
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=self.url, error=error) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ConnectionClosedError(endpoint_url=self.url, error=error) from error
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, response.headers, content

    def _connection(self) -> socket.socket:
        """One that is open."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            # What can be read before anything was asked is the end.
            if not wait_for_read(connection, timeout=0):
                return connection
            connection.close()
        return self._new_connection()

    def _new_connection(self) -> socket.socket:
        host = self._endpoint.hostname or ""
        try:
            port = self._endpoint.port or (443 if self._trust else 80)
            connection = socket.create_connection((host, port), timeout=self._connect_timeout)
            if self._trust:
                connection = self._trust.wrap_socket(connection, server_hostname=host)
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=self.url, error=error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=self.url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=self.url, error=error) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(self._read_timeout)
        return connection

    def _error(self, operation: str, status: int, headers: http.client.HTTPMessage, content: bytes) -> Exception:
        """As botocore reads it."""
        answer = {"status_code": status, "headers": headers, "body": content, "context": {}}
        parsed = self._parser.parse(answer, self._model.operation_model(operation).output_shape)
        error = parsed.get("Error", {})
        kind = self._client.exceptions.from_code(error.get("QueryErrorCode") or error.get("Code"))
        return cast("Exception", kind(parsed, operation))
