"""The second factor of a sign-in: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for its loss."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Any

import django_otp
import segno
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.safestring import mark_safe
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

RECOVERY_CODES = 10
_NAME = "default"


def is_verified(request: HttpRequest) -> bool:
    """Whether this session has given a second factor that its user still has."""
    device = Device.from_persistent_id(request.session.get(django_otp.DEVICE_ID_SESSION_KEY) or "")
    return device is not None and device.user_id == request.user.pk and device.confirmed


def is_wanting(request: HttpRequest) -> bool:
    """Whether this session has to give a second factor before it gets any further."""
    return (settings.BLOCKFORGER_REQUIRE_TWO_FACTOR or has_one(request.user)) and not is_verified(request)


def has_one(user: Any) -> bool:
    """Whether a user has set up an authenticator app."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).exists()


def begin(user: User) -> TOTPDevice:
    """The app that the user is about to set up: made now, or on an earlier visit of the page."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # of two pages at once, both show the same app
        return _begun(user.pk) or TOTPDevice.objects.create(user=user, confirmed=False, name=_NAME)


def finish(request: HttpRequest, code: str) -> list[str] | None:
    """Take the app into use if the code is its own. Gives the recovery codes, which are shown once."""
    with transaction.atomic():
        device = _begun(request.user.pk, TOTPDevice.objects.select_for_update())
        if device is None or not device.verify_token(code):
            return None
        TOTPDevice.objects.filter(user=request.user.pk).exclude(pk=device.pk).delete()
        device.confirmed = True
        device.save(update_fields=["confirmed"])
        codes = renew_recovery_codes(device.user)
    django_otp.login(request, device)
    request.session.cycle_key()
    return codes


def verify(request: HttpRequest, code: str) -> bool:
    """Let the session in if the code is the app's, or one of the recovery codes, which is used up by it.

    Each wrong code makes its device deaf for twice as long as the one before.
    """
    code = code.replace(" ", "").lower()
    kind = TOTPDevice if code.isdigit() and len(code) == 6 else StaticDevice
    with transaction.atomic():
        device = kind.objects.select_for_update().filter(user=request.user.pk, confirmed=True).first()
        if device is None or not device.verify_token(code):
            return False
    django_otp.login(request, device)
    request.session.cycle_key()
    return True


def renew_recovery_codes(user: User) -> list[str]:
    """Make new recovery codes; those before are void."""
    with transaction.atomic():
        StaticDevice.objects.filter(user=user).delete()
        device = StaticDevice.objects.create(user=user, name=_NAME)
        codes = [secrets.token_hex(8) for _ in range(RECOVERY_CODES)]
        for code in codes:
            device.token_set.create(token=code)
    return codes


def turn_off(user: User) -> None:
    """Forget the user's app and recovery codes."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()


def secret(device: TOTPDevice) -> str:
    """The app's secret as one types it, in groups of four."""
    text = base64.b32encode(device.bin_key).decode()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def qr_code(device: TOTPDevice) -> SafeString:
    """The app's secret as a picture for its camera, drawn here: nobody else is to know it."""
    drawn = segno.make(device.config_url, error="m").svg_inline(scale=5, border=4, dark="#000", light="#fff")
    return mark_safe(drawn)  # noqa: S308 - segno's own SVG


def _begun(user_id: int | None, devices: QuerySet[TOTPDevice] | None = None) -> TOTPDevice | None:
    """The app that the user is setting up. There may be more, made before they were made one after the other."""
    found = TOTPDevice.objects.all() if devices is None else devices
    return found.filter(user=user_id, confirmed=False).order_by("pk").first()
