from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from stack_platform.archive.distributions import DistributionsConfig
from stack_platform.archive.files import ROOTS, WALKED, find_roots, read_date, walk_files
from stack_platform.archive.sources import Known, Reading
from stack_platform.errors import ConfigError, SchemaError, SourceError
from stack_platform.schemas import ARCHIVE

FILE, LINK, FOLDER, MODULE = 0o100644, 0o120000, 0o40000, 0o160000
SITE = "https://example.org/"


def day(number):
    return {"seconds": number * 86400, "microseconds": 0}


def graph(**rows):
    """Tables from rows given as tuples of the first columns; the rest is null."""
    made = {}
    for name, schema in ARCHIVE.items():
        records = [dict(zip(schema.names, row, strict=False)) for row in rows.get(name, [])]
        made[name] = pa.Table.from_pylist(records, schema=schema)
    return made


def snapshot(*branches, **rows):
    """One origin, fully visited once, whose snapshot has these (name, target, target type) branches."""
    named = [("snp", name, target, kind) for name, target, kind in branches]
    visits = [(SITE, 1, day(1), "full", "snp")]
    return graph(origin_visit_status=visits, snapshot_branch=named, **rows)


def root(tables, **options):
    (row,) = find_roots(tables, **options).to_pylist()
    return row


TREE = {
    "directory_entry": [
        ("d", b"a.py", "file", "c1", FILE),
        ("d", b"sub", "dir", "e", FOLDER),
        ("e", b"b", "file", "c2", FILE),
    ],
    "content": [("s1", "c1", None, None, 5, "visible"), ("s2", "c2", None, None, 7, "visible")],
}


def test_every_path_has_its_content_and_root():
    files = walk_files(snapshot((b"HEAD", "d", "directory"), **TREE))
    assert files.schema == WALKED
    first, second = files.to_pylist()
    assert (first["repo_name"], first["path"], first["content_id"], first["blob_id"]) == (
        SITE,
        "a.py",
        "c1",
        "s1",
    )
    assert (first["directory_id"], first["snapshot_id"], first["branch_name"]) == ("d", "snp", "HEAD")
    assert (first["length_bytes"], first["perms"], first["visit_date"]) == (
        5,
        FILE,
        datetime(1970, 1, 2, tzinfo=UTC),
    )
    assert (second["path"], second["length_bytes"], second["skip_reason"]) == ("sub/b", 7, None)


@pytest.mark.parametrize("target", [b"refs/heads/dev".hex(), "refs/heads/dev"])
def test_alias_is_followed_whether_written_in_hexadecimal_or_plain(target):
    tables = snapshot((b"HEAD", target, "alias"), (b"refs/heads/dev", "d", "directory"), **TREE)
    assert (root(tables)["directory_id"], root(tables)["branch_name"]) == ("d", "refs/heads/dev")


def test_head_comes_before_main_before_master():
    branches = [(b"refs/heads/master", "m", "directory"), (b"refs/heads/main", "n", "directory")]
    assert root(snapshot(*branches))["directory_id"] == "n"
    assert root(snapshot(*branches, (b"HEAD", "h", "directory")))["directory_id"] == "h"
    assert root(snapshot(*branches, (b"HEAD", b"gone".hex(), "alias")))["directory_id"] == "n"


def test_release_and_revision_lead_to_their_directory_with_dates():
    offset = (None, None)
    far = {"seconds": 2**60, "microseconds": 0}
    tables = snapshot(
        (b"HEAD", "r1", "release"),
        release=[("r1", b"1", None, "r2", "release"), ("r2", b"1", None, "v", "revision")],
        revision=[("v", None, None, day(3), *offset, None, far, *offset, "d", "git")],
        **TREE,
    )
    row = root(tables)
    assert (row["release_id"], row["revision_id"], row["directory_id"]) == ("r1", "v", "d")
    assert row["revision_date"] == datetime(1970, 1, 4, tzinfo=UTC)
    assert row["committer_date"] is None  # the year 36 billion
    assert {file["revision_id"] for file in walk_files(tables).to_pylist()} == {"v"}


