"""The admin's pages of a tenant's files: an import with its plan first, and the export."""

# Django's admin and form classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.decorators import action

from eventing import tenant_archives, tenant_export, tenant_import
from eventing.tenant_import import ImportRefused, PlanOutdated
from tenants.admin import TenantAdmin
from tenants.models import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from django.core.files.uploadedfile import UploadedFile
    from django.http import HttpRequest

    from eventing.file_problems import Problem
    from eventing.tenant_archives import Unpacked
    from eventing.tenant_files import Folder
    from eventing.tenant_plans import TenantPlan

ARCHIVE_SUFFIX = ".zip"
# What problems of all files call them.
UPLOAD = "The upload"
_KINDS = {"+": "new", "~": "changed", "-": "removed", "=": "unchanged", "!": "warning"}


class FilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True
    template_name = "eventing/files_input.html"  # browsers show how many there are, unfold the name of one


class FilesField(forms.FileField):
    """One archive, or any number of other files."""

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        files = [super(FilesField, self).clean(file, initial) for file in data or [None]]
        is_archive = [file.name.lower().endswith(ARCHIVE_SUFFIX) for file in files]
        if any(is_archive) and len(files) > 1:
            raise ValidationError("Choose one zip archive, or files that are none.")
        if len({file.name for file in files}) < len(files):
            raise ValidationError("Two of the files have one name. Choose one of them.")
        limit = tenant_archives.MAX_PACKED_BYTES if any(is_archive) else tenant_archives.MAX_BYTES
        if sum(file.size for file in files) > limit:
            message = f"That is more than {limit:,} bytes. Import it with the command import_tenant_properties."
            raise ValidationError(message)
        return files


class UploadForm(forms.Form):
    upload = FilesField(
        label="Files",
        allow_empty_file=True,
        widget=FilesInput(attrs={"class": "files", "accept": ".zip,.properties,.json"}),
        help_text="A tenant.properties and a {schema}.json for each schema that is to be made or changed; or a zip "
        "archive of them, such as an export.",
    )


class ConfirmForm(forms.Form):
    """The files as they were uploaded, and what was shown of them."""

    packed = forms.CharField(widget=forms.HiddenInput)
    fingerprint = forms.CharField(widget=forms.HiddenInput)


class Line(NamedTuple):
    """A line of a plan: what kind it is of, and its text."""

    kind: str
    text: str


@action(description="Import", url_path="import", icon="upload", permissions=["change"])
def import_files(site: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Shows what an upload would do to a tenant, and then does it."""
    return _import(site, request, site.find(request, object_id))


@action(description="Import tenants", url_path="import", icon="upload", permissions=["add"])
def import_tenants(site: TenantAdmin, request: HttpRequest) -> HttpResponse:
    """The same for any tenants, new ones included."""
    return _import(site, request, None)


@action(description="Export", url_path="export", icon="download", permissions=["view"])
def export_files(site: TenantAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """The tenant's files, in an archive that an import takes back."""
    tenant = site.find(request, object_id)
    files = {f"{tenant.name}/{name}": text.encode() for name, text in tenant_export.files(tenant).items()}
    headers = {"Content-Disposition": f'attachment; filename="{tenant.name}{ARCHIVE_SUFFIX}"'}
    return HttpResponse(tenant_archives.pack(files), content_type="application/zip", headers=headers)


def _import(site: TenantAdmin, request: HttpRequest, tenant: Tenant | None) -> HttpResponse:
    try:
        if "fingerprint" in request.POST:
            return _carry_out(site, request, tenant)
        form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
        if form.is_valid():
            return _ask(site, request, tenant, _uploaded(form.cleaned_data["upload"]))
        return _page(site, request, tenant, form=form)
    except ImportRefused as refusal:
        return _page(site, request, tenant, form=UploadForm(), problems=_told(refusal.problems))


def _ask(
    site: TenantAdmin, request: HttpRequest, tenant: Tenant | None, files: Mapping[str, bytes], **context: Any
) -> HttpResponse:
    """Show the plan. Raises ImportRefused."""
    packed = tenant_archives.pack(files)
    # What comes back with the answer is read as an upload is.
    tenant_archives.unpack(packed, name=UPLOAD)
    plans = tenant_import.plan_of(_folders(files, tenant))
    shown = {
        "packed": base64.urlsafe_b64encode(packed).decode(),
        "fingerprint": tenant_import.fingerprint_of(plans),
    }
    context |= {
        "lines": [line for plan in plans for line in _lines(plan)],
        "is_empty": all(plan.is_empty for plan in plans),
        "confirmation": ConfirmForm(initial=shown),
        "names": list(files),
    }
    return _page(site, request, tenant, **context)


def _carry_out(site: TenantAdmin, request: HttpRequest, tenant: Tenant | None) -> HttpResponse:
    """Do what was planned; if that is not what would be done now, show the new plan. Raises ImportRefused."""
    try:
        packed = base64.urlsafe_b64decode(request.POST.get("packed", ""))
    except ValueError:
        packed = b""
    files = tenant_archives.unpack(packed, name=UPLOAD)
    try:
        fingerprint, who = request.POST["fingerprint"], request.user.get_username()
        plans = tenant_import.carry_out_planned(_folders(files, tenant), fingerprint, who=who)
    except PlanOutdated:
        return _ask(site, request, tenant, files, is_outdated=True)
    changed = {plan.wanted.name: plan for plan in plans if not plan.is_empty}
    for row in Tenant.objects.filter(name__in=changed):
        site.log_change(request, row, "\n".join(["Imported files.", *changed[row.name].changes]))
    site.message_user(request, "Imported." if changed else "Nothing to change.", messages.SUCCESS)
    page, args = ("change", [tenant.pk]) if tenant else ("changelist", [])
    return HttpResponseRedirect(reverse(f"admin:tenants_tenant_{page}", args=args))


def _folders(files: Mapping[str, bytes], tenant: Tenant | None) -> list[Folder[Unpacked]]:
    if tenant is None:
        return tenant_archives.folders_of_all(files)
    return tenant_archives.folders(files, tenant=tenant.name)


def _uploaded(files: Sequence[UploadedFile]) -> dict[str, bytes]:
    """The files of an upload, by path. Raises ImportRefused."""
    names = [str(file.name) for file in files]
    if names[0].lower().endswith(ARCHIVE_SUFFIX):
        return tenant_archives.unpack(files[0].read(), name=names[0])
    return {name: file.read() for name, file in zip(names, files, strict=True)}


def _lines(plan: TenantPlan) -> Iterator[Line]:
    """What a dry run prints."""
    texts = [*plan.lines(), *(f"  ! {warned}" for warned in tenant_import.further_warnings(plan))]
    for text in texts:
        yield Line(_KINDS.get(text.lstrip()[:1], "head"), text)


def _told(problems: Sequence[Problem]) -> list[dict[str, str]]:
    return [
        {
            "file": problem.file,
            "place": f"line {problem.position.line}, column {problem.position.column}" if problem.position else "",
            "json_path": problem.json_path,
            "message": problem.message,
        }
        for problem in problems
    ]


def _page(site: TenantAdmin, request: HttpRequest, tenant: Tenant | None, **context: Any) -> HttpResponse:
    title = "Import files" if tenant else "Import tenants"
    return site.page(request, tenant, "import_files", title=title, **context)


TenantAdmin.add_page(import_files)
TenantAdmin.add_page(export_files)
TenantAdmin.add_list_page(import_tenants)
