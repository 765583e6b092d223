"""An export of small repositories, read whole, in both formats, again, and with parts missing."""

import gzip
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from stack_platform.archive.export.source import ExportConfig
from stack_platform.archive.files import walk_files
from stack_platform.archive.sources import Known, Reading
from stack_platform.archive.swhid import Entry, Signature, directory_id, revision_id
from stack_platform.errors import ConfigError, SchemaError, SourceError
from stack_platform.schemas import ARCHIVE

A, B = "https://example.org/a", "https://example.org/b"
TREE = {
    b"a.py": b"print('a')\n",
    b"caf\xe9.c": b"int main;\n",
    b"lib": {b"deep": {b"\xff\x01": b"any name\n"}, b"b.py": b"print('b')\n"},
    b"empty": {},
    b"data.bin": b"\0\1\2" * 9,
}


class Archive:
    """What a lake does with a source: append what it gives."""

    def __init__(self, scratch: Path | None = None) -> None:
        self.tables = {table: schema.empty_table() for table, schema in ARCHIVE.items()}
        self.reading = Reading(datetime(2024, 5, 1, tzinfo=UTC), scratch=scratch)

    def take(self, config: ExportConfig) -> dict[str, list[dict]]:
        known = Known(lambda table, columns: self.tables[table].select(list(columns)))
        new = defaultdict(list)
        batches = list(config.open().read(known, self.reading))
        for table, batch in batches:
            assert batch.schema == ARCHIVE[table]
            assert batch.num_rows
            new[table] += batch.to_pylist()
            self.tables[table] = pa.concat_tables([self.tables[table], pa.Table.from_batches([batch])])
        return new

    def statuses(self) -> list[tuple[str, int, str]]:
        rows = self.tables["origin_visit_status"].to_pylist()
        return [(row["origin"], row["visit"], row["status"]) for row in rows]

    def files(self) -> dict[str, str | None]:
        walked = walk_files(self.tables).to_pylist()
        return {f"{row['repo_name']}/{row['path']}": row["skip_reason"] for row in walked}

    def reasons(self) -> dict[bytes, str]:
        return {row["path"]: row["reason"] for row in self.tables["skipped_content"].to_pylist()}


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "scratch")


def written(export, tmp_path, form="parquet", **options):
    export.write(tmp_path / "export", form, **options)
    contents = export.write_contents(tmp_path / "content")
    return ExportConfig(str(tmp_path / "export"), str(contents))


@pytest.mark.parametrize("form", ["parquet", "orc"])
def test_every_file_of_an_origin_arrives_with_its_path(export, archive, tmp_path, form):
    export.repository(A, TREE)
    archive.take(written(export, tmp_path, form))
    assert archive.files() == {
        f"{A}/a.py": None,
        f"{A}/caf\\xe9.c": None,
        f"{A}/lib/b.py": None,
        f"{A}/lib/deep/\\xff\x01": None,
        f"{A}/data.bin": None,
    }
    held = {row["data"] for row in archive.tables["content"].to_pylist()}
    assert held == {b"print('a')\n", b"int main;\n", b"any name\n", b"print('b')\n", None}
    assert archive.statuses() == [(A, 1, "full")]


def test_both_formats_give_the_same_rows_whatever_the_dates(export, tmp_path):
    dates = [(-62_135_596_800, 0), (-86_400, 500_000), (253_402_300_799, 999_999), (2**40, 5), (0, 1)]
    for number, date in enumerate(dates):
        revision = export.revision(export.directory(TREE), date)
        release = export.release(revision, date=date)
        snapshot = export.snapshot(
            {b"HEAD": ("release", release), b"refs/heads/x\xff": ("revision", revision)}
        )
        export.visit(f"{A}/{number}", 3, snapshot)
    rows = {}
    for form in ("parquet", "orc"):
        export.write(tmp_path / "export", form)
        contents = export.write_contents(tmp_path / "content")
        rows[form] = Archive().take(ExportConfig(str(tmp_path / "export"), str(contents), format=form))
    assert rows["orc"] == rows["parquet"]
    for table, name in (("revision", "date"), ("revision", "committer_date"), ("release", "date")):
        found = [(row[name]["seconds"], row[name]["microseconds"]) for row in rows["orc"][table]]
        assert sorted(found) == sorted(dates)
    assert rows["orc"]["origin_visit"][0]["date"] == {"seconds": 1_650_000_000, "microseconds": 7}


