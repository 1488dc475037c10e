"""The verdict: from what a run saw to what was broken. Plain functions over observations, themselves tested.

The thread through it all is the tenant's sequence number: a ledger entry has it, and so has each event in its
`Resources`. An event's payload holds the marker of the write (a DELETE's holds only the key).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.chaos.observations import Acceptance, Entry, Observations, Rule, Write

COST = 10
# A call of a process that was killed may reach AWS a moment later.
_STRIKE_SECONDS = 2.0
_TOLERATED_DUPLICATES = 0.01
# Nobody can tell from these whether a write was carried out (503: the database went away meanwhile).
_SAYS_NOTHING = {502, 503, 504}

_Item = tuple[str, str, str]
# A tenant and a sequence number: one write that was carried out.
_Step = tuple[str, int]


def violations(seen: Observations) -> list[str]:
    """A sentence for each thing that should not have been; none when every promise was kept."""
    carried_out = _carried_out(seen.entries)
    return [
        *seen.seen_at_once,
        *seen.rewritten,
        *seen.leaks,
        *_of_leftovers(seen),
        *_of_duplicates(seen),
        *_of_order(seen.acceptances, seen.rules),
        *_of_events(seen, carried_out),
        *_of_writes(seen),
        *_of_input(seen),
        *_of_real_time(seen),
        *_of_items(seen),
        *_of_money(seen),
    ]


def first_acceptances(acceptances: Iterable[Acceptance]) -> list[Acceptance]:
    """Those of events that the bus had not accepted before, in order."""
    known: set[str] = set()
    first = []
    for acceptance in acceptances:
        if acceptance.event not in known:
            known.add(acceptance.event)
            first.append(acceptance)
    return first


def delays_of_duplicates(acceptances: Iterable[Acceptance]) -> list[float]:
    """Seconds between an acceptance of an event and the next of the same: the window in which it may be sent twice."""
    last: dict[str, float] = {}
    delays = []
    for acceptance in acceptances:
        if acceptance.event in last:
            delays.append(acceptance.at - last[acceptance.event])
        last[acceptance.event] = acceptance.at
    return delays


def unexplained_duplicates(seen: Observations) -> list[Acceptance]:
    """Acceptances of an event whose last sender had got its answer, and lived to write it down."""
    last: dict[str, Acceptance] = {}
    found = []
    for acceptance in seen.acceptances:
        before = last.get(acceptance.event)
        if before is not None and not before.is_in_doubt:
            strikes = (*seen.strikes.get(before.process, []), *seen.strikes.get("", []))
            if not any(before.at - _STRIKE_SECONDS <= strike <= acceptance.at for strike in strikes):
                found.append(acceptance)
        last[acceptance.event] = acceptance
    return found


def _of_duplicates(seen: Observations) -> Iterator[str]:
    """A few may come of a machine that stood still for longer than a lease."""
    found = unexplained_duplicates(seen)
    if len(found) > _TOLERATED_DUPLICATES * len(seen.acceptances):
        yield f"duplicates: {len(found)} of {len(seen.acceptances)} events were sent again for no reason."


def _of_order(acceptances: Iterable[Acceptance], rules: dict[str, list[Rule]]) -> Iterator[str]:
    """Per item and bus, first acceptances are in the order of the tenant's sequence, and of its rules."""
    latest: dict[tuple[str, str], tuple[int, int]] = {}
    for acceptance in first_acceptances(acceptances):
        stream = (acceptance.bus, acceptance.item)
        place = (acceptance.sequence, _place(acceptance, rules.get(acceptance.detail["tenant"], [])))
        if place < latest.get(stream, (0, 0)):
            yield (
                f"order: {acceptance.item} on {_name(acceptance.bus)}: {place} was accepted after {latest[stream]}"
                f" (sequence, rule)."
            )
        latest[stream] = max(place, latest.get(stream, place))


def _place(acceptance: Acceptance, rules: list[Rule]) -> int:
    method, schema = acceptance.detail["operation"], acceptance.detail["rootSchema"]
    for place, rule in enumerate(rules):
        if rule.bus == acceptance.bus and rule.type_of(method, schema) == acceptance.detail_type:
            return place
    return -1


def _carried_out(entries: Iterable[Entry]) -> dict[_Step, Entry]:
    return {(entry.tenant, entry.sequence): entry for entry in entries if entry.sequence is not None}


