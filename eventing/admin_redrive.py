"""The page of the admin for the input's dead-letter queue: how much waits there, and its way back."""

# Django's admin classes take type arguments in their stubs only, and its hooks more than each one needs.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from eventing import aws, redriving
from tenants.admin_scope import access_of

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from tenants.admin_scope import ModelAdmin

logger = logging.getLogger(__name__)

AT_MOST, PER_SECOND, SECONDS = 500, 50, 20
_FAULTS = (aws.QueueMissingError, *aws.ERRORS)


class RedriveForm(forms.Form):
    at_most = forms.IntegerField(
        label="Move at most",
        min_value=1,
        max_value=AT_MOST,
        initial=100,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=f"Messages, up to {AT_MOST}. Begin with a few: what fails again comes back.",
    )


def show(model_admin: ModelAdmin, request: HttpRequest) -> HttpResponse:
    """The queue is the platform's, and what is in it anybody's: only operators come here."""
    if not access_of(request).is_operator:
        raise PermissionDenied
    form = RedriveForm(request.POST or None)
    if form.is_valid():
        _redrive(model_admin, request, form.cleaned_data["at_most"])
        return HttpResponseRedirect(request.path)
    waiting, fault = _waiting()
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": "Dead-letter queue",
        "waiting": waiting,
        "fault": fault,
        "seconds": SECONDS,
        "per_second": PER_SECOND,
        "form": form,
    }
    return TemplateResponse(request, "admin/redrive.html", context)


def _waiting() -> tuple[int, str]:
    """About how many messages there are; or why nobody knows."""
    try:
        return redriving.waiting(aws.sqs_checks_client()), ""
    except _FAULTS as error:
        return 0, f"How many messages wait cannot be told. {told(error)}"


def _redrive(model_admin: ModelAdmin, request: HttpRequest, at_most: int) -> None:
    client = aws.sqs_checks_client()
    try:
        at_most = min(at_most, redriving.waiting(client))
        moved = redriving.redrive(at_most=at_most, per_second=PER_SECOND, seconds=SECONDS, client=client)
    except _FAULTS as error:
        text = f"It stopped: what had been moved by then stays moved, nothing is lost. {told(error)}"
        model_admin.message_user(request, text, messages.ERROR)
        return
    logger.info("%s moved %d messages from the dead-letter queue", request.user.get_username(), moved)
    words = "1 message was" if moved == 1 else f"{moved} messages were"
    model_admin.message_user(request, f"{words} moved back to the input queue.", messages.SUCCESS)


def told(error: Exception) -> str:
    """What AWS's client says, with what to do."""
    if isinstance(error, aws.QueueMissingError):
        return str(error)
    return f"SQS did not do what was asked: {error} See whether AWS can be reached, then try again."
