"""The table: every door of the product, and the ways in which a stranger may try it.

Whoever adds a view, an admin page, a command or an operation of events adds its rows here, or a test fails. An
attempt does its worst and returns all that the stranger saw of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model

from blockforger.backend.models import Item, OperationRecord, Schema
from eventing import aws
from eventing.models import OutboxEvent, OutputRule, Replay, RuleChange
from tenants.models import ApiKey, LedgerEntry
from tests.eventing.doors import Ask, envelope
from tests.eventing.tenant_folders import a_folder
from tests.isolation.deliveries import DELIVERIES
from tests.isolation.world import BUS, GUESSED, MARK, World, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.db.models import Model


# To search for. What comes back of a search may repeat it, but not the word.
PART_OF_MARK = MARK[:4]


@dataclass(frozen=True)
class Attempt:
    """A row: the door as `doors.py` names it, by what it is tried, and the try."""

    door: str
    by: str
    make: Callable[[World], str]

    def __str__(self) -> str:
        return f"{self.door} by {self.by}"


def _rest(door: str, by: str, method: str, path: str, payload: Any = None, **headers: str) -> Attempt:
    return Attempt(door, by, lambda world: text_of(world.rest(method, path, payload, **headers)))


PET = {"id": GUESSED, "name": "mine"}
OF_VICTIM, OWN = "/api/victim/petstore", "/api/stranger/petstore"
ITEM, ITEMS = f"{OF_VICTIM}/{GUESSED}", OF_VICTIM
BODIES: dict[str, Any] = {"POST": PET, "PUT": PET, "PATCH": {"name": "mine"}, "DELETE": None, "GET": None}
EVENTS_OUT, OWN_EVENTS = "/api/victim/$events/out", "/api/stranger/$events"
NO_EVENT = "00000000-0000-0000-0000-000000000001"
# Every one of them is at the victim's URLs, with the stranger's key; the answer must be that of a tenant that is not.
AT_THE_VICTIMS_URLS = [
    (f"{method} {name}", by, method, path, BODIES[method], headers)
    for name, path, other_path, methods in [
        ("item", ITEM, "/api/victim/hidden/nothing", ("GET", "PUT", "PATCH", "DELETE")),
        ("items", ITEMS, "/api/victim/hidden", ("GET", "POST", "PATCH", "DELETE")),
        ("schemas", "/api/victim", "/api/victim?cursor=a", ("GET",)),
        ("schema", f"{OF_VICTIM}/$schema", "/api/victim/hidden/$schema", ("GET", "PUT", "DELETE")),
        ("rules", "/api/victim/$rules", "/api/victim/$rules?x", ("GET", "PUT")),
        ("rule-explanations", "/api/victim/$rules/explain", "/api/victim/$rules/explain?x", ("POST",)),
        ("backtests", "/api/victim/$rules/backtest", "/api/victim/$rules/backtest?x", ("POST",)),
        ("rule-tests", "/api/victim/$rules/1/test", "/api/victim/$rules/2/test", ("POST",)),
        ("sent-events", EVENTS_OUT, f"{EVENTS_OUT}?schema=hidden&key=1", ("GET",)),
        ("sent-event", f"{EVENTS_OUT}/{NO_EVENT}", f"{EVENTS_OUT}/{NO_EVENT}?x", ("GET",)),
        ("replays", f"{EVENTS_OUT}/replay", f"{EVENTS_OUT}/replay?x", ("POST",)),
        ("replay", f"{EVENTS_OUT}/replay/1", f"{EVENTS_OUT}/replay/2", ("GET",)),
        ("received-events", "/api/victim/$events/in", "/api/victim/$events/in?schema=hidden&key=1", ("GET",)),
        ("received-event", "/api/victim/$events/in/1", "/api/victim/$events/in/2", ("GET",)),
        ("openapi", "/api/victim/openapi.json", "/api/victim/openapi.json?x", ("GET",)),
        ("asyncapi", "/api/victim/asyncapi.json", "/api/victim/asyncapi.json?x", ("GET",)),
        ("usage", "/api/victim/$usage", "/api/victim/$usage?days=1", ("GET",)),
        ("ledger-entries", "/api/victim/$usage/entries", "/api/victim/$usage/entries?limit=1", ("GET",)),
    ]
    for method in methods
    for by, path, headers in [
        ("another tenant's API key", path, {}),
        ("a schema's name", other_path, {}),
        ("a name that no schema has", path.replace("petstore", "nothing"), {}),
        ("a trailing slash", f"{path}/", {}),
        ("an encoded name", path.replace("victim", "%76ictim"), {}),
        ("If-Match", path, {"If-Match": "*"}),
        ("an ETag", path, {"If-None-Match": '"1"'}),
        ("an idempotency key", path, {"Idempotency-Key": "mine"}),
        ("a tenant's header", path, {"X-Tenant": "victim", "X-Forwarded-Host": "victim"}),
        *([("a stream", path, {"Content-Type": "application/x-ndjson"})] if name == "items" else []),
        ("a query", f"{path}?tenant=stranger&limit=1000&cursor=0&filter[name]=x&sort=-name&fields=name&q=x", {}),
    ]
]


def _of_victims(door: str, by: str, method: str, path: str, model: type[Model], payload: Any = None) -> Attempt:
    """A row that names one of the victim's by its id: `{}` in the path, or in the payload's text."""

    def make(world: World) -> str:
        pk = str(world.of_victim(model).pk)
        sent = json.loads(json.dumps(payload).replace("{}", pk)) if payload else None
        return text_of(world.rest(method, path.replace("{}", pk), sent))

    return Attempt(door, by, make)


# With the stranger's own URLs, which its key may use.
MANAGEMENT = [
    *(
        _rest(f"{method} schema", "a schema's name", method, "/api/stranger/hidden/$schema", BODIES[method])
        for method in ("GET", "PUT", "DELETE")
    ),
    _rest("GET schemas", "a cursor", "GET", "/api/stranger?cursor=a&limit=1000"),
    _of_victims(
        "PUT rules",
        "a rule's id",
        "PUT",
        "/api/stranger/$rules",
        OutputRule,
        {"rules": [{"id": "{}", "eventbridge_arn": f"{BUS}sparrow"}], "schemas": {}},
    ),
    _rest("PUT rules", "a schema's name", "PUT", "/api/stranger/$rules", {"rules": [], "schemas": {"hidden": []}}),
    *(
        _rest(
            "POST rule-explanations",
            by,
            "POST",
            "/api/stranger/$rules/explain",
            {"operation": "DELETE", "schema": schema, "key": GUESSED},
        )
        for by, schema in {"an item's key": "petstore", "a schema's name": "hidden"}.items()
    ),
    _rest(
        "POST backtests",
        "a schema's name",
        "POST",
        "/api/stranger/$rules/backtest",
        {"rules": [{"eventbridge_arn": f"{BUS}sparrow", "schema_names": ["hidden"]}], "schemas": {}},
    ),
    _of_victims("POST rule-tests", "a rule's id", "POST", "/api/stranger/$rules/{}/test", OutputRule),
    _of_victims("GET sent-event", "an id", "GET", f"{OWN_EVENTS}/out/{{}}", OutboxEvent),
    _of_victims("GET sent-events", "a cursor", "GET", f"{OWN_EVENTS}/out?cursor={{}}", OutboxEvent),
    _of_victims("GET sent-events", "a rule", "GET", f"{OWN_EVENTS}/out?rule={{}}", OutputRule),
    _rest("GET sent-events", "an item", "GET", f"{OWN_EVENTS}/out?schema=petstore&key={GUESSED}"),
    Attempt(
        "GET received-event", "an id", lambda world: text_of(world.rest("GET", f"{OWN_EVENTS}/in/{world.event_id}"))
    ),
    _of_victims("GET received-events", "a cursor", "GET", f"{OWN_EVENTS}/in?cursor={{}}", OperationRecord),
    _rest("GET received-events", "an item", "GET", f"{OWN_EVENTS}/in?schema=petstore&key={GUESSED}"),
    _of_victims("GET replay", "a number", "GET", f"{OWN_EVENTS}/out/replay/{{}}", Replay),
    _of_victims("POST replays", "an id", "POST", f"{OWN_EVENTS}/out/replay", OutboxEvent, {"ids": ["{}"], "why": "x"}),
    _of_victims(
        "POST replays",
        "an id, to count",
        "POST",
        f"{OWN_EVENTS}/out/replay",
        OutboxEvent,
        {"ids": ["{}"], "dry_run": True},
    ),
    _rest("POST replays", "all", "POST", f"{OWN_EVENTS}/out/replay", {"all": True, "why": "x"}),
    _rest(
        "POST replays",
        "an item",
        "POST",
        f"{OWN_EVENTS}/out/replay",
        {"item": {"schema": "petstore", "key": GUESSED}, "why": "x"},
    ),
    _of_victims("GET ledger-entries", "a cursor", "GET", "/api/stranger/$usage/entries?cursor={}", LedgerEntry),
    _rest("GET usage", "?tenant=", "GET", "/api/stranger/$usage?tenant=victim"),
]
REST = [
    *(_rest(door, by, method, path, body, **headers) for door, by, method, path, body, headers in AT_THE_VICTIMS_URLS),
    _rest("GET item", "HEAD", "HEAD", ITEM),
    _rest("GET items", "HEAD", "HEAD", ITEMS),
    # with its own URLs, and what it has seen of the victim
    Attempt("GET items", "a cursor", lambda world: text_of(world.rest("GET", f"{OWN}?cursor={world.cursor}"))),
    Attempt("GET items", "a cursor before all", lambda world: text_of(world.rest("GET", f"{OWN}?cursor=0&limit=1000"))),
    _rest("GET items", "?tenant=", "GET", f"{OWN}?tenant=victim&limit=1000"),
    Attempt(
        "GET items",
        "a schema's id in a filter",
        lambda world: text_of(world.rest("GET", f"{OWN}?schema={world.of_victim(Schema).pk}&filter[schema]=1")),
    ),
    _rest("GET items", "a sort", "GET", f"{OWN}?sort=schema__tenant__name,-id&fields=schema,tenant"),
    _rest("GET items", "search terms", "GET", f"{OWN}?q=victim&search=victim"),
    _rest("GET item", "a key of the other's item", "GET", f"{OWN}/{GUESSED}"),
    Attempt("GET item", "an id", lambda world: text_of(world.rest("GET", f"{OWN}/{world.of_victim(Item).pk}"))),
    _rest("GET item", "a path", "GET", f"{OWN}/..%2f..%2fvictim%2fpetstore%2f{GUESSED}"),
    _rest("PUT item", "an idempotency key and a key", "PUT", f"{OWN}/{GUESSED}", PET, **{"Idempotency-Key": "one"}),
    _rest("PATCH item", "If-Match and a key", "PATCH", f"{OWN}/{GUESSED}", {"name": "mine"}, **{"If-Match": '"2"'}),
    _rest("DELETE item", "a key of the other's item", "DELETE", f"{OWN}/{GUESSED}"),
    _rest("POST items", "a key of the other's item", "POST", OWN, {"id": "guess-9", "name": "mine"}),
    _rest("POST items", "members that look like columns", "POST", OWN, {**PET, "schema": 1, "tenant": "victim"}),
    _rest("POST items", "keys of the other's items", "POST", OWN, [{"id": "guess-9", "name": "mine"}]),
    _rest("PATCH items", "a key of the other's item", "PATCH", OWN, [{"id": GUESSED, "name": "mine"}]),
    _rest("DELETE items", "a key of the other's item", "DELETE", OWN, [GUESSED]),
    *(
        _rest(f"{method} items", "a stream", method, OWN, payload, **{"Content-Type": "application/x-ndjson"})
        for method, payload in [("POST", PET), ("PATCH", PET), ("DELETE", GUESSED)]
    ),
    *MANAGEMENT,
    _rest("GET openapi", "its own URL", "GET", "/api/stranger/openapi.json"),
    _rest("GET asyncapi", "its own URL", "GET", "/api/stranger/asyncapi.json"),
    _rest("GET openapi-of-any-tenant", "its URL", "GET", "/openapi.json?tenant=victim"),
    _rest("page docs", "its URL", "GET", "/docs?tenant=victim"),
    _rest("page livez", "its URL", "GET", "/livez?tenant=victim"),
    _rest("page readyz", "its URL", "GET", "/readyz?tenant=victim"),
]


def _event(method: str, by: str, payload: Any = None, **changes: Any) -> Attempt:
    ask = Ask(method, payload or BODIES[method] or {"id": GUESSED}, tenant=changes.pop("tenant", "victim"))
    return Attempt(f"event {method}", by, lambda world: world.event(ask, **changes))


EVENTS = [
    *(
        row
        for method in ("POST", "PUT", "PATCH", "DELETE")
        for row in [
            _event(method, "another tenant's API key", {"id": GUESSED, "name": "mine"}),
            _event(method, "a schema's name", {"id": GUESSED, "name": "mine"}, rootSchema="hidden"),
            _event(method, "a schema's name, as its own", {"id": "9"}, tenant="stranger", rootSchema="hidden"),
            _event(method, "two tenants", {"id": "9"}, tenant="stranger", tenant_id="victim", rootSchema="petstore"),
            Attempt(
                f"event {method}",
                "another event's id",
                lambda world, method=method: world.event(  # type: ignore[misc]
                    Ask(method, {"id": GUESSED, "name": "mine"}, "stranger"), event_id=world.event_id
                ),
            ),
        ]
    ),
]


# By model: the row of which the pages are tried. The pages are Django's six.
ADMIN_MODELS = (
    *("tenants.tenant", "tenants.membership", "tenants.apikey", "tenants.tokenaccount", "tenants.ledgerentry"),
    *("backend.schema", "backend.item", "backend.operationrecord"),
    *("eventing.outputrule", "eventing.eventbus", "eventing.outboxevent", "eventing.replay", "eventing.lane"),
    "eventing.rulechange",
    "auth.user",
)


def _at(url: str) -> Callable[[World], list[str]]:
    return lambda _: [url]


def _of_tenants(url: str) -> Callable[[World], list[str]]:
    """Of the victim; and of the stranger, for what is the victim's."""
    return lambda world: [
        url.format(world.victim.pk),
        f"{url.format(world.stranger.pk)}?rule={world.of_victim(OutputRule).pk}&schema=hidden&key={GUESSED}",
    ]


