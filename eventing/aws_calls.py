"""Calls to AWS that are made a hundred times a second: as boto3 makes them, in a tenth of its time.

Endpoint, credentials, the reading of errors and the errors themselves are botocore's. What is left out is what it does
around each call: checks of parameters, rules of endpoints, hooks, retries. A proxy is left to boto3.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import urllib3
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
from urllib3.connection import HTTPConnection

from eventing.signatures import Signer

if TYPE_CHECKING:
    from botocore.credentials import Credentials

Answer = dict[str, Any]


class Calls:
    """The calls of one client, for any number of threads. Connections are kept, but none that the server closed."""

    def __init__(self, client: Any, credentials: Credentials | None, *, ca_bundle: str | None) -> None:
        self._client, self._credentials = client, credentials
        self._model, config = client.meta.service_model, client.meta.config
        endpoint = urlsplit(client.meta.endpoint_url)
        self._host, self._path = endpoint.netloc.rpartition("@")[2], endpoint.path or "/"
        self.url = f"{endpoint.scheme}://{endpoint.netloc}{self._path}"
        self._needs_proxy = endpoint.scheme in get_environ_proxies(self.url)
        self._pool = urllib3.connection_from_url(
            f"{endpoint.scheme}://{self._host}",
            timeout=urllib3.Timeout(connect=config.connect_timeout, read=config.read_timeout),
            maxsize=config.max_pool_connections,
            socket_options=[*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
            **({"ca_certs": ca_bundle or get_cert_path(verify=True)} if endpoint.scheme == "https" else {}),
        )
        self._parser = create_parser("json")
        metadata = self._model.metadata
        self._target_prefix = metadata["targetPrefix"]
        self._signer = Signer(
            path=self._path,
            region=client.meta.region_name,
            service=self._model.signing_name,
            headers={"Host": self._host, "Content-Type": f"application/x-amz-json-{metadata['jsonVersion']}"},
        )

    def __call__(self, operation: str, body: bytes) -> Answer:
        """Make the call once. The body holds the parameters as JSON. Raises what boto3 would raise."""
        if self._needs_proxy:
            return cast("Answer", getattr(self._client, xform_name(operation))(**json.loads(body)))
        response = self._send(body, self._signed(operation, body))
        if response.status >= 300:
            raise self._error(operation, response)
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = None
        return answer if isinstance(answer, dict) else {}

    def close(self) -> None:
        """Close what is idle."""
        self._pool.close()

    def _signed(self, operation: str, body: bytes) -> dict[str, str]:
        """The headers of the call."""
        if self._credentials is None:
            raise NoCredentialsError
        target = {"X-Amz-Target": f"{self._target_prefix}.{operation}"}
        # They may have been renewed meanwhile.
        return self._signer.signed(target, body, self._credentials.get_frozen_credentials())

    def _send(self, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.urlopen("POST", self._path, body=body, headers=headers, retries=False)
        except urllib3.exceptions.SSLError as error:
            raise SSLError(endpoint_url=self.url, error=error) from error
        except urllib3.exceptions.NewConnectionError as error:
            raise EndpointConnectionError(endpoint_url=self.url, error=error) from error
        except urllib3.exceptions.ConnectTimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=self.url, error=error) from error
        except urllib3.exceptions.ReadTimeoutError as error:
            raise ReadTimeoutError(endpoint_url=self.url, error=error) from error
        except urllib3.exceptions.ProtocolError as error:
            raise ConnectionClosedError(endpoint_url=self.url, error=error) from error

    def _error(self, operation: str, response: urllib3.BaseHTTPResponse) -> Exception:
        """As botocore reads it."""
        answer = {"status_code": response.status, "headers": response.headers, "body": response.data, "context": {}}
        parsed = self._parser.parse(answer, self._model.operation_model(operation).output_shape)
        error = parsed.get("Error", {})
        kind = self._client.exceptions.from_code(error.get("QueryErrorCode") or error.get("Code"))
        return cast("Exception", kind(parsed, operation))
