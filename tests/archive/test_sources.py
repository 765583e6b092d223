import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.archive.sources import IdSet, Known, LastVisit, choose
from stack_platform.errors import ConfigError
from stack_platform.schemas import ARCHIVE

IDS = st.lists(st.binary(min_size=20, max_size=20).map(bytes.hex), max_size=30)


@given(IDS, IDS)
def test_an_id_set_lacks_what_was_not_put_in(held, asked):
    column = pa.chunked_array([pa.array([*held, None], pa.string())])
    ids = IdSet(column)
    assert len(ids) == len(set(held))
    assert ids.lacks(asked) == [name for name in asked if name not in set(held)]
    assert all(name in ids for name in held)


def test_nothing_is_known_of_a_new_source():
    known = Known()
    assert known.visits == {}
    assert known.origins == frozenset()
    assert "00" * 20 not in known.contents


def test_the_last_visit_is_the_one_with_the_highest_number():
    rows = [("a", 2, None, "failed", None, "t"), ("a", 1, None, "full", "snp", "t")]
    schema = ARCHIVE["origin_visit_status"]
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
    assert Known(lambda _, columns: table.select(list(columns))).visits == {"a": LastVisit(2, "failed", None)}


def test_a_source_that_is_not_configured_is_refused():
    assert choose({"a": 1, "b": 2}, []) == {"a": 1, "b": 2}
    assert choose({"a": 1, "b": 2}, ["b"]) == {"b": 2}
    with pytest.raises(ConfigError, match="no source is called 'c'"):
        choose({"a": 1}, ["c"])