def _of_victims_key(url: str) -> Callable[[World], list[str]]:
    return lambda world: [url.format(world.of_victim(ApiKey).pk)]


# What else the admin has, and where a stranger tries it.
ADMIN_SITE: dict[str, Callable[[World], list[str]]] = {
    "admin/": lambda _: ["/admin/"],
    "admin/login/": lambda _: ["/admin/login/?next=/admin/tenants/tenant/"],
    "admin/logout/": lambda _: ["/admin/logout/"],
    "admin/password_change/": lambda _: ["/admin/password_change/"],
    "admin/password_change/done/": lambda _: ["/admin/password_change/done/"],
    "admin/autocomplete/": lambda _: [
        f"/admin/autocomplete/?app_label={label}&model_name={model}&field_name={field}&term={term}"
        for label, model, field in [
            ("tenants", "apikey", "tenant"),
            ("tenants", "membership", "user"),
            ("tenants", "tokenaccount", "tenant"),
            ("backend", "schema", "tenant"),
        ]
        for term in ("", PART_OF_MARK, "victim")
    ],
    "admin/jsi18n/": lambda _: ["/admin/jsi18n/"],
    "admin/search/": lambda _: [f"/admin/search/?s={term}&extended=1" for term in (PART_OF_MARK, "victim", "a")],
    "admin/two-factor/": lambda _: ["/admin/two-factor/?next=/admin/tenants/tenant/"],
    **{f"admin/two-factor/{page}/": _at(f"/admin/two-factor/{page}/") for page in ("set-up", "recovery-codes")},
    "admin/two-factor/turn-off/": _at("/admin/two-factor/turn-off/"),
    **{
        f"admin/tenants/apikey/<path:object_id>/{verb}/": _of_victims_key(f"/admin/tenants/apikey/{{}}/{verb}/")
        for verb in ("rotate", "revoke")
    },
    **DELIVERIES,
    "admin/dashboard/<str:name>/": _at("/admin/dashboard/victim/"),
    "admin/live/<str:name>/": _at("/admin/live/victim/?schema=hidden"),
    "admin/live/<str:name>/events/": _at("/admin/live/victim/events/"),
    "admin/eventing/outputrule/preview/": lambda world: [
        f"/admin/eventing/outputrule/preview/?{query}"
        for query in (f"rule={world.of_victim(OutputRule).pk}", "tenant=victim", "rule=x", "")
    ],
    "admin/eventing/outputrule/order/": _at("/admin/eventing/outputrule/order/?tenant=victim"),
    "admin/eventing/outputrule/<path:object_id>/switch/": lambda world: [
        f"/admin/eventing/outputrule/{world.of_victim(OutputRule).pk}/switch/"
    ],
    "admin/eventing/rulechange/<path:object_id>/restore/": lambda world: [
        f"/admin/eventing/rulechange/{world.of_victim(RuleChange).pk}/restore/"
    ],
    **{
        f"admin/tenants/tenant/<path:object_id>/{page}/": _of_tenants(f"/admin/tenants/tenant/{{}}/{page}/")
        for page in ("explain", "backtest", "test-rule", "import", "export")
    },
    "admin/tenants/tenant/import/": _at("/admin/tenants/tenant/import/"),
    "admin/^(?P<app_label>tenants|auth|backend|eventing)/$": lambda _: [
        f"/admin/{label}/" for label in ("auth", "tenants", "backend", "eventing")
    ],
    "admin/(?P<url>.*)$": lambda _: ["/admin/nothing", "/admin/tenants/tenant/victim/change/more/"],
    "admin/auth/user/<id>/password/": lambda world: [
        f"/admin/auth/user/{world.of_victim(get_user_model()).pk}/password/"
    ],
}
LIST_QUERIES = (
    "",
    "?tenant=victim",
    f"?q={PART_OF_MARK}",
    "?q=victim",
    "?tenant__name=victim",
    "?tenant__exact=1",
    "?schema__exact=1",
    "?digest__startswith=a",
    "?tenant__extra_properties__note__startswith=w",
    "?account__tenant__memberships__user__password__startswith=a",
    "?o=1&all=",
    "?_popup=1&_to_field=id",
    "?_facets=True&p=1",
    "?before=1",
    "?after=00000000-0000-0000-0000-000000000001&tenant=victim",
    f"?tenant=victim&schema=petstore&key={GUESSED}&status=delivered",
    "?status=done&since=2020-01-01&until=2999-01-01T00:00:00",
)
# Yes or no to these would tell what no page shows, letter by letter.
GUESSES = (
    "tenant__memberships__user__password__startswith",
    "tenant__memberships__user__totpdevice__key__startswith",
    "tenant__memberships__user__staticdevice__token_set__token__startswith",
    "tenant__memberships__tenant__output_rules__eventbridge_arn__startswith",
    "tenant__api_keys__digest__startswith",
    "tenant__name__startswith",
    "tenant__in",
    "tenant__isnull",
    "enabled__in",
    "role__startswith",
    "schema__document__contains",
    "digest__startswith",
    "user__password__startswith",
    "memberships__user__password__startswith",
)
ACTIONS = ("delete_selected", "rotate", "resume", "replay_chosen")