def test_ids_can_be_computed_again_from_the_rows(export, archive, tmp_path):
    parent = export.revision(export.directory({b"old": b"old\n"}))
    export.revision(export.directory(TREE), (1_700_000_000, 120_000), (parent,))
    head = list(export.rows["revision"])[-1]
    export.visit(A, 1, export.snapshot({b"HEAD": ("revision", head)}))
    archive.take(written(export, tmp_path))
    entries = defaultdict(list)
    for row in archive.tables["directory_entry"].to_pylist():
        entries[row.pop("directory_id")].append(Entry(**row))
    assert all(directory_id(listed) == name for name, listed in entries.items())
    row = archive.tables["revision"].to_pylist()[0]
    parents = [p["parent_id"] for p in archive.tables["revision_history"].to_pylist()]
    signature = Signature(row["author"], row["date"]["seconds"], row["date"]["microseconds"])
    assert revision_id(row["directory"], parents, signature, signature, row["message"]) == row["id"] == head


@pytest.mark.parametrize("with_data", [True, False])
def test_progress_counts_the_contents(export, tmp_path, with_data):
    export.repository(A, TREE)
    config = written(export, tmp_path, with_data=with_data)
    seen = []
    list(config.open().read(Known(), Reading(progress=seen.append)))
    assert [step.files for step in seen] == [1, 2, 3, 4, 5]
    assert {step.files_total for step in seen} == {5}
    assert seen[-1].bytes > 0


def test_a_visit_keeps_the_date_on_which_it_began(export, archive, tmp_path):
    export.repository(A, TREE)
    export.rows["origin_visit"][A, 1]["date"] = {"seconds": 1_640_000_000, "microseconds": 1}
    archive.take(written(export, tmp_path))
    assert archive.tables["origin_visit"]["date"].to_pylist() == [
        {"seconds": 1_640_000_000, "microseconds": 1}
    ]
    assert archive.tables["origin_visit_status"]["date"].to_pylist()[0]["seconds"] == 1_650_000_000


def test_reading_again_gives_nothing(export, archive, tmp_path):
    export.repository(A, TREE)
    config = written(export, tmp_path)
    assert archive.take(config)
    assert not archive.take(config)


def test_a_new_visit_costs_only_its_new_objects(export, archive, tmp_path):
    export.repository(A, TREE)
    archive.take(written(export, tmp_path))
    changed = {**TREE, b"new.py": b"print('new')\n"}
    export.repository(A, changed, 2, (1_660_000_000, 0))
    new = archive.take(written(export, tmp_path))
    assert [row["data"] for row in new["content"]] == [b"print('new')\n"]
    assert len(new["directory"]) == 1
    assert [row["visit"] for row in new["origin_visit"]] == [2]
    assert "origin" not in new
    assert "skipped_content" not in new


def test_an_origin_whose_snapshot_is_unchanged_gets_no_new_visit(export, archive, tmp_path):
    snapshot = export.repository(A, TREE)
    archive.take(written(export, tmp_path))
    export.visit(A, 2, snapshot, (1_660_000_000, 0))
    export.repository(B, {b"b": b"b\n"})
    new = archive.take(written(export, tmp_path))
    assert [row["origin"] for row in new["origin_visit"]] == [B]


def test_the_latest_full_visit_counts(export, archive, tmp_path):
    export.repository(A, {b"old": b"old\n"}, 1, (1_600_000_000, 0))
    export.repository(A, {b"new": b"new\n"}, 2, (1_660_000_000, 0))
    export.visit(A, 3, None, (1_670_000_000, 0), "failed")
    archive.take(written(export, tmp_path))
    assert archive.statuses() == [(A, 2, "full")]
    assert archive.files() == {f"{A}/new": None}


def test_all_visits_make_two_dates_two_sets_of_files(export, archive, tmp_path):
    old = export.repository(A, {b"old": b"old\n"}, 1, (1_600_000_000, 0))
    export.visit(A, 2, old, (1_610_000_000, 0))
    export.repository(A, {b"new": b"new\n"}, 3, (1_660_000_000, 0))
    config = written(export, tmp_path)
    archive.take(ExportConfig(config.location, config.contents, visits="all"))
    assert archive.statuses() == [(A, 1, "full"), (A, 3, "full")]
    before = walk_files(archive.tables, datetime(2021, 6, 1, tzinfo=UTC))
    assert before["path"].to_pylist() == ["old"]
    assert walk_files(archive.tables)["path"].to_pylist() == ["new"]


