"""What stands at a path of an item, as SQL that means the same on PostgreSQL and SQLite.

A column is of one type, never NULL, and in the order of JSON values that users expect: numbers by size, strings by code
point, false before true, and `NOTHING` (no value of that type there) after all of them. So a column can be compared,
sorted by, compared as part of a row, and indexed, all by one expression. Names of paths are bound, never SQL text.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from django.db.models import BooleanField, F, Field, Func, IntegerField, TextField, Value

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

    from blockforger.backend.item_paths import Names

    Sql: TypeAlias = tuple[str, Any]

HEAD = 256
"""Characters of a string that sorting looks at, so that an index can hold every string."""

SOME_TEXT, NO_TEXT = '"', "~"
"""What the head of a string begins with, and what stands for no string: the one sorts before the other."""


class NumberField(Field):  # type: ignore[type-arg] # the stubs alone take arguments
    """A JSON number: a Decimal to PostgreSQL, an integer or a float to SQLite. Neither is rounded on its way."""

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002 - Django's signature
        if connection.vendor == "postgresql" or not isinstance(value, Decimal):
            return value
        is_integer = value.is_finite() and value == value.to_integral_value() and abs(value) < 2**63
        return int(value) if is_integer else float(value)


class _AtPath(Func):
    """An expression over the payload and the names of a path. SQLite has a function of ours for each."""

    # `%(expressions)s` is the value at the path, or NULL; `->` with a text never leads into an array.
    postgresql: ClassVar[str]

    def __init__(self, names: Names) -> None:
        super().__init__(F("payload"), *map(Value, names))

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        sql, params = self.as_sql(compiler, connection, template=self.postgresql, arg_joiner=" -> ", **context)
        return sql, (*params,) * self.postgresql.count("%(expressions)s")


class Boolean(_AtPath):
    NOTHING = 2
    function = "item_boolean"
    output_field = IntegerField()
    postgresql = "CASE %(expressions)s WHEN 'false'::jsonb THEN 0 WHEN 'true'::jsonb THEN 1 ELSE 2 END"


class Number(_AtPath):
    NOTHING = Decimal("Infinity")
    function = "item_number"
    output_field = NumberField()
    postgresql = (
        "CASE jsonb_typeof(%(expressions)s) WHEN 'number' THEN (%(expressions)s)::numeric ELSE 'Infinity'::numeric END"
    )


class TextHead(_AtPath):
    """The beginning of a string, marked: see `head`."""

    NOTHING = NO_TEXT
    function = "item_text_head"
    output_field = TextField()
    postgresql = (
        "CASE jsonb_typeof(%(expressions)s) WHEN 'string' THEN "
        f"""'{SOME_TEXT}' || left((%(expressions)s) #>> '{{}}', {HEAD}) ELSE '{NO_TEXT}' END COLLATE "C" """
    )


Column: TypeAlias = Boolean | Number | TextHead
COLUMNS: dict[str, type[Column]] = {"boolean": Boolean, "number": Number, "string": TextHead}
"""The column of each type that has one, in the order in which values of several types are sorted."""


class WholeText(_AtPath):
    """A string in full, or NULL."""

    function = "item_text"
    output_field = TextField()
    postgresql = """CASE jsonb_typeof(%(expressions)s) WHEN 'string' THEN (%(expressions)s) #>> '{}' END COLLATE "C" """


class Kind(_AtPath):
    """The type of what stands there: 'null' for a null, 'missing' where there is nothing."""

    function = "item_kind"
    output_field = TextField()
    postgresql = "COALESCE(jsonb_typeof(%(expressions)s), 'missing')"


class Json(_AtPath):
    """The value itself; PostgreSQL only."""

    postgresql = "(%(expressions)s)"


class HasElement(_AtPath):
    """Whether there is an array that holds a scalar, given as JSON text."""

    function = "item_has_element"
    output_field = BooleanField()
    # An array contains a scalar that it holds, but so does the scalar itself: hence the look at the type.
    postgresql = "(jsonb_typeof(%(expressions)s) = 'array' AND (%(expressions)s) @> %%s::jsonb)"

    def __init__(self, names: Names, element: str) -> None:
        super().__init__(names)
        self.element = element

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        sql, params = super().as_postgresql(compiler, connection, **context)
        return sql, (*params, self.element)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        sql, params = self.as_sql(compiler, connection, template="%(function)s(%%s, %(expressions)s)", **context)
        return sql, (self.element, *params)


def head(text: str) -> str:
    """What `TextHead` is for an item that holds that string."""
    return f"{SOME_TEXT}{text[:HEAD]}"
