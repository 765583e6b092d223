import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.errors import ConfigError, SchemaError
from stack_platform.quality.downsample import downsample


def table(sizes, language="Java"):
    return pa.table(
        {
            "language": pa.array([language] * len(sizes), pa.string()),
            "content_id": [hashlib.sha1(str(i).encode()).hexdigest() for i in range(len(sizes))],
            "repo_name": pa.array(["r"] * len(sizes), pa.string()),
            "path": pa.array([f"f{i}" for i in range(len(sizes))], pa.string()),
            "length_bytes": pa.array(sizes, pa.int64()),
        }
    )


def stays(files, cap, **settings):
    reasons, _ = downsample(files, {"Java": cap}, **settings)
    return {path for path, reason in zip(files["path"].to_pylist(), reasons, strict=True) if reason is None}


SIZES = st.lists(st.integers(0, 50), max_size=30)


@given(SIZES, st.integers(0, 400), st.integers(0, 400))
def test_what_stays_under_a_cap_stays_under_a_larger_one(sizes, one, other):
    files = table(sizes)
    assert stays(files, min(one, other)) <= stays(files, max(one, other))


@given(SIZES, st.integers(0, 400), st.randoms())
def test_rows_may_come_in_any_order(sizes, cap, random):
    files = table(sizes)
    order = list(range(len(sizes)))
    random.shuffle(order)
    assert stays(files, cap) == stays(files.take(pa.array(order, pa.int64())), cap)


@given(SIZES, st.integers(0, 400))
def test_what_stays_fits_under_the_cap_and_nothing_more_would(sizes, cap):
    files = table(sizes)
    kept = stays(files, cap)
    total = sum(size for i, size in enumerate(sizes) if f"f{i}" in kept)
    assert total <= cap
    assert len(kept) == len(sizes) or total + max(sizes) > cap


def test_new_files_move_only_the_border():
    before, after = stays(table([10] * 1000), 5000), stays(table([10] * 1010), 5000)
    assert len(before) == len(after) == 500
    assert len(before - after) <= 10


def test_other_languages_stay_whole_and_evidence_states_the_cap():
    files = pa.concat_tables([table([10, 10]), table([500], "Go"), table([500], None)])
    reasons, evidence = downsample(files, {"Java": 10})
    assert sorted(filter(None, reasons[:2])) == ["over_cap"]
    assert reasons[2:] == [None, None]
    assert {"signal": "language_bytes", "value": 20, "limit": 10} in evidence


def test_key_draws_another_sample():
    files = table([10] * 100)
    assert stays(files, 500) != stays(files, 500, key=b"other")


def test_unusable_caps_keys_and_tables_are_refused():
    with pytest.raises(ConfigError, match="cap of Java is -1"):
        downsample(table([1]), {"Java": -1})
    with pytest.raises(ConfigError, match="65 bytes"):
        downsample(table([1]), {}, key=b"x" * 65)
    with pytest.raises(SchemaError, match="content_id"):
        downsample(table([1]).drop_columns(["content_id"]), {})
