"""JSON Schema 2020-12 as tenants write it: what is wrong with a document, and whether a payload fits it.

jsonschema-rs validates, and holds the interpreter's lock while it does: hence the limits. Nothing is ever fetched.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from jsonschema_rs import Draft202012Validator, ReferencingError, RegexOptions, ValidationError

from blockforger.backend import json_values
from blockforger.backend.errors import SchemaUnknown
from blockforger.backend.item_paths import Paths
from blockforger.backend.schema_bounds import Plan
from blockforger.backend.schema_parts import (
    MAX_PATTERN_KIB,
    References,
    TooCostly,
    compiled_kib,
    parts,
    subschemas,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from blockforger.backend.json_values import JsonObject, JsonValue
    from blockforger.backend.models import Schema
    from blockforger.backend.schema_parts import Subschema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_BYTES = 256 * 1024
MAX_PATTERN_LENGTH = 4_096
MAX_PATTERNS = 200
MAX_PATTERNS_KIB = 8 * 1024
"""All patterns of a document, compiled."""

MAX_WORK = 20_000_000
"""Steps for one payload, all passes together: under 2 seconds for the worst known, milliseconds for what is usual."""
MAX_LISTING = 30_000_000
"""Bytes that all errors may take together, before any is dropped: the engine lists all or the first."""
MAX_NESTING = 250
"""Evaluations nested while errors are listed: each takes up to 2 KiB of the thread's stack."""
MAX_VIOLATIONS = 50
MAX_PROBLEMS = 50
MAX_MESSAGE = 300

KEY_TYPES = frozenset({"string", "integer"})

_COMPILED_SCHEMAS = 128
_REMEDIES = {"type": "Write one of array, boolean, integer, null, number, object and string, or a list of them."}
_METASCHEMA = Draft202012Validator({"$ref": DIALECT}, offline=True)
# A cache of 256 KiB is enough for all patterns that are not built to exhaust it.
_PATTERNS = RegexOptions(size_limit=MAX_PATTERN_KIB * 1024, dfa_size_limit=256 * 1024)


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """What is wrong with a schema document, and where (RFC 6901)."""

    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class Violation:
    """Where and how a payload does not fit its schema; the place around it if the pointer would be too long."""

    pointer: str
    message: str


def problems(document: JsonValue, key_field: str = "id") -> list[SchemaProblem]:
    """Everything that is wrong with a schema document; what would hide behind a problem comes after its remedy."""
    if not isinstance(document, dict):
        return [SchemaProblem("", "Write a JSON Schema that is an object.")]
    try:
        json_values.check_portable(document)
        _check_size(document)
        schemas = subschemas(document)
    except (json_values.NotPortable, TooCostly) as error:
        return [SchemaProblem(error.pointer, error.message)]
    found = [SchemaProblem(*misuse) for pointer, schema in schemas.items() for misuse in _misuses(pointer, schema)]
    if not found:
        found = [*_reference_problems(schemas), *_pattern_problems(schemas), *_key_problems(document, key_field)]
    return found[:MAX_PROBLEMS] or list(_compilation_problems(document, key_field))


def _check_size(document: JsonObject) -> None:
    if (size := len(json_values.compact(document).encode())) > MAX_BYTES:
        message = f"The schema has {size:,} bytes as compact JSON; {MAX_BYTES:,} are allowed. Divide or shorten it."
        raise TooCostly("", message)


def _misuses(pointer: str, schema: Subschema) -> Iterator[tuple[str, str]]:
    """Pointers and messages for the keywords of one subschema, without its own subschemas."""
    for keyword, value in schema.items() if isinstance(schema, dict) else ():
        if keyword == "$schema":
            if value not in (DIALECT, f"{DIALECT}#"):
                yield (
                    f"{pointer}/$schema",
                    f"Only JSON Schema 2020-12 is supported. Write {DIALECT}, or leave $schema out.",
                )
        elif keyword == "$id" and pointer:
            yield f"{pointer}/$id", "Leave $id out below the root: all references are within this one document."
        else:
            yield from ((pointer + place, message) for place, message in _invalid(keyword, _shallow(keyword, value)))


