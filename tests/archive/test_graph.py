import hashlib
import os
import subprocess
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.archive.distributions import DistributionsConfig
from stack_platform.archive.graph import ListedSource
from stack_platform.archive.sources import Known, Reading
from stack_platform.archive.swhid import content_swhid
from stack_platform.archive.trees import Origin, Release, Visit, list_files
from stack_platform.errors import ConfigError
from stack_platform.schemas import ARCHIVE


def tables(listing, known=Known(), **options):
    batches = {name: schema.empty_table().to_batches() for name, schema in ARCHIVE.items()}
    for name, batch in ListedSource(listing).read(known, Reading(**options)):
        assert batch.num_rows
        batches[name].append(batch)
    return {name: pa.Table.from_batches(list_, ARCHIVE[name]) for name, list_ in batches.items()}


def known_from(*readings):
    """Give what the archive holds after some readings."""
    held = {name: pa.concat_tables([reading[name] for reading in readings]) for name in ARCHIVE}
    return Known(lambda table, columns: held[table].select(list(columns)))


def rows_of(made):
    return {name: table.num_rows for name, table in made.items() if table.num_rows}


def serialized(config, **options):
    """Every table in one buffer, whatever its batches."""
    sink = pa.BufferOutputStream()
    for _, table in sorted(tables(config, **options).items()):
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


@pytest.fixture
def site(tmp_path, install):
    install(
        tmp_path,
        "one",
        "1.0",
        {
            "one/a.py": b"print(1)\n",
            "one/sub/b.c": b"int x;\n",
            "one/copy.py": b"print(1)\n",
            "one/data.bin": b"\0\1",
        },
    )
    install(tmp_path, "two", "2.0", {"two.py": b"print(2)\n", "tool.sh": b"#!/bin/sh\n"})
    (tmp_path / "tool.sh").chmod(0o755)
    return tmp_path


def test_every_table_comes_with_its_schema(site):
    made = tables(DistributionsConfig(paths=(str(site),)))
    assert {name: table.schema for name, table in made.items()} == ARCHIVE
    assert made["revision"].num_rows == 0
    assert made["origin"]["url"].to_pylist() == ["pkg:pypi/one", "pkg:pypi/two"]


def test_root_directory_is_the_tree_that_git_writes(site):
    (site / "link").symlink_to("two.py")
    (site / "out").symlink_to("/etc/passwd")
    record = site / "two-2.0.dist-info" / "RECORD"
    record.write_bytes(record.read_bytes() + b"link,,\nout,,\n")
    made = tables(DistributionsConfig(paths=(str(site),), include=("two",)))
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*arguments):
        command = ["git", "-C", str(site), *arguments]
        return subprocess.run(
            command, capture_output=True, check=True, env=environment, text=True
        ).stdout.strip()

    git("init", "--quiet")
    git("add", "-f", "two.py", "tool.sh", "link", "out", "two-2.0.dist-info/METADATA")
    assert made["release"]["target"].to_pylist() == [git("write-tree")]
    links = {content_swhid(b"two.py")[10:], content_swhid(b"/etc/passwd")[10:]}
    assert links <= set(made["content"]["sha1_git"].to_pylist())


def test_snapshot_leads_from_head_to_the_release(site):
    made = tables(DistributionsConfig(paths=(str(site),), include=("one",)))
    (snapshot,) = made["snapshot"]["id"].to_pylist()
    (release,) = made["release"].to_pylist()
    rows = made["snapshot_branch"].to_pylist()
    assert rows == [
        {"snapshot_id": snapshot, "name": b"HEAD", "target": b"releases/1.0".hex(), "target_type": "alias"},
        {"snapshot_id": snapshot, "name": b"releases/1.0", "target": release["id"], "target_type": "release"},
    ]
    assert (release["name"], release["message"], release["author"], release["date"]) == (
        b"1.0",
        None,
        None,
        None,
    )
    assert made["origin_visit_status"]["snapshot"].to_pylist() == [snapshot]


