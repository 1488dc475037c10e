"""A tenant's files: `{tenant}/tenant.properties`, and beside it one `{schema}.json` for each schema."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from blockforger.backend import json_texts, json_values, schema_documents
from blockforger.backend.json_texts import JsonError
from blockforger.backend.json_values import NotPortable
from blockforger.backend.models import is_schema_name
from blockforger.backend.schema_documents import META
from eventing import properties, rule_checks, rule_documents
from eventing.file_problems import Lines, Problem
from tenants.models import TENANT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from blockforger.backend.json_texts import Place
    from blockforger.backend.json_values import JsonObject
    from eventing.file_problems import Position
    from eventing.properties import Property
    from eventing.rule_documents import RuleDocument

PROPERTIES = "tenant.properties"
INPUT = "eventbridge-input"
OUTPUT = schema_documents.RULES
FEEDBACK = "eventbridge-feedback"
SCHEMA_SUFFIX = ".json"


class File(Protocol):
    """A file, on a disk or not. As a text, it is what problems call it."""

    @property
    def name(self) -> str: ...

    def read_bytes(self) -> bytes: ...


AnyFile = TypeVar("AnyFile", bound=File, covariant=True)


@dataclass(frozen=True)
class Folder(Generic[AnyFile]):
    """The files of a tenant that are to be read."""

    tenant: str
    properties: AnyFile
    schemas: tuple[AnyFile, ...]


@dataclass(frozen=True, slots=True)
class SchemaDocument:
    """What a schema's file says."""

    name: str
    # The text without `meta`, and `meta` without the rules.
    document: str
    meta: JsonObject
    rules: list[RuleDocument]


@dataclass(slots=True)
class TenantDocument:
    """What a tenant's files say, and what is wrong with them. What tenant.properties leaves out is off, or none."""

    name: str
    accepts_events: bool = False
    rules: list[RuleDocument] = field(default_factory=list)
    # The ARN of the bus that takes feedback, if any does.
    feedback_bus: str | None = None
    extra_properties: dict[str, str] = field(default_factory=dict)
    schemas: list[SchemaDocument] = field(default_factory=list)
    # With any of these, the rest is what could be read, and not to be used.
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def find(paths: Iterable[Path]) -> tuple[list[Folder[Path]], list[Problem]]:
    """The tenants' files that the paths stand for, one entry for each tenant, by name.

    A path is a tenant.properties (which brings no schemas), a tenant's folder, or a folder of tenants' folders.
    Files and folders whose names begin with a dot are passed over.
    """
    found: dict[str, Folder[Path]] = {}
    problems = []
    for entry in (entry for path in paths for entry in _folders(path)):
        if isinstance(entry, Problem):
            problems.append(entry)
            continue
        earlier = found.setdefault(entry.tenant, entry)
        if not earlier.properties.samefile(entry.properties):
            message = f"The tenant '{entry.tenant}' is read from {earlier.properties} already. Leave one of them out."
            problems.append(Problem(str(entry.properties), message))
        elif entry.schemas:
            found[entry.tenant] = entry
    return [folder for _, folder in sorted(found.items())], problems


def read(folder: Folder[File], *, tenant_patterns: Sequence[str] = ()) -> TenantDocument:
    """What a tenant's files say. `tenant_patterns` fit the buses that the tenant may name; none: all."""
    tenant = TenantDocument(folder.tenant)
    _read_properties(tenant, folder.properties, tenant_patterns)
    for path in folder.schemas:
        _read_schema(tenant, path, tenant_patterns)
    return tenant