def _shallow(keyword: str, value: JsonValue) -> JsonValue:
    """The value of a keyword with `true` for each subschema: those are looked at one by one."""
    found = [part.name for part in parts({keyword: value})]
    if isinstance(value, dict) and found != [None]:
        return {**value, **{str(name): True for name in found}}
    if isinstance(value, list):
        return [True if index in found else item for index, item in enumerate(value)] if found else value
    return True if found else value


def _invalid(keyword: str, value: JsonValue) -> Iterator[tuple[str, str]]:
    alone: JsonObject = {keyword: value}
    if _METASCHEMA.is_valid(alone):
        return
    pointer, message = f"/{json_values.escaped(keyword)}", "The value is not what the keyword takes."
    # An error lists all that is wrong with each alternative: too much, where there is much.
    if keyword != "type" and len(json_values.compact(value)) <= 2 * MAX_MESSAGE:
        try:
            _METASCHEMA.validate(alone)
        except ValidationError as error:
            pointer, message = _pointer(_place(error.instance_path, alone)), f"{_shortened(error.message)}."
    yield pointer, f"{message} {_REMEDIES.get(keyword, f'Compare {DIALECT}.')}"


def _reference_problems(schemas: Mapping[str, Subschema]) -> Iterator[SchemaProblem]:
    references = References(schemas)
    names = set[str]()
    for pointer, schema in schemas.items():
        if isinstance(schema, bool):
            continue
        for keyword in ("$ref", "$dynamicRef"):
            reference = schema.get(keyword)
            if reference is not None and references.target(reference) is None:
                yield SchemaProblem(f"{pointer}/{keyword}", _why_unresolvable(str(reference)))
        for keyword in ("$anchor", "$dynamicAnchor"):
            name = schema.get(keyword)
            if isinstance(name, str):
                if name in names:
                    yield SchemaProblem(f"{pointer}/{keyword}", "Another subschema has this name. Choose a new one.")
                names.add(name)


def _why_unresolvable(reference: str) -> str:
    if reference.startswith("#"):
        return (
            f"'{_shortened(reference)}' does not name a subschema of this document. Write the pointer of one, such as"
            " '#/$defs/name', or its $anchor."
        )
    return (
        f"'{_shortened(reference)}' is outside of this document, and nothing is fetched. Copy that schema into $defs"
        " and refer to it by '#/$defs/name'."
    )


def _pattern_problems(schemas: Mapping[str, Subschema]) -> Iterator[SchemaProblem]:
    found = list(_patterns(schemas))
    if (count := len({pattern for _, pattern in found})) > MAX_PATTERNS:
        yield SchemaProblem("", f"The schema has {count:,} different patterns; {MAX_PATTERNS} are allowed. Divide it.")
        return
    sizes = {}
    for pointer, pattern in found:
        if len(pattern) > MAX_PATTERN_LENGTH:
            message = f"The pattern has {len(pattern):,} characters; {MAX_PATTERN_LENGTH:,} are allowed. Shorten it."
            yield SchemaProblem(pointer, message)
        elif (kib := compiled_kib(pattern)) is None:
            yield SchemaProblem(
                pointer,
                "The pattern is no regular expression that runs in linear time: those have no look-around and no"
                f" back-references, and at most {MAX_PATTERN_KIB:,} KiB with all repetitions written out. Simplify it;"
                " for lengths, use minLength and maxLength.",
            )
        else:
            sizes[pattern] = kib
    if (total := sum(sizes.values())) > MAX_PATTERNS_KIB:
        message = f"The patterns of the schema take {total:,} KiB when compiled; {MAX_PATTERNS_KIB:,} are allowed."
        yield SchemaProblem("", f"{message} Shorten the repetitions; for lengths, use minLength and maxLength.")


def _patterns(schemas: Mapping[str, Subschema]) -> Iterator[tuple[str, str]]:
    for pointer, schema in schemas.items():
        if isinstance(schema, dict):
            if isinstance(pattern := schema.get("pattern"), str):
                yield f"{pointer}/pattern", pattern
            for part in parts({"patternProperties": schema.get("patternProperties")}):
                yield pointer + part.pointer, str(part.name)