def _of_events(seen: Observations, carried_out: dict[_Step, Entry]) -> Iterator[str]:
    """Each write of the ledger has exactly the events that its tenant's rules ask for, and no event is without one."""
    events: dict[_Step, set[tuple[str, str]]] = defaultdict(set)
    ids: dict[tuple[str, int, str, str], str] = {}
    for acceptance in seen.acceptances:
        tenant = acceptance.detail["tenant"]
        key = (tenant, acceptance.sequence, acceptance.bus, acceptance.detail_type)
        events[tenant, acceptance.sequence].add((acceptance.bus, acceptance.detail_type))
        if ids.setdefault(key, acceptance.event) != acceptance.event:
            yield f"events: write {acceptance.sequence} of {tenant} came out as two events on {_name(acceptance.bus)}."
    for step, entry in carried_out.items():
        method, schema = entry.reference.split()
        wanted = {
            (rule.bus, detail_type)
            for rule in seen.rules[entry.tenant]
            if (detail_type := rule.type_of(method, schema)) is not None
        }
        for bus, detail_type in sorted(wanted - events[step]):
            yield f"lost: write {step[1]} of {step[0]} has no {detail_type} on {_name(bus)}."
        for bus, detail_type in sorted(events[step] - wanted):
            yield f"events: write {step[1]} of {step[0]} has an unasked {detail_type} on {_name(bus)}."
    for tenant, sequence in sorted(events.keys() - carried_out.keys()):
        yield f"events: {tenant} has an event of write {sequence}, for which there is no ledger entry."


def _steps_by_marker(acceptances: Iterable[Acceptance]) -> dict[str, set[int]]:
    """The sequence numbers of the writes that came out with each marker."""
    steps: dict[str, set[int]] = defaultdict(set)
    for acceptance in acceptances:
        if marker := acceptance.detail["payload"].get("marker"):
            steps[marker].add(acceptance.sequence)
    return steps


def _of_writes(seen: Observations) -> Iterator[str]:
    """REST: 2xx was carried out once, a refusal never, an unknown one at most once."""
    steps = _steps_by_marker(seen.acceptances)
    known = {write.marker for write in seen.writes} | {sent.write.marker for sent in seen.sent}
    for marker in steps.keys() - known:
        yield f"events: a marker that nobody wrote came out: {marker}."
    for write in (*seen.writes, *seen.reads):
        if write.status is not None and write.status not in {*write.may_be, *_SAYS_NOTHING}:
            yield f"answer: {write.method} {write.marker} was answered {write.status}, not {sorted(write.may_be)}."
    for write in seen.writes:
        if write.method != "DELETE":
            yield from _of_write(write, len(steps[write.marker]))
    yield from _of_deletes(seen)


def _of_write(write: Write, times: int) -> Iterator[str]:
    if times > 1:
        yield f"twice: {write.method} {write.marker} was carried out {times} times."
    elif write.status is None or write.is_unknown:
        return
    elif write.status < 300 and not times:
        yield f"lost: {write.method} {write.marker} was answered {write.status} and has no event."
    elif write.status >= 300 and times:
        yield f"refused: {write.method} {write.marker} was answered {write.status} and has an event."


def _of_deletes(seen: Observations) -> Iterator[str]:
    """DELETEs carry no marker: per item, there are as many as were answered 2xx, and unknown ones at most besides."""
    came_out: Counter[_Item] = Counter()
    for tenant, _, schema, key in {
        (each.detail["tenant"], each.sequence, each.detail["rootSchema"], each.detail["payload"]["id"])
        for each in seen.acceptances
        if each.detail["operation"] == "DELETE"
    }:
        came_out[tenant, schema, key] += 1
    statuses = {record.event: record.status for record in seen.records}
    deletes = [write for write in seen.writes if write.method == "DELETE"]
    by_event = [sent for sent in seen.sent if sent.write.method == "DELETE" and statuses.get(sent.id, 999) < 300]
    sure = Counter(_item(write) for write in deletes if write.status is not None and write.status < 300)
    sure.update(_item(sent.write) for sent in by_event)
    unsure = Counter(_item(write) for write in deletes if write.is_unknown)
    for item in came_out.keys() | sure.keys():
        if not sure[item] <= came_out[item] <= sure[item] + unsure[item]:
            yield (
                f"deletes: {item} has events of {came_out[item]} deletes; {sure[item]} were carried out, and"
                f" {unsure[item]} are unknown."
            )


