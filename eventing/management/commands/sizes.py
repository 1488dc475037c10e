from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from eventing import sizes


class Command(BaseCommand):
    help = (
        "Show how large the tables are that grow with the traffic: rows (PostgreSQL's own estimate; '-' until the "
        "table was first analyzed), bytes with indexes ('-' on SQLite) and the time of the oldest row."
    )

    def handle(self, **_: Any) -> None:
        self._line("table", "rows", "bytes", "oldest row")
        for size in sizes.of_tables():
            oldest = size.oldest.isoformat(sep=" ", timespec="seconds") if size.oldest else "-"
            self._line(size.name, _number(size.rows), _number(size.bytes), oldest)
        self._line("whole database", "", _number(sizes.of_database()), "")

    def _line(self, table: str, rows: str, size: str, oldest: str) -> None:
        self.stdout.write(f"{table:<20} {rows:>12} {size:>16}  {oldest}".rstrip())


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:_}".replace("_", " ")