@pytest.mark.parametrize(
    ("branches", "problem"),
    [
        ([(b"dev", "d", "directory")], "the snapshot has no branch HEAD, main or master"),
        ([(b"HEAD", "gone", "release")], "the release gone is not in the archive"),
        ([(b"HEAD", "gone", "revision")], "the revision gone is not in the archive"),
        ([(b"HEAD", "aa", "alias")], "the alias aa is not in the archive"),
        ([(b"HEAD", b"HEAD".hex(), "alias")], "the branch 48454144 (hexadecimal) never ends at a directory"),
        ([(b"HEAD", "c1", "content")], "the branch points to a content"),
    ],
)
def test_branch_that_leads_nowhere_is_explained(branches, problem):
    tables = snapshot(*branches, **TREE)
    assert (root(tables)["directory_id"], root(tables)["problem"]) == (None, problem)
    assert walk_files(tables).num_rows == 0


def test_latest_full_visit_counts_or_the_latest_up_to_a_date():
    visits = [
        (SITE, 1, day(1), "full", "s1"),
        (SITE, 2, day(3), "full", "s2"),
        (SITE, 3, day(5), "partial", "s3"),
        (SITE, 4, None, "full", "s4"),
    ]
    branches = [(f"s{n}", b"HEAD", f"d{n}", "directory") for n in (1, 2, 3, 4)]
    tables = graph(origin_visit_status=visits, snapshot_branch=branches)
    assert root(tables)["directory_id"] == "d2"
    assert root(tables, as_of=datetime(1970, 1, 2, tzinfo=UTC))["directory_id"] == "d1"
    early = root(tables, as_of=datetime(1970, 1, 1, tzinfo=UTC))
    assert (early["directory_id"], early["problem"]) == (
        None,
        "no full visit with a snapshot up to that date",
    )


def test_origin_without_full_visit_is_listed():
    tables = graph(origin=[("1", "a"), ("2", "b")], origin_visit_status=[("b", 1, day(1), "not_found", None)])
    assert [row["problem"] for row in find_roots(tables).to_pylist()] == [
        "no full visit with a snapshot: never visited",
        "no full visit with a snapshot: the last one is not_found",
    ]
    assert find_roots(tables).schema == ROOTS


def test_what_cannot_be_read_stays_with_its_reason():
    entries = [
        ("d", b"big", "file", "c3", FILE),
        ("d", b"hidden", "file", "c4", FILE),
        ("d", b"link", "file", "c1", LINK),
        ("d", b"lost", "file", "c5", FILE),
        ("d", b"module", "rev", "v9", MODULE),
        ("d", b"sub", "dir", "gone", FOLDER),
        ("d", b"void", "dir", "4b825dc642cb6eb9a060e54bf8d69288fbee4904", FOLDER),
    ]
    tables = snapshot(
        (b"HEAD", "d", "directory"),
        directory_entry=entries,
        content=[("s1", "c1", None, None, 5, "visible"), ("s4", "c4", None, None, 5, "hidden")],
        skipped_content=[
            ("s3", "c3", None, None, 99, "absent", "too large", SITE, b"big"),
            (None, None, None, None, None, "absent", "missing", SITE, b"vanished"),
            (None, None, None, None, None, "absent", "missing", SITE, b"big"),
            (None, None, None, None, None, "absent", "missing", "other", b"elsewhere"),
        ],
    )
    reasons = {row["path"]: row["skip_reason"] for row in walk_files(tables).to_pylist()}
    assert reasons == {
        "big": "too large",
        "hidden": "hidden",
        "link": "symbolic link",
        "lost": "the content is not in the archive",
        "module": "submodule",
        "sub": "the directory gone is not in the archive",
        "vanished": "missing",
    }


