import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack_platform.archive import blobs, hash_cache
from stack_platform.archive.folders import FoldersConfig
from stack_platform.archive.hash_cache import HashCache, Remembered
from stack_platform.archive.sources import Known, Reading
from stack_platform.archive.trees import FILE, Release, SourceFile
from stack_platform.schemas import ARCHIVE

OLD = 1_000_000_000_000_000_000


def read(folder, known, scratch):
    batches = {name: [] for name in ARCHIVE}
    for name, batch in FoldersConfig((str(folder),)).open().read(known, Reading(scratch=scratch)):
        batches[name].append(batch)
    return {name: pa.Table.from_batches(list_, ARCHIVE[name]) for name, list_ in batches.items()}


def held(readings):
    whole = {name: pa.concat_tables([reading[name] for reading in readings]) for name in ARCHIVE}
    return Known(lambda table, columns: whole[table].select(list(columns)))


@pytest.fixture
def later(monkeypatch):
    """Let every reading begin an hour after the files were written, as far as the memory can tell."""
    moment = hash_cache._now_ns
    monkeypatch.setattr(hash_cache, "_now_ns", lambda folder: moment(folder) + 3_600 * 10**9)


def test_only_changed_files_are_read_again(tmp_path, later, monkeypatch):
    folder, scratch = tmp_path / "p", tmp_path / "scratch"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(name.encode())
    first = read(folder, Known(), scratch)
    opened = []
    reader = blobs.read_blob
    monkeypatch.setattr(
        blobs, "read_blob", lambda located, *rest: opened.append(located) or reader(located, *rest)
    )
    (folder / "b").write_bytes(b"new")
    second = read(folder, held([first]), scratch)
    assert [located.file.path for located in opened] == [b"b"]
    assert second["content"]["data"].to_pylist() == [b"new"]
    read(folder, held([first, second]), scratch)
    assert len(opened) == 1


def test_content_that_the_archive_lacks_is_read_though_its_hash_is_remembered(tmp_path, later):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a").write_bytes(b"1")
    first = read(tmp_path / "p", Known(), tmp_path / "scratch")
    assert read(tmp_path / "p", Known(), tmp_path / "scratch") == first


def test_what_changed_when_reading_began_is_not_remembered(tmp_path):
    now = (tmp_path / "now").write_bytes(b"") or (tmp_path / "now").stat().st_mtime_ns
    ids = [b"1" * 20, b"2" * 20, b"3" * 20, None]
    times = [OLD, now, now + 10**15, OLD]
    files = tuple(SourceFile(b"%d" % number, FILE, 1, time, number) for number, time in enumerate(times))
    release = Release(b"1", "/nowhere", files)
    with closing(HashCache(tmp_path)) as cache:
        cache.keep("old", OLD, Remembered("state", "full", "s"), [(release, ids)])
        cache.keep("new", now, Remembered("state", "full", "s"), [])
    with closing(HashCache(tmp_path)) as cache:
        assert cache.origins() == {"old": Remembered("state", "full", "s")}
        assert list(cache.files("old", release)) == [(0, b"1" * 20)]


@pytest.mark.parametrize("change", [{"length": 2}, {"changed_ns": OLD + 1}, {"inode": 7}, {"path": b"other"}])
def test_file_that_looks_different_is_forgotten(tmp_path, change):
    file = SourceFile(b"a", FILE, 1, OLD, 2**64 - 1)
    with closing(HashCache(tmp_path)) as cache:
        release = Release(None, "/nowhere", (file,))
        cache.keep("o", OLD, Remembered("state", "full", None), [(release, [b"1" * 20])])
        assert len(list(cache.files("o", release))) == 1
        assert not list(cache.files("o", release._replace(files=(file._replace(**change),))))
        assert not list(cache.files("o", release._replace(name=b"")))
        assert not list(cache.files("other", release))


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100, None])
def test_damaged_memory_is_begun_anew(tmp_path, damage):
    with closing(HashCache(tmp_path)) as cache:
        cache.keep("o", OLD, Remembered("state", "full", None), [])
    file = tmp_path / "hashes.sqlite"
    if damage is None:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 99")
    else:
        file.write_bytes(damage)
    for _ in range(2):
        with closing(HashCache(tmp_path)) as cache:
            cache.keep("p", OLD, Remembered("state", "full", None), [])
            assert set(cache.origins()) == {"p"}


def test_memory_that_breaks_while_it_is_used_costs_time_only(tmp_path):
    with closing(HashCache(tmp_path)) as cache:
        cache._connection.execute("DROP TABLE file")
        cache.keep("o", OLD, Remembered("state", "full", None), [])
        assert list(cache.files("o", Release(None, "/nowhere", ()))) == []
        assert cache.origins() == {}


names = st.sampled_from(["a.py", "b.py", "c/d.py", "c/e"])
steps = st.one_of(
    st.tuples(st.just("write"), names, st.sampled_from([b"", b"1", b"2", b"33"])),
    st.tuples(st.just("touch"), names, st.just(b"")),
    st.tuples(st.just("back"), names, st.sampled_from([b"1", b"2"])),
    st.tuples(st.just("rename"), names, st.just(b"")),
    st.tuples(st.just("remove"), names, st.just(b"")),
    st.tuples(st.just("read"), names, st.just(b"")),
)


def wait_for_the_clock(folder):
    """Wait until the file system's clock has moved on."""
    probe = folder.parent / "probe"
    probe.touch()
    before = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == before:
        probe.touch()


def act(folder, step, name, data):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if step == "write":
        path.write_bytes(data)
    elif path.exists() and step == "touch":
        path.touch()
    elif path.exists() and step == "back":  # new bytes of the old length, under the old time
        before = path.stat()
        path.write_bytes(data[:1] * before.st_size)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif path.exists() and step == "rename":
        path.replace(folder / "b.py")
    elif path.exists() and step == "remove":
        path.unlink()


@given(st.lists(steps, max_size=10))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_the_same_with_a_memory_and_without_and_add_up_to_those_of_one_reading(later, sequence):
    with tempfile.TemporaryDirectory() as place:
        folder, scratch = Path(place, "p"), Path(place, "scratch")
        folder.mkdir()
        readings = []
        for step, name, data in [*sequence, ("read", "", b"")]:
            if step != "read":
                act(folder, step, name, data)
                wait_for_the_clock(folder)
                continue
            known = held(readings) if readings else Known()
            remembered = read(folder, known, scratch)
            assert remembered == read(folder, known, None)
            readings.append(remembered)
        whole = {name: pa.concat_tables([reading[name] for reading in readings]) for name in ARCHIVE}
        scratch_free = read(folder, Known(), None)
        for table, key in (("content", "sha1_git"), ("directory", "id"), ("snapshot", "id")):
            ids = whole[table][key].to_pylist()
            assert len(ids) == len(set(ids))
            assert set(scratch_free[table][key].to_pylist()) <= set(ids)
        last = whole["origin_visit_status"]["snapshot"].to_pylist()[-1]
        assert [last] == scratch_free["snapshot"]["id"].to_pylist()
        shutil.rmtree(scratch)
        assert not any(table.num_rows for table in read(folder, held(readings), scratch).values())
