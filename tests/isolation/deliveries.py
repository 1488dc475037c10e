"""The doors of the admin's deliveries, and where a stranger tries them: rows of the table of attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventing.models import OutboxEvent, OutputRule
from tests.isolation.world import GUESSED, World

if TYPE_CHECKING:
    from collections.abc import Callable

_OUTBOX, _INBOX = "admin/eventing/outboxevent/", "admin/backend/operationrecord/"


def _replays(world: World) -> list[str]:
    queries = (
        f"ids={world.of_victim(OutboxEvent).pk}",
        "tenant=victim&status=delivered",
        f"tenant=victim&schema=petstore&key={GUESSED}",
        f"tenant=stranger&rule={world.of_victim(OutputRule).pk}",
        "status=delivered",
    )
    return [f"/{_OUTBOX}replay/?{query}" for query in queries]


def _timelines(_: World) -> list[str]:
    return [
        f"/{_OUTBOX}timeline/?tenant={tenant}&schema=petstore&key={key}{more}"
        for tenant in ("victim", "nobody", "")
        for key, more in ((GUESSED, ""), ("nothing", ""), (GUESSED, "&before=2999-01-01"))
    ]


DELIVERIES: dict[str, Callable[[World], list[str]]] = {
    f"{_OUTBOX}<path:object_id>/replay/": lambda world: [f"/{_OUTBOX}{world.of_victim(OutboxEvent).pk}/replay/"],
    f"{_OUTBOX}replay/": _replays,
    f"{_OUTBOX}timeline/": _timelines,
    f"{_INBOX}dead-letters/": lambda _: [f"/{_INBOX}dead-letters/"],
}
