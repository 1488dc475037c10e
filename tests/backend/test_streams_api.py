"""Streams of lines: each answered, committed in parts, and never in memory as a whole."""

from __future__ import annotations

import gc
import gzip
import io
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from blockforger.backend import settlements, signals, streams
from blockforger.backend.models import Item, Schema
from blockforger.backend.streams import Line
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import LedgerEntry, TokenAccount
from tests.cast import a_key, a_rule, a_schema, a_tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_django import Settings

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudged")]

PETS = "/api/mytenant/petstore"
NDJSON = "application/x-ndjson"


@pytest.fixture
def client() -> APIClient:
    tenant = a_tenant(tokens=1_000_000)
    a_schema(tenant)
    a_rule(tenant)
    return APIClient(headers={"X-API-Key": a_key(tenant)})


def send(client: Any, method: str, body: bytes, **headers: str) -> Any:
    return client.generic(method, PETS, body, content_type=NDJSON, headers=headers)


def lines_of(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def results(answer: Any) -> list[dict[str, Any]]:
    assert (answer.status_code, answer["Content-Type"]) == (200, NDJSON)
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


def statuses(answer: Any) -> list[tuple[int, int]]:
    return [(result["line"], result["status"]) for result in results(answer)]


def test_each_line_is_an_operation_with_a_result(client: APIClient) -> None:
    made = results(send(client, "POST", lines_of({"id": "a", "name": "A"}, {"id": "b", "name": 7}, {"name": "C"})))
    assert [result["status"] for result in made] == [201, 400, 201]
    assert (made[0]["line"], made[0]["key"]) == (1, "a")
    assert made[0]["etag"] == client.get(f"{PETS}/a")["ETag"]
    assert made[1]["problem"]["errors"][0]["pointer"] == "/name"
    changed = send(client, "PATCH", lines_of({"id": "a", "status": "sold"}, {"id": "none", "name": "x"}, {"name": "x"}))
    assert statuses(changed) == [(1, 200), (2, 404), (3, 400)]
    assert client.get(f"{PETS}/a").json() == {"id": "a", "name": "A", "status": "sold"}
    assert statuses(send(client, "DELETE", lines_of("a", "none", {"id": "a"}, True))) == [
        (1, 204),
        (2, 404),
        (3, 400),
        (4, 400),
    ]
    assert Item.objects.count() == 1
    assert list(LedgerEntry.objects.filter(kind="debit", sequence__isnull=False).values_list("amount", "sequence")) == [
        (-10, sequence) for sequence in (4, 3, 2, 1)
    ]
    assert list(balances.discrepancies()) == []


def test_lines_of_one_item_follow_each_other(client: APIClient) -> None:
    answer = send(client, "PATCH", lines_of({"id": "a", "n": 1}, {"id": "a", "n": 2}, {"id": "a", "n": 3}))
    assert statuses(answer) == [(1, 404), (2, 404), (3, 404)]
    assert statuses(send(client, "POST", lines_of({"id": "a", "name": "x"}))) == [(1, 201)]
    changed = send(client, "PATCH", lines_of({"id": "a", "n": 1}, {"id": "a", "n": 2}, {"id": "a", "n": 3}))
    assert statuses(changed) == [(1, 200), (2, 200), (3, 200)]
    payloads = [json.loads(event.detail)["payload"] for event in OutboxEvent.objects.order_by("sequence")]
    assert [payload.get("n") for payload in payloads] == [None, 1, 2, 3]
    assert Item.objects.get().payload["n"] == 3


def test_integer_keys_can_be_deleted_as_integers(client: APIClient) -> None:
    Schema.objects.update(document='{"type": "object", "properties": {"id": {"type": "integer"}}}')
    made = send(client, "POST", lines_of({"id": 5}, {"id": 6}, {"id": 1255}, {}))
    assert statuses(made) == [(1, 201), (2, 201), (3, 201), (4, 400)]
    deleted = send(client, "DELETE", b'5\n"6"\n1255.0\n1255.5\n""\n"$x"')
    assert statuses(deleted) == [(1, 204), (2, 204), (3, 204), (4, 400), (5, 404), (6, 404)]


def test_blank_lines_have_numbers_and_no_results(client: APIClient) -> None:
    body = b'\n{"id": "a", "name": "x"}\r\n   \n{"id": "b", "name": "x"}'
    assert statuses(send(client, "POST", body)) == [(2, 201), (4, 201)]
    assert results(send(client, "POST", b"")) == []


def test_a_line_that_cannot_be_read_is_one_lines_error(client: APIClient, settings: Settings) -> None:
    settings.BLOCKFORGER_MAX_EVENT_BYTES = 200_000
    too_long = b'{"id": "c", "name": "' + b"x" * 500_000 + b'"}'
    lines = [b"{", b'{"id": "a", "name": NaN}', b"\xff", too_long, b'{"id": "b", "name": "x"}', too_long]
    made = results(send(client, "POST", b"\n".join(lines)))
    assert [result["status"] for result in made] == [400, 400, 400, 413, 201, 413]
    assert [result["line"] for result in made] == [1, 2, 3, 4, 5, 6]


def test_a_balance_pays_as_far_as_it_goes(client: APIClient) -> None:
    TokenAccount.objects.update(balance=25)
    body = lines_of(*({"id": str(number), "name": "x"} for number in range(4)))
    assert [status for _, status in statuses(send(client, "POST", body))] == [201, 201, 402, 402]
    assert TokenAccount.objects.get().balance == 5


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"X-API-Key": ""}, 401, "api-key-missing"),
        ({"X-API-Key": "bf_1_2"}, 401, "api-key-invalid"),
        ({"Idempotency-Key": "once"}, 400, "malformed"),
        ({"If-Match": "*"}, 400, "malformed"),
    ],
)
def test_what_would_refuse_every_line_refuses_the_stream_unread(
    client: APIClient, headers: dict[str, str], status: int, code: str
) -> None:
    answer = send(client, "POST", lines_of({"id": "a", "name": "x"}), **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"
    assert not Item.objects.exists()


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip"])
def test_a_stream_with_an_encoding_is_refused_unread(client: APIClient, encoding: str) -> None:
    body = gzip.compress(lines_of({"id": "a", "name": "x"}))
    answer = send(client, "POST", body, **{"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")
    assert (answer["Content-Type"], answer["Accept-Encoding"]) == ("application/problem+json", "identity")
    assert send(APIClient(), "POST", body, **{"Content-Encoding": encoding}).status_code == 401


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_a_stream_as_it_is_has_no_encoding(client: APIClient, encoding: str) -> None:
    answer = send(client, "POST", lines_of({"id": "a", "name": "x"}), **{"Content-Encoding": encoding})
    assert statuses(answer) == [(1, 201)]


def test_a_stranger_does_not_learn_what_is_wrong_with_his_headers(client: APIClient) -> None:
    assert send(APIClient(), "POST", b"{}", **{"Idempotency-Key": "once"}).status_code == 401


def test_an_unknown_schema_and_one_that_demands_if_match_refuse_the_stream(client: Any) -> None:
    assert client.generic("POST", "/api/mytenant/nope", b"{}", content_type=NDJSON).status_code == 404
    Schema.objects.update(meta={"require_if_match": True})
    assert send(client, "PATCH", lines_of({"id": "a"})).json()["code"] == "precondition-missing"
    assert statuses(send(client, "POST", lines_of({"id": "a", "name": "x"}))) == [(1, 201)]


def test_other_methods_and_urls_take_no_stream(client: Any) -> None:
    assert send(client, "PUT", b"{}").status_code == 405
    assert client.generic("PUT", f"{PETS}/a", b"{}", content_type=NDJSON).status_code == 415


def test_lines_whose_events_are_too_much_for_one_transaction_take_several(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "MAX_TOLD_BYTES", 4000)  # two or three events
    values = [{"id": str(number), "name": "x" * (4000 if number == 3 else 1)} for number in range(7)]
    answer = send(client, "POST", lines_of(*values))
    assert statuses(answer) == [(line, 413 if line == 4 else 201) for line in range(1, 8)]
    assert OutboxEvent.objects.count() == Item.objects.count() == 6


def test_a_fault_ends_the_stream_and_leaves_what_was_committed(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CHUNK_LINES", 2)
    settle = settlements.settle
    left = iter([None, None])

    def failing(*args: Any) -> Any:
        try:
            next(left)
        except StopIteration:
            raise OperationalError("the connection is lost") from None
        return settle(*args)

    monkeypatch.setattr(settlements, "settle", failing)
    body = lines_of(*({"id": str(number), "name": "x"} for number in (1, 2, 3, 3, 5, 6)))
    made = results(send(client, "POST", body))
    # 3 was committed, and its repetition struck
    assert [(result["line"], result["status"]) for result in made] == [(1, 201), (2, 201), (3, 201), (4, 503)]
    assert made[-1]["problem"]["code"] == "database-unavailable"
    assert Item.objects.count() == 3


def test_a_stream_ends_after_too_many_lines_that_are_refused(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CHUNK_LINES", 2)
    monkeypatch.setattr(streams, "MAX_REFUSED", 3)
    good = [{"id": str(number), "name": "x"} for number in range(3)]
    *made, end = results(send(client, "POST", b"\n" + lines_of(1, good[0], 1, good[1], good[0], good[2], 1)))
    # What was carried out together is told.
    told = [(2, 400), (3, 201), (4, 400), (5, 201), (6, 409), (7, 201)]
    assert [(result["line"], result["status"]) for result in made] == told
    assert (end["line"], end["status"], end["problem"]["code"], end["problem"]["limit"]) == (8, 400, "malformed", 3)
    assert end["problem"]["detail"].startswith("The stream ends here, because 3 of its lines were refused.")
    assert Item.objects.count() == 3


def test_a_stream_that_is_over_by_then_is_answered_as_any(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_REFUSED", 3)
    assert statuses(send(client, "POST", b"1\n1\n1\n")) == [(1, 400), (2, 400), (3, 400)]


def test_the_answer_to_lines_of_two_bytes_has_an_end(client: APIClient) -> None:
    """A megabyte of them would be answered with a hundred."""
    made = results(send(client, "POST", b"1\n" * 500_000))
    assert [result["line"] for result in made] == list(range(1, streams.MAX_REFUSED + 2))
    assert "10,000 of its lines were refused" in made[-1]["problem"]["detail"]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 65536])
def test_lines_are_found_wherever_blocks_end(block: int, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.BLOCKFORGER_MAX_EVENT_BYTES = 4
    monkeypatch.setattr(streams, "_BLOCK", block)
    found = list(streams.lines(io.BytesIO(b"1234\n\n12345\n1\n123456789\n12"), length=26))
    assert found == [Line(1, b"1234"), Line(3, None), Line(4, b"1"), Line(5, None), Line(6, b"12")]


@pytest.mark.parametrize("length", [None, 9, 11])
@pytest.mark.parametrize(
    ("body", "last"), [(b"1\n2\n345\n\n", Line(3, b"345")), (b"1\n2\n345678", Line(3, b"345678", is_cut=True))]
)
def test_a_last_line_without_a_newline_is_cut_unless_the_stream_is_whole(
    body: bytes, last: Line, length: int | None
) -> None:
    assert list(streams.lines(io.BytesIO(body), length=length))[2:] == [last]
    assert list(streams.lines(io.BytesIO(body), length=len(body)))[2:] == [last._replace(is_cut=False)]


CHUNKED = {"Transfer-Encoding": "chunked"}


def cut(client: Any, method: str, body: bytes, **sent: Any) -> Any:
    """Send what ends early: Django, and the server below it, give what has come."""
    return client.generic(method, PETS, content_type=NDJSON, **{"wsgi.input": io.BytesIO(body), **sent})


@pytest.mark.parametrize(
    "sent",
    [
        {"CONTENT_LENGTH": "5"},
        {"headers": CHUNKED, "wsgi.input_terminated": True},
        {"headers": CHUNKED, "wsgi.input_terminated": True, "CONTENT_LENGTH": "4"},
    ],
    ids=["short", "chunked", "chunked with a length"],
)
def test_a_line_that_the_stream_ends_in_is_not_carried_out(client: APIClient, sent: dict[str, Any]) -> None:
    made = send(client, "POST", lines_of({"id": "1", "name": "x"}, {"id": "12", "name": "x"}))
    assert statuses(made) == [(1, 201), (2, 201)]
    before = TokenAccount.objects.get().balance
    first, last = results(cut(client, "DELETE", b"1\n12", **sent))
    assert (first["status"], last["line"], last["status"]) == (204, 2, 400)
    assert "ends in the middle of this line" in last["problem"]["detail"]
    assert list(Item.objects.values_list("key", flat=True)) == ["12"]
    assert TokenAccount.objects.get().balance == before - 10
    made = cut(client, "POST", b'\n{"id": "1", "name": "x"}', **{**sent, "CONTENT_LENGTH": "26"})
    assert statuses(made) == [(2, 400)]
    changed = cut(client, "PATCH", b'{"id": "12", "name": "y"}', **{**sent, "CONTENT_LENGTH": "26"})
    assert statuses(changed) == [(1, 400)]


def test_a_stream_in_chunks_ends_with_a_newline(client: APIClient) -> None:
    body = lines_of({"id": "1", "name": "x"}, {"id": "2", "name": "x"})
    sent = {"headers": CHUNKED, "wsgi.input_terminated": True}
    assert statuses(cut(client, "POST", body, **sent)) == [(1, 201), (2, 201)]


@pytest.mark.parametrize(
    ("lengths", "chunks"),
    [([], []), ([1] * 5, [3, 2]), ([60, 60, 10], [1, 2]), ([500, 1, 500], [1, 1, 1]), ([50, 50, 1], [2, 1])],
)
def test_chunks_are_few_lines_and_few_bytes(
    lengths: Sequence[int], chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CHUNK_LINES", 3)
    monkeypatch.setattr(streams, "CHUNK_BYTES", 100)
    made = streams._chunks(Line(number, b"x" * length) for number, length in enumerate(lengths))
    assert [len(chunk) for chunk in made] == chunks


def test_a_stream_is_never_in_memory_as_a_whole(client: Any) -> None:
    """Eighty megabytes of it, from a file that makes them as it is read."""

    class Endless(io.RawIOBase):
        left = 80
        line = json.dumps({"id": "x", "name": "y" * 1_000_000}).encode() + b"\n"

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if not self.left:
                return 0
            self.left -= 1
            buffer[: len(self.line)] = self.line
            return len(self.line)

    body = io.BufferedReader(Endless(), buffer_size=2_000_000)
    gc.disable()  # what was refused goes by itself
    tracemalloc.start()
    try:
        answer = client.post(
            PETS, b"", content_type=NDJSON, **{"wsgi.input": body, "CONTENT_LENGTH": str(80 * len(Endless.line))}
        )
        assert [status for _, status in statuses(answer)] == [201] + [409] * 79
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.enable()
    assert peak < 40_000_000
