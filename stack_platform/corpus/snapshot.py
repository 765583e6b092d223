"""Write a source's Software Heritage graph into the lake, and tell whether a source changed since."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from stack_platform.archive.graph import Progress, build_graph, source_fingerprint
from stack_platform.archive.trees import Source
from stack_platform.corpus.texts import GRAPH
from stack_platform.engine.progress import Meter
from stack_platform.tables import Lake, Partition


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What the graph holds, for people."""

    rows: Mapping[str, int]  # by table
    visits: Mapping[str, int]  # by status
    skipped: Mapping[str, int]  # contents not held, by reason
    digest: str
    unchanged: bool


def build_snapshot(
    lake: Lake, source: Source, visit_date: datetime | None = None, threads: int = 2
) -> SnapshotReport:
    """Bring the graph up to date with its source; an unchanged source is told by its file records alone."""
    fingerprint = source_fingerprint(source)
    current = lake.latest(GRAPH)
    if current is not None and current.manifest.fingerprint == fingerprint:
        return snapshot_report(current, unchanged=True)
    statuses: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    with Meter("reading source") as meter, lake.writer(GRAPH, fingerprint=fingerprint) as out:

        def show(progress: Progress) -> None:
            meter.show(progress.bytes, progress.bytes_total)

        for table, batch in build_graph(source, visit_date, threads, progress=show):
            out.append(table, batch)
            if table == "origin_visit_status":
                statuses.update(batch["status"].to_pylist())
            elif table == "skipped_content":
                skipped.update(reason.split(":")[0] for reason in batch["reason"].to_pylist())
        out.counts = {"visits": dict(statuses), "skipped": dict(skipped)}
    assert out.committed is not None
    return snapshot_report(out.committed, unchanged=False)


def snapshot_report(graph: Partition, *, unchanged: bool) -> SnapshotReport:
    """Tell what a committed graph says of itself."""
    manifest = graph.manifest
    rows = {name: manifest.rows(name) for name in manifest.tables}
    return SnapshotReport(
        rows, manifest.counts["visits"], manifest.counts["skipped"], manifest.digest, unchanged
    )


def source_changed(lake: Lake, source: Source) -> str | None:
    """Give the source's fingerprint where it is not what the committed graph was made of; reads no file."""
    current = lake.latest(GRAPH)
    fingerprint = source_fingerprint(source)
    return None if current is not None and current.manifest.fingerprint == fingerprint else fingerprint
