import pytest

from stack_platform.dedup.across import ACROSS_DUPLICATES, duplicates_across
from stack_platform.dedup.config import NearDuplicateConfig
from stack_platform.dedup.index import build_index
from stack_platform.dedup.leaders import find_near_duplicates
from stack_platform.errors import TableError

WORDS = " ".join(f"w{number}" for number in range(80))
OTHER = " ".join(f"x{number}" for number in range(80))
CONTENTS = [WORDS, OTHER, WORDS + " tail", "tiny file", "unlike everything else here today"]


def test_a_file_leaves_for_its_near_duplicate_in_a_preferred_language(shelf):
    files = shelf(CONTENTS)
    c = build_index(files.ids([0, 3]), files.read)
    cpp = build_index(files.ids([1, 2, 3, 4]), files.read)
    ids = files.ids(range(5)).to_pylist()
    files.asked.clear()
    found = duplicates_across([("C", c), ("C++", cpp)], files.read)
    assert found.schema == ACROSS_DUPLICATES
    assert found.to_pylist() == [
        {
            "language": "C++",
            "blob_id": ids[2],
            "witness_language": "C",
            "witness": ids[0],
            "jaccard": 76 / 77,
        },
        {"language": "C++", "blob_id": ids[3], "witness_language": "C", "witness": ids[3], "jaccard": 1.0},
    ]
    assert files.asked == [{ids[0], ids[2]}]
    reverse = duplicates_across([("C++", cpp), ("C", c)], files.read)
    assert reverse.select(["language", "witness"]).to_pylist() == [
        {"language": "C", "witness": ids[2]},
        {"language": "C", "witness": ids[3]},
    ]


def test_what_stays_is_what_one_run_over_the_kept_files_of_all_languages_keeps(edited, shelf):
    files = shelf(edited(200, 21))
    python = build_index(files.ids(range(120)), files.read)
    cython = build_index(files.ids(range(100, 200)), files.read)
    found = duplicates_across([("Python", python), ("Cython", cython)], files.read, threads=2)
    kept = [
        name
        for index in (python, cython)
        for name in index.filter(index["witness"].is_null())["blob_id"].to_pylist()
    ]
    expected = find_near_duplicates(files.ids([int(name, 16) for name in kept]), files.read)
    near = [row for row in found.to_pylist() if row["blob_id"] != row["witness"]]
    assert {(row["blob_id"], row["witness"]) for row in near} >= {
        (row["blob_id"], row["witness"]) for row in expected.to_pylist()
    }
    assert set(found["language"].to_pylist()) == {"Cython"}
    assert found.num_rows > 5


def test_no_languages_and_no_files_have_no_duplicates(shelf):
    files = shelf(["a"])
    empty = build_index(files.ids([]), files.read)
    assert duplicates_across([], files.read).num_rows == 0
    assert duplicates_across([("C", empty), ("C++", empty)], files.read).num_rows == 0


def test_an_index_of_other_settings_is_refused(shelf):
    files = shelf(CONTENTS)
    index = build_index(files.ids([0]), files.read, NearDuplicateConfig(threshold=0.8))
    with pytest.raises(TableError, match="made with the settings"):
        duplicates_across([("C", index)], files.read)
