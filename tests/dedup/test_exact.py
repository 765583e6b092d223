import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.dedup.exact import EXACT_DUPLICATES, exact_duplicates
from stack_platform.dedup.preference import LICENSE_CLASSES, PreferenceConfig, preference_order
from stack_platform.errors import SchemaError

SCHEMA = pa.schema(
    [
        ("content_id", pa.string()),
        ("license_type", pa.string()),
        ("star_events_count", pa.int64()),
        ("fork_events_count", pa.int64()),
        ("revision_date", pa.timestamp("us", "UTC")),
        ("repo_name", pa.string()),
        ("path", pa.string()),
        ("blob_id", pa.string()),
    ]
)
optional = st.none() | st.integers(0, 2)
file_rows = st.lists(
    st.tuples(
        st.none() | st.sampled_from("xyz"), st.none() | st.sampled_from(LICENSE_CLASSES), optional, optional,
        st.none() | st.integers(-1, 1), st.none() | st.sampled_from("ab"), st.none() | st.sampled_from("pq"),
        st.none() | st.just("1"),
    ),
    max_size=12,
)  # fmt: skip


def table(rows) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[]] * len(SCHEMA)
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA
    )


@settings(deadline=None, max_examples=30)
@given(file_rows, st.sampled_from(["oldest", "newest"]))
def test_one_file_per_content_stays_and_it_is_the_most_preferred(rows, policy):
    files, config = table(rows), PreferenceConfig(policy)
    keeper, expected = {}, []
    for file in preference_order(files, config).to_pylist():
        content, repo, path = rows[file][0], rows[file][5], rows[file][6]
        if content is None:
            continue
        if content in keeper:
            expected.append((repo, path, content, *keeper[content]))
        keeper.setdefault(content, (repo, path))
    found = [tuple(row.values()) for row in exact_duplicates(files, config).to_pylist()]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_the_answer_does_not_depend_on_the_order_or_chunks_of_the_rows():
    dice = random.Random(3)
    rows = [
        (
            f"c{dice.randrange(900)}",
            dice.choice(LICENSE_CLASSES),
            dice.randrange(3),
            0,
            None,
            f"r{i % 50}",
            f"{i}",
            "1",
        )
        for i in range(3000)
    ]
    expected = exact_duplicates(table(rows))
    assert expected.schema == EXACT_DUPLICATES
    assert expected.num_rows == 3000 - len({row[0] for row in rows})
    dice.shuffle(rows)
    chunked = pa.concat_tables([table(rows[:1000]), table(rows[1000:1001]), table(rows[1001:])])
    assert exact_duplicates(chunked).equals(expected)


def test_the_witness_of_a_removed_file_is_its_keeper():
    rows = [
        ("x", "unknown", 5, 0, None, "fork", "a.py", "1"),
        ("x", "permissive", 1, 0, None, "origin", "b.py", "1"),
        ("y", "permissive", 1, 0, None, "alone", "c.py", "2"),
    ]
    assert exact_duplicates(table(rows)).to_pylist() == [
        {
            "repo_name": "fork",
            "path": "a.py",
            "content_id": "x",
            "keeper_repo_name": "origin",
            "keeper_path": "b.py",
        }
    ]


@pytest.mark.parametrize("rows", [[], [(None,) * 8] * 3])
def test_files_without_content_have_no_duplicates(rows):
    assert exact_duplicates(table(rows)).equals(EXACT_DUPLICATES.empty_table())


def test_a_missing_content_id_is_named():
    with pytest.raises(SchemaError, match="lack the column content_id"):
        exact_duplicates(table([]).drop_columns(["content_id"]))