def _command(name: str, by: str, *arguments: str | Callable[[World], object], **options: Any) -> Attempt:
    def make(world: World) -> str:
        words = [str(word(world)) if callable(word) else word for word in arguments]
        return world.command(name, *words, **options)

    return Attempt(f"command {name}", by, make)


def _replay(by: str, *arguments: str | Callable[[World], object]) -> Attempt:
    return _command("replay_events", by, "--why", "mine", "--yes", "--tenant", "stranger", *arguments)


def _import(world: World, folder: Path) -> str:
    """A tenant's files that name what is the victim's."""
    rule = {"eventbridge_arn": f"{BUS}sparrow", "schema_names": ["hidden"]}
    properties = f"tenant=victim\neventbridge-output={json.dumps([rule])}\neventbridge-feedback={BUS}sparrow\n"
    return world.command(
        "import_tenant_properties", str(a_folder(folder, "stranger", properties=properties, hidden={}))
    )


def _backtest(world: World, folder: Path) -> str:
    """Rules for what is the victim's."""
    file = folder / "rules.json"
    rule = {"eventbridge_arn": f"{BUS}sparrow", "schema_names": ["hidden", "petstore"]}
    file.write_text(json.dumps({"rules": [rule], "schemas": {}}))
    return world.command("backtest_rules", "stranger", "--rules", str(file))


