"""The verdict on made-up runs: content with a good one, and with none in which something was broken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.buses import BUSES
from tests.chaos.observations import Acceptance, Entry, Observations, Record, Rule, Sent, Write
from tests.chaos.verdict import delays_of_duplicates, violations

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = frozenset({"POST", "PUT", "PATCH", "DELETE"})
RULES = [
    Rule(BUSES[0], "{schema_id}.{operation}", ALL, frozenset({"pets"})),
    Rule(BUSES[0], "again.{operation}", frozenset({"POST"}), frozenset({"pets"})),
    Rule(BUSES[1], "{schema_id}.{operation}", ALL, frozenset({"pets"})),
]


def write(number: int, method: str, status: int | None, key: str = "1", **members: Any) -> Write:
    return Write(
        marker=f"w{number}",
        tenant="alpha",
        schema="pets",
        method=method,
        key=key,
        payload={"id": key, "marker": f"w{number}", **members},
        may_be=frozenset({200, 201, 204, 404, 409}),
        started=number,
        ended=None if status is None else number + 0.5,
        status=status,
    )


def events_of(done: Write, sequence: int) -> list[Acceptance]:
    payload = {"id": done.key} if done.method == "DELETE" else done.payload
    detail = {"tenant": "alpha", "rootSchema": "pets", "operation": done.method, "payload": payload}
    return [
        Acceptance(
            bus=rule.bus,
            item=f"urn:blockforger:item:alpha:pets:{done.key}",
            event=f"{sequence}-{place}",
            sequence=sequence,
            detail_type=detail_type,
            detail=detail,
        )
        for place, rule in enumerate(RULES)
        if (detail_type := rule.type_of(done.method, "pets"))
    ]


def entry(sequence: int, method: str) -> Entry:
    return Entry("alpha", "debit", -10, f"operation {sequence}", sequence, f"{method} pets")


@pytest.fixture
def seen() -> Observations:
    """REST: a POST, a PUT, a refused POST, a DELETE and one without an answer; by event: a POST, and a refused one."""
    done = [write(1, "POST", 201), write(2, "PUT", 200), write(4, "DELETE", 204)]
    by_event = [write(5, "POST", None, key="2"), write(6, "POST", None, key="2")]
    return Observations(
        rules={"alpha": RULES},
        writes=[*done, write(3, "POST", 409), write(7, "POST", None, key="3")],
        sent=[Sent("e1", by_event[0]), Sent("e2", by_event[1], copies=2)],
        acceptances=[
            acceptance
            for sequence, each in enumerate([*done, by_event[0]], 1)
            for acceptance in events_of(each, sequence)
        ],
        entries=[
            Entry("alpha", "top_up", 100, "opening", None, "opening"),
            *(entry(n, method) for n, method in enumerate(["POST", "PUT", "DELETE", "POST"], 1)),
        ],
        records=[Record("e1", 201, 10, "operation 4"), Record("e2", 409, 0, "operation of e2")],
        items={("alpha", "pets", "2"): by_event[0].payload},
        balances={"alpha": 60},
        unreadable=["rubbish"],
        dead_letters=["rubbish"],
    )


def test_a_good_run_is_in_order(seen: Observations) -> None:
    assert violations(seen) == []


def test_a_late_duplicate_is_in_order(seen: Observations) -> None:
    """At least once: what was accepted and not answered is sent again, after later ones perhaps."""
    seen.acceptances[0] = replace(seen.acceptances[0], is_in_doubt=True)
    seen.acceptances.append(seen.acceptances[0])
    assert violations(seen) == []


@pytest.mark.parametrize("struck", ["publisher-1", ""])
def test_a_duplicate_after_a_kill_is_in_order(seen: Observations, struck: str) -> None:
    seen.acceptances[0] = replace(seen.acceptances[0], process="publisher-1", at=5.0)
    seen.acceptances.append(replace(seen.acceptances[0], process="publisher-2", at=40.0))
    seen.strikes = {struck: [5.5]}
    assert violations(seen) == []


def test_a_write_without_an_answer_may_have_been_carried_out(seen: Observations) -> None:
    unknown = seen.writes[-1]
    seen.acceptances += events_of(unknown, 5)
    seen.entries.append(entry(5, "POST"))
    seen.items["alpha", "pets", "3"] = unknown.payload
    seen.balances["alpha"] = 50
    assert violations(seen) == []


def test_the_window_in_which_an_event_is_sent_twice_is_measured(seen: Observations) -> None:
    first = seen.acceptances[0]
    assert delays_of_duplicates(seen.acceptances) == []
    assert delays_of_duplicates([first, replace(first, at=1.5), replace(first, at=4.0)]) == [1.5, 2.5]


def lose_an_event(seen: Observations) -> None:
    del seen.acceptances[2]


def send_an_event_twice_for_no_reason(seen: Observations) -> None:
    seen.acceptances.append(seen.acceptances[0])


def lose_a_write(seen: Observations) -> None:
    """Answered with 2xx, and gone without a trace: not even the ledger knows it."""
    seen.writes.append(write(8, "POST", 201, key="8"))


def swap_two_writes(seen: Observations) -> None:
    order = seen.acceptances
    order[0], order[3] = order[3], order[0]


def swap_two_rules(seen: Observations) -> None:
    order = seen.acceptances
    order[0], order[1] = order[1], order[0]


def publish_a_refused_write(seen: Observations) -> None:
    seen.acceptances += events_of(seen.writes[3], 5)
    seen.entries.append(entry(5, "POST"))
    seen.balances["alpha"] = 50


def publish_without_a_ledger_entry(seen: Observations) -> None:
    seen.acceptances += events_of(seen.writes[-1], 5)


def publish_under_two_ids(seen: Observations) -> None:
    seen.acceptances.append(replace(seen.acceptances[0], event="another"))


def carry_an_event_out_twice(seen: Observations) -> None:
    again = seen.sent[0].write
    seen.acceptances += events_of(again, 5)
    seen.entries.append(entry(5, "POST"))
    seen.balances["alpha"] = 50


def bill_an_event_twice(seen: Observations) -> None:
    seen.entries.append(Entry("alpha", "debit", -10, "operation 4", None, "POST pets"))
    seen.balances["alpha"] = 50


def lose_an_input_event(seen: Observations) -> None:
    del seen.records[1]


def swallow_an_effect(seen: Observations) -> None:
    """The record says that it was carried out, and nothing was."""
    del seen.entries[-1], seen.acceptances[-3:], seen.items["alpha", "pets", "2"]
    seen.balances["alpha"] = 70


def lose_an_item(seen: Observations) -> None:
    seen.items.clear()


def keep_a_deleted_item(seen: Observations) -> None:
    seen.items["alpha", "pets", "1"] = seen.writes[1].payload


def lose_a_deletion(seen: Observations) -> None:
    seen.writes.append(write(9, "DELETE", 204, key="2"))


def take_tokens_without_an_entry(seen: Observations) -> None:
    seen.balances["alpha"] -= 10


def leave_a_gap_in_the_sequence(seen: Observations) -> None:
    seen.entries[-1] = replace(seen.entries[-1], sequence=6)


def commit_against_the_order_of_answers(seen: Observations) -> None:
    seen.writes[0].started = 10.0


def leave_an_event_pending(seen: Observations) -> None:
    seen.undelivered = {"pending": 1}


def leave_a_message(seen: Observations) -> None:
    seen.left_in_queue = ["{}"]


def give_up_a_readable_message(seen: Observations) -> None:
    seen.dead_letters.append("{}")


def answer_something_unheard_of(seen: Observations) -> None:
    seen.writes[-1].status = 500


def read_for_nothing(seen: Observations) -> None:
    seen.reads.append(replace(write(10, "GET", 200)))


@pytest.mark.parametrize(
    ("break_it", "begins"),
    [
        (lose_an_event, "lost: write 1 of alpha has no pets.POST on two"),
        (send_an_event_twice_for_no_reason, "duplicates: 1 of 11 events"),
        (lose_a_write, "lost: POST w8 was answered 201 and has no event"),
        (swap_two_writes, "order: "),
        (swap_two_rules, "order: "),
        (publish_a_refused_write, "refused: POST w3 was answered 409 and has an event"),
        (publish_without_a_ledger_entry, "events: alpha has an event of write 5"),
        (publish_under_two_ids, "events: write 1 of alpha came out as two events on one"),
        (carry_an_event_out_twice, "input: the event e1 became 201 with 2 effects"),
        (bill_an_event_twice, "input: the event e1 became 201 with 2 debits"),
        (lose_an_input_event, "input: the event e2 (POST w6) has no outcome"),
        (swallow_an_effect, "input: the event e1 became 201 with 0 debits"),
        (lose_an_item, "items: ('alpha', 'pets', '2') is None"),
        (keep_a_deleted_item, "items: ('alpha', 'pets', '1') is {"),
        (lose_a_deletion, "deletes: ('alpha', 'pets', '2') has events of 0 deletes; 1 were carried out"),
        (take_tokens_without_an_entry, "money: alpha has 50, its ledger adds up to 60"),
        (leave_a_gap_in_the_sequence, "clock: alpha has gaps"),
        (commit_against_the_order_of_answers, "clock: write 1 of alpha began after a later one"),
        (leave_an_event_pending, "drain: 1 events of the outbox are pending"),
        (leave_a_message, "drain: 1 messages are still in the queue"),
        (give_up_a_readable_message, "drain: 2 dead letters, but 1 messages cannot be read"),
        (answer_something_unheard_of, "answer: POST w7 was answered 500"),
        (read_for_nothing, "money: alpha paid for 0 reads, and 1 were answered"),
    ],
)
def test_a_broken_run_is_found_out(seen: Observations, break_it: Callable[[Observations], None], begins: str) -> None:
    break_it(seen)
    assert [text for text in violations(seen) if text.startswith(begins)], violations(seen)
