"""Choose the visits of a Software Heritage export to take, and find the root directories of their snapshots.

Visits keep their number, date and status: what was visited when is a fact of the export. The latest full visit of
an origin counts (a partial one where there is no full one), or all of them, less those that found the snapshot of
the visit before. The root is the directory at the end of the first branch of a list that ends at one, through
aliases (the other branch's name, plain or in hexadecimal), releases and revisions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from stack_platform.archive.sources import Known

_MAX_HOPS = 20

Date = tuple[int, int]  # seconds since 1970 and microseconds


class Visit(NamedTuple):
    """One visit as the export states it, and what the archive shall make of it."""

    origin: str
    number: int
    date: Date | None
    type: str | None
    status: str
    snapshot: str | None
    again: bool = False
    """the archive has this visit as partial, and something may have arrived since"""
    renumbered: bool = False
    """the archive has another visit under the export's number"""


class Root(NamedTuple):
    """Where a snapshot leads."""

    directory: str | None
    lacking: str | None
    """what the export lacks on the way, for people; None: nothing"""


def as_date(value: Mapping[str, int] | None) -> Date | None:
    """Give a date of the archive as a pair that has an order."""
    return None if value is None else (value["seconds"], value["microseconds"])


def date_of(moment: datetime | None) -> Date | None:
    """Give a moment in the archive's form."""
    if moment is None:
        return None
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(seconds=1), moment.microsecond


def choose_visits(
    stated: Iterable[Mapping[str, Any]],
    unseen: Iterable[str],
    known: Known,
    every: bool,
    pending: bool,
    today: Date | None,
) -> list[Visit]:
    """Give the visits that the archive lacks, ordered by origin and number.

    `stated` are rows of origin_visit_status, `unseen` URLs that the export does not have; with `pending`, partial
    visits are looked at again.
    """
    by_origin: dict[str, list[Visit]] = defaultdict(list)
    for row in stated:
        visit = Visit(
            row["origin"], row["visit"], as_date(row["date"]), row["type"], row["status"], row["snapshot"]
        )
        by_origin[visit.origin].append(visit)
    held = _held(known)
    chosen: list[Visit] = []
    for origin in sorted(by_origin):
        chosen += _new(_usable(by_origin[origin], every), held.get(origin, []), every, pending)
    for origin in sorted(set(unseen)):
        last = known.visits.get(origin)
        if last is None or last.status != "not_found":
            chosen.append(Visit(origin, last.visit + 1 if last else 1, today, None, "not_found", None))
    return sorted(chosen, key=lambda visit: (visit.origin, visit.number))


def _held(known: Known) -> dict[str, list[Visit]]:
    rows = known.read("origin_visit_status", ["origin", "visit", "date", "status", "snapshot"]).to_pylist()
    held: dict[str, list[Visit]] = defaultdict(list)
    for row in rows:
        date = as_date(row["date"])
        held[row["origin"]].append(
            Visit(row["origin"], row["visit"], date, None, row["status"], row["snapshot"])
        )
    return held


def _usable(visits: list[Visit], every: bool) -> list[Visit]:
    """Give the visits that count, oldest first."""
    whole = [visit for visit in visits if visit.snapshot and visit.status == "full"]
    usable = whole or [visit for visit in visits if visit.snapshot and visit.status == "partial"]
    if not usable:
        return [max(visits, key=lambda visit: (visit.number, visit.date or (0, 0), visit.status))]
    usable.sort(key=lambda visit: visit.snapshot or "", reverse=True)
    usable.sort(key=lambda visit: (visit.date is not None, visit.date or (0, 0), visit.number))
    if not every:
        return usable[-1:]
    return [visit for i, visit in enumerate(usable) if not i or visit.snapshot != usable[i - 1].snapshot]


def _new(visits: list[Visit], held: list[Visit], every: bool, pending: bool) -> list[Visit]:
    """Give the visits that the archive does not hold, under numbers that are free."""
    numbers = {visit.number for visit in held}
    last = max(held, key=lambda visit: visit.number, default=None)
    if last is not None:
        at_last = [visit.status for visit in held if visit.number == last.number]
        last = last._replace(status="full" if "full" in at_last else at_last[-1])
    new: list[Visit] = []
    for visit in visits:
        same = [one for one in held if one.snapshot == visit.snapshot and one.date == visit.date]
        if any(one.status == "full" or one.snapshot is None for one in same):
            continue
        if same:
            if pending:
                new.append(visit._replace(number=same[0].number, again=True))
            continue
        if last is not None and not every and (last.snapshot, last.status) == (visit.snapshot, visit.status):
            continue
        number = visit.number
        if number in numbers:
            number = max(numbers) + 1
        numbers.add(number)
        new.append(visit._replace(number=number, renumbered=number != visit.number))
    return new


@dataclass(frozen=True, slots=True)
class Graph:
    """How to look objects up: each function takes ids and gives those that the export has."""

    branches: Callable[[Sequence[tuple[str, bytes]]], dict[tuple[str, bytes], tuple[str | None, str | None]]]
    """(snapshot, branch name) to (target, type)"""
    releases: Callable[[Sequence[str]], dict[str, tuple[str | None, str | None]]]
    """id to (target, type)"""
    revisions: Callable[[Sequence[str]], dict[str, str]]
    """id to directory"""


def find_roots(snapshots: Iterable[str], names: Sequence[bytes], graph: Graph) -> dict[str, Root]:
    """Follow the preferred branches of each snapshot to a directory."""
    wanted = [(snapshot, name) for snapshot in sorted(set(snapshots)) for name in names]
    heads = _through_aliases(wanted, graph)
    at = dict(heads)
    lacking: dict[tuple[str, bytes], str] = {}
    for _ in range(_MAX_HOPS):
        ids = {target for kind, target in at.values() if kind == "release"}
        if not ids:
            break
        found = graph.releases(sorted(ids))
        for key, (kind, target) in list(at.items()):
            if kind == "release":
                if target in found:
                    next_target, next_kind = found[target]
                    at[key] = (next_kind or "", next_target or "")
                else:
                    lacking[key] = f"the release {target}"
                    del at[key]
    revisions = graph.revisions(sorted({target for kind, target in at.values() if kind == "revision"}))
    roots: dict[str, Root] = {}
    for snapshot, name in wanted:
        kind, target = at.get((snapshot, name), ("", ""))
        directory = target if kind == "directory" else revisions.get(target) if kind == "revision" else None
        missing = lacking.get((snapshot, name))
        if kind == "revision" and directory is None:
            missing = f"the revision {target}"
        before = roots.get(snapshot, Root(None, None))
        if before.directory is None:
            roots[snapshot] = Root(directory, None if directory else before.lacking or missing)
    return roots


def _through_aliases(
    wanted: Sequence[tuple[str, bytes]], graph: Graph
) -> Iterator[tuple[tuple[str, bytes], tuple[str, str]]]:
    """Give for each (snapshot, branch) what it points to in the end: (type, target)."""
    at = {key: key for key in wanted}
    for _ in range(_MAX_HOPS):
        plain = graph.branches(sorted(set(at.values())))
        following: dict[tuple[str, bytes], tuple[str, bytes]] = {}
        for key, place in at.items():
            target, kind = plain.get(place, (None, None))
            if target is None or kind is None:
                continue
            if kind == "alias":
                following[key] = (place[0], _alias(target))
            else:
                yield key, (kind, target)
        if not following:
            return
        at = following


def _alias(target: str) -> bytes:
    """Give the name that an alias means; the export writes it plain or in hexadecimal, which no ref looks like."""
    try:
        return bytes.fromhex(target)
    except ValueError:
        return target.encode()
