"""Planted bugs: each is put into a copy of the tree, and the suite must fail on the copy, for the right reason."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.processes import ROOT

_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Mutant:
    """A bug: what it breaks, the text that it replaces (which must stand in the file exactly once), and by which."""

    name: str
    breaks: str
    file: str
    old: str
    new: str
    # How a violation that shows it may begin.
    shows_as: tuple[str, ...]
    # What the storm should be like, so that it shows soon.
    storm: tuple[str, ...] = ("--duration", "20")


MUTANTS = (
    Mutant(
        "publish-before-commit",
        "an event is sent in the transaction of its write, which may yet be undone",
        "eventing/outbox.py",
        "        )\n    return events\n",
        "        )\n"
        "    from eventing import aws, entries\n"
        "    for event in events:\n"
        "        entry = entries.Ready(*map(event.__getattribute__, entries.Ready._fields))\n"
        "        body = entries.body_of([entry._replace(time=int(event.time.timestamp()))])\n"
        "        aws.events_calls(event.bus_arn.split(':')[3])('PutEvents', body)\n"
        "    return events\n",
        ("events: ",),
        ("--duration", "20", "--blows", "web,consumer,postgresql", "--blow-pause", "1.5"),
    ),
    Mutant(
        "outbox-after-commit",
        "events are saved when their write has been committed",
        "blockforger/backend/settlements.py",
        "    shape, parameters = settlement_statements.of(settlement, tenants)\n",
        "    if events := [row for row in settlement.rows if hasattr(row, 'bus_arn')]:\n"
        "        from dataclasses import replace\n"
        "        written = _write(replace(settlement, rows=[r for r in settlement.rows if r not in events]), tenants)\n"
        "        for row in events:\n"
        "            _count_from(written.accounts.get(_tenant_of(row)), row)\n"
        "        transaction.on_commit(lambda: rows.insert(events if written.accounts else []))\n"
        "        return written\n"
        "    shape, parameters = settlement_statements.of(settlement, tenants)\n",
        ("lost: ", "input: "),
        ("--duration", "60", "--blows", "web,postgresql", "--blow-pause", "0.1"),
    ),
    Mutant(
        "nudge-as-carrier",
        "nothing sweeps: what no nudge tells of stays in the outbox",
        "blockforger/settings.py",
        '        "schedule": 1.0,\n',
        '        "schedule": 86400.0,\n',
        ("drain: ",),
        ("--duration", "10", "--drain", "20", "--roles", "web,worker", "--blows", "web,redis"),
    ),
    Mutant(
        "no-fencing",
        "a publisher that wakes up after its lease writes over its successor's results",
        "eventing/lanes.py",
        " AND held.fence = lane.fence\n",
        "\n",
        ("fencing: ",),
        ("--duration", "45", "--blows", "freeze"),
    ),
    Mutant(
        "lease-never-taken",
        "two publishers have the same lane at a time",
        "eventing/lanes.py",
        'fence=F("fence") + 1, leased_until=Now() + timedelta(seconds=seconds), holder=holder',
        'fence=F("fence") + 1, holder=holder',
        ("duplicates: ",),
        ("--duration", "10", "--blows", "web", "--drain", "30"),
    ),
    Mutant(
        "lease-ignored",
        "a publisher takes lanes that another holds",
        "eventing/lanes.py",
        "    return Lane.objects.filter(Q(leased_until=None) | Q(leased_until__lte=Now())).order_by()\n",
        "    return Lane.objects.order_by()\n",
        ("duplicates: ", "drain: "),
        ("--duration", "10", "--blows", "web", "--drain", "30"),
    ),
    Mutant(
        "lease-without-end",
        "the lanes of a publisher that died are its for ever",
        "eventing/lanes.py",
        "leased_until=Now() + timedelta(seconds=seconds)",
        "leased_until=Now() + timedelta(days=1)",
        ("drain: ",),
        ("--duration", "10", "--blows", "publisher", "--drain", "40"),
    ),
    Mutant(
        "two-entries-of-an-item",
        "a call holds two events of an item, of which the first may fail alone",
        "eventing/publishing.py",
        "self._next.setdefault(stream[0].bus_arn, deque()).append(stream[0])",
        "self._next.setdefault(stream[0].bus_arn, deque()).extend(list(stream)[:2])",
        ("order: ",),
    ),
    Mutant(
        "waiting-event-holds-nothing-back",
        "a later event of an item overtakes one that is to be tried again",
        "eventing/queues.py",
        "_Candidate(event_id, Queue(*queue), rank, is_behind)",
        "_Candidate(event_id, Queue(*queue), rank, False)",
        ("order: ",),
    ),
    Mutant(
        "newest-first",
        "what waits of an item is sent in the wrong order",
        "eventing/queues.py",
        "ROW_NUMBER() OVER (ORDER BY this.sequence, this.place, this.id)",
        "ROW_NUMBER() OVER (ORDER BY this.sequence DESC, this.place DESC, this.id)",
        ("order: ",),
    ),
    Mutant(
        "entry-errors-ignored",
        "a 200 with failed entries counts as delivered",
        "eventing/answers.py",
        '    if code := entry.get("ErrorCode"):\n',
        '    if code := entry.get("NothingOfThatName"):\n',
        ("lost: ",),
    ),
    Mutant(
        "failed-call-is-delivered",
        "a call that was throttled counts as delivered",
        "eventing/answers.py",
        "    return Verdict.REFUSED if code in _CALL_CODES_OF_THE_ENTRIES else Verdict.RETRY\n",
        "    return Verdict.REFUSED if code in _CALL_CODES_OF_THE_ENTRIES else Verdict.ACCEPTED\n",
        ("lost: ",),
    ),
    Mutant(
        "delivered-before-the-call",
        "an event is marked as delivered before it is sent",
        "eventing/publishing.py",
        "        response = aws.events_calls(",
        "        from eventing.models import OutboxEvent\n"
        '        OutboxEvent.objects.filter(pk__in=[event.pk for event in events]).update(status="delivered")\n'
        "        response = aws.events_calls(",
        ("fencing: ", "lost: "),
    ),
    Mutant(
        "commit-not-durable",
        "a write is answered before it is on the disk",
        "blockforger/settings.py",
        '        options=f"-c statement_timeout',
        '        options=f"-c synchronous_commit=off -c statement_timeout',
        ("lost: ", "events: "),
        ("--duration", "25", "--blows", "postgresql", "--blow-pause", "2"),
    ),
    Mutant(
        "delete-before-commit",
        "a message is deleted before its outcome is recorded",
        "eventing/consuming.py",
        "        dispositions = handle_all(",
        "        self._queue.delete(messages)\n        dispositions = handle_all(",
        ("input: ",),
        ("--duration", "15", "--blows", "consumer,postgresql", "--blow-pause", "1"),
    ),
    Mutant(
        "outage-not-noticed",
        "while the database is away, messages are received, fail, and grow old",
        "eventing/consuming.py",
        "        if not database_answers():\n",
        "        if False:\n",
        ("outage: ",),
        ("--duration", "25", "--blows", "postgresql", "--blow-pause", "2"),
    ),
    Mutant(
        "refusal-leaves-no-record",
        "what was refused after all has no outcome",
        "blockforger/backend/operations.py",
        "    records.settle((record, outcomes[pk]) for pk, record in entered.new.items())\n",
        "    for pk, record in entered.new.items():\n"
        "        if outcomes[pk].problem and record.problem is None:\n"
        "            record.delete()\n",
        ("input: ",),
        ("--duration", "10", "--blows", "web"),
    ),
    Mutant(
        "record-before-effect",
        "the record of an event is committed before the event is carried out",
        "blockforger/backend/operations.py",
        "    entered = records.enter(cases, cost=COST)\n",
        "    entered = records.enter(cases, cost=COST)\n    transaction.get_connection().connection.commit()\n",
        ("input: ",),
        ("--duration", "25", "--blows", "consumer,postgresql", "--blow-pause", "1"),
    ),
    Mutant(
        "no-inbox",
        "an event that comes again is carried out again",
        "eventing/envelopes.py",
        "        idempotency_key=envelope.id,\n",
        "        idempotency_key=f'{envelope.id}:{id(envelope)}',\n",
        ("input: ",),
        ("--duration", "10", "--blows", "consumer"),
    ),
    Mutant(
        "bill-committed-alone",
        "the debit is committed without its ledger entry and its events",
        "blockforger/backend/settlements.py",
        "            return _write(settlement, tenants)\n",
        "            from dataclasses import replace\n"
        "            written = _write(replace(settlement, rows=[]), tenants)\n"
        "        for row in settlement.rows:\n"
        "            _count_from(written.accounts.get(_tenant_of(row)), row)\n"
        "        rows.insert(settlement.rows if written.accounts else [])\n"
        "        return written\n",
        ("money: ", "audit_ledger: ", "clock: "),
        ("--duration", "25", "--blows", "web,consumer,postgresql", "--blow-pause", "0.8"),
    ),
    Mutant(
        "debit-without-condition",
        "an account is debited that cannot pay",
        "blockforger/backend/settlement_statements.py",
        '" AND account.balance >= claim.tokens"',
        '""',
        ("answer: ", "input: "),
        ("--duration", "20", "--drain", "20", "--blows", "redis"),
    ),
    Mutant(
        "key-in-the-record",
        "the payload that is recorded and published holds the API key",
        "eventing/envelopes.py",
        '        payload=detail.get("payload"),\n',
        '        payload={**detail["payload"], "key": detail["api_key"]},\n',
        ("leak: ",),
        ("--duration", "5", "--blows", "web"),
    ),
)


def main() -> int:
    chosen = [mutant for mutant in MUTANTS if not sys.argv[1:] or mutant.name in sys.argv[1:]]
    if not chosen:
        print(f"There is no such mutant. There are: {', '.join(mutant.name for mutant in MUTANTS)}")
        return 1
    stale = [mutant for mutant in MUTANTS if (ROOT / mutant.file).read_text().count(mutant.old) != 1]
    for mutant in stale:
        print(f"STALE {mutant.name}: its text is not exactly once in {mutant.file}.")
    survived = [mutant.name for mutant in chosen if mutant not in stale and not _is_caught(mutant)]
    print(f"chaos-mutants: {len(chosen)} tried, {len(survived)} survived, {len(stale)} stale")
    return 1 if survived or stale else 0


def _is_caught(mutant: Mutant) -> bool:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="blockforger-mutant-") as folder:
        copy = Path(folder) / "tree"
        _copy_tree(copy)
        mutated = copy / mutant.file
        mutated.write_text(mutated.read_text().replace(mutant.old, mutant.new))
        output = _run(copy, mutant.storm)
    violations = [line for line in output.splitlines() if line.startswith("VIOLATION ")]
    expected = [line for line in violations if line.removeprefix("VIOLATION ").startswith(mutant.shows_as)]
    seconds = f"{time.monotonic() - began:.0f} s"
    if expected:
        print(f"caught {mutant.name} ({mutant.breaks}) after {seconds}: {expected[0].removeprefix('VIOLATION ')}")
        return True
    print(f"SURVIVED {mutant.name} ({mutant.breaks}), {seconds}; the end of its output:")
    print("\n".join(f"    {line}" for line in output.splitlines()[-12:]))
    return False


def _copy_tree(copy: Path) -> None:
    """What git knows, as it stands in the work tree."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def _run(copy: Path, arguments: tuple[str, ...]) -> str:
    command = [sys.executable, "-m", "tests.chaos", "--stop-at-first", *arguments]
    process = subprocess.Popen(command, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        return process.communicate(timeout=_TIMEOUT_SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends its servers and processes itself
        return process.communicate()[0]


if __name__ == "__main__":
    sys.exit(main())
