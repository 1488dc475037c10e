"""The admin's import and export of a tenant's files."""

from __future__ import annotations

import io
import random
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from eventing import tenant_archives
from eventing.models import AllowedBus, OutputRule
from tenants.models import Tenant
from tests.admin_pages import Page, text_of, url_of
from tests.cast import BUS, PET, a_key, a_rule, a_schema, a_tenant
from tests.eventing.tenant_folders import ONE_RULE, a_folder, rules_property
from tests.eventing.test_export_command import a_rich_tenant
from tests.eventing.test_import_command import import_, sources, state
from tests.tenants.test_members import a_member

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db

SCHEMA = '{"type": "object"}'


def page_of(tenant: Tenant, name: str = "import") -> str:
    return f"{url_of(Tenant, 'changelist')}{tenant.pk}/{name}/"


def upload(client: Client, tenant: Tenant, **files: str | bytes) -> Any:
    """Choose these files, `tenant.properties` as `properties`, and ask for the plan."""
    named = {
        "tenant.properties" if name == "properties" else name.replace("_", "."): data for name, data in files.items()
    }
    sent = [SimpleUploadedFile(name, data.encode() if isinstance(data, str) else data) for name, data in named.items()]
    response = client.post(page_of(tenant), {"upload": sent})
    assert response.status_code == 200
    return response


def confirm(client: Client, plan: Any, tenant: Tenant) -> Any:
    """Press the button below the plan. Follows redirects."""
    return client.post(page_of(tenant), plan.context["confirmation"].initial, follow=True)


def lines(response: Any) -> list[str]:
    return [line.text for line in response.context["lines"]]


def problems(response: Any) -> list[tuple[str, str, str]]:
    """Of each problem: the file, where in it, and how its text begins."""
    return [
        (problem["file"], f"{problem['place']} {problem['json_path']}".strip(), problem["message"][:40])
        for problem in response.context["problems"]
    ]


def an_archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


class TestWhoMay:
    def test_a_viewer_exports_and_does_not_import(self) -> None:
        tenant = a_tenant()
        client = a_member(tenant, "viewer")
        text = Page(client, url_of(Tenant, "change", tenant.pk)).text
        assert page_of(tenant, "export") in text
        assert page_of(tenant) not in text
        assert client.get(page_of(tenant, "export")).status_code == 200
        before = state()
        assert client.get(page_of(tenant)).status_code == 403
        file = SimpleUploadedFile("tenant.properties", ONE_RULE.encode())
        assert client.post(page_of(tenant), {"upload": file}).status_code == 403
        assert client.post(page_of(tenant), {"packed": "", "fingerprint": "x"}).status_code == 403
        assert state() == before

    @pytest.mark.parametrize("role", ["admin", "owner"])
    def test_admins_and_owners_import(self, role: str) -> None:
        tenant = a_tenant()
        client = a_member(tenant, role)
        assert page_of(tenant) in Page(client, url_of(Tenant, "change", tenant.pk)).text
        confirm(client, upload(client, tenant, properties=ONE_RULE), tenant)
        assert OutputRule.objects.get().tenant == tenant

    def test_strangers_do_neither(self) -> None:
        tenant = a_tenant()
        client = a_member(a_tenant("theirs"), "owner")
        for page in ("import", "export"):
            assert client.get(page_of(tenant, page)).status_code == 403
            assert client.post(page_of(tenant, page)).status_code == 403
            assert Client().get(page_of(tenant, page)).status_code == 302

    def test_a_plan_that_was_shown_to_an_admin_serves_no_viewer(self) -> None:
        tenant = a_tenant()
        admin, viewer = a_member(tenant, "admin"), a_member(tenant, "viewer", "viewer")
        plan = upload(admin, tenant, properties=ONE_RULE)
        assert confirm(viewer, plan, tenant).status_code == 403
        assert not OutputRule.objects.exists()


