"""A schema's file: a JSON Schema with our own member `meta` in it. The rest of the text is left as it is."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from blockforger.backend import json_schemas, json_texts, schema_indexes
from blockforger.backend.json_schemas import SchemaProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockforger.backend.json_values import JsonObject

META = "meta"
RULES = "eventbridge-output"
"""The member of `meta` that holds output rules. They are kept apart from it, and by others."""
KEY_FIELD, DEFAULT_KEY_FIELD = "key", "id"
REQUIRE_IF_MATCH = "require_if_match"

_BETWEEN = re.compile(r"[\s,:]*")


def problems(document: JsonObject, meta: JsonObject) -> Iterator[SchemaProblem]:
    """What is wrong with a document without its `meta`, and with its meta without rules, by places in the whole."""
    key_field = meta.get(KEY_FIELD, DEFAULT_KEY_FIELD)
    if isinstance(key_field, str) and key_field:
        found = json_schemas.problems(document, key_field)
        yield from found
        if not found:
            for problem in schema_indexes.problems(document, meta, key_field):
                yield SchemaProblem(f"/{META}{problem.pointer}", problem.message)
    else:
        yield SchemaProblem(f"/{META}/{KEY_FIELD}", "Write the name of the member that holds an item's key.")
    if not isinstance(meta.get(REQUIRE_IF_MATCH, False), bool):
        yield SchemaProblem(f"/{META}/{REQUIRE_IF_MATCH}", "Write true or false.")


def without_meta(text: str) -> str:
    """The text of a JSON object without its member `meta`; all the rest as it was, spaces and line ends too."""
    previous_end = text.index("{") + 1
    members = [*_members(text, previous_end)]
    for index, (name, start, end) in enumerate(members):
        if name == META:
            is_last = index + 1 == len(members)
            return text[:previous_end] + text[end:] if is_last else text[:start] + text[members[index + 1][1] :]
        previous_end = end
    return text


def with_meta(text: str, meta: JsonObject) -> str:
    """The text of a JSON object with `meta` as its last member. The text must have no such member yet."""
    rest = text.rstrip().removesuffix("}").rstrip()
    comma = "" if rest.endswith("{") else ","
    member = json_texts.readable(meta).replace("\n", "\n  ")
    return f'{rest}{comma}\n  "{META}": {member}\n}}\n'


def _members(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """The names of the object's members, each with where its name begins and its value ends."""
    decoder = json.JSONDecoder()
    at = _after_separators(text, start)
    while text[at] != "}":
        name, after_name = decoder.raw_decode(text, at)
        _, end = decoder.raw_decode(text, _after_separators(text, after_name))
        yield name, at, end
        at = _after_separators(text, end)


def _after_separators(text: str, at: int) -> int:
    return next(_BETWEEN.finditer(text, at)).end()