def _folders(path: Path) -> list[Folder[Path] | Problem]:
    if path.name == PROPERTIES and path.is_file():
        return [_folder(path.parent, with_schemas=False)]
    if not path.is_dir():
        return [Problem(str(path), f"This is neither a folder nor a {PROPERTIES}. Name one that exists.")]
    if (path / PROPERTIES).is_file():
        return [_folder(path, with_schemas=True)]
    children = [child for child in sorted(path.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    if not children:
        return [Problem(str(path), f"Neither the folder nor a folder in it has a {PROPERTIES}. Add one.")]
    return [_folder(child, with_schemas=True) for child in children]


def _folder(path: Path, *, with_schemas: bool) -> Folder[Path] | Problem:
    if not (path / PROPERTIES).is_file():
        return Problem(str(path), f"The folder has no {PROPERTIES}. Add one; it may be empty.")
    name = path.resolve().name
    if not re.fullmatch(TENANT_NAME, name):
        message = (
            f"'{name}' cannot be the name of a tenant. Name the folder with 1 to 64 letters, digits, '_' or '-', "
            "beginning with a letter or digit."
        )
        return Problem(str(path), message)
    schemas = sorted(path.glob(f"[!.]*{SCHEMA_SUFFIX}")) if with_schemas else []
    return Folder(name, path / PROPERTIES, tuple(schemas))


@dataclass
class _Json:
    """A JSON text in a file, and how its offsets become positions there."""

    file: str
    text: str
    position: Callable[[int], Position]

    @cached_property
    def places(self) -> dict[str, Place]:
        return json_texts.places(self.text)

    def problem(self, message: str, pointer: str) -> Problem:
        return self.problem_at(message, json_texts.place_of(pointer, self.places))

    def problem_at(self, message: str, place: Place) -> Problem:
        return Problem(self.file, message, self.position(place.offset), place.path)


def _read_properties(tenant: TenantDocument, path: File, tenant_patterns: Sequence[str]) -> None:
    file = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        tenant.problems.append(Problem(file, f"The file cannot be read: {error.strerror}."))
        return
    found, problems = properties.read(properties.decode(data), file=file)
    if INPUT in found:
        tenant.accepts_events = _flag(found.pop(INPUT), file, problems)
    if OUTPUT in found:
        tenant.rules = _rules_of_property(found.pop(OUTPUT), file, tenant_patterns, problems)
    if FEEDBACK in found:
        tenant.feedback_bus = _bus(found.pop(FEEDBACK), file, tenant_patterns, problems)
    for entry in found.values():
        try:
            json_values.check_portable([entry.key, entry.value])
        except NotPortable as error:
            problems.append(Problem(file, f"{entry.key!r} cannot be kept. {error.message}", entry.position))
        if _looks_like_ours(entry.key):
            message = f"Blockforger does not know the property '{entry.key}'. It is kept, and does nothing."
            tenant.warnings.append(Problem(file, message, entry.position))
    tenant.extra_properties = {entry.key: entry.value for entry in found.values()}
    tenant.problems += sorted(problems, key=lambda problem: problem.position or (0, 0))


def _flag(entry: Property, file: str, problems: list[Problem]) -> bool:
    text = entry.value.strip().lower()
    if text not in ("true", "false"):
        message = f"'{entry.value}' is neither true nor false. Write one of them."
        problems.append(Problem(file, message, entry.position_in_value(0)))
    return text == "true"


def _bus(entry: Property, file: str, tenant_patterns: Sequence[str], problems: list[Problem]) -> str:
    arn = entry.value.strip()
    position = entry.position_in_value(0)
    problems += [Problem(file, message, position) for message in rule_checks.problems_of_arn(arn, tenant_patterns)]
    return arn


def _rules_of_property(
    entry: Property, file: str, tenant_patterns: Sequence[str], problems: list[Problem]
) -> list[RuleDocument]:
    source = _Json(file, entry.value, entry.position_in_value)
    try:
        value = json_texts.parse(entry.value)
    except JsonError as error:
        problems.append(source.problem_at(error.message, error.place))
        return []
    rules, found = rule_documents.read(value, tenant_patterns=tenant_patterns)
    problems += [source.problem(message, pointer) for pointer, message in found]
    return rules


def _read_schema(tenant: TenantDocument, path: File, tenant_patterns: Sequence[str]) -> None:
    file = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        tenant.problems.append(Problem(file, f"The file cannot be read: {error.strerror}."))
        return
    except UnicodeDecodeError:
        tenant.problems.append(Problem(file, "The file is not UTF-8. Save it as UTF-8."))
        return
    source = _Json(file, text, Lines(text).position)
    try:
        value = json_texts.parse(text)
    except JsonError as error:
        tenant.problems.append(source.problem_at(error.message, error.place))
        return
    if not isinstance(value, dict):
        tenant.problems.append(source.problem("Write a JSON Schema that is an object.", ""))
        return
    schema, problems = _schema(path.name.removesuffix(SCHEMA_SUFFIX), text, value, tenant_patterns)
    tenant.schemas.append(schema)
    tenant.problems += [source.problem(message, pointer) for pointer, message in problems]
    for name in filter(_looks_like_ours, schema.meta):
        message = f"Blockforger does not know the member '{name}'. It is kept, and does nothing."
        tenant.warnings.append(source.problem(message, f"/{META}/{json_values.escaped(name)}"))


def _schema(
    name: str, text: str, value: JsonObject, tenant_patterns: Sequence[str]
) -> tuple[SchemaDocument, list[tuple[str, str]]]:
    """What a schema's file says, and what is wrong with it, as JSON Pointers with messages."""
    problems = []
    if not is_schema_name(name):
        remedy = "Name the file with 1 to 64 letters, digits, '_', '.' or '-' and one '.json'."
        problems.append(("", f"'{name}' cannot be the name of a schema. {remedy}"))
    document = {member: content for member, content in value.items() if member != META}
    meta = value.get(META, {})
    if not isinstance(meta, dict):
        problems.append((f"/{META}", 'Write an object, such as {"key": "id"}.'))
        meta = {}
    own_meta = {member: content for member, content in meta.items() if member != OUTPUT}
    rules, found = rule_documents.read(meta.get(OUTPUT, []), own_schema=name, tenant_patterns=tenant_patterns)
    problems += [(f"/{META}/{OUTPUT}{pointer}", message) for pointer, message in found]
    problems += [(fault.pointer, fault.message) for fault in schema_documents.problems(document, own_meta)]
    return SchemaDocument(name, schema_documents.without_meta(text), own_meta, rules), problems


def _looks_like_ours(name: str) -> bool:
    return name.lower().startswith("eventbridge")
