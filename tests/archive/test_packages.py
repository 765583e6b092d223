import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from stack_platform.archive.packages import ArchivesConfig
from stack_platform.archive.sources import Known, Reading
from stack_platform.errors import ConfigError, SourceError


def write_sdist(path, name, version, files=(("setup.py", b"1"),), info=True):
    wrapper = f"{name}-{version}"
    members = [*files, *([("PKG-INFO", f"Name: {name}\nVersion: {version}\n".encode())] if info else ())]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for member, data in members:
            header = tarfile.TarInfo(f"{wrapper}/{member}")
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def write_wheel(path, name, version):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "1")
        archive.writestr(f"{name}-{version}.dist-info/METADATA", f"Name: {name}\nVersion: {version}\n")
    return path


def visits(config):
    with config.visits(config.origins()) as shown:
        for visit in shown:
            for release in visit.releases:
                assert all(Path(release.root, str(f.inode)).is_file() for f in release.files if not f.problem)
        return {visit.origin: visit for visit in shown}


def rows(config, known=Known(), **options):
    read = {}
    for table, batch in config.open().read(known, Reading(**options)):
        read.setdefault(table, []).extend(batch.to_pylist())
    return read


def branches(config):
    return [(row["name"], row["target_type"]) for row in rows(config)["snapshot_branch"]]


def test_sdist_belongs_to_its_package_and_keeps_its_wrapper(tmp_path):
    write_sdist(tmp_path / "any name.bin", "Some.Package", "1.0")
    visit = visits(ArchivesConfig((str(tmp_path / "any name.bin"),)))["pkg:pypi/some-package"]
    (release,) = visit.releases
    assert (visit.status, release.name) == ("full", b"1.0")
    assert [file.path for file in release.files] == [
        b"Some.Package-1.0/PKG-INFO",
        b"Some.Package-1.0/setup.py",
    ]


def test_versions_are_releases_and_head_is_the_newest_final_one(tmp_path):
    for version in ("1.9", "1.10", "2.0rc1", "weird!"):
        write_sdist(tmp_path / f"p-{version}.tar.gz", "p", version)
    visit = visits(ArchivesConfig((str(tmp_path),)))["pkg:pypi/p"]
    assert [release.name for release in visit.releases] == [b"1.10", b"1.9", b"2.0rc1", b"weird!"]
    assert (b"HEAD", "alias") in branches(ArchivesConfig((str(tmp_path),)))


def test_archives_of_one_version_have_their_file_names_in_the_branches(tmp_path):
    write_wheel(tmp_path / "p-1-py3-none-any.whl", "p", "1")
    write_sdist(tmp_path / "p-1.tar.gz", "p", "1")
    write_sdist(tmp_path / "p-0.tar.gz", "p", "0")
    made = rows(ArchivesConfig((str(tmp_path),)))
    head = next(row for row in made["snapshot_branch"] if row["name"] == b"HEAD")
    assert bytes.fromhex(head["target"]) == b"releases/1/p-1.tar.gz"
    assert {row["name"] for row in made["snapshot_branch"]} == {
        b"HEAD",
        b"releases/0",
        b"releases/1/p-1.tar.gz",
        b"releases/1/p-1-py3-none-any.whl",
    }


def test_other_archive_is_an_origin_named_after_its_file(tmp_path):
    write_sdist(tmp_path / "in" / "here" / "tool-1.tar.gz", "tool", "1", info=False)
    config = ArchivesConfig((str(tmp_path / "in"),))
    assert list(visits(config)) == ["archive:here/tool-1.tar.gz"]
    assert branches(config) == [(b"HEAD", "directory")]
    assert list(visits(ArchivesConfig((str(tmp_path / "**" / "*.tar.gz"),)))) == ["archive:tool-1.tar.gz"]


def test_url_makes_one_origin_of_all_with_versions_from_the_names(tmp_path):
    for name in ("tool-1.2.tar.gz", "tool-v1.10.tgz", "extras.tar.gz"):
        write_sdist(tmp_path / name, "tool", "0", info=False)
    visit = visits(ArchivesConfig((str(tmp_path),), url="https://example.org/tool"))[
        "https://example.org/tool"
    ]
    assert [release.name for release in visit.releases] == [b"1.10", b"1.2", b"extras"]


def test_same_file_is_taken_once_and_a_second_one_of_its_name_is_reported(tmp_path):
    write_sdist(tmp_path / "a" / "p-1.tar.gz", "p", "1")
    once = ArchivesConfig((str(tmp_path / "a"), str(tmp_path / "a" / "p-1.tar.gz")))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "p-1.tar.gz").write_bytes((tmp_path / "a" / "p-1.tar.gz").read_bytes())
    for config in (once, ArchivesConfig((str(tmp_path),))):
        assert visits(config)["pkg:pypi/p"].problem == ""
        assert visits(config)["pkg:pypi/p"].releases[0].artifact == b""
    write_sdist(tmp_path / "b" / "p-1.tar.gz", "p", "1", [("other.py", b"2")])
    visit = visits(ArchivesConfig((str(tmp_path),)))["pkg:pypi/p"]
    assert (len(visit.releases), visit.problem) == (1, "b/p-1.tar.gz: another file of this name comes first")


