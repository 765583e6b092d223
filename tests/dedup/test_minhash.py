import random

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.dedup.minhash import permutations, sign
from stack_platform.dedup.shingles import reference_shingles, shingle_sets


def signed_by_datasketch(text: str, num_perm: int = 256, seed: int = 1) -> np.ndarray:
    oracle = MinHash(num_perm=num_perm, seed=seed, scheme="affine32", hashfunc=int)
    for part in shingle_sets(pa.array([text])):
        oracle.update_batch(part.hashes.tolist())
    return oracle.hashvalues


def some_texts(count: int) -> list[str]:
    random_ = random.Random(7)
    words = ["if", "x", "return", "self", "größe", "def", "0", "import", "Σ"] + [
        f"name{i}" for i in range(300)
    ]
    return [
        " ".join(random_.choices(words, k=random_.choice([0, 3, 5, 6, 40, 400, 3000]))) for _ in range(count)
    ]


def test_signatures_are_datasketchs_bit_for_bit():
    contents = some_texts(120)
    signatures, tokens = sign(pa.array(contents), permutations())
    assert tokens.tolist() == [len(text.split()) for text in contents]
    for text, signature in zip(contents, signatures, strict=True):
        assert np.array_equal(signature, signed_by_datasketch(text))


@settings(deadline=None, max_examples=50)
@given(st.text(), st.sampled_from([1, 7, 128, 256]), st.integers(0, 2**32 - 1))
def test_signatures_are_datasketchs_for_any_text_size_and_seed(text, num_perm, seed):
    signatures, _ = sign(pa.array([text]), permutations(num_perm, seed))
    assert np.array_equal(signatures[0], signed_by_datasketch(text, num_perm, seed))


def test_chosen_rows_are_signed_in_their_order():
    column = pa.array(some_texts(20))
    whole, _ = sign(column, permutations())
    some, _ = sign(column, permutations(), rows=np.array([3, 4, 17]))
    assert np.array_equal(some, whole[[3, 4, 17]])


def test_a_stored_signature_works_in_datasketchs_index_and_estimates():
    base = [f"w{i}" for i in range(400)]
    texts = [" ".join(base), " ".join(base[:370]), " ".join(base[200:] + base[:100])]
    signatures, _ = sign(pa.array(texts), permutations())
    stored = [MinHash(hashvalues=row, scheme="affine32", seed=1) for row in signatures]
    index = MinHashLSH(threshold=0.7, num_perm=256)
    index.insert("base", stored[0])
    assert index.query(stored[1]) == ["base"]
    sets = [reference_shingles(text) for text in texts]
    for other in (1, 2):
        truth = len(sets[0] & sets[other]) / len(sets[0] | sets[other])
        assert stored[0].jaccard(stored[other]) == pytest.approx(truth, abs=0.12)
