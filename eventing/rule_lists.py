"""Lists of rules, a tenant's own and its schemas': read, compared with what is stored, and put in its place."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from blockforger.backend import deadlocks, json_values
from blockforger.backend.errors import DocumentInvalid
from eventing import rule_checks, rule_documents, rule_history, rule_warnings, rules
from eventing.models import AllowedBus, EventBus, FeedbackBus, OutputRule
from eventing.rules import Rule
from tenants.models import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from django.db.models import QuerySet

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema
    from blockforger.backend.preconditions import Preconditions
    from eventing.rule_documents import RuleDocument
    from eventing.rule_warnings import Owned, Warned

RULES, SCHEMAS = "rules", "schemas"


class OrderOutdated(Exception):
    """The list is not any more what whoever wants another order has seen."""


class Kept(NamedTuple):
    """A stored rule that stays; its places in the lists, not its positions."""

    place: int
    place_before: int
    row: OutputRule


@dataclass(frozen=True, slots=True)
class RulesPlan:
    """How a list of rules becomes another one. A rule that says the same stays the row that it is, wherever it goes."""

    kept: list[Kept]
    removed: list[tuple[int, OutputRule]]
    added: list[tuple[int, RuleDocument]]

    @classmethod
    def of(cls, stored: Sequence[OutputRule], wanted: Sequence[RuleDocument]) -> RulesPlan:
        """Both in order. A place is one in the list, whatever positions the stored rules have."""
        texts_before = [_text(rule_documents.of_row(row)) for row in stored]
        texts = [_text(document) for document in wanted]
        same = {place for place, pair in enumerate(zip(texts_before, texts, strict=False)) if pair[0] == pair[1]}
        free: dict[str, deque[int]] = defaultdict(deque)
        for place, text in enumerate(texts_before):
            if place not in same:
                free[text].append(place)
        before = {}
        for place, text in enumerate(texts):
            if place in same:
                before[place] = place
            elif free[text]:
                before[place] = free[text].popleft()
        staying = set(before.values())
        return cls(
            kept=[Kept(place, place_before, stored[place_before]) for place, place_before in before.items()],
            removed=[(place, row) for place, row in enumerate(stored) if place not in staying],
            added=[(place, document) for place, document in enumerate(wanted) if place not in before],
        )

    @classmethod
    def of_order(cls, stored: Sequence[OutputRule], wanted: Sequence[int]) -> RulesPlan:
        """The same rules in another order, which is given by their ids."""
        places = {pk: place for place, pk in enumerate(wanted)}
        kept = [Kept(places[row.pk], place_before, row) for place_before, row in enumerate(stored)]
        return cls(kept=kept, removed=[], added=[])

    @property
    def moved(self) -> list[Kept]:
        return [rule for rule in self.kept if rule.place != rule.place_before]

    @property
    def orders(self) -> tuple[list[int], list[int]]:
        """The ids of the rules that stay, as they are in order and as they will be."""
        before = sorted(self.kept, key=lambda rule: rule.place_before)
        after = sorted(self.kept, key=lambda rule: rule.place)
        return [rule.row.pk for rule in before], [rule.row.pk for rule in after]

    @property
    def is_empty(self) -> bool:
        return not self.removed and not self.added and not self.moved

    def lines(self, owner: str = "") -> Iterator[str]:
        for place, row in self.removed:
            yield f"- {owner}rule {place + 1}: {rule_documents.described(rule_documents.of_row(row))}"
        for place, place_before, row in self.moved:
            text = rule_documents.described(rule_documents.of_row(row))
            yield f"~ {owner}rule {place_before + 1} becomes rule {place + 1}: {text}"
        for place, document in self.added:
            yield f"+ {owner}rule {place + 1}: {rule_documents.described(document)}"


def apply(plan: RulesPlan, tenant: Tenant, *, schema: Schema | None, who: str) -> None:
    """Carry the plan out, in the caller's transaction. `rules.changed` is left to the caller.

    `who` is told in the history.
    """
    if plan.is_empty:
        return
    removed = [row for _, row in plan.removed]
    for row in removed:
        row.schema = schema  # which it is of, and need not be read
    rule_history.removed(removed, who=who)
    before, after = plan.orders
    if before != after:
        rule_history.moved(tenant, schema, before, after, who=who)
    OutputRule.objects.filter(pk__in=[row.pk for row in removed]).delete()
    moved = [rule for rule in plan.kept if rule.row.position != rule.place]
    for rule in moved:
        rule.row.position = rule.place
    OutputRule.objects.bulk_update([rule.row for rule in moved], ["position"])
    made = OutputRule.objects.bulk_create(
        OutputRule(tenant=tenant, schema=schema, position=place, **document) for place, document in plan.added
    )
    rule_history.added(made, who=who)


def document_of(tenant: Tenant) -> JsonObject:
    """All rules of a tenant, with their ids: `{"rules": […], "schemas": {name: […]}}`, each list in its order."""
    own: list[JsonValue] = []
    of_schemas: dict[str, JsonValue] = {}
    for row in _rows(tenant).select_related("schema").defer("schema__document", "schema__meta"):
        rule = {"id": row.pk, **rule_documents.written(rule_documents.of_row(row))}
        owner = cast("list[JsonValue]", of_schemas.setdefault(row.schema.name, [])) if row.schema else own
        owner.append(rule)
    return {RULES: own, SCHEMAS: of_schemas}


def warnings_of(tenant: Tenant) -> list[Warned]:
    """What the rules of a tenant may not mean, as they are stored."""
    schemas = {schema.pk: schema for schema in tenant.schemas.order_by("name")}
    lists: dict[str | None, list[RuleDocument]] = {}
    # Of a schema that is made or deleted just now, the rules are left out.
    for row in _rows(tenant).filter(Q(schema=None) | Q(schema__in=schemas)):
        owner = schemas[row.schema_id].name if row.schema_id is not None else None
        lists.setdefault(owner, []).append(rule_documents.of_row(row))
    rules_of_all = rule_warnings.owned(lists)
    paths = {
        schema.name: rule_warnings.paths_of(schema.parsed_document(), schema.key_field) for schema in schemas.values()
    }
    return [
        *rule_warnings.of_rules(rules_of_all, paths),
        *rule_warnings.of_pairs(rules_of_all, paths),
        *rule_warnings.of_buses(rules_of_all, buses_of(rules_of_all, tenant.name)),
    ]


def buses_of(listed: Sequence[Owned], tenant_name: str) -> dict[str, EventBus]:
    """What is known of the buses that rules name, by ARN.

    Of a bus to which nothing stored of the tenant sends, nothing is told: what is known of it comes from others.
    """
    arns = {rule.document["eventbridge_arn"] for rule in listed}
    of_tenant = {"tenant__name": tenant_name, "eventbridge_arn": OuterRef("arn")}
    is_named = Exists(OutputRule.objects.filter(**of_tenant)) | Exists(FeedbackBus.objects.filter(**of_tenant))
    return {bus.arn: bus for bus in EventBus.objects.filter(is_named, arn__in=arns)}


def etag_of(tenant: Tenant) -> str:
    """A strong entity tag of the rules: the number that grows with each change of what is cached of the tenant."""
    return f'"{tenant.configuration_version}"'


def replace(tenant: Tenant, value: JsonValue, preconditions: Preconditions, *, who: str) -> Tenant:
    """Put the rules of a document in the place of all that there are. Gives the tenant as it is then.

    A rule that says what a stored one says stays that one. Raises DocumentInvalid and PreconditionFailed.
    """
    # Done again when a schema that is named was deleted meanwhile.
    return deadlocks.retried(partial(_replace, tenant, value, preconditions, who))


def reorder(tenant: Tenant, *, schema: Schema | None, seen: Sequence[int], wanted: Sequence[int], who: str) -> None:
    """Put a list of rules, of which somebody has seen these ids, into the order of those. Raises OrderOutdated."""
    with transaction.atomic():
        locked = lock(tenant.pk)
        stored = list(OutputRule.objects.filter(tenant=locked, schema=schema).order_by("position", "id"))
        if [row.pk for row in stored] != list(seen) or sorted(wanted) != sorted(seen):
            raise OrderOutdated
        plan = RulesPlan.of_order(stored, wanted)
        apply(plan, locked, schema=schema, who=who)
        if not plan.is_empty:
            rules.changed(locked.pk)


def lock(tenant_id: int) -> Tenant:
    """The tenant, for whoever changes its rules: in the caller's transaction, one after the other.

    Writes of its items, which refer to it, do not wait.
    """
    return Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)


def read(tenant: Tenant, value: JsonValue) -> list[Rule]:
    """The rules of a document that are to be tried, as they would be if they were stored. Raises DocumentInvalid."""
    schemas = {schema.name: schema for schema in tenant.schemas.defer("document", "meta").order_by("pk")}
    wanted = _read(tenant, value, schemas)
    return [
        Rule.of(OutputRule(pk=0, tenant=tenant, schema=schema, **document))
        for schema in (None, *schemas.values())
        for document in wanted.get(schema, ())
    ]


def _replace(tenant: Tenant, value: JsonValue, preconditions: Preconditions, who: str) -> Tenant:
    with transaction.atomic(durable=True):
        locked = lock(tenant.pk)
        preconditions.check(etag_of(locked))
        schemas = {schema.name: schema for schema in locked.schemas.defer("document", "meta")}
        stored: dict[int | None, list[OutputRule]] = defaultdict(list)
        for row in _rows(locked):
            stored[row.schema_id].append(row)
        wanted = _read(locked, value, schemas, before=sum(map(len, stored.values())))
        plans: dict[Schema | None, RulesPlan] = {}
        for schema in (None, *schemas.values()):
            plans[schema] = RulesPlan.of(stored[schema.pk if schema else None], wanted.get(schema, []))
        for schema, plan in plans.items():
            apply(plan, locked, schema=schema, who=who)
        if not all(plan.is_empty for plan in plans.values()):
            rules.changed(locked.pk)
            locked.refresh_from_db(fields=["configuration_version"])
    return locked


def _read(
    tenant: Tenant, value: JsonValue, schemas: Mapping[str, Schema], *, before: int = 0
) -> dict[Schema | None, list[RuleDocument]]:
    """The rules that a document lists, by the schema whose they are. Raises DocumentInvalid, with all problems.

    `before` is how many there are, which may be more than the tenant may add to.
    """
    if problem := rule_checks.problem_of_number(_count(value), before=before):
        raise DocumentInvalid([("", problem)])
    of_schemas = value.get(SCHEMAS) if isinstance(value, dict) else None
    if not isinstance(value, dict) or value.keys() != {RULES, SCHEMAS} or not isinstance(of_schemas, dict):
        form = f'{{"{RULES}": […], "{SCHEMAS}": {{"petstore": […]}}}}'
        raise DocumentInvalid([("", f"Write {form}: the tenant's rules, and those of each schema that has any.")])
    patterns = list(AllowedBus.objects.filter(tenant=tenant).values_list("arn_pattern", flat=True))
    wanted: dict[Schema | None, list[RuleDocument]] = {}
    problems: list[tuple[str, str]] = []
    wanted[None], found = rule_documents.read(_without_ids(value[RULES]), tenant_patterns=patterns)
    problems += [(f"/{RULES}{pointer}", message) for pointer, message in found]
    for name, listed in of_schemas.items():
        place = f"/{SCHEMAS}/{json_values.escaped(name)}"
        if name not in schemas:
            problems.append((place, f"The tenant has no schema '{name[:100]}'. Make it first, or leave it out."))
            continue
        wanted[schemas[name]], found = rule_documents.read(
            _without_ids(listed), own_schema=name, tenant_patterns=patterns
        )
        problems += [(place + pointer, message) for pointer, message in found]
    if problems:
        raise DocumentInvalid(problems)
    return wanted


def _count(value: JsonValue) -> int:
    """How many rules a document lists, as far as it is one."""
    of_schemas = value.get(SCHEMAS) if isinstance(value, dict) else None
    lists = [value.get(RULES), *of_schemas.values()] if isinstance(value, dict) and isinstance(of_schemas, dict) else []
    return sum(len(listed) for listed in lists if isinstance(listed, list))


def _without_ids(listed: JsonValue) -> JsonValue:
    """What was read can be sent again: the ids in it are told, not taken."""
    if not isinstance(listed, list):
        return listed
    return [
        {name: value for name, value in rule.items() if name != "id"} if isinstance(rule, dict) else rule
        for rule in listed
    ]


def _rows(tenant: Tenant) -> QuerySet[OutputRule]:
    return OutputRule.objects.filter(tenant=tenant).order_by("schema__name", "position", "id")


def _text(document: RuleDocument) -> str:
    return json_values.compact(cast("JsonObject", document))
