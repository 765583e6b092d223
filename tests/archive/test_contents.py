import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.archive.contents import CONTENTS, read_contents
from stack_platform.archive.swhid import content_swhid
from stack_platform.errors import SchemaError, SourceError


def identifier(data):
    return content_swhid(data)[10:]


@pytest.fixture
def archive(tmp_path):
    """Two files, two row groups each; one content is in both, the data of one is not held."""
    rows = [b"a", b"bb", b"ccc", b"dddd", b"a", b"eeeee"]
    ids = [identifier(data) for data in rows]
    data = pa.array([None if value == b"dddd" else value for value in rows], pa.large_binary())
    table = pa.table({"sha1_git": ids, "data": data})
    paths = [str(tmp_path / "1.parquet"), str(tmp_path / "2.parquet")]
    pq.write_table(table.slice(0, 4), paths[0], row_group_size=2)
    pq.write_table(table.slice(4), paths[1], row_group_size=1)
    return paths


def read(*arguments, **options):
    batches = list(read_contents(*arguments, **options))
    assert all(batch.schema == CONTENTS for batch in batches)
    return [(row["content_id"], row["data"]) for batch in batches for row in batch.to_pylist()]


def test_everything_comes_once_in_the_order_of_the_files(archive):
    assert [data for _, data in read(archive)] == [b"a", b"bb", b"ccc", None, b"eeeee"]


def test_chosen_contents_come_with_their_ids(archive):
    wanted = pa.array([identifier(b"eeeee"), identifier(b"bb"), None, identifier(b"bb")])
    assert read(archive, wanted) == [(identifier(b"bb"), b"bb"), (identifier(b"eeeee"), b"eeeee")]


def test_nothing_wanted_gives_nothing(archive):
    assert read(archive, pa.array([], pa.string())) == []


def test_unknown_id_is_refused_unless_allowed(archive):
    wanted = pa.chunked_array([[identifier(b"bb")], ["0" * 40]])
    with pytest.raises(SourceError, match="1 of 2 contents are in none of 2 files, first 0000"):
        read(archive, wanted)
    assert len(read(archive, wanted, allow_missing=True)) == 1


def test_damaged_bytes_are_found(tmp_path):
    path = str(tmp_path / "bad.parquet")
    table = pa.table({"sha1_git": [identifier(b"x")], "data": pa.array([b"y"], pa.large_binary())})
    pq.write_table(table, path)
    assert len(read([path])) == 1
    with pytest.raises(
        SourceError, match=f"the bytes of content {identifier(b'x')} hash to {identifier(b'y')}"
    ):
        read([path], verify=True)


def test_sound_bytes_pass_the_verification(archive):
    assert len(read(archive, verify=True)) == 5


def test_unreadable_files_are_refused(tmp_path, archive):
    with pytest.raises(SourceError, match=r"gone\.parquet cannot be read"):
        read([str(tmp_path / "gone.parquet")])
    (tmp_path / "text.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match=r"text\.parquet cannot be read"):
        read([str(tmp_path / "text.parquet")])
    pq.write_table(pa.table({"id": [1]}), tmp_path / "other.parquet")
    with pytest.raises(SchemaError, match="lack the columns data, sha1_git"):
        read([str(tmp_path / "other.parquet")])


@given(st.lists(st.binary(max_size=20), unique=True), st.integers(1, 50), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_batches_are_bounded_and_hold_everything(tmp_path_factory, rows, batch_bytes, group):
    path = str(tmp_path_factory.mktemp("contents") / "c.parquet")
    ids = pa.array([identifier(data) for data in rows], pa.string())
    pq.write_table(
        pa.table({"sha1_git": ids, "data": pa.array(rows, pa.large_binary())}), path, row_group_size=group
    )
    batches = list(read_contents([path], batch_bytes=batch_bytes))
    assert [data for batch in batches for data in batch["data"].to_pylist()] == rows
    for batch in batches:
        lengths = [len(data) for data in batch["data"].to_pylist() if data]
        assert sum(lengths) <= batch_bytes or len(lengths) == 1