def test_origins_are_chosen_by_url_by_pattern_and_by_file(export, tmp_path):
    for url in (A, B, "https://elsewhere.org/c"):
        export.repository(url, {b"f": url.encode()})
    config = written(export, tmp_path)
    listed = tmp_path / "urls.txt"
    listed.write_text(f"# chosen\n{B}\n\n")

    def chosen(**options):
        new = Archive().take(ExportConfig(config.location, config.contents, **options))
        return [row["url"] for row in new["origin"]]

    assert chosen(origins=(A,)) == [A]
    assert chosen(origins=("https://example.org/*",)) == [A, B]
    assert chosen(origins_file=str(listed)) == [B]
    assert chosen() == ["https://elsewhere.org/c", A, B]


def test_an_origin_that_the_export_does_not_have_is_not_found_once(export, archive, tmp_path):
    export.repository(A, TREE)
    config = written(export, tmp_path)
    config = ExportConfig(config.location, config.contents, origins=(A, B))
    archive.take(config)
    assert archive.statuses() == [(A, 1, "full"), (B, 1, "not_found")]
    assert not archive.take(config)


def test_heads_are_found_through_aliases_and_releases(export, archive, tmp_path):
    revision = export.revision(export.directory({b"f": b"f\n"}))
    release = export.release(export.release(revision), "release")
    branches = {
        b"HEAD": ("alias", "refs/heads/a"),
        b"refs/heads/a": ("alias", "refs/tags/b"),
        b"refs/tags/b": ("release", release),
    }
    export.visit(A, 1, export.snapshot(branches))
    archive.take(written(export, tmp_path))
    assert archive.files() == {f"{A}/f": None}
    assert archive.tables["release"].num_rows == 2


def test_a_head_that_dangles_leaves_the_choice_to_main(export, archive, tmp_path):
    revision = export.revision(export.directory({b"f": b"f\n"}))
    branches = {b"HEAD": ("alias", "refs/heads/gone"), b"refs/heads/main": ("revision", revision)}
    export.visit(A, 1, export.snapshot(branches))
    archive.take(written(export, tmp_path))
    assert archive.statuses() == [(A, 1, "full")]
    assert archive.files() == {f"{A}/f": None}


def test_a_missing_directory_makes_its_visits_partial_and_is_told_with_its_path(export, archive, tmp_path):
    export.repository(A, TREE)
    export.repository(B, {b"b": b"b\n"})
    deep = export.directory(TREE[b"lib"][b"deep"])
    export.remove("directory_entry", directory_id=deep)
    archive.take(written(export, tmp_path))
    assert archive.statuses() == [(A, 1, "partial"), (B, 1, "full")]
    assert archive.reasons() == {b"lib/deep": f"not available: the export lacks the directory {deep}"}
    assert archive.tables["skipped_content"].to_pylist()[0]["visit"] == 1
    assert not archive.take(written(export, tmp_path))


@pytest.mark.parametrize("table", ["revision", "snapshot_branch"])
def test_a_missing_object_above_the_root_makes_the_visit_partial(export, archive, tmp_path, table):
    export.repository(A, TREE)
    export.rows[table].clear()
    export.repository(B, {b"b": b"b\n"})
    archive.take(written(export, tmp_path))
    assert archive.statuses() == [(A, 1, "partial"), (B, 1, "full")]
    assert "the export lacks the" in archive.reasons()[None]


def test_contents_that_cannot_be_had_are_told_and_the_others_arrive(export, archive, tmp_path):
    tree = {
        name: b"%s\n" % name * 50
        for name in (b"kept", b"corrupt", b"wrong", b"missing", b"odd", b"cut", b"long")
    }
    export.repository(A, tree)
    config = written(export, tmp_path)
    objects = {tree[data.split(b"\n")[0]]: tmp_path / "content" / sha1 for sha1, data in export.data.items()}
    objects[tree[b"corrupt"]].write_bytes(b"\x1f\x8b" + b"no gzip" * 9)
    objects[tree[b"wrong"]].write_bytes(gzip.compress(b"x" * len(tree[b"wrong"])))
    objects[tree[b"missing"]].unlink()
    objects[tree[b"odd"]].write_bytes(b"\x28\xb5\x2f\xfd and more")
    objects[tree[b"cut"]].write_bytes(gzip.compress(tree[b"cut"])[:-9])
    objects[tree[b"long"]].write_bytes(gzip.compress(b"\0" * 50_000_000))
    archive.take(config)
    reasons = archive.reasons()
    assert reasons.keys() == tree.keys() - {b"kept"}
    assert all(reason.startswith("not available: ") for reason in reasons.values())
    assert "corrupt gzip" in reasons[b"corrupt"]
    assert "wrong hash" in reasons[b"wrong"]
    assert "no such object" in reasons[b"missing"]
    assert "unknown compression: it begins with 28b52ffd (zstd)" in reasons[b"odd"]
    assert "ends too early" in reasons[b"cut"]
    assert "longer than 250 bytes" in reasons[b"long"]
    assert [row["data"] for row in archive.tables["content"].to_pylist()] == [tree[b"kept"]]
    assert archive.statuses() == [(A, 1, "partial")]
    assert not archive.take(config)


