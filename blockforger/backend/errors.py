"""What can be wrong with an operation itself: its form, its payload, the item that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenants.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blockforger.backend.json_schemas import SchemaProblem, Violation
    from blockforger.backend.schema_changes import Misfit


class Malformed(Refusal):
    """The request or event cannot be read: no JSON, a member missing or of the wrong type."""

    code = "malformed"


class LengthMissing(Refusal):
    """A body of unknown length (Transfer-Encoding: chunked), which WSGI cannot read."""

    code = "length-missing"

    def __init__(self) -> None:
        super().__init__("Send the body with a Content-Length instead of a Transfer-Encoding.")


class OperationUnknown(Refusal):
    """An operation other than POST, PUT, PATCH and DELETE."""

    code = "operation-unknown"

    def __init__(self, operation: str) -> None:
        super().__init__(f"The operation {operation[:40]!r} is unknown. Use POST, PUT, PATCH or DELETE.")


class PayloadNotObject(Refusal):
    """The payload is a JSON value other than an object."""

    code = "payload-not-object"

    def __init__(self) -> None:
        super().__init__("The payload must be a JSON object.")


class PayloadInvalid(Refusal):
    """The payload, or the item that a PATCH would make, does not fit the schema."""

    code = "payload-invalid"

    def __init__(self, violations: Iterable[Violation]) -> None:
        super().__init__(
            "The payload does not fit the schema. Each error names its place by a JSON Pointer.",
            errors=[{"pointer": violation.pointer, "detail": violation.message} for violation in violations],
        )


class KeyFieldInvalid(Refusal):
    """The member that holds the item's key is missing or unusable."""

    code = "key-field-invalid"

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message, field=field)


class KeyMismatch(Refusal):
    """The payload names another item than the URL."""

    code = "key-mismatch"

    def __init__(self, *, field: str) -> None:
        super().__init__(
            f"The member '{field}' of the payload names another item than the URL. Send the same, or leave it out.",
            field=field,
        )


class KeyRepeated(Refusal):
    """A bulk request names an item twice."""

    code = "key-repeated"

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message, field=field)


class SchemaUnknown(Refusal):
    """The tenant has no such schema."""

    code = "schema-unknown"

    def __init__(self, name: str) -> None:
        super().__init__(f"The tenant has no schema {name[:64]!r}.")


class ItemUnknown(Refusal):
    """The schema has no item of that key."""

    code = "item-unknown"

    def __init__(self, key: str) -> None:
        super().__init__(f"There is no item with the key {key[:255]!r}. Create it with POST.")


class ItemExists(Refusal):
    """A POST of a key that is taken."""

    code = "item-exists"

    def __init__(self, key: str) -> None:
        super().__init__(f"An item with the key {key!r} exists. Replace it with PUT or change it with PATCH.")


class IdempotencyKeyInUse(Refusal):
    """A request with the same `Idempotency-Key` is still running."""

    code = "idempotency-key-in-use"

    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is still running. Send it again in a moment.")


class IdempotencyKeyReused(Refusal):
    """The `Idempotency-Key` came before, with another body."""

    code = "idempotency-key-reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was sent before with another body. Use a new one for a new request.")


class PreconditionFailed(Refusal):
    """The item is not in the state that `If-Match` or `If-None-Match` asks for."""

    code = "precondition-failed"

    def __init__(self, header: str) -> None:
        super().__init__(
            f"The item is in another state than the one that {header} asks for. Read it, and decide anew.",
            header=header,
        )


class PreconditionMissing(Refusal):
    """A change without `If-Match`, which the schema demands."""

    code = "precondition-missing"

    def __init__(self) -> None:
        super().__init__(
            "This schema's items are changed and deleted one by one, with the ETag that was read in If-Match."
        )


class PayloadTooLarge(Refusal):
    """The payload would not fit into an event."""

    code = "payload-too-large"

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            f"The payload is larger than the {limit} bytes that an event can carry. Split it into several items.",
            limit=limit,
        )


class ItemsTooLarge(Refusal):
    """A bulk request for items that are larger together than what is held in memory for one request."""

    code = "items-too-large"

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            f"Together, the items are stored in more than {limit} bytes. Name fewer of them in a request.", limit=limit
        )


class EventsTooLarge(Refusal):
    """The events of a request, one for each item and output rule, are larger together than what is written at once."""

    code = "events-too-large"

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            f"Each output rule that matches an item sends an event. Together, they would be larger than {limit} bytes. "
            "Send fewer items in a request; for a single one, have fewer rules match it, or send less ('fields').",
            limit=limit,
        )


class BodyTooLarge(Refusal):
    """The body is larger than any that is read as a whole."""

    code = "body-too-large"

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            f"The body is larger than {limit} bytes. Send its items in several requests, or as application/x-ndjson.",
            limit=limit,
        )


class ResourceUnknown(Refusal):
    """What is neither an item nor a schema, and is not there."""

    code = "resource-unknown"


class DocumentInvalid(Refusal):
    """A document that configures something other than a schema, and cannot be used."""

    code = "document-invalid"

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        super().__init__(
            "The document cannot be used. Each error names its place by a JSON Pointer.",
            errors=[{"pointer": pointer, "detail": message} for pointer, message in problems],
        )


class SchemaInvalid(Refusal):
    """A schema's document, or the `meta` in it, that cannot be used."""

    code = "schema-invalid"

    def __init__(self, problems: Iterable[SchemaProblem]) -> None:
        super().__init__(
            "The schema cannot be used. Each error names its place by a JSON Pointer.",
            errors=[{"pointer": problem.pointer, "detail": problem.message} for problem in problems],
        )


class SchemaNotEmpty(Refusal):
    """A schema that is to be deleted has items."""

    code = "schema-not-empty"

    def __init__(self, name: str) -> None:
        super().__init__(f"The schema '{name}' has items. Delete them first.")


class KeyFieldSettled(Refusal):
    """A schema that has items cannot get another key field."""

    code = "key-field-settled"

    def __init__(self, message: str) -> None:
        super().__init__(message, pointer="/meta/key")


class ItemsViolateSchema(Refusal):
    """Items that are there do not fit a schema's new document."""

    code = "items-violate-schema"

    def __init__(self, misfits: Iterable[Misfit], *, limit: int) -> None:
        super().__init__(
            f"Items do not fit the new document; of those, up to {limit} are listed. Change them first, or send the "
            "schema with ?force: then they stay as they are until they are written again.",
            errors=[{"key": key, "pointer": pointer, "detail": message} for key, pointer, message in misfits],
        )