def _key_problems(document: JsonObject, key_field: str) -> Iterator[SchemaProblem]:
    if not key_types(document, key_field):
        yield SchemaProblem(
            f"/properties/{json_values.escaped(key_field)}",
            f"'{key_field}' holds the key of an item: the key must be a string or an integer.",
        )


def _compilation_problems(document: JsonObject, key_field: str) -> Iterator[SchemaProblem]:
    try:
        Compiled(document, key_field)
    except TooCostly as error:
        yield SchemaProblem(error.pointer, error.message)
    except (ValidationError, ReferencingError) as error:
        yield SchemaProblem("", f"The schema cannot be compiled: {_shortened(error.message)}.")


def key_types(document: JsonObject, key_field: str) -> frozenset[str]:
    """Which kinds of key the schema takes: 'string', 'integer', both (also where it does not say), or none."""
    schemas = subschemas(document)
    pointer: str | None = f"/properties/{json_values.escaped(key_field)}"
    references = References(schemas)
    types, seen = KEY_TYPES, set[str | None]()
    while pointer in schemas and pointer not in seen:
        seen.add(pointer)
        schema = schemas[pointer]
        if isinstance(schema, bool):
            return types if schema else frozenset()
        types &= _declared_types(schema)
        pointer = references.target(schema.get("$ref"))
    return types


def _declared_types(schema: JsonObject) -> frozenset[str]:
    types = KEY_TYPES
    match schema.get("type"):
        case str(name):
            types &= {name}
        case [*names]:
            types &= {name for name in names if isinstance(name, str)}
    if "const" in schema:
        types &= {_type_of(schema["const"])}
    if isinstance(options := schema.get("enum"), list):
        types &= set(map(_type_of, options))
    return types


def _type_of(value: JsonValue) -> str:
    if isinstance(value, str):
        return "string"
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    return "integer" if is_whole else ""


class Compiled:
    """A schema ready to check payloads. It is for any number of threads.

    Raises TooCostly or jsonschema_rs.ValidationError for a document that has problems.
    """

    def __init__(self, document: JsonObject, key_field: str) -> None:
        self.key_types = key_types(document, key_field)
        self.paths = Paths(document, key_field, self.key_types)
        self._key_field = key_field
        declared: Any = document.get("properties", {}), document.get("required", [])
        self._declares_key = any(key_field in names for names in declared)
        self._plan = Plan(document)
        self._plan.check()
        self._validator = _validator(document)

    def violations(self, payload: JsonObject, *, size: int | None = None) -> list[Violation]:
        """How the payload does not fit the schema, by place; at most MAX_VIOLATIONS, and none if it fits.

        `size` is how many bytes the payload has as JSON text, if that is known: a small one is not measured first.
        A schema that does not speak of the key need not allow it: then the payload may fit with the key or without.
        For a payload that is large for its schema, only the first violation is given, or only that there is one.
        """
        candidates = [payload]
        if self._key_field in payload and not self._declares_key:
            candidates.insert(0, {name: value for name, value in payload.items() if name != self._key_field})
        # Each candidate needs a pass, and the list of violations needs one more.
        passes = len(candidates) + 1
        is_small = size is not None and self._plan.most_steps(size) * passes <= MAX_WORK
        if not is_small and (steps := self._plan.measure(payload).steps * passes) > MAX_WORK:
            message = f"Checking this would take {steps / MAX_WORK:.1f} times the work that is allowed."
            return [Violation("", f"{message} Send smaller items, or simplify the schema.")]
        if any(map(self._validator.is_valid, candidates)):
            return []
        work = self._plan.measure(payload)
        return self._listed(candidates[0], can_list_all=work.listing <= MAX_LISTING and work.nesting <= MAX_NESTING)

    def _listed(self, payload: JsonObject, *, can_list_all: bool) -> list[Violation]:
        if can_list_all:
            errors = {
                (_order(error.instance_path), error.message): error for error in self._validator.iter_errors(payload)
            }
            return [_violation(errors[key], payload) for key in sorted(errors)[:MAX_VIOLATIONS]]
        # An error of anyOf or oneOf holds all errors of all branches, so that even one can be too much.
        if not self._plan.has_branches:
            try:
                self._validator.validate(payload)
            except ValidationError as error:
                return [_violation(error, payload)]
        message = "The payload does not fit the schema, and is too large to say where. Send a smaller one."
        return [Violation("", message)]