class TestPlan:
    def test_it_is_what_a_dry_run_prints_and_changes_nothing(self, admin_client: Client, tmp_path: Path) -> None:
        tenant = a_tenant()
        a_rule(tenant)
        a_schema(tenant, "orders")
        properties = "eventbridge-input=false\nsize=1\n" + rules_property({"source": "shop"}, {"source": "shop"})
        before = state()
        plan = upload(admin_client, tenant, properties=properties, petstore_json=SCHEMA)
        folder = a_folder(tmp_path, properties=properties, petstore=SCHEMA)
        printed = import_(folder, dry_run=True).splitlines()
        assert lines(plan) == printed[:-1]
        assert printed[-1] == "Dry run: nothing was changed."
        text = text_of(plan)
        for shown in (
            "tenant mytenant: changed",
            "+ schema petstore",
            "- rule 1: ",
            "~ eventbridge-input: true becomes",
        ):
            assert shown in text
        assert "Import this" in text
        assert state() == before

    def test_it_is_carried_out_on_a_second_click_and_noted(self, admin_client: Client) -> None:
        tenant = a_tenant()
        answer = confirm(admin_client, upload(admin_client, tenant, properties=ONE_RULE, pets_json=SCHEMA), tenant)
        assert "Imported." in text_of(answer)
        assert (tenant.schemas.get().name, OutputRule.objects.get().eventbridge_arn) == ("pets", BUS)
        noted = LogEntry.objects.get().change_message
        assert "+ schema pets" in noted
        assert "+ rule 1: " in noted

    def test_a_second_import_has_nothing_to_change(self, admin_client: Client) -> None:
        tenant = a_tenant()
        confirm(admin_client, upload(admin_client, tenant, properties=ONE_RULE), tenant)
        before = state()
        plan = upload(admin_client, tenant, properties="eventbridge-input=false\n" + ONE_RULE)
        assert "Nothing to change" in text_of(plan)
        assert "Import this" not in text_of(plan)
        confirm(admin_client, plan, tenant)
        assert state() == before
        assert LogEntry.objects.count() == 1

    @pytest.mark.parametrize("change", ["rule", "rule's text", "property", "schema", "flag", "bus"])
    def test_if_anything_changed_meanwhile_the_plan_is_shown_anew(self, admin_client: Client, change: str) -> None:
        tenant = a_tenant()
        rule, schema = a_rule(tenant, source="old"), a_schema(tenant, "petstore", {})
        plan = upload(admin_client, tenant, properties=ONE_RULE, petstore_json=SCHEMA)
        match change:
            case "rule":
                a_rule(tenant, source="new")
            case "rule's text":
                OutputRule.objects.filter(pk=rule.pk).update(source="other")
            case "property":
                Tenant.objects.update(extra_properties={"size": "1"})
            case "schema":
                schema.document, schema.version = '{"title": "x"}', 2
                schema.save()
            case "flag":
                Tenant.objects.update(accepts_events=False)
            case "bus":
                AllowedBus.objects.create(tenant=tenant, arn_pattern=f"{BUS}-other")
        before = state()
        answer = confirm(admin_client, plan, tenant)
        assert answer.redirect_chain == []
        assert state() == before
        if change == "bus":
            assert problems(answer)[0][1] == "line 1, column 40 $[0].eventbridge_arn"
            return
        assert "Something changed meanwhile, and nothing was imported." in text_of(answer)
        assert "Imported." in text_of(confirm(admin_client, answer, tenant))
        assert sources() == ["blockforger-output"]

    def test_as_much_as_is_taken_can_be_confirmed(self, admin_client: Client) -> None:
        tenant = a_tenant()
        noise = random.Random(1).randbytes(900_000).hex()
        plan = upload(admin_client, tenant, properties=f"#{noise}\n{ONE_RULE}")
        assert "Imported." in text_of(confirm(admin_client, plan, tenant))

    @pytest.mark.parametrize("packed", ["", "%%%", "AAAA", "é"])
    def test_files_that_come_back_broken_are_refused(self, admin_client: Client, packed: str) -> None:
        tenant = a_tenant()
        before = state()
        answer = admin_client.post(page_of(tenant), {"packed": packed, "fingerprint": "x"})
        assert problems(answer) == [("The upload", "", "This cannot be read as a zip archive. Ma")]
        assert state() == before

    def test_a_fingerprint_that_was_made_up_shows_the_plan(self, admin_client: Client) -> None:
        tenant = a_tenant()
        plan = upload(admin_client, tenant, properties=ONE_RULE)
        sent = {**plan.context["confirmation"].initial, "fingerprint": "x"}
        assert lines(admin_client.post(page_of(tenant), sent)) == lines(plan)
        assert not OutputRule.objects.exists()


