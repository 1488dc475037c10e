"""Schemas over REST: translation from and to HTTP, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponse
from django.urls import reverse
from rest_framework.response import Response

from blockforger.backend import schema_changes, schema_documents
from blockforger.backend.errors import SchemaUnknown
from blockforger.backend.models import SCHEMA_NAME, Schema
from blockforger.backend.openapi_management import READERS
from blockforger.backend.request_bodies import SchemaTextParser, TextParser
from blockforger.backend.requests import (
    ManagementViewSet,
    Page,
    check_parameters,
    flag_of,
    payload_of,
    preconditions_of,
)
from blockforger.backend.schema_changes import Draft
from tenants.models import Permission

if TYPE_CHECKING:
    from rest_framework.request import Request

    from blockforger.backend.json_values import JsonObject


class SchemaViewSet(ManagementViewSet):
    """A tenant's schemas."""

    parser_classes = [TextParser, SchemaTextParser]

    def list(self, request: Request, tenant: str) -> Response:
        owner = self.caller_of(request, tenant, *READERS).api_key.tenant
        check_parameters(request, ["limit", "cursor"])
        page = Page.read(request.query_params, cursors=SCHEMA_NAME)
        rows = Schema.objects.filter(tenant=owner, name__gt=page.cursor).order_by("name").defer("document")
        found = list(rows[: page.limit + 1])
        shown = found[: page.limit]
        following = shown[-1].name if len(found) > len(shown) else None
        return Response({"schemas": [_summary(schema, tenant) for schema in shown], "next": following})

    def retrieve(self, request: Request, tenant: str, schema: str) -> HttpResponse:
        found = self.caller_of(request, tenant, *READERS, schema=schema).schema
        if found is None:
            raise SchemaUnknown(schema)
        preconditions = preconditions_of(request)
        preconditions.check_match(found.etag)
        if preconditions.is_known(found.etag):
            return HttpResponse(status=304, headers=_versions(found))
        try:
            # All of it anew, since it may have been changed meanwhile, or deleted.
            found.refresh_from_db(fields=["document", "meta", "version"])
        except Schema.DoesNotExist as error:
            raise SchemaUnknown(schema) from error
        preconditions.check_match(found.etag)
        text = schema_documents.with_meta(found.document, found.meta) if found.meta else found.document
        return HttpResponse(text, content_type="application/json", headers=_versions(found))

    def update(self, request: Request, tenant: str, schema: str) -> Response:
        caller = self.caller_of(request, tenant, Permission.MANAGE_SCHEMAS, schema=schema)
        check_parameters(request, ["force"])
        draft = Draft.read(schema, str(payload_of(request) or ""))
        stored, is_new = schema_changes.put(
            caller.api_key.tenant,
            schema,
            draft,
            force=flag_of(request, "force"),
            preconditions=preconditions_of(request),
        )
        summary = _summary(stored, tenant)
        headers = {"ETag": stored.etag, "Schema-Version": str(stored.version)}
        return Response(summary, status=201 if is_new else 200, headers=headers)

    def destroy(self, request: Request, tenant: str, schema: str) -> Response:
        caller = self.caller_of(request, tenant, Permission.MANAGE_SCHEMAS, schema=schema)
        check_parameters(request, [])
        schema_changes.delete(caller.api_key.tenant, schema, preconditions=preconditions_of(request))
        return Response(status=204)


def _versions(schema: Schema) -> dict[str, str]:
    return {"ETag": schema.etag, "Schema-Version": str(schema.version)}


def _summary(schema: Schema, tenant: str) -> JsonObject:
    return {
        "name": schema.name,
        "version": schema.version,
        "key": schema.key_field,
        "updated_at": schema.updated_at.isoformat(),
        "items": reverse("items", args=[tenant, schema.name]),
        "schema": reverse("schema", args=[tenant, schema.name]),
    }
