"""The archive grows: sources are read apart, a visit adds what is new, a date takes the data set back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from stack_platform.archive.distributions import DistributionsConfig
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.sources import NOT_YET, Known, Reading, Rows, Source
from stack_platform.corpus.checks import index_adds_up
from stack_platform.corpus.graph import GRAPH, find_graph, open_graph
from stack_platform.corpus.index import IndexConfig, build_index
from stack_platform.corpus.point_in_time import look_back, trace
from stack_platform.corpus.snapshot import build_snapshot, build_snapshots, find_changes
from stack_platform.corpus.stages import INDEX
from stack_platform.engine.local import LocalEngine
from stack_platform.errors import SourceError, TableError
from stack_platform.schemas import ARCHIVE
from stack_platform.tables import Lake


def on(day: int) -> Reading:
    return Reading(visit_date=datetime(2023, 9, day, tzinfo=UTC))


def installed(site: Path, *names: str) -> Source:
    return DistributionsConfig(paths=(str(site),), include=names).open()


@dataclass(frozen=True)
class Broken:
    """A source that cannot be reached."""

    def fingerprint(self) -> str:
        raise SourceError("nobody there")

    def read(self, *_: object) -> Iterator[Rows]:
        raise AssertionError("it is not read")


@dataclass
class Late:
    """A source of one content, which arrives at the second reading."""

    readings: int = 0

    def fingerprint(self) -> str:
        return "same"

    def read(self, known: Known, _: Reading) -> Iterator[Rows]:
        self.readings += 1
        hashes = hash_bytes(b"late\n")
        assert known.pending == (frozenset() if self.readings == 1 else {hashes.sha1_git})
        row: dict[str, object] = {
            "sha1": hashes.sha1,
            "sha1_git": hashes.sha1_git,
            "sha256": hashes.sha256,
            "blake2s256": hashes.blake2s256,
            "length": hashes.length,
        }
        if self.readings == 1:
            table, row = "skipped_content", {**row, "status": "absent", "reason": f"{NOT_YET}busy"}
        else:
            table, row = "content", {**row, "status": "visible", "data": b"late\n"}
        yield table, pa.RecordBatch.from_pylist([row], ARCHIVE[table])


def paths(lake: Lake, **config: object) -> Sequence[str]:
    with LocalEngine(1) as engine:
        build_index(lake, engine, IndexConfig(**config))  # type: ignore[arg-type]
    return lake.open(INDEX).read("Python", ["path"])["path"].to_pylist()


def test_a_second_visit_adds_only_what_is_new(own_site: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    first = build_snapshot(lake, "mine", installed(own_site), on(1))
    before = {table: lake.open(GRAPH, "mine").manifest.tables[table] for table in first.rows}
    (own_site / "alpha/kept.py").write_text("other = 1\n")
    second = build_snapshot(lake, "mine", installed(own_site), on(2))
    assert second.new == {
        "content": 1,
        "directory": 2,
        "directory_entry": second.new["directory_entry"],
        "release": 1,
        "snapshot": 1,
        "snapshot_branch": 2,
        "origin_visit": 1,
        "origin_visit_status": 1,
    }
    after = lake.open(GRAPH, "mine").manifest.tables
    assert all(after[table][: len(files)] == files for table, files in before.items())
    assert build_snapshot(lake, "mine", installed(own_site), on(3)).unchanged


def test_contents_that_did_not_arrive_are_asked_for_again_until_they_do(tmp_path: Path) -> None:
    lake, source = Lake(tmp_path / "lake"), Late()
    first = build_snapshot(lake, "late", source, on(1))
    assert first.skipped == {"not fetched yet": 1}
    second = build_snapshot(lake, "late", source, on(2))
    assert (second.unchanged, second.skipped, second.new) == (False, {}, {"content": 1})
    assert build_snapshot(lake, "late", source, on(3)).unchanged
    assert source.readings == 2


def test_a_date_gives_the_files_of_the_last_visit_before_it(own_site: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    build_snapshot(lake, "mine", installed(own_site), on(1))
    (own_site / "alpha/kept.py").write_text("other = 1\n")
    (own_site / "alpha/copy_a.py").unlink()
    build_snapshot(lake, "mine", installed(own_site), on(5))
    then, now = (look_back(lake, datetime(2023, 9, day, tzinfo=UTC), ("pkg:pypi/alpha",)) for day in (3, 6))
    lengths = [
        dict(zip(*(found.files[name].to_pylist() for name in ("path", "length_bytes")), strict=True))
        for found in (then, now)
    ]
    assert "alpha/copy_a.py" in lengths[0]
    assert lengths[1]["alpha/kept.py"] == len("other = 1\n") < lengths[0]["alpha/kept.py"]
    assert then.origins["point_in_time"].to_pylist() == now.origins["point_in_time"].to_pylist() == ["visit"]
    assert "alpha/copy_a.py" in paths(lake, as_of=datetime(2023, 9, 3, tzinfo=UTC))
    assert "alpha/copy_a.py" not in paths(lake)
    assert lake.open(INDEX).manifest.counts["as_of"] is None


def test_sources_are_read_apart_and_used_together(own_site: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    sources = {"one": installed(own_site, "alpha"), "two": installed(own_site, "beta")}
    assert find_graph(lake) is None
    assert find_changes(lake, sources).changed.keys() == {"one", "two"}
    build_snapshots(lake, sources, lambda _: on(1))
    assert not find_changes(lake, sources).changed
    both = paths(lake)
    assert "beta/core.py" in both
    assert "alpha/kept.py" in both
    assert index_adds_up(lake).passed
    assert open_graph(lake).rows("origin") == 2
    assert "beta/core.py" not in paths(lake, sources=("one",))


def test_a_source_that_fails_does_not_keep_the_others_from_being_read(own_site: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    sources = {"broken": Broken(), "mine": installed(own_site)}
    changes = find_changes(lake, sources)
    assert (changes.changed.keys(), changes.unreachable) == ({"mine"}, {"broken": "nobody there"})
    with pytest.raises(
        SourceError, match="1 of 2 sources failed, the others were read: broken: nobody there"
    ):
        build_snapshots(lake, sources, lambda _: on(1))
    assert lake.partitions(GRAPH) == ["mine"]


def test_what_is_not_in_the_archive_is_said_so(own_site: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with pytest.raises(TableError, match="software_heritage_graph is not in"):
        look_back(lake)
    build_snapshot(lake, "mine", installed(own_site), on(1))
    with pytest.raises(SourceError, match="no origin 'pkg:pypi/other'"):
        look_back(lake, origins=("pkg:pypi/other",))
    with pytest.raises(SourceError, match="no history of commits"):
        trace(lake, "pkg:pypi/alpha", "alpha/kept.py")