def _of_input(seen: Observations) -> Iterator[str]:
    """Each readable event has one outcome; what was carried out has one debit and one effect, a refusal none."""
    steps = _steps_by_marker(seen.acceptances)
    debits = Counter(entry.operation for entry in seen.entries if entry.kind == "debit")
    records = {record.event: record for record in seen.records}
    if len(records) != len(seen.records):
        yield f"input: {len(seen.records)} records for {len(records)} events."
    sent_by_id = {sent.id: sent for sent in seen.sent}
    for event in records.keys() - sent_by_id.keys():
        yield f"input: there is a record of the event {event}, which nobody sent."
    for sent in seen.sent:
        record = records.get(sent.id)
        if record is None:
            yield f"input: the event {sent.id} ({sent.write.method} {sent.write.marker}) has no outcome."
            continue
        if record.status not in sent.write.may_be:
            yield f"input: the event {sent.id} became {record.status}, not one of {sorted(sent.write.may_be)}."
        effects = 1 if record.status < 300 else 0
        if debits[record.operation] != effects or record.tokens != COST * effects:
            yield (
                f"input: the event {sent.id} became {record.status} with {debits[record.operation]} debits and"
                f" {record.tokens} tokens."
            )
        if sent.write.method != "DELETE" and len(steps[sent.write.marker]) != effects:
            yield f"input: the event {sent.id} became {record.status} with {len(steps[sent.write.marker])} effects."


def _of_real_time(seen: Observations) -> Iterator[str]:
    """A write that began after another of its tenant was answered comes after it in the sequence."""
    steps = _steps_by_marker(seen.acceptances)
    by_tenant: dict[str, list[tuple[int, Write]]] = defaultdict(list)
    for write in seen.writes:
        if write.status is not None and write.status < 300 and len(steps[write.marker]) == 1:
            by_tenant[write.tenant].append((min(steps[write.marker]), write))
    for tenant, writes in by_tenant.items():
        earliest_answer = float("inf")
        for sequence, write in sorted(writes, key=lambda pair: pair[0], reverse=True):
            if write.started > earliest_answer:
                yield f"clock: write {sequence} of {tenant} began after a later one of the sequence was answered."
            earliest_answer = min(earliest_answer, write.ended or float("inf"))


def _of_items(seen: Observations) -> Iterator[str]:
    """The items are what a plain model makes of the writes that came out, in the order of the sequence."""
    model: dict[_Item, dict[str, Any]] = {}
    details = {(each.detail["tenant"], each.sequence): each.detail for each in seen.acceptances}
    for _, detail in sorted(details.items(), key=lambda pair: pair[0]):
        method, payload = detail["operation"], detail["payload"]
        item = (detail["tenant"], detail["rootSchema"], payload["id"])
        if (method == "POST") is (item in model):
            yield f"items: {item} got a {method} when it was{'' if item in model else ' not'} there."
        if method == "DELETE":
            model.pop(item, None)
        else:
            model[item] = {**model.get(item, {}), **payload} if method == "PATCH" else payload
    for item in sorted(model.keys() | seen.items.keys()):
        if model.get(item) != seen.items.get(item):
            yield f"items: {item} is {seen.items.get(item)}, and by its events would be {model.get(item)}."


def _of_money(seen: Observations) -> Iterator[str]:
    """Balance, ledger and operations agree, and the tenant's clock has no gap."""
    if seen.audit:
        yield f"audit_ledger: {seen.audit}"
    for tenant, balance in seen.balances.items():
        entries = [entry for entry in seen.entries if entry.tenant == tenant]
        if balance != sum(entry.amount for entry in entries):
            yield f"money: {tenant} has {balance}, its ledger adds up to {sum(entry.amount for entry in entries)}."
        debits = [entry for entry in entries if entry.kind == "debit"]
        if any(entry.amount != -COST for entry in debits):
            yield f"money: {tenant} has a debit that is not {COST}."
        sequences = sorted(entry.sequence for entry in debits if entry.sequence is not None)
        if sequences != list(range(1, len(sequences) + 1)):
            yield f"clock: {tenant} has gaps or repetitions in its sequence."
        reads = [read for read in seen.reads if read.tenant == tenant]
        answered = sum(read.status == 200 for read in reads)
        unknown = sum(read.is_unknown for read in reads)
        if not answered <= len(debits) - len(sequences) <= answered + unknown:
            yield f"money: {tenant} paid for {len(debits) - len(sequences)} reads, and {answered} were answered."


def _of_leftovers(seen: Observations) -> Iterator[str]:
    """Nothing waits anywhere, but for what nobody can read."""
    for status, count in seen.undelivered.items():
        yield f"drain: {count} events of the outbox are {status}."
    if seen.left_in_queue:
        yield f"drain: {len(seen.left_in_queue)} messages are still in the queue: {seen.left_in_queue[0][:100]!r} …"
    if Counter(seen.dead_letters) != Counter(seen.unreadable):
        yield f"drain: {len(seen.dead_letters)} dead letters, but {len(seen.unreadable)} messages cannot be read."


def _item(write: Write) -> _Item:
    return (write.tenant, write.schema, write.key)


def _name(bus: str) -> str:
    return bus.rpartition("/")[2]
