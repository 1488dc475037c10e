"""Celery's doors: each task calls one function."""

from __future__ import annotations

from celery import shared_task

from blockforger.backend import item_indexes


# Building an index of many items takes longer than other tasks may.
@shared_task(name="backend.tasks.sync_item_indexes", ignore_result=True, soft_time_limit=6 * 3600, time_limit=7 * 3600)
def sync_item_indexes() -> None:
    """Make and drop the indexes of items, as schemas want them now."""
    item_indexes.sync()
