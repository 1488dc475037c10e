"""Getting into the admin: by password, not tried without end, and by a second factor."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from tenants import sign_ins
from tests.admin_pages import act, text_of

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

LOGIN, TENANTS = "/admin/login/", "/admin/tenants/tenant/"
FACTOR, SET_UP = "/admin/two-factor/", "/admin/two-factor/set-up/"


@pytest.fixture
def user() -> User:
    return User.objects.create_superuser("ada", password="right")


def sign_in(client: Client, password: str = "right", username: str = "ada", address: str = "10.0.0.1") -> Any:
    data = {"username": username, "password": password, "next": TENANTS}
    return client.post(LOGIN, data, REMOTE_ADDR=address, follow=True)


def code_of(user: User, *, ahead: int = 0) -> str:
    """What the user's app shows; of the next half minute, if the present one's code was used."""
    device = TOTPDevice.objects.get(user=user)
    totp = TOTP(device.bin_key, drift=device.drift)
    totp.time = time.time() + 30 * ahead
    return f"{totp.token():06}"


def set_up(client: Client, user: User) -> list[str]:
    """Set up the user's app. Gives the recovery codes."""
    page = text_of(client.get(SET_UP))
    assert "<svg" in page
    answer = text_of(client.post(SET_UP, {"code": code_of(user)}))
    return re.findall(r"\b[0-9a-f]{16}\b", answer)


class TestPasswords:
    def test_the_right_one_lets_in(self, user: User) -> None:
        assert sign_in(Client()).request["PATH_INFO"] == TENANTS

    def test_a_name_is_not_tried_without_end_at_one_address(self, user: User) -> None:
        for _ in range(sign_ins.OF_A_NAME_AT_AN_ADDRESS.quota):
            assert "tried too often" not in text_of(sign_in(Client(), "wrong"))
        # Also with the right password, and however the name is written.
        for name in ("ada", "ADA"):
            assert "tried too often" in text_of(sign_in(Client(), username=name))
        assert sign_in(Client(), address="10.0.0.2").request["PATH_INFO"] == TENANTS

    def test_nor_from_everywhere(self, user: User) -> None:
        answers = [
            text_of(sign_in(Client(), "wrong", address=f"10.0.{number}.1"))
            for number in range(sign_ins.OF_A_NAME.quota + 1)
        ]
        assert ["tried too often" in answer for answer in answers] == [*[False] * sign_ins.OF_A_NAME.quota, True]

    def test_a_session_is_the_admins_alone_and_ends(self, user: User, settings: Settings) -> None:
        client = Client()
        sign_in(client)
        cookie = client.cookies["sessionid"]
        assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/admin/", True, "Lax")
        assert cookie["max-age"] == 12 * 3600