class TestProblems:
    def test_all_of_them_are_listed_with_their_places_and_nothing_is_changed(self, admin_client: Client) -> None:
        tenant = a_tenant()
        before = state()
        answer = upload(
            admin_client,
            tenant,
            properties=f'eventbridge-input=maybe\neventbridge-output=[{{"eventbridge_arn": "{BUS}",\n"source": 1}}]\n',
            pets_json='{"type": "object",\n "properties": []}',
            broken_json="{",
        )
        assert problems(answer) == [
            ("tenant.properties", "line 1, column 19", "'maybe' is neither true nor false. Write"),
            ("tenant.properties", "line 3, column 11 $[0].source", "Use a text of 1 to 256 characters."),
            ("broken.json", "line 1, column 2", "This is not JSON: Expecting property nam"),
            ("pets.json", "line 2, column 16 $.properties", '[] is not of type "object". Compare http'),
        ]
        text = text_of(answer)
        assert "Nothing was imported, because of 4 problems" in text
        assert "Show the plan" in text
        assert state() == before

    @pytest.mark.parametrize(
        ("files", "file", "message"),
        [
            ({"pets_json": SCHEMA}, "mytenant", "There is no tenant.properties. Add one; it may be empty."),
            ({"properties": "", "notes_txt": "x"}, "notes.txt", "Only tenant.properties and a {schema}.json"),
            ({"a_zip": b"no archive"}, "a.zip", "This cannot be read as a zip archive."),
            (
                {"a_zip": an_archive(**{"theirs/tenant.properties": ""})},
                "theirs/tenant.properties",
                "in the folder 'mytenant'",
            ),
        ],
    )
    def test_files_that_are_none_of_the_tenants_are_refused(
        self, admin_client: Client, files: dict[str, Any], file: str, message: str
    ) -> None:
        answer = upload(admin_client, a_tenant(), **files)
        [problem] = answer.context["problems"]
        assert problem["file"] == file
        assert message in problem["message"]

    def test_an_upload_of_nothing_is_told(self, admin_client: Client) -> None:
        answer: Any = admin_client.post(page_of(a_tenant()))
        assert answer.context["form"].errors.keys() == {"upload"}

    def test_an_archive_comes_alone(self, admin_client: Client) -> None:
        answer = upload(admin_client, a_tenant(), properties="", a_zip=an_archive())
        assert answer.context["form"].errors["upload"] == ["Choose one zip archive, or files that are none."]

    def test_more_than_is_taken_is_not_read(self, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tenant_archives, "MAX_BYTES", 10)
        answer = upload(admin_client, a_tenant(), properties="#" * 11)
        assert "import_tenant_properties" in answer.context["form"].errors["upload"][0]

    def test_nor_more_than_can_be_asked_about(self, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tenant_archives, "MAX_PACKED_BYTES", 10)
        answer = upload(admin_client, a_tenant(), properties="")
        assert "The archive has more than 10 bytes." in answer.context["problems"][0]["message"]


class TestExport:
    def test_an_import_takes_it_back_and_changes_nothing(self, admin_client: Client) -> None:
        tenant = a_rich_tenant()
        before = state()
        exported = admin_client.get(page_of(tenant, "export"))
        assert exported["Content-Disposition"] == 'attachment; filename="mytenant.zip"'
        assert exported["Content-Type"] == "application/zip"
        plan = upload(admin_client, tenant, mytenant_zip=exported.content)
        assert plan.context["names"] == ["mytenant/tenant.properties", "mytenant/orders.json", "mytenant/petstore.json"]
        assert plan.context["is_empty"]
        assert state() == before

    def test_what_was_exported_is_restored(self, admin_client: Client) -> None:
        tenant = a_rich_tenant()
        exported = admin_client.get(page_of(tenant, "export")).content
        OutputRule.objects.all().delete()
        tenant.schemas.all().delete()
        Tenant.objects.update(extra_properties={}, accepts_events=False)
        confirm(admin_client, upload(admin_client, tenant, mytenant_zip=exported), tenant)
        assert sources() == ["blockforger-output", 'say "é🐾" \\o/']
        assert sources(schema="petstore") == ["own 1", "own 2"]
        assert admin_client.get(page_of(tenant, "export")).content == exported

    def test_it_holds_the_files_that_the_command_writes_and_no_key(self, admin_client: Client, tmp_path: Path) -> None:
        tenant = a_rich_tenant()
        key = a_key(tenant)
        row = tenant.api_keys.get()
        exported = admin_client.get(page_of(tenant, "export")).content
        with zipfile.ZipFile(io.BytesIO(exported)) as archive:
            archive.extractall(tmp_path)
        everything = b"".join(path.read_bytes() for path in (tmp_path / "mytenant").iterdir())
        for secret in (key, row.prefix, row.digest):
            assert secret.encode() not in everything
        assert import_(tmp_path).endswith("Nothing to change.\n")

    def test_files_may_lie_beside_each_other_in_an_archive(self, admin_client: Client) -> None:
        tenant = a_tenant()
        packed = an_archive(**{"tenant.properties": ONE_RULE, "pets.json": SCHEMA, "__MACOSX/x": "", ".DS_Store": ""})
        confirm(admin_client, upload(admin_client, tenant, a_zip=packed), tenant)
        assert (tenant.schemas.get().name, OutputRule.objects.count()) == ("pets", 1)


