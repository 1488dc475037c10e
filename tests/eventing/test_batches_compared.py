"""Whatever the operations: in one transaction each item sees what it would see one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from blockforger.backend.models import Item
from blockforger.backend.operations import Operation, execute, execute_batch
from eventing.models import OutboxEvent
from tenants import balances
from tenants.models import TokenAccount
from tests.cast import a_key, a_rule, a_schema, a_tenant
from tests.eventing.doors import an_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockforger.backend.outcomes import Outcome

pytestmark = pytest.mark.usefixtures("nudged")

REX = {"id": "1", "name": "Rex"}
_PAYLOADS = st.fixed_dictionaries(
    {"id": st.sampled_from(["1", "2", "3"])},
    optional={"name": st.sampled_from(["Rex", "Bella", 7]), "status": st.sampled_from(["sold", "none", None])},
)
# A method, a payload, the event's id, and whether the key is good.
_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "GET"]),
        _PAYLOADS,
        st.integers(0, 12),
        st.sampled_from([True, True, True, False]),
    ),
    max_size=14,
)


class OneByOneOrTogether(TestCase):
    @given(events=_EVENTS)
    # The second waits for the first, and the third overtakes it: it is of another item.
    @example(events=[("POST", REX, 1, True), ("PUT", REX, 2, True), ("POST", {**REX, "id": "2"}, 3, True)])
    def test_outcomes_items_bills_and_events_are_the_same(self, events: list[tuple[str, Any, int, bool]]) -> None:
        alone = _after("alone", lambda operations: [execute(one) for one in operations], events)
        together = _after("together", execute_batch, events)
        assert together == alone
        assert list(balances.discrepancies()) == []


def _after(
    name: str, run: Callable[[list[Operation]], Sequence[Outcome]], events: list[tuple[str, Any, int, bool]]
) -> list[Any]:
    """The outcomes of the events, and all that they left of a tenant of that name, the events by item."""
    tenant = a_tenant(name)
    a_schema(tenant)
    a_rule(tenant)
    key = a_key(tenant)
    outcomes = run(
        [
            an_event(key if is_good else "bf_unknown", method, payload, event_id=f"{name} {number}", tenant=name)
            for method, payload, number, is_good in events
        ]
    )
    outbox = OutboxEvent.objects.filter(tenant=tenant).order_by("item_key", "sequence")
    return [
        [(outcome.status, outcome.problem, outcome.item_key, outcome.tokens, outcome.repeated) for outcome in outcomes],
        list(Item.objects.filter(schema__tenant=tenant).order_by("key").values_list("key", "payload", "version")),
        list(TokenAccount.objects.filter(pk=tenant.pk).values_list("balance", "sequence")),
        [(event.item_key, event.detail_type, event.detail.replace(name, "")) for event in outbox],
    ]