class TestTheSecondFactor:
    def test_it_is_asked_for_from_then_on(self, user: User) -> None:
        client = Client()
        sign_in(client)
        set_up(client, user)
        assert client.get(TENANTS).status_code == 200
        other = Client()
        assert sign_in(other).request["PATH_INFO"] == FACTOR
        for path in (TENANTS, "/admin/", "/admin/search/?s=a", "/admin/autocomplete/"):
            assert other.get(path).status_code == 302
        assert other.post(f"{FACTOR}turn-off/").status_code == 302
        assert other.post(f"{FACTOR}recovery-codes/").status_code == 302
        assert TOTPDevice.objects.filter(confirmed=True).count() == 1
        answer: Any = other.post(f"{FACTOR}?next={TENANTS}", {"code": code_of(user, ahead=1)}, follow=True)
        assert answer.request["PATH_INFO"] == TENANTS

    def test_who_has_no_code_logs_out(self, user: User) -> None:
        client = Client()
        sign_in(client)
        set_up(client, user)
        for browser in (client, Client()):
            sign_in(browser)
            assert 'action="/admin/logout/"' in text_of(browser.get(FACTOR if browser is not client else TENANTS))
            browser.post("/admin/logout/", follow=True)
            assert "sessionid" not in browser.cookies or not browser.cookies["sessionid"].value
            assert browser.get(FACTOR)["Location"].startswith(LOGIN)
        assert Client().post("/admin/logout/", follow=True).status_code == 200

    def test_pages_that_are_opened_twice_set_up_one_app(self, user: User) -> None:
        client = Client()
        sign_in(client)
        pages = [text_of(client.get(SET_UP)) for _ in range(2)]
        # As two pages at the same moment made them.
        TOTPDevice.objects.create(user=user, name="default", confirmed=False)
        pages.append(text_of(client.get(SET_UP)))
        secrets = {page.split("<svg")[1].split("</svg>")[0] for page in pages}
        assert len(secrets) == 1
        first = TOTPDevice.objects.earliest("pk")
        code = f"{TOTP(first.bin_key).token():06}"
        assert len(re.findall(r"\b[0-9a-f]{16}\b", text_of(client.post(SET_UP, {"code": code})))) == 10
        assert TOTPDevice.objects.get() == first

    def test_no_code_is_taken_twice(self, user: User) -> None:
        client, other = Client(), Client()
        sign_in(client)
        client.get(SET_UP)
        code = code_of(user)
        client.post(SET_UP, {"code": code})
        sign_in(other)
        assert "not right, or was used before" in text_of(other.post(FACTOR, {"code": code}))
        assert other.get(TENANTS).status_code == 302

    def test_wrong_codes_make_the_right_one_wait(self, user: User) -> None:
        client, other = Client(), Client()
        sign_in(client)
        set_up(client, user)
        sign_in(other)
        other.post(FACTOR, {"code": "000000"})
        other.post(FACTOR, {"code": "000000"})
        assert "not right" in text_of(other.post(FACTOR, {"code": code_of(user, ahead=1)}))

    def test_a_recovery_code_lets_in_once(self, user: User) -> None:
        client = Client()
        sign_in(client)
        codes = set_up(client, user)
        assert len(codes) == 10
        for expected in (True, False):
            other = Client()
            sign_in(other)
            other.post(FACTOR, {"code": codes[0]})
            assert (other.get(TENANTS).status_code == 200) is expected
        assert StaticToken.objects.count() == 9

    def test_new_recovery_codes_make_the_old_void(self, user: User) -> None:
        client = Client()
        sign_in(client)
        old = set_up(client, user)
        new = re.findall(r"\b[0-9a-f]{16}\b", text_of(client.post(f"{FACTOR}recovery-codes/")))
        assert len(new) == 10
        assert not set(old) & set(new)
        other = Client()
        sign_in(other)
        other.post(FACTOR, {"code": old[0]})
        assert other.get(TENANTS).status_code == 302

    def test_a_wrong_code_sets_up_nothing(self, user: User) -> None:
        client = Client()
        sign_in(client)
        client.get(SET_UP)
        assert "not right" in text_of(client.post(SET_UP, {"code": "abc"}))
        assert not TOTPDevice.objects.filter(confirmed=True).exists()

    def test_it_can_be_turned_off_unless_it_is_demanded(self, user: User, settings: Settings) -> None:
        client = Client()
        sign_in(client)
        set_up(client, user)
        settings.BLOCKFORGER_REQUIRE_TWO_FACTOR = True
        client.post(f"{FACTOR}turn-off/")
        assert TOTPDevice.objects.exists()
        settings.BLOCKFORGER_REQUIRE_TWO_FACTOR = False
        client.post(f"{FACTOR}turn-off/")
        assert not TOTPDevice.objects.exists()
        assert sign_in(Client()).request["PATH_INFO"] == TENANTS

    def test_an_operator_can_demand_it_of_all(self, user: User, settings: Settings) -> None:
        settings.BLOCKFORGER_REQUIRE_TWO_FACTOR = True
        client = Client()
        assert sign_in(client).request["PATH_INFO"] == SET_UP
        assert client.get(TENANTS).status_code == 302
        set_up(client, user)
        assert client.get(TENANTS).status_code == 200

    def test_strangers_are_asked_for_the_password_first(self, user: User) -> None:
        for path in (FACTOR, SET_UP):
            assert Client().get(path)["Location"].startswith(LOGIN)

    def test_an_operator_forgets_the_factor_of_who_has_lost_it(self, user: User, admin_client: Client) -> None:
        client = Client()
        sign_in(client)
        set_up(client, user)
        assert "Second factors forgotten: 1." in text_of(act(admin_client, "forget_second_factor", user))
        assert sign_in(Client()).request["PATH_INFO"] == TENANTS

    def test_nobody_is_sent_elsewhere(self, user: User) -> None:
        client = Client()
        sign_in(client)
        set_up(client, user)
        other = Client()
        sign_in(other)
        answer = other.post(f"{FACTOR}?next=https://evil.example/", {"code": code_of(user, ahead=1)})
        assert answer["Location"] == "/admin/"


def test_no_page_of_the_admin_takes_a_script_from_elsewhere(admin_client: Client) -> None:
    for client, path in ((Client(), LOGIN), (admin_client, "/admin/"), (admin_client, TENANTS), (admin_client, SET_UP)):
        policy = client.get(path)["Content-Security-Policy"]
        assert "script-src 'self' 'unsafe-eval';" in policy
        assert "default-src 'none'" in policy


@pytest.mark.parametrize("page", ["x", "0", "99", "1.0", "9" * 5000])
def test_a_page_of_what_is_searched_that_is_none_is_not_there(admin_client: Client, page: str) -> None:
    assert admin_client.get("/admin/search/?s=a").status_code == 200
    assert admin_client.get("/admin/search/", {"s": "a", "page": page}).status_code == 404


def test_the_api_is_answered_without_any_of_it(client: Client) -> None:
    answer = client.get("/api/mytenant/petstore")
    assert answer.status_code == 401
    assert "Content-Security-Policy" not in answer
    assert not answer.cookies
