import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack_platform.dedup.index import build_index, index_schema, near_duplicates_of, update_index
from stack_platform.dedup.leaders import NearDuplicateConfig, find_near_duplicates
from stack_platform.errors import SourceError, TableError

relaxed = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def kept_of(index: pa.Table) -> set[str]:
    return set(index.filter(index["witness"].is_null())["blob_id"].to_pylist())


def decided(index: pa.Table) -> dict[str, tuple[str | None, float | None]]:
    rows = index.select(["blob_id", "witness", "jaccard"]).to_pylist()
    return {row["blob_id"]: (row["witness"], row["jaccard"]) for row in rows}


def test_an_index_holds_the_decisions_of_a_run_without_one(edited, shelf):
    files = shelf(edited(300, 5))
    ids = files.ids(range(300))
    index = build_index(ids, files.read)
    assert index.schema.equals(index_schema(), check_metadata=True)
    assert near_duplicates_of(index).equals(find_near_duplicates(ids, files.read))
    assert near_duplicates_of(index).num_rows > 50


@relaxed
@given(st.integers(0, 10**6))
def test_updates_give_what_a_run_from_the_beginning_gives_in_the_order_of_the_rows(edited, shelf, seed):
    """Snapshots with files added, removed and reordered, one after the other."""
    dice = random.Random(seed)
    files = shelf(edited(60, seed))
    present = dice.sample(range(60), 40)
    index = build_index(files.ids(present), files.read)
    for _ in range(3):
        before = index
        present = [number for number in present if dice.random() > 0.1]
        present += dice.sample(sorted(set(range(60)) - set(present)), 5)
        dice.shuffle(present)
        index = update_index(before, files.ids(present), files.read)
        assert sorted(index["blob_id"].to_pylist()) == sorted(files.ids(present).to_pylist())
        scratch = build_index(index["blob_id"], files.read)
        assert scratch.equals(index.combine_chunks())
        assert kept_of(before) & set(index["blob_id"].to_pylist()) <= kept_of(index)


@relaxed
@given(st.integers(0, 10**6))
def test_removing_a_kept_file_reconsiders_the_files_it_displaced_and_only_they(edited, shelf, seed):
    files = shelf(edited(60, seed))
    index = build_index(files.ids(range(60)), files.read)
    witnesses = sorted(set(near_duplicates_of(index)["witness"].to_pylist()))
    if not witnesses:
        return
    gone = random.Random(seed).choice(witnesses)
    displaced = {name for name, (witness, _) in decided(index).items() if witness == gone}
    rest = index["blob_id"].filter(pa.compute.not_equal(index["blob_id"], gone))
    files.asked.clear()
    after = update_index(index, rest, files.read)
    assert {name for name, what in decided(after).items() if what != decided(index)[name]} <= displaced
    assert kept_of(index) - {gone} <= kept_of(after)
    assert kept_of(after) <= kept_of(index) | displaced
    assert after.slice(after.num_rows - len(displaced))["blob_id"].to_pylist() == [
        name for name in rest.to_pylist() if name in displaced
    ]
    for asked in files.asked:
        assert asked <= displaced | kept_of(index)


def test_removing_a_dropped_file_changes_nothing_else(edited, shelf):
    files = shelf(edited(100, 3))
    index = build_index(files.ids(range(100)), files.read)
    gone = near_duplicates_of(index)["blob_id"][0].as_py()
    rest = index.filter(pa.compute.not_equal(index["blob_id"], gone))
    files.asked.clear()
    assert update_index(index, rest["blob_id"], files.read).equals(rest)
    assert files.asked == []


def test_a_new_snapshot_reads_new_files_and_the_kept_ones_they_may_resemble(edited, shelf):
    files = shelf(edited(400, 11))
    index = build_index(files.ids(range(380)), files.read)
    files.asked.clear()
    update_index(index, files.ids(range(400)), files.read)
    new = set(files.ids(range(380, 400)).to_pylist())
    assert files.asked[0] == new
    assert files.asked[1] <= new | kept_of(index)
    assert len(files.asked[1]) < 100


