"""Keys match what sets match, and dates of any unit become seconds and microseconds."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.archive.export.tables import HexKeys, UrlKeys
from stack_platform.archive.remote import ObjectFile, StoredFile, open_store

IDS = st.sampled_from([f"{n:040x}" for n in range(12)] + [f"{n:01x}" + "0" * 39 for n in range(12)])
VALUES = st.one_of(IDS, st.none(), st.text("0f", max_size=41))


@given(st.lists(IDS), st.lists(VALUES), st.integers(0, 3))
def test_ids_match_as_in_a_set(keys, values, start):
    column = pa.array(values, pa.string())[start:]
    found = HexKeys(keys).match(column)
    assert found.tolist() == [value in set(keys) for value in values[start:]]


@given(st.lists(IDS), st.lists(IDS), st.integers(0, 3))
def test_whole_ids_match_as_in_a_set(keys, values, start):
    column = pa.array(values, pa.string())[start:]
    assert HexKeys(keys).match(column).tolist() == [value in set(keys) for value in values[start:]]


@given(st.lists(st.one_of(st.none(), st.sampled_from(["a:b", "a:bc", "x:y", "a:"]))))
def test_urls_match_exactly_or_by_pattern(values):
    column = pa.array(values, pa.string())
    assert UrlKeys(["a:*c", "x:y"]).match(column).tolist() == [value in ("a:bc", "x:y") for value in values]
    assert UrlKeys([]).match(column).tolist() == [value is not None for value in values]


def test_a_question_mark_in_a_url_is_itself():
    keys = UrlKeys(["https://x.org/?p=a.git"])
    assert keys.wants("https://x.org/?p=a.git")
    assert not keys.wants("https://x.org/!p=a.git")


@pytest.mark.parametrize("size", [0, 10, 65_536, 200_000])
def test_an_object_reads_as_a_file(tmp_path, size):
    data = bytes(range(256)) * (size // 256) + b"end"
    (tmp_path / "file").write_bytes(data)
    stream = ObjectFile(open_store(str(tmp_path)), StoredFile("file", len(data), ""))
    assert stream.read() == data
    assert stream.read(5) == b""
    for start in (0, len(data) // 2, max(len(data) - 70_000, 0), len(data) - 1, len(data) + 9):
        assert stream.seek(start) == start
        assert stream.read(100) == data[start : start + 100]
        assert stream.tell() == max(min(start + 100, len(data)), start)
    assert stream.seek(-3, 2) == len(data) - 3
    assert stream.read() == b"end"
