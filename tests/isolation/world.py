"""Two tenants that share everything but their data: a victim, in all of whose rows a word stands, and a stranger."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from blockforger.backend.models import Item, OperationRecord, Schema
from eventing import consuming, rule_edits
from eventing.models import AllowedBus, EventBus, FeedbackBus, OutboxEvent, OutboxStatus, OutputRule, Replay, RuleChange
from tenants import balances
from tenants.models import AllowedOrigin, ApiKey, LedgerEntry, Membership, Tenant
from tenants.models import Permission as Permissions
from tests.cast import PET, a_key, a_schema, a_tenant
from tests.eventing.doors import Ask, envelope, handle, write

if TYPE_CHECKING:
    from django.db.models import Model

# In everything that is the victim's. Its name, the names of its schemas and the keys of its items are other words:
# they are what a stranger can guess and send, and so gets back.
MARK = "wombat"
GUESSED = "guess-1"
BUS = "arn:aws:events:us-east-1:123456789012:event-bus/"

# How each row leads to its tenant. What is not here must be in SHARED.
OWNED: dict[str, str] = {
    "tenants.Tenant": "pk",
    "tenants.AllowedOrigin": "tenant",
    "tenants.Membership": "tenant",
    "tenants.ApiKey": "tenant",
    "tenants.TokenAccount": "tenant",
    "tenants.LedgerEntry": "account",
    "backend.Schema": "tenant",
    "backend.Item": "schema__tenant",
    "backend.OperationRecord": "tenant",
    "eventing.AllowedBus": "tenant",
    "eventing.OutputRule": "tenant",
    "eventing.FeedbackBus": "tenant",
    "eventing.RuleChange": "tenant",
    "eventing.OutboxEvent": "tenant",
    "eventing.Replay": "tenant",
}
# Of the platform.
SHARED = {"eventing.EventBus", "eventing.Lane"}

Rows = dict[tuple[str, Any], str]


@dataclass(frozen=True)
class Snapshot:
    """All rows, each as a text."""

    victims: Rows
    others: Rows


@dataclass
class World:
    """Who there is. An attempt is made with what the stranger has, and returns all that it saw."""

    victim: Tenant
    stranger: Tenant
    victims_key: str
    strangers_key: str
    event_id: str
    cursor: str

    def rest(self, method: str, path: str, payload: Any = None, *, key: str | None = None, **headers: str) -> Any:
        """A request with the stranger's key, or with another."""
        return APIClient(raise_request_exception=False).generic(
            method,
            path,
            "" if payload is None else json.dumps(payload),
            content_type="application/json",
            headers={"X-API-Key": self.strangers_key if key is None else key, **headers},
        )

    def event(self, ask: Ask, *, event_id: str | None = None, **detail: Any) -> str:
        """An event with the stranger's key, if the ask names no other. Returns what was recorded of it."""
        api_key = ask.api_key or self.strangers_key
        made = envelope(Ask(ask.method, ask.payload, ask.tenant, ask.schema, api_key), event_id=event_id)
        made["detail"].update(detail)
        disposition = handle(json.dumps(made))
        if disposition is consuming.Disposition.REPEATED:
            return str(disposition)  # the record is of the first, and nobody shows it to the sender of the second
        return f"{disposition} {OperationRecord.objects.filter(idempotency_key=made['id']).values().get()}"

    def command(self, *arguments: str, **options: Any) -> str:
        """What the command prints to stdout and stderr, and the error that it ends with."""
        out, err = io.StringIO(), io.StringIO()
        try:
            call_command(*arguments, stdout=out, stderr=err, **options)
        except CommandError as error:
            return f"{out.getvalue()}\n{err.getvalue()}\n{error}"
        return f"{out.getvalue()}\n{err.getvalue()}"

    def of_victim(self, model: type[Model]) -> Any:
        """One of the victim's rows, or of the platform's: one with the word in it, if any has it."""
        path = OWNED.get(model._meta.label)
        rows = model._default_manager.filter(**{path: self.victim.pk} if path else {})
        marked = [row["pk"] for row in rows.values("pk", *_columns_of(model)) if MARK in str(row)]
        return rows.get(pk=marked[0]) if marked else rows.order_by("pk").first()