def test_what_did_not_arrive_is_asked_again_and_makes_the_visit_full(export, archive, tmp_path, serve):
    export.repository(A, TREE)
    export.write(tmp_path / "root/bucket/export")
    export.write_contents(tmp_path / "root/bucket/content")
    sha1 = next(name for name, data in export.data.items() if data == TREE[b"a.py"])
    server = serve(tmp_path / "root", broken=frozenset({f"bucket/content/{sha1}"}))
    config = ExportConfig("s3://bucket/export", "s3://bucket/content", endpoint=server.url, attempts=2)
    archive.take(config)
    assert archive.statuses() == [(A, 1, "partial")]
    assert archive.reasons()[b"a.py"].startswith("not fetched yet: after 2 requests")
    assert not archive.take(config)
    server.faults.broken = frozenset()
    server.counts.clear()
    new = archive.take(config)
    assert [row["data"] for row in new["content"]] == [TREE[b"a.py"]]
    assert archive.statuses() == [(A, 1, "partial"), (A, 1, "full")]
    assert archive.files()[f"{A}/a.py"] is None
    assert [path for path in server.counts.requests if "/content/" in path and len(path) > 50] == [
        f"bucket/content/{sha1}"
    ]
    assert not archive.take(config)


@pytest.mark.parametrize("form", ["parquet", "orc"])
def test_an_export_in_a_bucket_is_read_by_ranges(export, archive, tmp_path, serve, form):
    export.repository(A, TREE)
    export.write(tmp_path / "root/bucket/graph/2024", form)
    export.write_contents(tmp_path / "root/bucket/content")
    server = serve(tmp_path / "root", unavailable=0.1)
    config = ExportConfig("s3://bucket/graph/2024", f"{server.url}/bucket/content", endpoint=server.url)
    archive.take(config)
    assert archive.statuses() == [(A, 1, "full")]
    assert len(archive.files()) == 5
    assert all(wanted for path, wanted in server.counts.ranges)


def test_bytes_in_the_export_need_no_download(export, archive, tmp_path):
    export.repository(A, TREE)
    export.write(tmp_path / "export", with_data=True, nested=False)
    archive.take(ExportConfig(str(tmp_path / "export")))
    assert archive.statuses() == [(A, 1, "full")]
    assert {row["data"] for row in archive.tables["content"].to_pylist()} >= {TREE[b"a.py"], None}


def test_wrong_bytes_in_the_export_are_told(export, archive, tmp_path):
    export.repository(A, TREE)
    export.rows["content"][export.content(TREE[b"a.py"])]["data"] = b"other\n"
    export.write(tmp_path / "export", with_data=True)
    archive.take(ExportConfig(str(tmp_path / "export")))
    assert "wrong hash" in archive.reasons()[b"a.py"]
    assert archive.tables["content"].num_rows == 4


def test_without_bytes_anywhere_every_content_is_told_and_comes_when_a_place_is_named(
    export, archive, tmp_path
):
    export.repository(A, TREE)
    config = written(export, tmp_path)
    archive.take(ExportConfig(config.location))
    assert {reason.partition(":")[0] for reason in archive.reasons().values()} == {"no bytes"}
    new = archive.take(config)
    assert len(new["content"]) == 5
    assert archive.statuses()[-1] == (A, 1, "full")


def test_long_contents_and_those_the_export_skipped_leave_the_visit_full(export, archive, tmp_path):
    export.repository(A, {b"long": b"x" * 2000, b"absent": b"absent\n"})
    absent = export.content(b"absent\n")
    row = export.rows["content"].pop(absent)
    export.rows["skipped_content"][absent] = {**row, "status": "absent", "reason": "Content too large"}
    config = written(export, tmp_path)
    archive.take(ExportConfig(config.location, config.contents, max_content_bytes=1000))
    assert archive.reasons() == {
        b"long": "too large: 2000 bytes, the limit is 1000",
        b"absent": "Content too large",
    }
    assert archive.statuses() == [(A, 1, "full")]
    assert not archive.take(ExportConfig(config.location, config.contents, max_content_bytes=1000))


def test_binary_contents_are_held_where_asked_for(export, archive, tmp_path):
    export.repository(A, TREE)
    config = written(export, tmp_path)
    archive.take(ExportConfig(config.location, config.contents, hold_binary=True))
    assert TREE[b"data.bin"] in {row["data"] for row in archive.tables["content"].to_pylist()}


