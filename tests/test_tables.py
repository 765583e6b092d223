"""The lake commits a partition whole or not at all."""

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform import parquet
from stack_platform.errors import ConflictError, TableError
from stack_platform.tables import Lake

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.large_string())])


def rows(n: int, start: int = 0, width: int = 10) -> pa.Table:
    return pa.table({"id": range(start, start + n), "text": ["é" * (i % width) for i in range(n)]}, SCHEMA)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def write(lake: Lake, table: pa.Table, fingerprint: str = "f", partition: str = "C++") -> None:
    with lake.writer("scrubbed", partition, fingerprint) as out:
        out.append("files", table)


def test_a_partition_reads_back_what_was_written(lake: Lake) -> None:
    write(lake, rows(100))
    opened = lake.open("scrubbed", "C++")
    assert opened.read("files").equals(rows(100))
    assert opened.read("files", ["id"]).column_names == ["id"]
    assert sum(batch.num_rows for batch in opened.batches("files")) == 100
    assert lake.partitions("scrubbed") == ["C++"]


def test_an_error_in_the_writer_commits_nothing(lake: Lake) -> None:
    write(lake, rows(3))
    with pytest.raises(RuntimeError), lake.writer("scrubbed", "C++", "g") as out:
        out.append("files", rows(5))
        raise RuntimeError
    assert lake.open("scrubbed", "C++").read("files").num_rows == 3
    assert not list(Path(lake.root).glob(".writing-*"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8))
def test_bytes_do_not_depend_on_batches(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    """The same rows in other batches give the same files, also where row groups and files are cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_BYTES", 300)
        patch.setattr(parquet, "ROW_GROUPS_PER_FILE", 2)
        whole = rows(sum(sizes))
        lake = Lake(tmp_path_factory.mktemp("lake"))
        with lake.writer("a", "x") as out:
            out.append("files", whole)
        with lake.writer("b", "x") as out:
            start = 0
            for size in sizes:
                out.append("files", whole.slice(start, size))
                start += size
        one, other = lake.open("a", "x").manifest, lake.open("b", "x").manifest
        assert [f.sha256 for f in one.tables["files"]] == [f.sha256 for f in other.tables["files"]]
        assert lake.open("b", "x").read("files").equals(whole)


def test_writing_the_same_again_commits_no_version(lake: Lake) -> None:
    write(lake, rows(10))
    write(lake, rows(10))
    assert lake.versions("scrubbed", "C++") == [1]
    write(lake, rows(10), fingerprint="other inputs, same rows")
    assert lake.versions("scrubbed", "C++") == [1, 2]
    first, second = (lake.at("scrubbed", "C++", v) for v in (1, 2))
    assert first.digest == second.digest


def test_of_two_writers_the_later_one_is_told(lake: Lake) -> None:
    with (
        pytest.raises(ConflictError, match="committed by another run"),
        lake.writer("scrubbed", "C++", "a") as late,
    ):
        late.append("files", rows(1))
        write(lake, rows(2), "b")
    assert lake.open("scrubbed", "C++").read("files").num_rows == 2


def test_two_writers_of_the_same_rows_agree(lake: Lake) -> None:
    with lake.writer("scrubbed", "C++", "a") as late:
        late.append("files", rows(2))
        write(lake, rows(2), "a")
    assert lake.versions("scrubbed", "C++") == [1]


def test_a_reader_keeps_its_version_while_another_commits(lake: Lake) -> None:
    write(lake, rows(3))
    before = lake.open("scrubbed", "C++")
    write(lake, rows(7), "g")
    assert before.read("files").num_rows == 3
    assert lake.open("scrubbed", "C++").read("files").num_rows == 7


def test_vacuum_keeps_the_newest_version_and_what_is_pinned(lake: Lake) -> None:
    write(lake, rows(3))
    pinned = lake.open("scrubbed", "C++").manifest.tables["files"][0].path
    write(lake, rows(4), "g")
    write(lake, rows(5), "h")
    removed = lake.vacuum(keep=1, pinned=[pinned])
    assert Path(lake.root, pinned).exists()
    assert len([key for key in removed if key.endswith(".parquet")]) == 1
    assert lake.versions("scrubbed", "C++") == [3]
    assert lake.open("scrubbed", "C++").read("files").num_rows == 5


def test_an_altered_manifest_is_refused(lake: Lake) -> None:
    write(lake, rows(3))
    path = next(Path(lake.root).rglob("00000001.json"))
    path.write_text(path.read_text().replace('"rows": 3', '"rows": 4').replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(TableError, match="was altered"):
        lake.open("scrubbed", "C++")


def test_a_missing_partition_says_how_to_make_it(lake: Lake) -> None:
    with pytest.raises(TableError, match=r"dagster asset materialize .*--select scrubbed --partition 'Go'"):
        lake.open("scrubbed", "Go")


def test_rows_of_another_schema_are_refused(lake: Lake) -> None:
    with pytest.raises(TableError, match="has the schema"), lake.writer("s", "x") as out:
        out.append("files", rows(1))
        out.append("files", pa.table({"other": [1]}))
    assert lake.latest("s", "x") is None


def test_a_full_disk_is_an_error_and_commits_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Lake, key: str, source: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Lake, "put_file", full)
    with pytest.raises(TableError, match=r"No space left.*nothing of it was committed"):
        write(lake, rows(3))
    assert lake.latest("scrubbed", "C++") is None


KILLED = """
import os, signal, sys
import pyarrow as pa
from stack_platform.tables import Lake
lake = Lake(sys.argv[1])
with lake.writer("scrubbed", "C++", "g") as out:
    schema = pa.schema([("id", pa.int64()), ("text", pa.large_string())])
    out.append("files", pa.table({"id": range(1000), "text": ["y" * 100] * 1000}, schema))
    if sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    put_new = Lake.put_new
    Lake.put_new = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["before", "between files and manifest"])
def test_a_killed_writer_leaves_the_old_partition(lake: Lake, moment: str) -> None:
    """After SIGKILL readers see the old rows, and the same run again gives the bytes it would have given."""
    write(lake, rows(3), "f")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, lake.root, moment], cwd=Path(__file__).parents[1], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert lake.open("scrubbed", "C++").read("files").num_rows == 3
    write(lake, rows(3), "g")
    assert lake.open("scrubbed", "C++").manifest.version == 2
    lake.vacuum()
    assert [path.name for path in Path(lake.root).iterdir()] == ["scrubbed"]


def test_the_same_code_writes_to_an_object_store() -> None:
    """An in-memory object store stands for S3: same manifests, same refusal to overwrite."""
    lake = Lake("memory:///")
    write(lake, rows(5))
    assert lake.versions("scrubbed", "C++") == [1]
    assert lake.open("scrubbed", "C++").read("files").equals(rows(5))
    with pytest.raises(ConflictError):
        lake.put_new("scrubbed/C%2B%2B/_manifests/00000001.json", b"{}")
