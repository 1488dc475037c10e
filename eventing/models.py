"""What goes out: buses, output rules, feedback, the outbox and its replays, and the lanes that publishers share."""

from __future__ import annotations

from typing import Any

import uuid_utils.compat as uuid
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Case, F, Q, When
from django.utils import timezone

from blockforger.backend.models import WRITES, Schema
from eventing.entries import resources_of
from tenants.models import Tenant

DEFAULT_SOURCE = "blockforger-output"
DEFAULT_DETAIL_TYPE = "{schema_id}.{operation}"


def default_bus_arn() -> str:
    return str(settings.BLOCKFORGER_DEFAULT_BUS_ARN)


class AllowedBus(models.Model):
    """A pattern of the buses that a tenant may name. A tenant with none is bound by the operator's setting alone."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="allowed_buses")
    arn_pattern = models.CharField(
        max_length=400, help_text="A bus ARN; '*' stands for any text, '?' for any character."
    )

    class Meta:
        verbose_name_plural = "allowed buses"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "arn_pattern"], name="one_allowance_per_tenant_and_pattern"),
        ]

    def __str__(self) -> str:
        return self.arn_pattern


class Configuration(models.Model):
    """What is cached per tenant. It and the number by which every process knows of a change are saved together."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            return super().delete(*args, **kwargs)


class OutputRule(Configuration):
    """Sends an event to a bus for each write that it matches. A tenant's rules apply in order, its schemas' after."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="output_rules")
    # Set for a rule of one schema's meta.
    schema = models.ForeignKey(
        Schema,
        on_delete=models.CASCADE,
        related_name="output_rules",
        null=True,
        blank=True,
        help_text="Leave empty for a rule of the tenant.",
    )
    position = models.PositiveIntegerField(default=0, db_index=True, help_text="Lower comes first.")
    eventbridge_arn = models.CharField("event bus ARN", max_length=400, default=default_bus_arn)
    source = models.CharField(max_length=256, default=DEFAULT_SOURCE)
    detail_type = models.CharField(
        max_length=128,
        default=DEFAULT_DETAIL_TYPE,
        help_text="{schema_id} and {operation} are replaced; all other text is literal.",
    )
    operations = models.JSONField(default=list, blank=True, help_text="Empty: all four.")
    schema_names = models.JSONField(default=list, blank=True, help_text="Empty: all schemas.")
    enabled = models.BooleanField(
        default=True, db_default=True, help_text="Off: it matches nothing, and keeps its place."
    )
    # The defaults of the database serve processes that do not know these columns yet.
    filter = models.JSONField(
        null=True,
        blank=True,
        help_text='Conditions on the item, as in EventBridge\'s rules: {"status": ["sold"]}. Empty: none.',
    )
    on_change = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        blank=True,
        help_text='Paths such as ["status", "owner.city"], of which one must have changed. Empty: none.',
    )
    fields = models.JSONField(
        null=True,
        blank=True,
        help_text='What is sent: {"keep": […]} or {"drop": […]}, and {"mask": […]} for "***". Empty: all.',
    )

    class Meta:
        # NULLs first on every database: a tenant's rules come before its schemas'.
        ordering = ["tenant", F("schema_id").asc(nulls_first=True), "position", "id"]

    def __str__(self) -> str:
        return f"{'/'.join(self.operations) or 'all operations'} of {', '.join(self.schema_names) or 'all schemas'}"

    def clean(self) -> None:
        from eventing import rules

        if problems := rules.problems_by_field(self):
            raise ValidationError(problems)


class RuleChange(models.Model):
    """What became of an output rule, or of the order of a list of rules, and who did it. Only ever added."""

    class What(models.TextChoices):
        ADDED = "added", "Added"
        CHANGED = "changed", "Changed"
        REMOVED = "removed", "Removed"
        RESTORED = "restored", "Restored"
        MOVED = "moved", "Moved"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="rule_changes", db_index=False)
    # The schema whose rule it was. Empty: the tenant's own. A name, and below a number: the entry outlives both.
    schema_name = models.CharField("schema", max_length=64, blank=True)
    # None: of the order.
    rule_id = models.BigIntegerField("rule", null=True, blank=True)
    what = models.CharField(max_length=8, choices=What)
    # A user's name, an API key's or a command's.
    who = models.CharField(max_length=150)
    # What the rule said, as its JSON; of an order, the ids of the rules. None: there was, or is, no rule.
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "change of rules"
        verbose_name_plural = "changes of rules"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["tenant", "id"], name="rule_changes_of_a_tenant"),
            models.Index(fields=["rule_id", "id"], name="changes_of_a_rule"),
        ]
        constraints = [models.CheckConstraint(condition=~Q(who=""), name="rule_change_says_who")]

    def __str__(self) -> str:
        return f"{self.get_what_display()} by {self.who}"


class FeedbackBus(Configuration):
    """The bus on which a tenant's senders are told what became of each event that they sent."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, primary_key=True, related_name="feedback_bus")
    eventbridge_arn = models.CharField("event bus ARN", max_length=400)

    class Meta:
        verbose_name = verbose_name_plural = "feedback on input events (eventbridge-feedback)"

    def __str__(self) -> str:
        return self.eventbridge_arn

    def clean(self) -> None:
        from eventing import rules

        if problems := rules.problems_of_bus(self.eventbridge_arn, self.tenant_id):
            raise ValidationError({"eventbridge_arn": problems})


