"""What a filter means: its text read as the types that the schema lets stand at its path, as a condition on items."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn

from django.db.models import Q, Value
from django.db.models.functions import StrIndex
from django.db.models.lookups import Exact, GreaterThan, GreaterThanOrEqual, LessThan, LessThanOrEqual

from blockforger.backend import json_values
from blockforger.backend.errors import Malformed
from blockforger.backend.item_columns import HEAD, Boolean, HasElement, Kind, Number, TextHead, WholeText, head
from blockforger.backend.item_paths import SCALARS
from blockforger.backend.list_queries import divided, plain

if TYPE_CHECKING:
    from blockforger.backend.item_paths import ItemPath, Names, Paths, Types
    from blockforger.backend.json_values import JsonValue
    from blockforger.backend.list_queries import Filter

MAX_VALUES = 100

OPERATORS = ("eq", "ne", "lt", "lte", "gt", "gte", "in", "contains", "exists")
_ORDER = {"lt": LessThan, "lte": LessThanOrEqual, "gt": GreaterThan, "gte": GreaterThanOrEqual}
_ORDERED = frozenset({"number", "string"})
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS: dict[str, JsonValue] = {"true": True, "false": False, "null": None}


def condition(paths: Paths, wanted: Filter) -> Q:
    """The condition on items. Raises Malformed, naming the parameter and what is known in place of what is not."""
    path = found(paths, wanted.path, wanted.parameter)
    if wanted.operator not in (known := operators(path)):
        what = f"takes no {wanted.operator[:40]!r}" if wanted.operator in OPERATORS else "names an unknown operator"
        _refuse(wanted, f"The parameter {wanted.parameter[:200]!r} {what}. Known there are: {', '.join(known)}.", known)
    names = path.names
    match wanted.operator:
        case "eq":
            return _is_one_of(names, _readings(wanted, wanted.text, path.types & SCALARS))
        case "ne":
            return ~_is_one_of(names, _readings(wanted, wanted.text, path.types & SCALARS))
        case "in":
            return _is_one_of(names, _readings_of_list(wanted, path))
        case "contains":
            return _contains(path, wanted)
        case "exists":
            is_missing = Q(Exact(Kind(names), "missing"))
            return ~is_missing if _readings(wanted, wanted.text, frozenset({"boolean"})) == [True] else is_missing
        case _:
            return _is_in_order(names, wanted.operator, _readings(wanted, wanted.text, path.types & _ORDERED))


def found(paths: Paths, text: str, parameter: str) -> ItemPath:
    """The path of that text. Raises Malformed."""
    path = paths.find(text)
    if path is None:
        known = paths.told()
        raise Malformed(
            f"The parameter {parameter[:200]!r} names {text[:200]!r}, which is no path of the schema. Known are:"
            f" {', '.join(known)}.",
            parameter=parameter[:200],
            known=known,
        )
    return path


def operators(path: ItemPath) -> list[str]:
    """The operators that make sense for what may stand there."""
    known = set()
    if path.types & SCALARS:
        known |= {"eq", "ne", "in"}
    if path.types & _ORDERED:
        known |= _ORDER.keys()
    if "string" in path.types or path.element_types & SCALARS:
        known |= {"contains"}
    return [operator for operator in OPERATORS if operator in known or operator == "exists"]


def _readings_of_list(wanted: Filter, path: ItemPath) -> list[JsonValue]:
    texts = [plain(part) for part in divided(wanted.text)]
    if len(texts) > MAX_VALUES:
        _refuse(wanted, f"The parameter {wanted.parameter[:200]!r} has more than {MAX_VALUES} values. Send fewer.")
    return [value for text in texts for value in _readings(wanted, text, path.types & SCALARS)]


def _readings(wanted: Filter, text: str, types: Types) -> list[JsonValue]:
    """The values that a text stands for, one for each type that it can be read as."""
    values: list[JsonValue] = [text] if "string" in types else []
    if "number" in types and _JSON_NUMBER.fullmatch(text):
        try:
            values.append(json_values.parse(text))
        except json_values.NotPortable as error:
            _refuse(wanted, f"The parameter {wanted.parameter[:200]!r} cannot be {text[:40]!r}. {error.message}")
    if text in _WORDS and ("null" if text == "null" else "boolean") in types:
        values.append(_WORDS[text])
    if not values:
        expected = ", ".join("true or false" if name == "boolean" else name for name in sorted(types))
        _refuse(wanted, f"The parameter {wanted.parameter[:200]!r} cannot be {text[:40]!r}. Expected: {expected}.")
    return values


def _is_one_of(names: Names, values: list[JsonValue]) -> Q:
    result = Q()
    for value in values:
        result |= _is(names, value)
    return result


def _is(names: Names, value: JsonValue) -> Q:
    if value is None:
        return Q(Exact(Kind(names), "null"))
    if isinstance(value, bool):
        return Q(Exact(Boolean(names), int(value)))
    if isinstance(value, str):
        begins = Q(Exact(TextHead(names), head(value)))
        return begins if len(value) < HEAD else begins & Q(Exact(WholeText(names), value))
    return Q(Exact(Number(names), Decimal(repr(value))))


def _is_in_order(names: Names, operator: str, values: list[JsonValue]) -> Q:
    result = Q()
    for value in values:
        if isinstance(value, str):
            result |= _is_text_in_order(names, operator, value)
        else:
            number = Number(names)
            in_order = Q(_ORDER[operator](number, Decimal(repr(value))))
            result |= in_order & Q(LessThan(number, number.NOTHING))
    return result


def _is_text_in_order(names: Names, operator: str, value: str) -> Q:
    column = TextHead(names)
    in_order = Q(LessThan(column, column.NOTHING))
    if len(value) < HEAD:
        return in_order & Q(_ORDER[operator](column, head(value)))
    # The head only narrows it down, by an index if there is one.
    bound = LessThanOrEqual if operator in {"lt", "lte"} else GreaterThanOrEqual
    return in_order & Q(bound(column, head(value))) & Q(_ORDER[operator](WholeText(names), value))


def _contains(path: ItemPath, wanted: Filter) -> Q:
    types = path.element_types & SCALARS
    if "string" in path.types:
        in_text = Q(GreaterThan(StrIndex(WholeText(path.names), Value(wanted.text)), 0))
        if not types:
            return in_text
        types |= {"string"}
    else:
        in_text = Q()
    for value in _readings(wanted, wanted.text, types):
        in_text |= Q(HasElement(path.names, json.dumps(value)))
    return in_text


def _refuse(wanted: Filter, message: str, known: list[str] | None = None) -> NoReturn:
    more = {"known": known} if known is not None else {}
    raise Malformed(message, parameter=wanted.parameter[:200], **more)