class TestImportOfTenants:
    """Which is the operators'."""

    LIST = f"{url_of(Tenant, 'changelist')}"

    def plan(self, client: Client, packed: bytes) -> Any:
        return client.post(f"{self.LIST}import/", {"upload": SimpleUploadedFile("all.zip", packed)})

    def test_operators_make_tenants_of_an_archive_of_folders(self, admin_client: Client) -> None:
        assert f'href="{self.LIST}import/"' in text_of(admin_client.get(self.LIST))
        a_tenant("old")
        files = {"new/tenant.properties": ONE_RULE, "new/pets.json": SCHEMA, "old/tenant.properties": ONE_RULE}
        plan = self.plan(admin_client, an_archive(**files))
        assert [line for line in lines(plan) if line.startswith("tenant")] == ["tenant new: new", "tenant old: changed"]
        assert not OutputRule.objects.exists()
        answer = admin_client.post(f"{self.LIST}import/", plan.context["confirmation"].initial, follow=True)
        assert "Imported." in text_of(answer)
        assert (sources("new"), sources("old")) == (["blockforger-output"], ["blockforger-output"])
        assert Tenant.objects.get(name="new").account.balance == 0
        assert {entry.object_repr for entry in LogEntry.objects.all()} == {"new", "old"}

    def test_a_tenant_that_was_made_meanwhile_is_planned_anew(self, admin_client: Client) -> None:
        plan = self.plan(admin_client, an_archive(**{"new/tenant.properties": ONE_RULE}))
        a_tenant("new")
        answer: Any = admin_client.post(f"{self.LIST}import/", plan.context["confirmation"].initial)
        assert "Something changed meanwhile" in text_of(answer)
        assert lines(answer)[0] == "tenant new: changed"
        assert not OutputRule.objects.exists()

    def test_every_problem_is_listed(self, admin_client: Client) -> None:
        files = {"tenant.properties": "", "-x/tenant.properties": "", "new/pets.json": SCHEMA, "a/b/pets.json": SCHEMA}
        answer = self.plan(admin_client, an_archive(**files))
        assert {problem["file"] for problem in answer.context["problems"]} == {
            "tenant.properties",
            "-x/tenant.properties",
            "new",
            "a/b/pets.json",
        }
        assert problems(self.plan(admin_client, an_archive())) == [("The upload", "", "There are no files in it.")]

    def test_no_member_may(self) -> None:
        client = a_member(a_tenant(), "owner")
        assert f"{self.LIST}import/" not in text_of(client.get(self.LIST))
        assert client.get(f"{self.LIST}import/").status_code == 403
        assert self.plan(client, an_archive(**{"new/tenant.properties": ""})).status_code == 403
        assert Tenant.objects.count() == 1


def test_many_rules_cost_no_more_queries_than_one(admin_client: Client) -> None:
    tenant = a_tenant()
    counts = []
    for count in (1, 5):
        for number in range(count):
            a_schema(tenant, f"s{count}-{number}", PET)
            a_rule(tenant, schema=tenant.schemas.latest("pk"))
        properties = rules_property(*({"source": str(number)} for number in range(count)))
        with CaptureQueriesContext(connection) as planning:
            upload(admin_client, tenant, properties=properties, pets_json=SCHEMA)
        with CaptureQueriesContext(connection) as exporting:
            admin_client.get(page_of(tenant, "export"))
        counts.append((len(planning), len(exporting)))
    assert counts[0] == counts[1]
