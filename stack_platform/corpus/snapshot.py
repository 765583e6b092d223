"""Bring the lake's graph of a source up to date: what was archived stays, what is new is added."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from stack_platform.archive.sources import NOT_YET, Known, Reading, Source
from stack_platform.corpus.graph import GRAPH
from stack_platform.engine.progress import Meter
from stack_platform.errors import SourceError, StackError
from stack_platform.schemas import ARCHIVE
from stack_platform.tables import Lake, Partition


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What the archive holds of a source, for people."""

    source: str
    rows: Mapping[str, int]  # by table
    visits: Mapping[str, int]  # by status
    skipped: Mapping[str, int]  # contents not held, by reason
    new: Mapping[str, int]  # rows that this reading added, by table
    digest: str
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """Which sources are not as they were last read."""

    changed: Mapping[str, str]  # name, fingerprint
    unreachable: Mapping[str, str]  # name, why it could not be asked


def build_snapshots(
    lake: Lake, sources: Mapping[str, Source], reading: Callable[[str], Reading]
) -> list[SnapshotReport]:
    """Archive what is new at each source; one that fails does not keep the others from being read.

    Raises:
        SourceError: sources failed; the message names them all.

    """
    reports, problems = [], []
    for name, source in sources.items():
        try:
            reports.append(build_snapshot(lake, name, source, reading(name)))
        except StackError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise SourceError(
            f"{len(problems)} of {len(sources)} sources failed, the others were read: {'; '.join(problems)}"
        )
    return reports


def build_snapshot(lake: Lake, name: str, source: Source, reading: Reading = Reading()) -> SnapshotReport:
    """Archive what is new at a source.

    It is not read where its fingerprint is that of its last reading, unless contents did not arrive then.
    """
    fingerprint = source.fingerprint()
    current = lake.latest(GRAPH, name)
    if current is not None and current.manifest.fingerprint == fingerprint and not _owed(current):
        return _report(current, {}, unchanged=True)
    new: Counter[str] = Counter()
    visits: Counter[str] = Counter(current.manifest.counts["visits"] if current else {})
    skipped: Counter[str] = Counter(current.manifest.counts["skipped"] if current else {})
    known = _known(current)
    owed = set(known.pending) if current is not None and _owed(current) else set()
    with Meter(f"reading {name}") as meter, lake.writer(GRAPH, name, fingerprint) as out:
        if current is not None:
            out.carry(current)
        else:
            for table, schema in ARCHIVE.items():
                out.append(table, schema.empty_table())
        shown = replace(reading, progress=lambda done: meter.show(done.bytes, done.bytes_total))
        for table, batch in source.read(known, shown):
            if batch.num_rows:
                out.append(table, batch)
                new[table] += batch.num_rows
            if table == "origin_visit_status":
                visits.update(batch["status"].to_pylist())
            elif table == "skipped_content":
                rows = list(zip(batch["sha1_git"].to_pylist(), batch["reason"].to_pylist(), strict=True))
                skipped.update(_heading(reason) for _, reason in rows)
                owed.update(name for name, reason in rows if reason.startswith(NOT_YET))
            elif table == "content":
                owed.difference_update(batch["sha1_git"].to_pylist())
        skipped[_heading(NOT_YET)] = len(owed)
        out.counts = {"visits": dict(visits), "skipped": dict(+skipped)}
    assert out.committed is not None
    return _report(out.committed, new, unchanged=False)


def _known(current: Partition | None) -> Known:
    if current is None:
        return Known()
    return Known(lambda table, columns: current.read(table, columns, ARCHIVE[table]))


def _heading(reason: str) -> str:
    return reason.split(":", maxsplit=1)[0]


def _owed(graph: Partition) -> int:
    """Count the contents that did not arrive yet."""
    return int(graph.manifest.counts["skipped"].get(_heading(NOT_YET), 0))


def _report(graph: Partition, new: Mapping[str, int], *, unchanged: bool) -> SnapshotReport:
    manifest = graph.manifest
    return SnapshotReport(
        manifest.partition,
        {name: manifest.rows(name) for name in manifest.tables},
        manifest.counts["visits"],
        manifest.counts["skipped"],
        dict(new),
        manifest.digest,
        unchanged,
    )


def find_changes(lake: Lake, sources: Mapping[str, Source]) -> Changes:
    """Ask each source whether it is as it was last read; no content is read."""
    changed: dict[str, str] = {}
    unreachable: dict[str, str] = {}
    for name, source in sources.items():
        try:
            fingerprint = source.fingerprint()
        except StackError as error:
            unreachable[name] = str(error)
            continue
        current = lake.latest(GRAPH, name)
        if current is None or current.manifest.fingerprint != fingerprint:
            changed[name] = fingerprint
    return Changes(changed, unreachable)