def test_rows_do_not_depend_on_threads_or_on_the_size_of_batches(export, tmp_path):
    for number in range(9):
        tree = {b"%d.%d" % (n, n % 3): b"%d %d\n" % (number, n) for n in range(20)}
        export.repository(f"{A}/{number}", {b"x": tree})
    config = written(export, tmp_path)
    found = []
    for threads, size in ((1, 1), (4, 1 << 20)):
        archive = Archive()
        archive.reading = Reading(datetime(2024, 5, 1, tzinfo=UTC), threads, size)
        found.append(archive.take(config))
    assert found[0] == found[1]
    assert len(found[0]["content"]) == 180


def test_the_fingerprint_follows_the_files_and_the_settings_but_not_the_place(export, tmp_path):
    export.repository(A, TREE)
    config = written(export, tmp_path)
    first = config.open().fingerprint()
    export.write(tmp_path / "moved")
    assert ExportConfig(str(tmp_path / "moved"), config.contents).open().fingerprint() == first
    assert ExportConfig(config.location, config.contents, visits="all").open().fingerprint() != first
    export.repository(B, TREE)
    assert written(export, tmp_path).open().fingerprint() != first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"location": "https://example.org/export"}, "cannot be listed"),
        ({"location": "/no/such/folder"}, "neither a folder nor a URL"),
        ({"location": "ftp://example.org/export"}, "the scheme 'ftp'"),
        ({"location": "s3://"}, "names no bucket"),
        ({"contents": "nowhere"}, "contents 'nowhere' is neither"),
        ({"origins": ("not a url",)}, "'not a url' is no URL"),
        ({"origins_file": "/no/such/file"}, "cannot be read"),
        ({"visits": "newest"}, "visits is 'newest'"),
        ({"format": "csv"}, "format is 'csv'"),
        ({"branches": ()}, "branches is empty"),
        ({"endpoint": "localhost:9000"}, "endpoint is 'localhost:9000'"),
        ({"max_content_bytes": 0}, "max_content_bytes is 0"),
        ({"in_flight": 0}, "in_flight is 0"),
    ],
)
def test_a_setting_that_nobody_can_use_is_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        ExportConfig(**{"location": str(tmp_path), **options})


def test_a_bucket_that_lists_nothing_is_told(tmp_path, serve):
    (tmp_path / "bucket").mkdir()
    server = serve(tmp_path)
    with pytest.raises(SourceError, match="s3://bucket/graph lists nothing"):
        ExportConfig("s3://bucket/graph", endpoint=server.url).open().fingerprint()


def test_a_folder_without_tables_is_told(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(SourceError, match="holds pictures but none of the tables"):
        ExportConfig(str(tmp_path)).open().fingerprint()


def test_a_missing_table_is_told(export, archive, tmp_path):
    export.repository(A, TREE)
    config = written(export, tmp_path)
    for path in (tmp_path / "export/parquet/revision").iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="has no table revision; it has content"):
        archive.take(config)


def test_a_missing_column_is_told(export, archive, tmp_path):
    export.repository(A, TREE)
    config = written(export, tmp_path)
    path = tmp_path / "export/parquet/revision/revision-0000.parquet"
    pa.parquet.write_table(pa.parquet.read_table(path).drop_columns(["directory"]), path)
    with pytest.raises(SchemaError, match=r"revision-0000.parquet .* lacks the columns directory"):
        archive.take(config)


@pytest.mark.parametrize("form", ["parquet", "orc"])
def test_a_damaged_table_is_told(export, archive, tmp_path, form):
    export.repository(A, TREE)
    config = written(export, tmp_path, form)
    path = tmp_path / f"export/{form}/directory_entry/directory_entry-0000.{form}"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SourceError, match=r"directory_entry-0000.* cannot be read: .*download it again"):
        archive.take(config)


def test_origins_that_match_nothing_are_told(export, archive, tmp_path):
    export.repository(A, TREE)
    config = written(export, tmp_path)
    with pytest.raises(SourceError, match=r"no origin of .* matches https://other"):
        archive.take(ExportConfig(config.location, origins=("https://other.org/*",)))


def test_an_address_without_any_content_ends_the_reading(export, archive, tmp_path):
    export.repository(A, {b"%d" % n: b"%d\n" % n for n in range(100)})
    config = written(export, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="check where contents are read from"):
        archive.take(ExportConfig(config.location, str(tmp_path / "empty")))
    archive.take(config)
    assert archive.statuses() == [(A, 1, "full")]
