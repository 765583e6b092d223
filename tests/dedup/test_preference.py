import random
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from stack_platform.dedup.preference import PreferenceConfig, preference_order
from stack_platform.errors import ConfigError, SchemaError

SCHEMA = pa.schema(
    [
        ("license_type", pa.string()),
        ("star_events_count", pa.int64()),
        ("fork_events_count", pa.int64()),
        ("revision_date", pa.timestamp("us", "UTC")),
        ("repo_name", pa.string()),
        ("path", pa.string()),
        ("blob_id", pa.string()),
    ]
)


def day(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


# each row differs from the one before in the field that decides between the two; best first
BEST_FIRST = [
    ("permissive", 9, 1, day(2020), "a", "p", "1"),
    ("permissive", 5, 7, day(2020), "a", "p", "1"),
    ("permissive", 5, 1, day(2010), "z", "z", "9"),
    ("permissive", 5, 1, day(2020), "a", "p", "1"),
    ("permissive", 5, 1, day(2020), "a", "p", None),
    ("permissive", 5, 1, day(2020), "a", "q", "1"),
    ("permissive", 5, 1, day(2020), "a", None, "1"),
    ("permissive", 5, 1, day(2020), "b", "p", "1"),
    ("permissive", 5, 1, day(2020), "é", "p", "1"),
    ("permissive", 5, 1, day(2020), None, "p", "1"),
    ("permissive", 5, 1, None, "a", "p", "1"),
    ("permissive", 5, None, day(2020), "a", "p", "1"),
    ("permissive", 0, 1, day(2020), "a", "p", "1"),
    ("permissive", None, 99, day(2020), "a", "p", "1"),
    ("no_license", 99, 1, day(2020), "a", "p", "1"),
    ("non_permissive", 99, 1, day(2020), "a", "p", "1"),
    ("unknown", 99, 1, day(2020), "a", "p", "1"),
    (None, 98, 1, day(2020), "a", "p", "1"),
]


def table(rows) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


@pytest.mark.parametrize("seed", range(5))
def test_each_field_decides_where_the_ones_before_are_equal(seed):
    shuffled = random.Random(seed).sample(BEST_FIRST, len(BEST_FIRST))
    order = preference_order(table(shuffled)).to_pylist()
    assert [shuffled[row] for row in order] == BEST_FIRST


def test_the_newest_revision_may_be_preferred_instead():
    rows = [("permissive", 1, 1, date, "a", "p", "1") for date in (day(2010), None, day(1969), day(2020))]
    assert preference_order(table(rows)).to_pylist() == [2, 0, 3, 1]
    assert preference_order(table(rows), PreferenceConfig("newest")).to_pylist() == [3, 0, 2, 1]


def test_rows_that_do_not_differ_keep_their_order():
    assert preference_order(table([BEST_FIRST[0]] * 5000)).to_pylist() == list(range(5000))


def test_dictionary_columns_are_compared_by_their_text():
    files = table([("permissive", 1, 1, None, repo, "p", "1") for repo in ("c", "a", "b")])
    coded = files.set_column(4, "repo_name", files["repo_name"].dictionary_encode())
    assert preference_order(coded).to_pylist() == [1, 2, 0]


def test_no_files_have_an_empty_order():
    assert preference_order(table([])).to_pylist() == []


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("license_type", ["mit"], "license_type 'mit' is none of permissive"),
        ("star_events_count", ["many"], "star_events_count is string"),
        ("revision_date", ["2020-01-01"], "revision_date is string; give it as a timestamp"),
    ],
)
def test_values_without_an_order_are_refused(column, values, message):
    files = table(BEST_FIRST[:1])
    with pytest.raises(SchemaError, match=message):
        preference_order(files.set_column(files.schema.get_field_index(column), column, pa.array(values)))


@pytest.mark.parametrize("column", SCHEMA.names)
def test_a_missing_column_is_named(column):
    with pytest.raises(SchemaError, match=f"lack the column {column}"):
        preference_order(table(BEST_FIRST).drop_columns([column]))


def test_a_policy_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="'latest'; write 'oldest' or 'newest'"):
        PreferenceConfig("latest")