def test_contents_come_once_and_lie_together_by_extension(site):
    contents = tables(DistributionsConfig(paths=(str(site),)))["content"]
    ids = contents["sha1_git"].to_pylist()
    assert len(ids) == len(set(ids))
    texts = [data for data in contents["data"].to_pylist() if data is not None and b"Metadata" not in data]
    assert texts == [b"int x;\n", b"print(1)\n", b"print(2)\n", b"#!/bin/sh\n"]


def test_binary_contents_are_known_but_held_only_on_demand(site):
    def data(config):
        rows = tables(config)["content"].to_pylist()
        return next(row["data"] for row in rows if row["sha1_git"] == content_swhid(b"\0\1")[10:])

    assert data(DistributionsConfig(paths=(str(site),))) is None
    assert data(DistributionsConfig(paths=(str(site),), hold_binary=True)) == b"\0\1"


def test_hashes_and_length_are_those_of_the_bytes(site):
    for row in tables(DistributionsConfig(paths=(str(site),), hold_binary=True))["content"].to_pylist():
        assert row["sha1"] == hashlib.sha1(row["data"]).hexdigest()
        assert row["sha256"] == hashlib.sha256(row["data"]).hexdigest()
        assert row["length"] == len(row["data"])


def test_content_beyond_the_limit_keeps_its_entry_and_is_reported(site):
    made = tables(DistributionsConfig(paths=(str(site),), include=("two",), max_content_bytes=9))
    skipped = {row["path"]: row for row in made["skipped_content"].to_pylist()}
    tool = skipped[b"tool.sh"]
    assert tool["reason"] == "too large: 10 bytes, the limit is 9"
    assert (tool["status"], tool["origin"]) == ("absent", "pkg:pypi/two")
    assert tool["sha1_git"] in made["directory_entry"]["target"].to_pylist()
    assert tool["sha1_git"] not in made["content"]["sha1_git"].to_pylist()


def test_vanished_and_unreadable_files_are_reported_without_an_entry(site):
    record = site / "two-2.0.dist-info" / "RECORD"
    record.write_bytes(record.read_bytes() + b"gone.py,,\n%s,,\n" % (b"n" * 300))
    made = tables(DistributionsConfig(paths=(str(site),), include=("two",)))
    skipped = {row["path"]: row for row in made["skipped_content"].to_pylist()}
    assert skipped[b"gone.py"]["reason"] == "missing"
    assert skipped[b"n" * 300]["reason"] == "unreadable: File name too long"
    assert skipped[b"gone.py"]["sha1_git"] is None
    assert b"gone.py" not in made["directory_entry"]["name"].to_pylist()
    assert made["origin_visit_status"]["status"].to_pylist() == ["full"]


class Fixed:
    """A listing that shows what it was given."""

    max_content_bytes, hold_binary = 1000, True

    def __init__(self, *visits, state="1"):
        self.shown, self.state = visits, state
        self.opened = []

    def origins(self):
        return [Origin(visit.origin, self.state, 0, 0, 0) for visit in self.shown]

    @contextmanager
    def visits(self, origins):
        self.opened.append([origin.url for origin in origins])
        yield [visit for visit in self.shown if visit.origin in self.opened[-1]]


def test_file_that_vanishes_after_it_was_listed_is_reported(site):
    config = DistributionsConfig(paths=(str(site),))
    with config.visits(config.origins()) as visits:
        (site / "two.py").unlink()
        skipped = tables(Fixed(*visits))["skipped_content"].to_pylist()
    assert [(row["path"], row["reason"], row["visit"]) for row in skipped] == [(b"two.py", "missing", 1)]


