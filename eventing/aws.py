"""The only place where boto3 clients are made, and what makes many calls in their place.

Where AWS is, and as whom it is called, boto3 reads from its own environment variables: AWS_ENDPOINT_URL,
AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, AWS_PROFILE and so on. Clients are kept for the life of the process
and may be used by any thread.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from django.conf import settings

from eventing.aws_calls import Calls

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_sqs import SQSClient

DEFAULT_REGION = "us-east-1"

# What a call can raise: AWS refused it, or it did not get that far, or the answer is no XML (CloudFormation's is).
ERRORS = (ClientError, BotoCoreError, ResponseParserError)

_RETRYING = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
    tcp_keepalive=True,
    # More than the threads of a process, so that none of them opens a connection for a single call.
    max_pool_connections=32,
)
# The outbox retries by itself, and a call that is repeated unseen may publish twice.
_EVENTS = _RETRYING.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
# A check is made again later: it must not take long now.
_CHECKS = _EVENTS.merge(Config(connect_timeout=2, read_timeout=4))
# A long poll lasts up to 20 seconds. Behind a proxy each consumer makes several calls at once.
_SQS = _RETRYING.merge(Config(read_timeout=30, max_pool_connections=128))


class QueueMissingError(LookupError):
    """There is no queue under the configured name."""


class _Clients:
    """The clients of one process, by service, region and configuration.

    Clients may be shared by threads; the session that makes them, and its lock, must not outlive a fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._clients: dict[tuple[str, str, Config], Any] = {}
        self._calls: dict[tuple[str, str, Config], Calls] = {}

    def get(self, service: str, region: str, config: Config) -> object:
        with self._lock:
            if (service, region, config) not in self._clients:
                make_client = cast("Any", self._own_session()).client
                self._clients[service, region, config] = make_client(service, region_name=region, config=config)
            return self._clients[service, region, config]

    def calls(self, service: str, region: str, config: Config) -> Calls:
        key = (service, region, config)
        if key not in self._calls:
            client = self.get(service, region, config)
            with self._lock:
                session = self._own_session()
                ca_bundle = botocore.session.get_session().get_config_variable("ca_bundle")
                self._calls.setdefault(key, Calls(client, session.get_credentials(), ca_bundle=ca_bundle))
        return self._calls[key]

    def region(self) -> str:
        with self._lock:
            return self._own_session().region_name or DEFAULT_REGION

    def close(self) -> None:
        for calls in self._calls.values():
            calls.close()

    def _own_session(self) -> Session:
        if self._session is None:
            self._session = Session()
        return self._session


_clients = _Clients()


# Of the parents of this process. To close a connection, as the end of its object does, is to tell the server so.
_left_alone: list[_Clients] = []


def reset() -> None:
    """Forget every client: when the environment that boto3 reads has changed."""
    global _clients
    _clients.close()
    _clients = _Clients()


def _leave_alone() -> None:
    global _clients
    _left_alone.append(_clients)
    _clients = _Clients()


os.register_at_fork(after_in_child=_leave_alone)


def own_region() -> str:
    """The region that boto3 is configured for, else us-east-1. Our queue, rules and log are there."""
    return _clients.region()


def events_client(region: str) -> EventBridgeClient:
    """For the buses of that region. It does not repeat a call that failed."""
    return cast("EventBridgeClient", _clients.get("events", region, _EVENTS))


def events_calls(region: str) -> Calls:
    """The calls of that client."""
    return _clients.calls("events", region, _EVENTS)


def bus_checks_client(region: str) -> EventBridgeClient:
    """For asking about the buses of that region. It gives up within six seconds."""
    return cast("EventBridgeClient", _clients.get("events", region, _CHECKS))


def own_account() -> str:
    """The account that our credentials are of. Raises one of ERRORS; no permission is needed to ask."""
    client = cast("Any", _clients.get("sts", own_region(), _CHECKS))
    return str(client.get_caller_identity()["Account"])


def sqs_client() -> SQSClient:
    """For the queues of our own region. It waits for a poll of 20 seconds, the longest that SQS offers."""
    return cast("SQSClient", _clients.get("sqs", own_region(), _SQS))


def sqs_checks_client() -> SQSClient:
    """For the same queues, while somebody waits for a page: each call is made once, and gives up within six seconds."""
    return cast("SQSClient", _clients.get("sqs", own_region(), _CHECKS))


def sqs_calls() -> Calls:
    """The calls of that client, without its repetitions."""
    return _clients.calls("sqs", own_region(), _SQS)


def logs_client() -> CloudWatchLogsClient:
    """For the log groups of our own region."""
    return cast("CloudWatchLogsClient", _clients.get("logs", own_region(), _RETRYING))


def cloudformation_client() -> CloudFormationClient:
    """For the stacks of our own region."""
    return cast("CloudFormationClient", _clients.get("cloudformation", own_region(), _RETRYING))


def input_queue_url(client: SQSClient | None = None) -> str:
    """The URL of the queue of input events: as configured, else looked up by its configured name.

    Raises QueueMissingError if there is no queue of that name, and one of ERRORS if AWS cannot be asked.
    """
    return _queue_url("BLOCKFORGER_INPUT_QUEUE", client)


def input_dead_letter_queue_url(client: SQSClient | None = None) -> str:
    """The URL of the input queue's dead-letter queue, found and missed in the same way."""
    return _queue_url("BLOCKFORGER_INPUT_DEAD_LETTER_QUEUE", client)


def _queue_url(setting: str, client: SQSClient | None) -> str:
    if url := getattr(settings, f"{setting}_URL"):
        return str(url)
    name = getattr(settings, f"{setting}_NAME")
    client = client or sqs_client()
    try:
        answer = client.get_queue_url(QueueName=name)
    except client.exceptions.QueueDoesNotExist as error:
        raise QueueMissingError(
            f"There is no SQS queue '{name}' in {own_region()}. Make it with `manage.py deploy_stack`, or"
            f" name another by {setting}_URL or {setting}_NAME."
        ) from error
    # Of a body that is no JSON, botocore makes an answer without members.
    if "QueueUrl" not in answer:
        raise ResponseParserError(f"SQS was asked for the queue '{name}' and gave an answer that cannot be read.")
    return answer["QueueUrl"]
