import random
import subprocess
import sys
import time

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack_platform.dedup.leaders import (
    NEAR_DUPLICATES,
    NearDuplicateConfig,
    find_near_duplicates,
    near_duplicates,
)
from stack_platform.dedup.shingles import reference_shingles
from stack_platform.errors import ConfigError, SchemaError, SourceError


def table(contents, kind=pa.large_string()) -> pa.Table:
    ids = [f"{number:040x}" for number in range(len(contents))]
    return pa.table({"blob_id": pa.array(ids, pa.string()), "content": pa.array(contents, kind)})


def jaccard(one: str, other: str, ngram: int = 5) -> float:
    a, b = reference_shingles(one, ngram), reference_shingles(other, ngram)
    return len(a & b) / len(a | b) if a and b else 0.0


def greedy(contents: list[str], threshold: float) -> list[int]:
    """Return the files that a walk in order with all exact similarities drops."""
    kept: list[int] = []
    for file, text in enumerate(contents):
        if all(jaccard(text, contents[leader]) < threshold for leader in kept):
            kept.append(file)
    return sorted(set(range(len(contents))) - set(kept))


def test_agrees_with_exact_greedy_on_edited_files(edited):
    contents = edited(300, seed=5)
    files = table(contents)
    dropped = near_duplicates(files)["blob_id"].to_pylist()
    assert len(dropped) > 50
    assert dropped == [files["blob_id"][file].as_py() for file in greedy(contents, 0.7)]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.7, 0.9, 1.0]))
def test_every_dropped_file_has_a_kept_witness_of_that_exact_similarity(edited, seed, threshold):
    contents = edited(25, seed)
    files = table(contents)
    text = dict(zip(files["blob_id"].to_pylist(), contents, strict=True))
    found = near_duplicates(files, NearDuplicateConfig(threshold=threshold))
    dropped = set(found["blob_id"].to_pylist())
    assert found.schema == NEAR_DUPLICATES
    assert len(dropped) == found.num_rows
    for row in found.to_pylist():
        assert row["witness"] not in dropped
        assert row["witness"] < row["blob_id"]
        assert row["jaccard"] == jaccard(text[row["blob_id"]], text[row["witness"]]) >= threshold


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6))
def test_no_two_clearly_similar_files_stay(edited, seed):
    contents = edited(25, seed)
    files = table(contents)
    dropped = set(near_duplicates(files)["blob_id"].to_pylist())
    stay = [
        text for name, text in zip(files["blob_id"].to_pylist(), contents, strict=True) if name not in dropped
    ]
    assert all(jaccard(one, other) < 0.85 for place, one in enumerate(stay) for other in stay[:place])


def test_order_of_reading_batches_threads_and_types_change_nothing(edited):
    contents = edited(400, seed=9)
    files = table(contents)
    expected = near_duplicates(files)
    assert expected.num_rows > 50
    shuffled = files.take(random.Random(1).sample(range(400), 400))
    for size in (1, 7, 400):
        asked = []

        def read(wanted, size=size, asked=asked):
            asked.append(wanted)
            rows = (
                shuffled if wanted is None else shuffled.filter(pa.compute.is_in(shuffled["blob_id"], wanted))
            )
            yield from rows.to_batches(max_chunksize=size)

        assert find_near_duplicates(files["blob_id"], read, threads=3).equals(expected)
        assert asked[0] is None
        assert (
            set(expected["blob_id"].to_pylist())
            < set(asked[1].to_pylist())
            < set(files["blob_id"].to_pylist())
        )
    for kind in (pa.string(), pa.binary(), pa.large_binary()):
        assert near_duplicates(
            table([text.encode() for text in contents], pa.binary()).cast(
                pa.schema([("blob_id", pa.large_string()), ("content", kind)])
            )
        ).equals(expected)
    halves = pa.concat_tables([files.slice(0, 150), files.slice(150)])
    assert near_duplicates(halves, threads=2).equals(expected)


def test_the_preferred_file_stays_and_a_chain_does_not_swallow_its_end():
    words = [f"w{i}" for i in range(100)]
    chain = [" ".join(words[start : start + 60]) for start in (0, 8, 16, 24)]
    found = near_duplicates(table(chain))
    assert [(int(row["blob_id"], 16), int(row["witness"], 16)) for row in found.to_pylist()] == [
        (1, 0),
        (3, 2),
    ]


