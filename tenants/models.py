"""Tenants, the people who look after them, the keys that call in their name and the tokens that pay."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

if TYPE_CHECKING:
    from datetime import datetime

TENANT_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
ORIGIN = rf"https?://({_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]+\])(:[1-9][0-9]{{0,4}})?"


class Permission(models.TextChoices):
    """What an API key may do."""

    BACKEND_CALLS = "backend_calls", "Call the backend API"
    MANAGE_SCHEMAS = "manage_schemas", "Make, change and delete schemas"
    MANAGE_RULES = "manage_rules", "Read and replace output rules"
    READ_EVENTS = "read_events", "Read events that went out and came in, and replay them"


class Tenant(models.Model):
    """A customer: owner of schemas, items, keys, rules and a token account."""

    name = models.CharField(
        max_length=64,
        unique=True,
        validators=[
            RegexValidator(
                rf"^{TENANT_NAME}\Z",
                "Use 1 to 64 letters, digits, '_' or '-', beginning with a letter or digit.",
            )
        ],
        help_text="Identifies the tenant in URLs, events and files.",
    )
    accepts_events = models.BooleanField(
        "accepts events (eventbridge-input)",
        default=False,
        help_text="Without it, events from EventBridge are refused with 403.",
    )
    # Properties of tenant.properties that Blockforger does not know; exported again as they came.
    extra_properties = models.JSONField(default=dict, blank=True)
    # Grows with every change to what is cached per tenant (its rules); a cache is valid for one number only.
    configuration_version = models.PositiveBigIntegerField(default=0, editable=False)
    # Grows with every change to what admits a caller: the tenant's name and input flag, its keys, its schemas. Kept by
    # triggers on PostgreSQL, where processes keep what they know of callers for as long as neither number changes.
    admission_version = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AllowedOrigin(models.Model):
    """An origin whose pages may call the API of a tenant from a browser (CORS)."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="allowed_origins")
    origin = models.CharField(
        max_length=253 + 14,
        validators=[
            RegexValidator(
                rf"^{ORIGIN}\Z",
                "Write an origin as browsers send it: https:// or http://, a host in small letters, and the port, "
                "unless that is the usual one; no path, and no '*'.",
            ),
            RegexValidator(
                r"^(https://.*:443|http://.*:80)\Z", "Leave the usual port out: browsers do.", inverse_match=True
            ),
        ],
        help_text="Such as https://shop.example or http://localhost:3000.",
    )

    class Meta:
        verbose_name_plural = "allowed origins of browsers (CORS)"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "origin"], name="one_allowance_per_tenant_and_origin"),
        ]

    def __str__(self) -> str:
        return self.origin


class Role(models.TextChoices):
    """What a member may do in a tenant."""

    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    VIEWER = "viewer", "Viewer"


class Membership(models.Model):
    """A user's place in a tenant."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role, default=Role.VIEWER)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_per_tenant_and_user"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role}) of {self.tenant}"


class ApiKey(models.Model):
    """A caller's credential. The key itself is shown once, when it is made; only its SHA-256 is kept.

    A key is 256 random bits, so one round of SHA-256 is enough and a password hash would only cost time.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100, help_text="Who or what uses this key.")
    prefix = models.CharField(max_length=16, unique=True, editable=False, help_text="The key's visible beginning.")
    digest = models.CharField(max_length=64, editable=False)
    permissions = models.JSONField(default=list, blank=True)
    is_active = models.BooleanField("active", default=True, help_text="Untick to revoke the key at once.")
    expires_at = models.DateTimeField(null=True, blank=True)
    # Written at most once a minute.
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    replaced_by = models.OneToOneField(
        "self", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="replaces"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ["tenant", "name", "created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_valid(self, *, at: datetime) -> bool:
        """Whether the key is active and not expired at that time."""
        return self.is_active and (self.expires_at is None or at < self.expires_at)

    def allows(self, permission: Permission) -> bool:
        return permission in self.permissions


class TokenAccount(models.Model):
    """A tenant's balance in tokens and its clock: one row, which every write locks last and briefly."""

    tenant = models.OneToOneField(Tenant, on_delete=models.PROTECT, primary_key=True, related_name="account")
    balance = models.BigIntegerField(default=0)
    # The tenant's clock: the number of its last write. Taken by the statement that debits, so that the numbers
    # are gapless and in the order of the commits.
    sequence = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(balance__gte=0), name="token_balance_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.balance} tokens of {self.tenant}"


class EntryKind(models.TextChoices):
    """Why a ledger entry was made."""

    DEBIT = "debit", "Debit"
    TOP_UP = "top_up", "Top-up"


class LedgerEntry(models.Model):
    """One change of a balance. Entries are only ever added; their sum is the balance.

    The database refuses a second debit of one operation, a second top-up with one reference, and (by a trigger)
    any change to an entry.
    """

    account = models.ForeignKey(TokenAccount, on_delete=models.PROTECT, related_name="entries", db_index=False)
    kind = models.CharField(max_length=8, choices=EntryKind)
    amount = models.BigIntegerField(help_text="Tokens; negative for a debit.")
    balance_after = models.BigIntegerField()
    # A debit's operation. A top-up has a random one.
    operation = models.UUIDField(default=uuid.uuid4, unique=True)
    # The last of the sequence numbers that the operation took; none for reads and top-ups.
    sequence = models.PositiveBigIntegerField(null=True, blank=True)
    # Text, not a foreign key: an entry outlives the key and never changes.
    api_key_prefix = models.CharField(max_length=16, blank=True)
    # What a debit paid for, such as "POST petstore"; a top-up's reference, such as an invoice number.
    reference = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "ledger entries"
        ordering = ["-id"]
        indexes = [models.Index(fields=["account", "id"], name="ledger_of_an_account")]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "reference"],
                condition=models.Q(kind=EntryKind.TOP_UP),
                name="one_top_up_per_reference",
            ),
            models.CheckConstraint(
                condition=(
                    models.Q(kind=EntryKind.DEBIT, amount__lt=0) | models.Q(kind=EntryKind.TOP_UP, amount__gt=0)
                ),
                name="ledger_amount_has_the_sign_of_its_kind",
            ),
            models.CheckConstraint(
                condition=models.Q(balance_after__gte=0), name="ledger_balance_after_is_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount:+} {self.reference}"
