"""export_tenant_properties: what is exported can be imported, and nothing changes."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import javaproperties
import pytest
from django.core.management import CommandError, call_command

from eventing import tenant_files
from tests.cast import BUS, PET, a_rule, a_schema, a_tenant
from tests.eventing.tenant_folders import a_folder, rules_property
from tests.eventing.test_import_command import import_, state

if TYPE_CHECKING:
    from pathlib import Path

    from tenants.models import Tenant

pytestmark = pytest.mark.django_db


def export(tenant: str, *arguments: str) -> str:
    """What the command prints."""
    output = StringIO()
    call_command("export_tenant_properties", tenant, *arguments, stdout=output)
    return output.getvalue()


def a_rich_tenant() -> Tenant:
    tenant = a_tenant(accepts_events=True)
    tenant.extra_properties = {"é key": " [not json\n", "b": "", "a": '{"x": "\\u0041"}', "=": "🐾"}
    tenant.save()
    petstore, orders = a_schema(tenant, key="sku", tags=["a", {"b": 1e2}]), a_schema(tenant, "orders", {})
    a_rule(tenant, position=5, source='say "é🐾" \\o/', detail_type="{operation} {x}", operations=["PUT", "POST"])
    a_rule(tenant, position=2, schema_names=["petstore.json", "nowhere"])
    a_rule(tenant, schema=petstore, position=3, source="own 2")
    a_rule(tenant, schema=petstore, position=1, source="own 1")
    a_rule(tenant, schema=orders)
    return tenant


def test_the_properties_are_printed(tmp_path: Path) -> None:
    tenant = a_tenant(accepts_events=False)
    tenant.extra_properties = {"size": "1", "color": "ré:d"}
    tenant.save()
    a_rule(tenant, operations=["POST", "PUT"], schema_names=["petstore.json"])
    assert export("mytenant") == (
        "eventbridge-input=false\n"
        "eventbridge-output=[ \\\n"
        "  { \\\n"
        f'    "eventbridge_arn": "{BUS}", \\\n'
        '    "source": "blockforger-output", \\\n'
        '    "detail_type": "{schema_id}.{operation}", \\\n'
        '    "operations": ["POST", "PUT"], \\\n'
        '    "schema_names": ["petstore"] \\\n'
        "  } \\\n"
        "]\n"
        "color=r\\u00e9\\:d\n"
        "size=1\n"
    )


def test_a_tenant_without_anything_is_printed() -> None:
    a_tenant(accepts_events=True)
    assert export("mytenant") == "eventbridge-input=true\neventbridge-output=[]\n"


def test_importing_what_was_exported_changes_nothing(tmp_path: Path) -> None:
    a_rich_tenant()
    before = state()
    printed = export("mytenant", "--to", str(tmp_path))
    folder = tmp_path / "mytenant"
    assert printed.splitlines() == [
        str(folder / name) for name in ("tenant.properties", "orders.json", "petstore.json")
    ]
    assert import_(tmp_path).endswith("Nothing to change.\n")
    assert state() == before


def test_a_tenant_can_be_moved(tmp_path: Path) -> None:
    a_rich_tenant()
    export("mytenant", "--to", str(tmp_path / "here"))
    (tmp_path / "there").mkdir()
    (tmp_path / "here/mytenant").rename(tmp_path / "there/copy")
    import_(tmp_path / "there")
    export("copy", "--to", str(tmp_path))
    export("mytenant", "--to", str(tmp_path))
    for path in (tmp_path / "copy").iterdir():
        assert path.read_bytes() == (tmp_path / "mytenant" / path.name).read_bytes(), path.name


def test_exporting_what_was_imported_says_the_same(tmp_path: Path) -> None:
    meta: dict[str, Any] = {"key": "sku", "x": [1, None], "eventbridge-output": [{"eventbridge_arn": BUS}]}
    folder = a_folder(
        tmp_path / "in",
        properties="eventbridge-input=true\ncolor=é\nsize=\\[1\n"
        + rules_property({}, {"operations": ["PUT"], "source": "s", "schema_names": ["petstore"]}),
        petstore={**PET, "meta": meta},
        orders='{"type": "object",\r\n    "title": "für 🐾"}',
    )
    import_(folder)
    export("mytenant", "--to", str(tmp_path / "out"))
    again = tmp_path / "out/mytenant"
    [before], _ = tenant_files.find([folder])
    [after], _ = tenant_files.find([again])
    one, other = tenant_files.read(before), tenant_files.read(after)
    assert (one.accepts_events, one.rules, one.extra_properties) == (
        other.accepts_events,
        other.rules,
        other.extra_properties,
    )
    assert [(schema.name, schema.meta, schema.rules) for schema in one.schemas] == [
        (schema.name, schema.meta, schema.rules) for schema in other.schemas
    ]
    assert json.loads((again / "petstore.json").read_text()) == {
        **PET,
        "meta": {
            "key": "sku",
            "x": [1, None],
            "eventbridge-output": [
                {"eventbridge_arn": BUS, "source": "blockforger-output", "detail_type": "{schema_id}.{operation}"}
            ],
        },
    }
    # Without meta, a document comes out byte for byte.
    assert (again / "orders.json").read_bytes() == (folder / "orders.json").read_bytes()


def test_other_readers_of_properties_read_the_same() -> None:
    tenant = a_rich_tenant()
    found = javaproperties.loads(export("mytenant").encode("ascii"))
    rules = json.loads(found.pop("eventbridge-output"))
    assert found == {"eventbridge-input": "true", **tenant.extra_properties}
    assert [rule["source"] for rule in rules] == ["blockforger-output", 'say "é🐾" \\o/']


def test_files_that_are_there_are_written_over_and_others_left_alone(tmp_path: Path) -> None:
    a_schema(a_tenant())
    folder = a_folder(tmp_path, properties="old=1", petstore="old", orders="other")
    export("mytenant", "--to", str(tmp_path))
    assert "old" not in (folder / "tenant.properties").read_text()
    assert json.loads((folder / "petstore.json").read_text()) == PET
    assert (folder / "orders.json").read_text() == "other"


def test_an_unknown_tenant_is_an_error() -> None:
    with pytest.raises(CommandError, match=r"^There is no tenant 'nobody'\.$"):
        export("nobody")


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    a_tenant()
    (tmp_path / "file").touch()
    with pytest.raises(CommandError) as error:
        export("mytenant", "--to", str(tmp_path / "file"))
    assert str(error.value) == f"{tmp_path}/file/mytenant cannot be written: Not a directory."
