from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from blockforger.backend import item_indexes


class Command(BaseCommand):
    help = (
        "Make the indexes that schemas list in their meta ({'indexes': ['price', 'owner.name']}), and drop those that "
        "none lists any more. No writer waits, and a run that was interrupted is made good by the next one. Celery's "
        "beat does the same every minute. Prints the names of the indexes made and dropped. On SQLite there is "
        "nothing to do."
    )

    def handle(self, **_: Any) -> None:
        changes = item_indexes.sync()
        if changes.is_busy:
            raise CommandError("Another process is making indexes. Try again when it is done.")
        for name in changes.dropped:
            self.stdout.write(f"- {name}")
        for name in changes.made:
            self.stdout.write(f"+ {name}")
        if changes.left_out:
            raise CommandError(
                f"{len(changes.left_out)} indexes are left out: BLOCKFORGER_MAX_ITEM_INDEXES allows no more."
            )