def test_name_that_is_not_utf8_is_escaped_and_marked():
    entries = [("d", b"a", "file", "c1", FILE), ("d", b"\xe9.py", "file", "c1", FILE)]
    tables = snapshot((b"HEAD", "d", "directory"), directory_entry=entries, content=TREE["content"])
    rows = walk_files(tables).to_pylist()
    assert [(row["path"], row["path_problem"]) for row in rows] == [("a", None), ("\\xe9.py", "not UTF-8")]


def test_directory_shared_by_two_origins_and_twice_in_a_tree_is_walked_each_time():
    visits = [("one", 1, day(1), "full", "s"), ("two", 1, day(1), "full", "s")]
    entries = [
        ("d", b"x", "dir", "e", FOLDER),
        ("d", b"y", "dir", "e", FOLDER),
        ("e", b"f", "file", "c1", FILE),
    ]
    branches = [("s", b"HEAD", "d", "directory")]
    tables = graph(
        origin_visit_status=visits,
        snapshot_branch=branches,
        directory_entry=entries,
        content=TREE["content"],
    )
    found = [(row["repo_name"], row["path"]) for row in walk_files(tables).to_pylist()]
    assert found == [("one", "x/f"), ("one", "y/f"), ("two", "x/f"), ("two", "y/f")]


def test_rows_that_an_export_repeats_count_once():
    twice = {name: rows * 2 for name, rows in TREE.items()}
    tables = snapshot((b"HEAD", "d", "directory"), **twice)
    assert walk_files(tables).equals(walk_files(snapshot((b"HEAD", "d", "directory"), **TREE)))


def test_directory_that_holds_itself_is_refused(monkeypatch):
    monkeypatch.setattr("stack_platform.archive.files._MAX_DEPTH", 9)
    tables = snapshot((b"HEAD", "d", "directory"), directory_entry=[("d", b"d", "dir", "d", FOLDER)])
    with pytest.raises(SourceError, match="look for one that holds itself"):
        walk_files(tables)


def test_missing_table_and_column_are_named():
    tables = graph()
    with pytest.raises(SchemaError, match="no table 'release'"):
        find_roots({name: table for name, table in tables.items() if name != "release"})
    with pytest.raises(SchemaError, match="content lacks the columns sha1, status"):
        walk_files({**tables, "content": tables["content"].drop_columns(["sha1", "status"])})


def test_date_without_time_zone_is_refused():
    with pytest.raises(ConfigError, match="as_of 2026-01-01T00:00:00 has no time zone"):
        find_roots(graph(), as_of=datetime(2026, 1, 1))  # noqa: DTZ001


def test_empty_graph_has_no_files():
    assert walk_files(graph()).schema == WALKED


def test_parquet_files_of_a_built_graph_give_back_the_files(tmp_path, install):
    site = tmp_path / "site"
    install(site, "p", "1", {"p/a.py": b"1", "p/q/b.py": b"2"}, recorded=["p/gone.py"])
    tables = {name: schema.empty_table() for name, schema in ARCHIVE.items()}
    for name, batch in DistributionsConfig(paths=(str(site),)).open().read(Known(), Reading()):
        pq.write_table(pa.Table.from_batches([batch]), tmp_path / f"{name}.parquet")
        tables[name] = ds.dataset(tmp_path / f"{name}.parquet")
    rows = {row["path"]: row for row in walk_files(tables).to_pylist()}
    assert sorted(rows) == ["p-1.dist-info/METADATA", "p/a.py", "p/gone.py", "p/q/b.py"]
    assert {row["repo_name"] for row in rows.values()} == {"pkg:pypi/p"}
    assert (rows["p/a.py"]["branch_name"], rows["p/gone.py"]["skip_reason"]) == ("releases/1", "missing")


def commit(number):
    return f"{number:040x}"