def test_damaged_archive_fails_alone_and_one_cut_off_is_partial(tmp_path):
    whole = write_sdist(
        tmp_path / "p-1.tar.gz", "p", "1", [("a.py", os.urandom(50_000)), ("b.py", os.urandom(50_000))]
    )
    (tmp_path / "cut-1.tar.gz").write_bytes(whole.read_bytes()[:70_000])
    (tmp_path / "no.zip").write_bytes(b"no archive")
    config = ArchivesConfig((str(tmp_path),))
    statuses = {visit.origin: visit.status for visit in visits(config).values()}
    assert statuses == {"archive:cut-1.tar.gz": "partial", "archive:no.zip": "failed", "pkg:pypi/p": "full"}
    made = rows(config)
    told = {(row["origin"], row["path"]): row["reason"] for row in made["skipped_content"]}
    assert told["archive:no.zip", None].startswith("no.zip: damaged or not an archive")
    assert told["archive:cut-1.tar.gz", b"p-1/b.py"].startswith("damaged: ")
    snapshots = {row["origin"]: row["snapshot"] for row in made["origin_visit_status"]}
    assert snapshots["archive:no.zip"] is None
    assert snapshots["archive:cut-1.tar.gz"] is not None


def test_archive_whose_members_are_all_unreadable_is_partial(tmp_path):
    write_sdist(tmp_path / "p-1.tar.gz", "p", "1", [("../../x", b"1")], info=False)
    (visit,) = visits(ArchivesConfig((str(tmp_path),))).values()
    assert (visit.status, visit.problem) == ("partial", "p-1.tar.gz: nothing in it can be read")


def test_unpacked_rows_are_those_of_the_files(tmp_path):
    write_sdist(tmp_path / "p-1.tar.gz", "p", "1", [("a.py", b"one"), ("b.py", b"one"), ("c.bin", b"\0")])
    made = rows(ArchivesConfig((str(tmp_path),)))
    assert {row["data"] for row in made["content"]} == {b"one", b"Name: p\nVersion: 1\n", None}
    assert str(tmp_path) not in repr(made)


def test_new_version_costs_its_own_rows(tmp_path):
    folder, scratch = tmp_path / "in", tmp_path / "scratch"
    write_sdist(folder / "p-1.tar.gz", "p", "1")
    config = ArchivesConfig((str(folder),))
    first = rows(config)
    known = Known(lambda table, columns: _table(table, first, columns))
    write_sdist(folder / "p-2.tar.gz", "p", "2", [("setup.py", b"1"), ("new.py", b"2")])
    second = rows(config, known, scratch=scratch)
    assert [row["data"] for row in second["content"]] == [b"Name: p\nVersion: 2\n", b"2"]
    assert [row["visit"] for row in second["origin_visit"]] == [2]


def test_fingerprint_changes_with_the_files_and_the_limits(tmp_path):
    file = write_sdist(tmp_path / "p-1.tar.gz", "p", "1")
    first = ArchivesConfig((str(tmp_path),)).open().fingerprint()
    assert ArchivesConfig((str(tmp_path),)).open().fingerprint() == first
    assert ArchivesConfig((str(tmp_path),), max_depth=3).open().fingerprint() != first
    os.utime(file, ns=(0, 0))
    assert ArchivesConfig((str(tmp_path),)).open().fingerprint() != first


def _table(table, made, columns):
    import pyarrow as pa

    from stack_platform.schemas import ARCHIVE

    return pa.Table.from_pylist(made.get(table, []), ARCHIVE[table]).select(list(columns))


def test_missing_file_is_not_found(tmp_path):
    visit = visits(ArchivesConfig((str(tmp_path / "gone.zip"),)))["archive:gone.zip"]
    assert (visit.status, visit.problem) == ("not_found", "there is no such file")


def test_nothing_to_unpack_is_refused(tmp_path):
    with pytest.raises(SourceError, match="there is no archive in"):
        ArchivesConfig((str(tmp_path), str(tmp_path / "*.zip"))).origins()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": ()}, "paths names no archive"),
        ({"paths": ("x",), "max_content_bytes": 0}, "max_content_bytes is 0"),
        ({"paths": ("x",), "max_members": 0}, "the limit members is 0"),
    ],
)
def test_unusable_setting_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ArchivesConfig(**settings)