def test_distribution_without_record_is_an_origin_without_snapshot(site, install):
    install(site, "bare", "1", {}, record=False)
    made = tables(DistributionsConfig(paths=(str(site),)))
    statuses = {row["origin"]: row for row in made["origin_visit_status"].to_pylist()}
    assert statuses["pkg:pypi/bare"]["status"] == "not_found"
    assert statuses["pkg:pypi/bare"]["snapshot"] is None
    assert "pkg:pypi/bare" in made["origin"]["url"].to_pylist()


def test_tables_do_not_depend_on_the_folder(tmp_path, install):
    here, there = tmp_path / "here", tmp_path / "there" / "deeper"
    for folder in (here, there):
        install(folder, "p", "1", {"p/a.py": b"1", "p/b.py": b"2"})
    assert tables(DistributionsConfig(paths=(str(here),))) == tables(DistributionsConfig(paths=(str(there),)))


def test_visit_date_is_the_callers(site):
    config = DistributionsConfig(paths=(str(site),))
    date = datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)
    assert tables(config, visit_date=date)["origin_visit"]["date"].to_pylist()[0] == {
        "seconds": -1,
        "microseconds": 500_000,
    }
    assert tables(config)["origin_visit"]["date"].to_pylist() == [None, None]
    with pytest.raises(ConfigError, match="no time zone"):
        tables(config, visit_date=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("options", [{"threads": 0}, {"batch_bytes": 0}])
def test_numbers_that_are_not_positive_are_refused(site, options):
    with pytest.raises(ConfigError, match="both must be 1 or more"):
        tables(DistributionsConfig(paths=(str(site),)), **options)


def test_progress_ends_with_everything(site):
    seen = []
    tables(DistributionsConfig(paths=(str(site),)), progress=seen.append)
    assert seen[-1].files == seen[-1].files_total == 8
    assert seen[-1].bytes == seen[-1].bytes_total


def test_batches_are_bounded_in_bytes(site):
    config = DistributionsConfig(paths=(str(site),))
    read = config.open().read(Known(), Reading(batch_bytes=1))
    sizes = [batch.num_rows for name, batch in read if name == "content"]
    assert sum(sizes) == 7
    assert max(sizes) <= 2  # a binary content that is not held has no bytes


def test_fingerprint_changes_with_files_and_settings_only(site):
    config = DistributionsConfig(paths=(str(site),))
    first = config.open().fingerprint()
    assert DistributionsConfig(paths=(str(site),)).open().fingerprint() == first
    assert DistributionsConfig(paths=(str(site),), hold_binary=True).open().fingerprint() != first
    (site / "two.py").write_bytes(b"print(3)\n")
    second = config.open().fingerprint()
    (site / "tool.sh").unlink()
    assert len({first, second, config.open().fingerprint()}) == 3


def test_change_whose_time_was_put_back_is_seen(site):
    config = DistributionsConfig(paths=(str(site),))
    before = (site / "two.py").stat()
    first = config.open().fingerprint()
    (site / "two.py").write_bytes(b"print(3)\n")
    os.utime(site / "two.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert config.open().fingerprint() != first


def test_unchanged_origins_give_nothing_with_a_memory_and_without(site, tmp_path_factory):
    config = DistributionsConfig(paths=(str(site),))
    for scratch in (None, tmp_path_factory.mktemp("scratch")):
        first = tables(config, scratch=scratch)
        assert rows_of(tables(config, known_from(first), scratch=scratch)) == {}


def test_origin_in_its_remembered_state_is_not_opened(tmp_path):
    listing = Fixed(Visit("one", "t", "failed", problem="no"), Visit("two", "t", "not_found"))
    first = tables(listing, scratch=tmp_path)
    assert rows_of(tables(listing, known_from(first), scratch=tmp_path)) == {}
    assert listing.opened == [["one", "two"]]
    listing.state = "2"
    assert rows_of(tables(listing, known_from(first), scratch=tmp_path)) == {}
    assert len(listing.opened) == 2


def test_memory_of_a_reading_that_was_not_kept_is_not_believed(site, tmp_path_factory):
    config, scratch = DistributionsConfig(paths=(str(site),)), tmp_path_factory.mktemp("scratch")
    first = tables(config, scratch=scratch)
    assert tables(config, scratch=scratch) == first


def test_change_of_one_file_costs_its_own_rows(site):
    config = DistributionsConfig(paths=(str(site),))
    first = tables(config)
    (site / "one" / "sub" / "b.c").write_bytes(b"int y;\n")
    second = tables(config, known_from(first))
    assert rows_of(second) == {
        "content": 1,
        "directory": 3,
        "directory_entry": 1 + 4 + 2,
        "release": 1,
        "snapshot": 1,
        "snapshot_branch": 2,
        "origin_visit": 1,
        "origin_visit_status": 1,
    }
    assert second["origin_visit"]["visit"].to_pylist() == [2]
    assert second["origin_visit"]["origin"].to_pylist() == ["pkg:pypi/one"]


def test_failure_is_told_once_until_it_changes():
    problem = Visit("one", "t", "failed", problem="cut off")
    first = tables(Fixed(problem))
    (row,) = first["skipped_content"].to_pylist()
    assert (row["reason"], row["origin"], row["path"], row["sha1_git"]) == ("cut off", "one", None, None)
    assert rows_of(tables(Fixed(problem), known_from(first))) == {}
    second = tables(Fixed(problem._replace(status="not_found", problem="")), known_from(first))
    assert rows_of(second) == {"origin_visit": 1, "origin_visit_status": 1}
    assert second["origin_visit_status"]["visit"].to_pylist() == [2]


def test_directory_without_a_version_is_what_head_points_to(tmp_path):
    (tmp_path / "a.py").write_bytes(b"1")
    release = Release(None, str(tmp_path), list_files(str(tmp_path), [b"a.py"]))
    made = tables(Fixed(Visit("dir:x", "directory", "full", (release,))))
    (branch,) = made["snapshot_branch"].to_pylist()
    assert (branch["name"], branch["target_type"]) == (b"HEAD", "directory")
    assert branch["target"] in made["directory"]["id"].to_pylist()
    assert made["release"].num_rows == 0


def test_same_path_twice_fails_that_origin_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (file,) = list_files(str(tmp_path), [b"a"])
    broken = Release(b"1", str(tmp_path), (file, file._replace(path=b"a/b", problem=""), file))
    sound = Release(b"1", str(tmp_path), (file,))
    listing = Fixed(Visit("one", "t", "full", (broken,)), Visit("two", "t", "full", (sound,)))
    made = tables(listing)
    statuses = made["origin_visit_status"].to_pylist()
    assert [(row["origin"], row["status"]) for row in statuses] == [("one", "failed"), ("two", "full")]
    assert "two entries named b'a'" in made["skipped_content"]["reason"].to_pylist()[-1]


def test_origins_are_opened_in_chunks(site, monkeypatch):
    config = DistributionsConfig(paths=(str(site),))
    whole = tables(config)
    monkeypatch.setattr("stack_platform.archive.graph._CHUNK_BYTES", 1)
    split = tables(config)
    assert rows_of(split) == rows_of(whole)
    for name in ("directory", "release", "snapshot", "origin_visit_status"):
        assert split[name] == whole[name]


parts = st.sampled_from(["a", "b", "c.py", "d.txt", "e.PY"])
contents = st.binary(max_size=40)
trees = st.dictionaries(st.lists(parts, min_size=1, max_size=3).map("/".join), contents, max_size=12).filter(
    lambda tree: not any(other.startswith(path + "/") for path in tree for other in tree)
)


@given(trees, st.integers(1, 4), st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_graph_does_not_depend_on_threads_and_batches(install, tree, threads, batch_bytes):
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), "p", "1", tree)
        config = DistributionsConfig(paths=(folder,), max_content_bytes=30)
        expected = serialized(config, threads=1)
        assert serialized(config, threads=threads, batch_bytes=batch_bytes) == expected