def history(*dates, visited=9):
    """One origin visited on a day, whose first parents, oldest first, were committed on the given days."""
    offset = (None, None)
    revisions = [
        (commit(n), None, None, day(date), *offset, None, day(date), *offset, f"tree{n}", "git")
        for n, date in enumerate(dates)
    ]
    parents = [(commit(n), commit(n - 1), 0) for n in range(1, len(dates))]
    parents += [(commit(n), commit(77), 1) for n in range(1, len(dates))]
    return graph(
        origin_visit_status=[(SITE, 1, day(visited), "full", "snp")],
        snapshot_branch=[("snp", b"HEAD", commit(len(dates) - 1), "revision")],
        revision=revisions,
        revision_history=parents,
    )


def at(number):
    return datetime(1970, 1, 1 + number, tzinfo=UTC)


def test_before_the_first_visit_the_commits_tell_and_the_row_says_so():
    tables = history(2, 4, 6)
    row = root(tables, as_of=at(5))
    assert (row["revision_id"], row["directory_id"], row["point_in_time"]) == (
        commit(1),
        "tree1",
        "first-parent",
    )
    assert row["committer_date"] == at(4)
    exact = root(tables, as_of=at(9))
    assert (exact["revision_id"], exact["point_in_time"]) == (commit(2), "visit")


def test_a_clock_that_ran_ahead_does_not_hide_the_commits_behind_it():
    assert root(history(2, 8, 3), as_of=at(5))["revision_id"] == commit(2)
    assert root(history(2, 8, 7), as_of=at(5))["revision_id"] == commit(0)


def test_no_commit_is_old_enough():
    row = root(history(2, 4), as_of=at(1))
    assert (row["directory_id"], row["point_in_time"]) == (None, "first-parent")
    assert "no commit of the next one is that old" in row["problem"]


def test_the_next_visit_after_the_date_is_the_one_to_go_back_from():
    tables = history(2, 4, 6)
    later = [(SITE, 2, day(20), "full", "other"), (SITE, 1, day(9), "full", "snp")]
    branches = [("snp", b"HEAD", commit(2), "revision"), ("other", b"HEAD", commit(55), "revision")]
    tables["origin_visit_status"] = graph(origin_visit_status=later)["origin_visit_status"]
    tables["snapshot_branch"] = graph(snapshot_branch=branches)["snapshot_branch"]
    assert root(tables, as_of=at(5))["revision_id"] == commit(1)


def test_a_file_that_could_not_be_read_belongs_to_the_visit_that_met_it():
    tables = snapshot((b"HEAD", "d", "directory"), **TREE)
    unread = [
        (None, None, None, None, 3, "absent", "unreadable", SITE, b"now", 1),
        (None, None, None, None, 3, "absent", "unreadable", SITE, b"then", 7),
    ]
    tables["skipped_content"] = graph(skipped_content=unread)["skipped_content"]
    paths = [row["path"] for row in walk_files(tables).to_pylist() if row["skip_reason"]]
    assert paths == ["now"]


@pytest.mark.parametrize("text", ["yesterday", "2023-13-01", "", "06.09.2023"])
def test_what_is_no_date_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="write it as 2023-09-06"):
        read_date(text)


def test_a_day_is_meant_whole_and_an_offset_is_kept():
    assert read_date("2023-09-06") == datetime(2023, 9, 6, 23, 59, 59, 999_999, tzinfo=UTC)
    assert read_date("2023-09-06T01:00:00+02:00") == datetime(2023, 9, 5, 23, tzinfo=UTC)


def test_a_partial_visit_counts_only_where_no_full_one_is():
    visits = [(SITE, 1, day(1), "full", "s1"), (SITE, 2, day(3), "partial", "s2")]
    branches = [(f"s{n}", b"HEAD", f"d{n}", "directory") for n in (1, 2)]
    both = graph(origin_visit_status=visits, snapshot_branch=branches)
    assert (root(both)["directory_id"], root(both)["point_in_time"]) == ("d1", "visit")
    alone = graph(origin_visit_status=visits[1:], snapshot_branch=branches)
    assert (root(alone)["directory_id"], root(alone)["point_in_time"]) == ("d2", "partial-visit")
    assert root(alone, as_of=at(2))["directory_id"] is None