def test_a_preferred_newcomer_does_not_displace_what_is_kept(shelf):
    words = [f"w{number}" for number in range(60)]
    files = shelf([" ".join(words), " ".join([*words, "more"])])
    index = build_index(files.ids([0]), files.read)
    after = update_index(index, files.ids([1, 0]), files.read)
    assert near_duplicates_of(after)["witness"].to_pylist() == files.ids([0]).to_pylist()


def test_threads_change_nothing_and_the_same_files_again_give_the_same_index(edited, shelf):
    files = shelf(edited(200, 2))
    index = build_index(files.ids(range(150)), files.read)
    one = update_index(index, files.ids(range(200)), files.read)
    assert update_index(index, files.ids(range(200)), files.read, threads=3).equals(one)
    assert update_index(one, files.ids(range(200)), files.read).equals(one)


def test_an_index_survives_parquet_and_its_row_is_small(edited, shelf, tmp_path):
    files = shelf(edited(120, 4))
    index = build_index(files.ids(range(100)), files.read)
    pq.write_table(index, tmp_path / "index.parquet", row_group_size=30)
    stored = pq.read_table(tmp_path / "index.parquet")
    expected = update_index(index, files.ids(range(120)), files.read)
    assert update_index(stored, files.ids(range(120)), files.read).equals(expected)
    assert index.schema.field("bands").type.byte_width + index.schema.field("lanes").type.byte_width == 424


def test_an_empty_index_grows_and_shrinks(shelf):
    files = shelf(["a b c d e f g h"] * 3)
    empty = build_index(files.ids([]), files.read)
    assert empty.num_rows == 0
    full = update_index(empty, files.ids(range(3)), files.read)
    assert near_duplicates_of(full).num_rows == 2
    assert update_index(full, files.ids([]), files.read).num_rows == 0


@pytest.mark.parametrize(
    "other",
    [{"threshold": 0.8}, {"seed": 2}, {"ngram": 4}, {"bands": 21}, {"num_perm": 252}, {"min_tokens": 9}],
)
def test_an_index_of_other_settings_is_refused(shelf, other):
    files = shelf(["a b c d e f g h"])
    index = build_index(files.ids([0]), files.read)
    with pytest.raises(TableError, match="build it anew"):
        update_index(index, files.ids([0]), files.read, NearDuplicateConfig(**other))


def test_a_table_that_is_no_index_is_refused(shelf):
    files = shelf(["a"])
    with pytest.raises(TableError, match="the index of near duplicates was made with the settings"):
        update_index(files.table, files.ids([0]), files.read)


def test_a_reader_that_leaves_new_files_out_is_refused(shelf):
    files = shelf(["a b c d e f g h"] * 2)
    index = build_index(files.ids([0]), files.read)
    with pytest.raises(SourceError, match="left out 1 of 1 files"):
        update_index(index, files.ids([0, 1]), lambda wanted: iter(()))


def test_signatures_of_displaced_files_are_taken_from_the_index(shelf):
    words = [f"w{number}" for number in range(60)]
    files = shelf([" ".join(words), " ".join([*words, "more"]), " ".join([*words, "most"])])
    index = build_index(files.ids(range(3)), files.read)
    after = update_index(index, files.ids([2, 1]), files.read)
    assert after["blob_id"].to_pylist() == files.ids([2, 1]).to_pylist()
    assert after["witness"].to_pylist() == [None, *files.ids([2]).to_pylist()]
    lanes = dict(zip(index["blob_id"].to_pylist(), index["lanes"].to_pylist(), strict=True))
    assert [lanes[name] for name in after["blob_id"].to_pylist()] == after["lanes"].to_pylist()
    assert np.isclose(after["jaccard"][1].as_py(), 56 / 58)