class EventBus(models.Model):
    """What is known of a bus: whether it exists, whether it takes our events, and until when it is left alone."""

    arn = models.CharField(max_length=400, unique=True)
    # While this lies ahead, nothing is sent to the bus; its events stay pending. Whoever probes the bus, or checks it
    # before its first event, moves it ahead first: so one publisher does, and one that died blocks nothing for ever.
    paused_until = models.DateTimeField(null=True, blank=True)
    pause_reason = models.TextField(blank=True)
    # Refusals by the bus since it last took an event; 0 means that it is trusted with full batches.
    refusals = models.PositiveIntegerField(default=0)
    # Calls that failed as a whole since one got through, counted up to buses.OPEN_AFTER; there the circuit breaker
    # opens, and each probe that fails adds one. A healthy bus is never written.
    failures = models.PositiveIntegerField(default=0, db_default=0)
    # When DescribeEventBus last found the bus, or said that we may not ask (then the note says so).
    verified_at = models.DateTimeField(null=True, blank=True)
    # Why the bus is used without proof that it exists.
    verification_note = models.TextField(blank=True, default="", db_default="")
    # Set while DescribeEventBus says that there is no such bus: nothing is sent, because it would be swallowed.
    missing_since = models.DateTimeField(null=True, blank=True)
    # Not described before. Moved ahead by whoever does it, so that one publisher does.
    next_check_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "event buses"

    def __str__(self) -> str:
        return self.arn


class Replay(models.Model):
    """Who had which events sent once more, and why. What is unfinished can be carried on."""

    # None: events of every tenant, by an operator.
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="replays", null=True, blank=True)
    who = models.CharField(max_length=150)
    why = models.TextField()
    # The filters, as replays.Selection writes them.
    selection = models.JSONField()
    # How many became pending again; grows in the transactions in which they do.
    events = models.PositiveBigIntegerField(default=0)
    # Events that were written, or delivered, after this are no part of it.
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # None while there may be events left to replay.
    finished_at = models.DateTimeField(null=True, blank=True)
    # Set: asked for over REST, and carried on by the sweep at that rate. None: by the command that began it.
    per_second = models.PositiveIntegerField(null=True, blank=True)
    # Whoever of the sweep carries the replay on moves this ahead first, so that one does; it ends by itself, so that
    # one that died stops nothing for ever.
    leased_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=~Q(who=""), name="replay_says_who"),
            models.CheckConstraint(condition=~Q(why=""), name="replay_says_why"),
        ]

    def __str__(self) -> str:
        return f"replay {self.pk}"


class OutboxStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    DELIVERED = "delivered", "Delivered"
    DEAD = "dead", "Dead"


class QueueKind(models.IntegerChoices):
    """What takes turns within a tenant, but for replays: they come last."""

    NEW = 0
    # Has no sequence.
    FEEDBACK = 1
    REPLAYED = 2