def _columns_of(model: type[Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


def make() -> World:
    """Both tenants with a row of each kind."""
    victim, victims_key, event_id = _a_full_tenant("victim", word=MARK)
    a_schema(victim, "hidden", {**PET, "title": MARK})
    stranger, strangers_key, _ = _a_full_tenant("stranger", word="sparrow")
    after = Item.objects.filter(schema__tenant=victim).earliest("pk").pk
    # Nothing waits: whoever publishes, and for whatever reason, sends no event of the victim.
    OutboxEvent.objects.update(status=OutboxStatus.DELIVERED, delivered_at=timezone.now(), eventbridge_id="x")
    return World(victim, stranger, victims_key, strangers_key, event_id, str(after))


def _a_full_tenant(name: str, *, word: str) -> tuple[Tenant, str, str]:
    tenant = a_tenant(name)
    tenant.extra_properties = {"note": word}
    tenant.save()
    # A stranger with every permission, in its own tenant.
    key = a_key(tenant, permissions=list(Permissions))
    ApiKey.objects.filter(tenant=tenant).update(name=word)
    balances.top_up(tenant, amount=10, reference=f"invoice of the {word}")
    member = User.objects.create_user(f"{word} of {name}")
    Membership.objects.create(tenant=tenant, user=member, role="owner")
    AllowedOrigin.objects.create(tenant=tenant, origin=f"https://{word}.example")
    a_schema(tenant, "petstore", {**PET, "title": word})
    arn = f"{BUS}{word}"
    AllowedBus.objects.create(tenant=tenant, arn_pattern=arn)
    rule_edits.add(OutputRule(tenant=tenant, eventbridge_arn=arn, source=word), who=word)
    FeedbackBus.objects.create(tenant=tenant, eventbridge_arn=arn)
    EventBus.objects.create(arn=arn)
    for number in range(1, 4):
        write(tenant, key, "POST", f"guess-{number}", name=word)
    event_id = str(uuid.uuid4())
    ask = Ask("PUT", {"id": GUESSED, "name": word}, name, "petstore", key)
    handle(json.dumps(envelope(ask, event_id=event_id)))
    handle(json.dumps(envelope(Ask("PUT", {"id": "none", "name": word}, name, "petstore", key))))
    Replay.objects.create(tenant=tenant, who=word, why=word, selection={"rule": 1})
    return Tenant.objects.get(pk=tenant.pk), key, event_id


def snapshot(world: World) -> Snapshot:
    """Every row of every table."""
    found = Snapshot({}, {})
    for model in apps.get_models():
        path = OWNED.get(model._meta.label)
        of_victim: set[Any] = set()
        if path:
            rows = model._default_manager.filter(**{path: world.victim.pk})
            of_victim = set(rows.values_list("pk", flat=True))
        for row in model._default_manager.values():
            pk = row[model._meta.pk.attname]
            (found.victims if pk in of_victim else found.others)[model._meta.label, pk] = str(row)
    return found


def check(world: World, before: Snapshot, *shown: str) -> None:
    """Nothing of the victim was shown or changed, or stands now in anybody else's rows."""
    for text in shown:
        assert MARK not in text
    after = snapshot(world)
    assert after.victims == before.victims
    written = {place: text for place, text in after.others.items() if before.others.get(place) != text}
    assert {place: text for place, text in written.items() if MARK in text} == {}


def browsers(world: World) -> dict[str, Client]:
    """Strangers at the admin: nobody, a member of the other tenant, and one on the staff who has every permission."""
    member = User.objects.get(memberships__tenant=world.stranger)
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.all())
    Membership.objects.create(tenant=world.stranger, user=staff, role="owner")
    found = {"nobody": Client(), "member": Client(), "staff": Client()}
    found["member"].force_login(member)
    found["staff"].force_login(staff)
    return found


def text_of(response: Any) -> str:
    """Everything of an answer: status, headers, cookies and body."""
    content = b"".join(response.streaming_content) if response.streaming else response.content
    if response.get("Content-Type") == "application/zip":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = b"\n".join(name.encode() + archive.read(name) for name in archive.namelist())
    return f"{response.status_code}\n{response.serialize_headers().decode()}\n{response.cookies}\n{content.decode()}"


MODELS_WITH_THE_MARK: tuple[type[Model], ...] = (
    *(Tenant, ApiKey, LedgerEntry, Schema, Item, OperationRecord),
    *(OutputRule, RuleChange, EventBus, OutboxEvent, Replay),
)
