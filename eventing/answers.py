"""What EventBridge's answers mean for an event: sent, to be sent again, refused, or refused by the bus as a whole.

Sources: API reference of PutEvents (`PutEventsResultEntry.ErrorCode`, Errors), "Common errors" of the EventBridge
API, user guide "Sending events with PutEvents".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

if TYPE_CHECKING:
    from mypy_boto3_events.type_defs import PutEventsResultEntryTypeDef


class Verdict(Enum):
    """What to do with an event after an answer."""

    ACCEPTED = "accepted"
    # May pass: send again later; the stream waits.
    RETRY = "retry"
    # Will not pass: the event is dead, the stream goes on.
    REFUSED = "refused"
    # The bus takes nothing from us: it is paused, the event stays pending.
    BUS_REFUSED = "bus refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one entry: EventBridge's event id, or an error code and its text."""

    verdict: Verdict
    event_id: str = ""
    code: str = ""
    message: str = ""
    # The call failed, and not the entry: all entries of the call share this one object.
    is_of_call: bool = False


_ENTRY_CODES = {
    "InternalFailure": Verdict.RETRY,
    "InternalException": Verdict.RETRY,
    "ThrottlingException": Verdict.RETRY,
    "InvalidArgument": Verdict.REFUSED,
    "MalformedDetail": Verdict.REFUSED,
    "RedactionFailure": Verdict.REFUSED,
    # These two depend on what one rule sends: other tenants' events on the same bus must not wait for it.
    "NotAuthorizedForSourceException": Verdict.REFUSED,
    "NotAuthorizedForDetailTypeException": Verdict.REFUSED,
    "AccessDeniedException": Verdict.BUS_REFUSED,
    "InvalidAccountIdException": Verdict.BUS_REFUSED,
    "ResourceNotFoundException": Verdict.BUS_REFUSED,
}

_CALL_CODES_OF_THE_BUS = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "NotAuthorized",
    "OperationDisabledException",
    "OptInRequired",
    "ResourceNotFoundException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_CALL_CODES_OF_THE_ENTRIES = {
    "InvalidArgument",
    "RequestEntityTooLargeException",
    "SerializationException",
    "ValidationError",
    "ValidationException",
}
_CREDENTIAL_ERRORS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)


def of_entry(entry: PutEventsResultEntryTypeDef) -> Answer:
    """The answer in one entry of a response; codes that AWS has not documented may pass."""
    if code := entry.get("ErrorCode"):
        return Answer(_ENTRY_CODES.get(code, Verdict.RETRY), code=code, message=entry.get("ErrorMessage", ""))
    return Answer(Verdict.ACCEPTED, event_id=entry.get("EventId", ""))


def of_failed_call(error: ClientError | BotoCoreError) -> Answer:
    """The answer to every entry of a call that failed as a whole.

    REFUSED then means: one of the entries is to blame, and it takes smaller calls to find out which.
    """
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        message = error.response.get("Error", {}).get("Message", "")
        return Answer(_verdict_on_call(code), code=code, message=message, is_of_call=True)
    if isinstance(error, ParamValidationError):
        verdict = Verdict.REFUSED
    elif isinstance(error, _CREDENTIAL_ERRORS):
        verdict = Verdict.BUS_REFUSED
    else:
        verdict = Verdict.RETRY
    return Answer(verdict, code=type(error).__name__, message=str(error), is_of_call=True)


def _verdict_on_call(code: str) -> Verdict:
    if code in _CALL_CODES_OF_THE_BUS:
        return Verdict.BUS_REFUSED
    return Verdict.REFUSED if code in _CALL_CODES_OF_THE_ENTRIES else Verdict.RETRY