class OutboxEvent(models.Model):
    """One event for one bus: written with the item's change, rendered once, sent until the bus accepts it.

    Feedback on an input event is one too, written with the record of what became of it: of no item and no rule.
    """

    # Our stable id of the event: part of its `Resources`, the same through every retry and replay.
    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="outbox_events", db_index=False)
    schema_name = models.CharField(max_length=64)
    # Empty: feedback, which no selection by item is to find.
    item_key = models.CharField(max_length=255, blank=True)
    # Empty: feedback on an event that asked for something else.
    operation = models.CharField(max_length=8, blank=True)
    # The tenant's sequence number of the write, and the place of the rule among those that matched it. None: feedback,
    # which waits for nothing and for which nothing waits.
    sequence = models.PositiveBigIntegerField(null=True, blank=True)
    place = models.PositiveSmallIntegerField()
    # The rule that asked for the event; it may be gone by now. None: feedback.
    rule_id = models.BigIntegerField(null=True, blank=True)

    # The entry, rendered; later edits of the rule do not reach it.
    bus_arn = models.CharField(max_length=400)
    source = models.CharField(max_length=256)
    detail_type = models.CharField(max_length=128)
    # Of feedback: the input event.
    item_urn = models.TextField()
    # JSON as text: it goes out byte for byte, and jsonb would forget the order of its members.
    detail = models.TextField()
    time = models.DateTimeField()

    # Hash of tenant, schema, item and bus: events with the same stream go out one after the other. A replayed event
    # has another stream than the item's new events, so that neither waits for the other; feedback has one of its own.
    stream = models.BigIntegerField()
    # stream mod lanes.LANES: who leases the lane may send its events.
    lane = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=10, choices=OutboxStatus, default=OutboxStatus.PENDING)
    # Attempts whose answer is known; one more may have been made by a publisher that died.
    attempts = models.PositiveIntegerField(default=0)
    # Not sent before, and later events of its stream wait with it. None: it may go at once. One that never was tried
    # has a time if it was found behind one that waits. Of a dead event: about when it died, from which on it is kept
    # for its time.
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    # First of the failures that may pass; a day later the event is dead.
    failing_since = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.TextField(blank=True)
    # EventBridge's id of the accepted event, and when it was accepted. A replay leaves them until it is accepted again:
    # a pending event that has them was delivered before.
    eventbridge_id = models.CharField(max_length=64, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    # The last replay that made it pending again. Attempts and errors are those since then.
    replay = models.ForeignKey(
        Replay, on_delete=models.RESTRICT, related_name="replayed_events", null=True, blank=True, db_index=False
    )

    class Meta:
        ordering = ["-id"]
        indexes = [
            # Queue by queue, each in order (eventing/queues.py): nobody reads what lies behind what he takes.
            models.Index(
                "lane",
                "bus_arn",
                "tenant",
                Case(
                    When(replay__isnull=False, then=QueueKind.REPLAYED),
                    When(sequence__isnull=True, then=QueueKind.FEEDBACK),
                    default=QueueKind.NEW,
                ),
                "sequence",
                "place",
                "id",  # feedback has neither of them
                condition=Q(status=OutboxStatus.PENDING, next_attempt_at=None),
                name="outbox_ready_by_queue",
            ),
            # Conditions that say little keep the planner from taking either of these two for the other's question when
            # its statistics are older than a burst of failures, and say that nothing waits.
            models.Index(
                fields=["lane", "next_attempt_at", "sequence", "place"],
                condition=Q(status=OutboxStatus.PENDING, next_attempt_at__isnull=False, lane__gte=0),
                name="outbox_waiting_by_time",
            ),
            # Only what waits for a time can make its stream wait, so a stream of n events is not read n² times.
            models.Index(
                fields=["stream", "sequence", "place"],
                condition=Q(status=OutboxStatus.PENDING, next_attempt_at__isnull=False, sequence__isnull=False),
                name="outbox_waiting_in_stream",
            ),
            models.Index(fields=["tenant", "id"], name="outbox_of_a_tenant"),
            # For those who look back. What is delivered at the first attempt enters but the second, and only then.
            models.Index(
                fields=["tenant", "id"], condition=Q(status=OutboxStatus.DEAD), name="outbox_dead_of_a_tenant"
            ),
            models.Index(
                fields=["tenant", "schema_name", "item_key", "id"],
                condition=Q(status__in=[OutboxStatus.DELIVERED, OutboxStatus.DEAD]),
                name="outbox_settled_of_an_item",
            ),
            # The last condition keeps it from being taken for the publishers' questions, as above.
            models.Index(
                fields=["tenant", "id"],
                condition=Q(status=OutboxStatus.PENDING, next_attempt_at__isnull=False, tenant__gte=0),
                name="outbox_retried_of_a_tenant",
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=OutboxStatus.values), name="outbox_status_is_known"),
            models.CheckConstraint(
                condition=(
                    Q(operation__in=[str(method) for method in WRITES], sequence__isnull=False, rule_id__isnull=False)
                    | Q(
                        operation__in=["", *(str(method) for method in WRITES)],
                        sequence__isnull=True,
                        rule_id__isnull=True,
                    )
                ),
                name="outbox_event_is_a_write_or_feedback",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.detail_type} of {self.item_key or self.item_urn} for {self.bus_arn}"

    @property
    def resources(self) -> list[str]:
        return resources_of(self.id, self.item_urn, self.sequence)


class Lane(models.Model):
    """A share of the outbox. Whoever holds its lease, and nobody else, sends its events."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    # Counts the leases. Results are written only while the number is still the one that was leased, so that a
    # publisher that was away too long cannot overwrite its successor's results.
    fence = models.PositiveBigIntegerField(default=0)
    # The lease ends by itself at this time: a publisher that died blocks nothing for ever. A lane that is given back
    # has ended then, and whose turn is next follows from it.
    leased_until = models.DateTimeField(null=True, blank=True)
    holder = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"lane {self.id}"
