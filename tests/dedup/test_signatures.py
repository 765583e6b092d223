import datasketch
import numpy as np
import pyarrow as pa
import pytest

from stack_platform.dedup.config import NearDuplicateConfig
from stack_platform.dedup.minhash import permutations, sign
from stack_platform.dedup.shingles import shingle_sets
from stack_platform.dedup.signatures import Places, in_order, sign_files
from stack_platform.errors import SchemaError, SourceError


def test_ids_are_numbered_where_they_first_come():
    places = Places(pa.chunked_array([["b", "a"], ["b", "ccc"]]))
    assert places.ids.to_pylist() == ["b", "a", "ccc"]
    assert places.find(pa.array(["ccc", "x", "a", "cccc", "cc", "b", ""])).tolist() == [
        2,
        -1,
        1,
        -1,
        -1,
        0,
        -1,
    ]
    assert places.find(pa.array(["zz", "ccc", "b"]).slice(1)).tolist() == [2, 0]
    assert places.find(pa.array([], pa.string())).tolist() == []
    assert Places(pa.array([], pa.string())).find(pa.array(["a"])).tolist() == [-1]


def test_ids_that_fixed_width_bytes_cannot_tell_apart_are_refused():
    with pytest.raises(SchemaError, match="differ in NUL"):
        Places(pa.array(["a", "a\0"]))


def test_signatures_do_not_depend_on_batches_and_are_datasketchs(edited):
    contents = edited(1300, 1)
    ids = [f"{place:040x}" for place in range(1300)]
    table = pa.table({"blob_id": ids, "content": pa.array(contents, pa.large_string())})
    places = Places(table["blob_id"])
    config = NearDuplicateConfig()
    whole = sign_files(places, iter(table.combine_chunks().to_batches()), config, 1)
    parts = sign_files(places, iter(table.to_batches(max_chunksize=7)[::-1]), config, 3)
    for one, other in ((whole.tokens, parts.tokens), (whole.keys, parts.keys), (whole.lanes, parts.lanes)):
        assert np.array_equal(one, other)
    (sets,) = shingle_sets(pa.array(contents[:20], pa.large_string()))
    for place in range(20):
        minhash = datasketch.MinHash(num_perm=256, seed=1, hashfunc=int, scheme="affine32")
        minhash.update_batch(sets.hashes[sets.offsets[place] : sets.offsets[place + 1]].tolist())
        assert np.array_equal(whole.lanes[place], (minhash.hashvalues & 255).astype(np.uint8))
    full, tokens = sign(table["content"].combine_chunks(), permutations())
    assert np.array_equal(tokens, whole.tokens)
    assert np.array_equal((full & 255).astype(np.uint8), whole.lanes)


def test_files_that_no_batch_holds_are_named():
    with pytest.raises(SourceError, match="left out 2 of 2 files, among them a;"):
        sign_files(Places(pa.array(["a", "b"])), iter(()), NearDuplicateConfig(), 1)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads):
    assert list(in_order(lambda item: item * item, range(50), threads)) == [item * item for item in range(50)]