_compiled: OrderedDict[Hashable, Compiled] = OrderedDict()
_lock = Lock()


def compiled(schema: Schema) -> Compiled:
    """The schema ready to use. It is kept per version; a schema whose document is deferred is not loaded for it.

    Raises SchemaUnknown for one that was deleted meanwhile.
    """
    if not schema.pk:
        return Compiled(schema.parsed_document(), schema.key_field)
    # A transaction that is rolled back can leave its number and version to another document: hence the time.
    key = schema.pk, schema.version, schema.updated_at, schema.key_field
    with _lock:
        if found := _compiled.get(key):
            _compiled.move_to_end(key)
            return found
    found = Compiled(_document(schema), schema.key_field)
    with _lock:
        _compiled[key] = found
        while len(_compiled) > _COMPILED_SCHEMAS:
            _compiled.popitem(last=False)
    return found


def _document(schema: Schema) -> JsonObject:
    """The schema's document. One that is deferred stays so: whoever keeps the schema is not to keep its text, too."""
    if "document" not in schema.get_deferred_fields():
        return schema.parsed_document()
    text = type(schema).objects.filter(pk=schema.pk).values_list("document", flat=True).first()
    if text is None:
        raise SchemaUnknown(schema.name)
    return cast("JsonObject", json.loads(text))


def _validator(document: JsonObject) -> Draft202012Validator:
    # Without $id, all that begins with '#' is within the document, whatever else the engine knows by that name.
    schema = {keyword: value for keyword, value in document.items() if keyword not in {"$id", "$schema"}}
    return Draft202012Validator(schema, offline=True, validate_formats=True, pattern_options=_PATTERNS)


def _violation(error: ValidationError, payload: JsonObject) -> Violation:
    return Violation(_pointer(_place(error.instance_path, payload)), _shortened(error.message))


def _order(path: Sequence[str | int]) -> tuple[tuple[int, str], ...]:
    """A key that puts items in their order, and can also compare names with what the engine takes for indexes."""
    return tuple((token, "") if isinstance(token, int) else (-1, token) for token in path)


def _place(path: Sequence[str | int], value: JsonValue) -> list[str | int]:
    """The names and indexes that lead to an error. The engine gives '01' and '+1' as 1, and leaves empty names out."""
    place: list[str | int] = []
    for token in path:
        name = _name(token, value)
        while name is None and isinstance(value, dict) and "" in value:
            place.append("")
            value = value[""]
            name = _name(token, value)
        if name is None:
            break
        place.append(name)
        value = cast("Any", value)[name]
    return place


def _name(token: str | int, value: JsonValue) -> str | int | None:
    if isinstance(value, list):
        return token if isinstance(token, int) and token < len(value) else None
    text = str(token)
    names = value if isinstance(value, dict) else ()
    return text if text in names else next((name for name in names if _as_index(name) == text), None)


def _as_index(name: str) -> str:
    digits = name.removeprefix("+")
    return digits.lstrip("0") or digits[:1]


def _pointer(place: Sequence[str | int]) -> str:
    """The place as a pointer, or the nearest one around it whose pointer is short enough."""
    pointer = ""
    for name in place:
        longer = f"{pointer}/{json_values.escaped(str(name))}"
        if len(longer) > json_values.MAX_POINTER:
            break
        pointer = longer
    return pointer


def _shortened(message: str) -> str:
    """The message without its middle if it is long: it begins with the value and ends with the reason."""
    if len(message) <= MAX_MESSAGE:
        return message
    half = (MAX_MESSAGE - 3) // 2
    return f"{message[:half]} … {message[-half:]}"
