"""Schemas, their items, and the record of operations that makes a repeated request harmless."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, cast

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.models import Tenant

if TYPE_CHECKING:
    from blockforger.backend.json_values import JsonObject

SCHEMA_NAME_CHARACTERS = "[A-Za-z0-9_.-]{1,64}"
# Not "." or "..", which URLs cannot hold.
SCHEMA_NAME = rf"(?!\.{{1,2}}\Z){SCHEMA_NAME_CHARACTERS}"


def is_schema_name(text: str) -> bool:
    """Whether a schema may have that name."""
    return re.fullmatch(SCHEMA_NAME, text) is not None and not text.endswith(".json")


class Method(models.TextChoices):
    """What an operation does with an item."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


WRITES = (Method.POST, Method.PUT, Method.PATCH, Method.DELETE)


class Origin(models.TextChoices):
    """The door through which an operation came."""

    API = "api", "REST API"
    EVENT = "event", "EventBridge"


class Schema(models.Model):
    """A JSON Schema (2020-12) of a tenant. Its items are served at /api/{tenant}/{name}."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="schemas")
    name = models.CharField(
        max_length=64,
        validators=[
            RegexValidator(rf"^{SCHEMA_NAME}\Z", "Use 1 to 64 letters, digits, '_', '.' or '-'."),
            RegexValidator(r"\.json\Z", "Leave '.json' out of the name.", inverse_match=True),
        ],
    )
    # The document as text, so that it comes out as it went in; without its member `meta`.
    document = models.TextField(help_text="A JSON Schema (draft 2020-12).")
    # The document's member `meta`, without the output rules: those are eventing's.
    meta = models.JSONField(default=dict, blank=True)
    # Grows with every change of the document; compiled validators are kept per version.
    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["tenant", "name"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="one_schema_per_tenant_and_name"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def key_field(self) -> str:
        """The member of a payload that holds the item's key."""
        return cast("str", self.meta.get("key", "id"))

    @property
    def requires_if_match(self) -> bool:
        """Whether items are changed over REST only by those who say which state of them they mean."""
        return self.meta.get("require_if_match") is True

    @property
    def etag(self) -> str:
        """A strong entity tag. The row's number is in it, because a name that is made again begins at version 1."""
        return f'"{self.pk}-{self.version}"'

    def parsed_document(self) -> JsonObject:
        return cast("JsonObject", json.loads(self.document))


class Item(models.Model):
    """A stored payload, under its key as text."""

    schema = models.ForeignKey(Schema, on_delete=models.PROTECT, related_name="items", db_index=False)
    key = models.CharField(max_length=255)
    payload = models.JSONField()
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["schema", "key"]
        indexes = [models.Index(fields=["schema", "id"], name="items_of_a_schema")]
        constraints = [
            models.UniqueConstraint(fields=["schema", "key"], name="one_item_per_schema_and_key"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def etag(self) -> str:
        """A strong entity tag. The row's number is in it, because a key that is made again begins at version 1."""
        return f'"{self.pk}-{self.version}"'


class OperationRecord(models.Model):
    """What became of a request or event that must not be carried out twice.

    It is written in the transaction of the operation itself, so it is there exactly when the effect is. For events
    this is the inbox; the key is then EventBridge's event id. For requests it is a digest of `Idempotency-Key`, sender
    and URL.
    """

    origin = models.CharField(max_length=8, choices=Origin)
    idempotency_key = models.CharField(max_length=255)
    # None until the caller has proved to be of the tenant: such a record is for operators only.
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.CASCADE,
        related_name="operation_records",
        null=True,
        blank=True,
        db_index=False,
    )
    operation = models.UUIDField(help_text="Names the operation in the ledger.")
    method = models.CharField(max_length=16, blank=True)
    schema_name = models.CharField(max_length=64, blank=True)
    item_key = models.CharField(max_length=255, blank=True)
    # JSON as text, of an event with a defect with everything beyond ASCII escaped: it must be able to hold what was
    # refused, NUL included. Empty for requests: their senders still have what they sent.
    payload = models.TextField(blank=True)
    # SHA-256 of the request, in hexadecimal: the same key with another request is not a repetition.
    request_hash = models.CharField(max_length=64)
    # The outcome: an HTTP status, and the problem document of a refusal.
    status = models.PositiveSmallIntegerField()
    problem = models.JSONField(null=True, blank=True)
    # What a request was answered with, to be answered again: JSON as text, so that members keep their order. Empty for
    # events, refusals and answers without a body.
    answer = models.TextField(blank=True, default="", db_default="")
    tokens = models.PositiveIntegerField(default=0, help_text="Tokens charged.")
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["tenant", "id"], name="records_of_a_tenant"),
            # For those who look back: what has no key, and what was carried out, is not in them.
            models.Index(
                fields=["tenant", "schema_name", "item_key", "id"],
                condition=~Q(item_key=""),
                name="records_of_an_item",
            ),
            models.Index(fields=["tenant", "id"], condition=Q(status__gte=400), name="records_refused_of_a_tenant"),
            models.Index(fields=["origin", "received_at"], name="records_by_age"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["origin", "idempotency_key"], name="one_record_per_origin_and_idempotency_key"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.origin} {self.idempotency_key}: {self.status}"