def test_files_of_too_few_tokens_are_never_near_duplicates():
    contents = ["a b c d", "a b c d", "", "", "a b c d e", "A(b) c.d, e!"]
    assert near_duplicates(table(contents)).to_pydict() == {
        "blob_id": [f"{5:040x}"],
        "witness": [f"{4:040x}"],
        "jaccard": [1.0],
    }
    assert near_duplicates(table(contents), NearDuplicateConfig(min_tokens=6)).num_rows == 0


def test_identical_files_leave_one():
    found = near_duplicates(table(["def f ( x ) return x plus one"] * 3000))
    assert found.num_rows == 2999
    assert set(found["witness"].to_pylist()) == {f"{0:040x}"}


def test_a_blob_id_that_repeats_is_one_file():
    files = table(["a b c d e f g"])
    assert near_duplicates(pa.concat_tables([files, files])).num_rows == 0


def test_a_cluster_of_fifty_thousand_is_walked_without_comparing_every_pair():
    shared = " ".join(f"s{i}" for i in range(100))
    below = [f"{shared} {' '.join([f'{file}x{i}' for i in range(25)])}" for file in range(50_000)]
    started = time.process_time()
    assert near_duplicates(table(below)).num_rows == 0
    above = [f"{shared} u{file}" for file in range(50_000)]
    assert near_duplicates(table(above)).num_rows == 49_999
    assert time.process_time() - started < 60  # 1.3e9 pairs of 0.5 us would be ten minutes


def test_a_token_repeated_ten_million_times_is_one_shingle():
    files = table(["x " * 10_000_000, "x x x x x", "y" * 10_000_000, "y " + "x " * 4])
    assert near_duplicates(files).to_pydict() == {
        "blob_id": [f"{1:040x}"],
        "witness": [f"{0:040x}"],
        "jaccard": [1.0],
    }


def test_bytes_that_are_no_text_are_compared_all_the_same():
    noise = random.Random(2).randbytes(20_000)
    found = near_duplicates(
        table([noise, noise + b"\xff\xfe", None, b"\x00" * 1000, b"\xff" * 1000], pa.binary())
    )
    assert found["blob_id"].to_pylist() == [f"{1:040x}"]


@pytest.mark.parametrize("contents", [[], [None], ["", ""], ["a b c d e f"]])
def test_nothing_to_compare_gives_an_empty_table(contents):
    assert near_duplicates(table(contents)).equals(NEAR_DUPLICATES.empty_table())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (pa.table({"blob_id": ["a"]}), "lack content"),
        (pa.table({"blob_id": [1], "content": ["x"]}), "blob_id has the type int64"),
        (pa.table({"blob_id": ["a", None], "content": ["x", "y"]}), "1 files have no blob_id"),
        (pa.table({"blob_id": ["a"], "content": [1.5]}), "content has the type double"),
    ],
)
def test_tables_that_do_not_fit_are_refused(files, message):
    with pytest.raises(SchemaError, match=message):
        near_duplicates(files)


def test_a_reader_that_leaves_files_out_is_refused():
    files = table(["a b c d e f"] * 3)
    with pytest.raises(SourceError, match="left out 2 of 3 files"):
        find_near_duplicates(files["blob_id"], lambda _: iter(files.slice(1, 1).to_batches()))
    with pytest.raises(SourceError, match="left out 1 of 3 files"):
        find_near_duplicates(
            files["blob_id"], lambda wanted: iter((files if wanted is None else files.slice(1)).to_batches())
        )


def test_a_reader_that_changes_its_contents_is_refused():
    once = table(["a b c d e f"] * 2)
    for text in ("", "a b c d e f g h i j k l m n o p"):
        again = table([text] * 2)
        with pytest.raises(SourceError, match="other contents the second time"):
            find_near_duplicates(
                once["blob_id"], lambda wanted, again=again: iter((again if wanted else once).to_batches())
            )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": 1.01}, "threshold is 1.01"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"ngram": 0}, "ngram is 0"),
        ({"bands": 43}, "43 bands of 6 rows need 258 permutations"),
        ({"rows": 0}, "rows is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"ngram": 13}, "write min_tokens=13"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        NearDuplicateConfig(**setting)


def test_importing_the_module_loads_no_compiler():
    code = "import sys, stack_platform.dedup.leaders as m; print({'numba', 'datasketch', 'duckdb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
