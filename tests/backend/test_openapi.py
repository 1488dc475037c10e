"""What the OpenAPI documents say, against what the code has."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.urls import get_resolver
from jsonschema import Draft202012Validator
from rest_framework.test import APIClient

from blockforger.backend import error_catalogue, openapi, openapi_parts
from blockforger.backend.errors import OperationUnknown
from blockforger.backend.models import is_schema_name
from blockforger.backend.openapi_management import SCHEMA_NAME
from tenants.errors import EventsNotAccepted, Refusal
from tenants.models import Permission
from tests.cast import a_key, a_schema, a_tenant
from tests.isolation import doors

ROOT = Path(__file__).parents[2]
ORDER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["number", "lines"],
    "properties": {
        "number": {"type": "integer"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "first": {"$ref": "#/properties/lines/items"},
        "before": {"$ref": "#"},
        "note": {"type": ["string", "null"]},
        "customer": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
    },
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "properties": {"next": {"$ref": "#/$defs/line"}}}},
}


def get(path: str, key: str = "", **headers: str) -> Any:
    return APIClient().get(path, headers={"X-API-Key": key, **headers})


def descendants(kind: type[Refusal]) -> set[type[Refusal]]:
    return {*kind.__subclasses__()}.union(*map(descendants, kind.__subclasses__()))


class TestErrors:
    def test_the_catalogue_has_every_refusal_with_what_it_means(self) -> None:
        known = {kind.code: kind for kind in error_catalogue.everything()}
        for refusal in descendants(Refusal):
            assert known[refusal.code].meaning.endswith("."), refusal
        assert len(known) == len(error_catalogue.everything())

    def test_every_error_that_rest_answers_is_in_the_document_of_any_tenant(self) -> None:
        document: Any = openapi.of_any_tenant()
        answered = ".".join(document["components"]["responses"]).split(".")
        of_events_alone = {OperationUnknown.code, EventsNotAccepted.code}
        of_no_operation = {error_catalogue.METHOD_NOT_ALLOWED.code}
        known = {kind.code for kind in error_catalogue.everything()}
        assert set(answered) == known - of_events_alone - of_no_operation

    def test_the_documentation_lists_every_error_as_the_catalogue_does(self) -> None:
        text = (ROOT / "docs" / "api.md").read_text()
        rows = [f"| {kind.status} | `{kind.code}` | {kind.meaning} |" for kind in error_catalogue.everything()]
        assert "\n".join(rows) in text


class TestTheDocumentOfAnyTenant:
    def test_it_describes_every_method_of_every_url(self) -> None:
        served = set()
        for _, pattern in doors._patterns(get_resolver()):
            for method in getattr(pattern.callback, "actions", {}).keys() - {"head"}:
                (form, parameters), *_ = get_resolver().reverse_dict.getlist(pattern.name)[0][0]
                url = "/" + form % {name: f"{{{name}}}" for name in parameters}
                served.add((url.rstrip("/"), method))
        described = {
            (path, method)
            for path, methods in paths_of(openapi.of_any_tenant()).items()
            for method in methods.keys() - {"parameters"}
        }
        assert served == described

    def test_it_needs_no_key_and_is_read_once(self) -> None:
        response = get("/openapi.json")
        assert response.status_code == 200
        assert response.json()["openapi"] == "3.1.0"
        assert get("/openapi.json", **{"If-None-Match": response["ETag"]}).status_code == 304

    def test_it_names_each_permission_that_a_request_takes(self) -> None:
        paths = get("/openapi.json").json()["paths"]
        (backtest,) = (path["post"] for name, path in paths.items() if name.endswith("/$rules/backtest"))
        assert backtest["description"] == "Takes a key with the permission `manage_rules` and `read_events`."

    def test_its_version_is_the_products(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert project["version"] == openapi.VERSION


def paths_of(document: Any) -> dict[str, Any]:
    paths: dict[str, Any] = document["paths"]
    return paths


@pytest.mark.django_db
class TestTheDocumentOfATenant:
    def test_it_has_the_tenants_paths_and_types(self) -> None:
        tenant = a_tenant("acme")
        a_schema(tenant, "orders", ORDER, key="number")
        a_schema(tenant, "Problem", {})
        document = get("/api/acme/openapi.json", a_key(tenant)).json()
        types = document["components"]["schemas"]
        assert {"/api/acme/orders", "/api/acme/orders/{key}", "/api/acme/Problem/{key}"} <= document["paths"].keys()
        assert types["orders"]["properties"]["lines"]["items"] == {"$ref": "#/components/schemas/orders.line"}
        assert types["orders"]["properties"]["first"] == {"$ref": "#/components/schemas/orders/properties/lines/items"}
        assert types["orders"]["properties"]["before"] == {"$ref": "#/components/schemas/orders"}
        assert types["orders.line"]["properties"]["next"] == {"$ref": "#/components/schemas/orders.line"}
        assert "$defs" not in types["orders"]
        assert types["Problem"]["required"][0] == "type"
        assert types["Problem_"]["properties"] == {"id": {"type": ["integer", "string"]}}

    def test_its_references_lead_somewhere(self) -> None:
        tenant = a_tenant("acme")
        a_schema(tenant, "orders", ORDER, key="number")
        document = get("/api/acme/openapi.json", a_key(tenant)).json()
        references = set(references_in(document))
        assert len(references) > 20
        for reference in references:
            node = document
            for token in reference.removeprefix("#/").split("/"):
                node = node[token.replace("~1", "/").replace("~0", "~")]

    def test_a_filter_has_the_type_that_the_schema_has(self) -> None:
        tenant = a_tenant("acme")
        a_schema(tenant, "orders", ORDER, key="number")
        document = get("/api/acme/openapi.json", a_key(tenant)).json()
        parameters = {
            each["name"]: each["schema"] for each in document["paths"]["/api/acme/orders"]["get"]["parameters"]
        }
        assert parameters["filter[number][gte]"]["type"] == "number"
        assert parameters["filter[customer.name]"]["type"] == "string"
        assert "filter[customer][gte]" not in parameters

    def test_it_changes_with_a_schema(self) -> None:
        tenant = a_tenant("acme")
        key = a_key(tenant)
        first = get("/api/acme/openapi.json", key)
        assert get("/api/acme/openapi.json", key, **{"If-None-Match": first["ETag"]}).status_code == 304
        a_schema(tenant, "orders", ORDER, key="number")
        assert get("/api/acme/openapi.json", key, **{"If-None-Match": first["ETag"]}).status_code == 200

    @pytest.mark.parametrize(
        ("permission", "status"),
        [
            (Permission.BACKEND_CALLS, 200),
            (Permission.MANAGE_SCHEMAS, 200),
            (Permission.MANAGE_RULES, 403),
            (Permission.READ_EVENTS, 403),
        ],
    )
    def test_it_takes_the_permission_to_read_schemas(self, permission: Permission, status: int) -> None:
        key = a_key(a_tenant("acme"), permissions=[permission])
        assert get("/api/acme/openapi.json", key).status_code == status

    def test_it_is_free(self) -> None:
        tenant = a_tenant("acme", tokens=0)
        assert get("/api/acme/openapi.json", a_key(tenant)).status_code == 200


def references_in(document: Any) -> list[str]:
    return re.findall(r'"\$ref": "([^"]*)"', json.dumps(document))


def test_the_headers_of_answers_are_those_that_browsers_may_show() -> None:
    assert sorted(openapi_parts.HEADERS) == sorted(settings.CORS_EXPOSE_HEADERS)


def test_the_page_loads_nothing_from_elsewhere() -> None:
    response = APIClient().get("/docs")
    text = response.content.decode()
    assert "http" not in text.replace("https://www.w3.org", "")
    assert "script-src 'self';" in response["Content-Security-Policy"]
    assert "<script>" not in text
    assets = re.findall('(?:src|href)="/static/([^"]+)"', text)
    assert len(assets) == 5
    assert all(map(finders.find, assets))


@pytest.mark.parametrize(
    "name",
    [
        "x",
        "x" * 64,
        "x" * 65,
        "",
        ".",
        "..",
        "...",
        ".x",
        "x.",
        "json",
        ".json",
        "x.json",
        "x.json.x",
        "x/y",
        "ä",
        "a-_.9",
    ],
)
def test_the_names_of_schemas_are_those_that_the_api_takes(name: str) -> None:
    assert Draft202012Validator(SCHEMA_NAME).is_valid(name) == is_schema_name(name)