def _with_attacks(world: World, *arguments: str) -> str:
    """The command, while what a stranger put there waits in both queues."""
    body = json.dumps(envelope(Ask("PUT", PET, "victim", "petstore", world.strangers_key)))
    for url in (aws.input_queue_url(), aws.input_dead_letter_queue_url()):
        aws.sqs_client().send_message(QueueUrl=url, MessageBody=body)
    return world.command(*arguments)


def _put_events(world: World, folder: Path) -> str:
    detail = envelope(Ask("PUT", PET, "victim", "petstore", world.strangers_key))["detail"]
    file = folder / "events.json"
    file.write_text(json.dumps([{"Source": "blockforger-input", "DetailType": "petstore.PUT", "Detail": detail}]))
    return world.command("put_events", "--entries", f"file://{file}") + world.command("consume_events", "--once")


def _tail(world: World) -> str:
    detail = {"tenant": "victim", "rootSchema": "petstore", "operation": "PUT", "payload": {"id": MARK}}
    entry = {"Source": "blockforger-output", "DetailType": "petstore.PUT", "Detail": json.dumps(detail)}
    aws.events_client("us-east-1").put_events(Entries=[entry])  # type: ignore[list-item]
    return world.command("tail_events", "--tenant", "stranger")


COMMANDS = [
    _command("export_tenant_properties", "the other tenant's name", "stranger"),
    _command("export_event_schemas", "the other tenant's name", "stranger"),
    _command("explain_rules", "a schema's name", "stranger", "hidden", "POST"),
    _command("explain_rules", "the other's rules", "stranger", "petstore", "POST"),
    _command("test_rule", "a rule's id", "stranger", lambda world: world.of_victim(OutputRule).pk),
    _command("create_api_key", "a key's name", "stranger", "--name", "mine"),
    _command("rotate_api_key", "its own key", lambda world: world.strangers_key[3:15]),
    _command("rotate_api_key", "what begins like a key", lambda world: world.victims_key[3:10]),
    _command("rotate_api_key", "the id of a key", lambda world: world.of_victim(ApiKey).pk),
    Attempt(
        "command add_tokens",
        "a reference",
        lambda world: world.command("add_tokens", "stranger", "10", "--reference", "opening"),
    ),
    _replay("everything", "--all"),
    _replay("id", "--id", lambda world: world.of_victim(OutboxEvent).pk),
    _replay("item", "--item", f"petstore/{GUESSED}"),
    _replay("rule", "--rule", lambda world: world.of_victim(OutputRule).pk),
    _replay("bus", "--bus", f"{BUS}other"),
    _replay("status", "--status", "delivered"),
    _replay("time", "--since", "2020-01-01T00:00:00Z"),
    _command(
        "replay_events",
        "the number of another's replay and a tenant",
        *("--resume", lambda world: world.of_victim(Replay).pk, "--tenant", "stranger", "--yes"),
    ),
    _command("audit_ledger", "a run"),
    _command("prune", "a run"),
    _command("sizes", "a run"),
    _command("publish_events", "a run", "--once"),
    _command("sync_item_indexes", "a run"),
]
# These need an AWS, or a folder.
COMMANDS_WITH_AWS: list[tuple[str, str, Callable[[World, Path], str]]] = [
    ("command import_tenant_properties", "a schema's name and a property", _import),
    (
        "command consume_events",
        "events in the queue",
        lambda world, _: _with_attacks(world, "consume_events", "--once"),
    ),
    ("command redrive_input", "events in the queue", lambda world, _: _with_attacks(world, "redrive_input")),
    ("command backtest_rules", "names of schemas", _backtest),
    ("command put_events", "another tenant's name", _put_events),
    ("command tail_events", "the other tenant's name", lambda world, _: _tail(world)),
    ("command deploy_stack", "a run", lambda world, _: world.command("deploy_stack", "--environment", "local")),
]
