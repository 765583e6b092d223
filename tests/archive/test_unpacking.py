import gzip
import io
import os
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stack_platform.archive.directories import build_directories
from stack_platform.archive.folders import FoldersConfig
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.trees import DIRECTORY, EXECUTABLE, FILE, LINK
from stack_platform.archive.unpacking import Limits, Unpacked, find_member, unpack
from stack_platform.errors import ConfigError, SourceError

DIR, FIFO, DEVICE, HARD = tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.LNKTYPE


def tar(*members, mode="w:gz", form=tarfile.PAX_FORMAT):
    """Write members (name, data, changes to the header) into a tar file."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode=mode, format=form, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for name, data, *changes in members:
            info = tarfile.TarInfo(os.fsdecode(name))
            info.size = len(data)
            for key, value in dict(*changes).items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return out.getvalue()


def zipped(*members):
    """Write members (name, data, Unix mode) into a zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, *mode in members:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (mode[0] if mode else 0) << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def opened(data, limits=Limits(), **options):
    """Unpack bytes: what was found, and the bytes of its files by path."""
    with tempfile.TemporaryDirectory() as place:
        archive, folder = Path(place, "archive"), Path(place, "in", "here")
        archive.write_bytes(data)
        folder.mkdir(parents=True)
        unpacked = unpack(archive, folder, limits, **options)
        assert sorted(path.name for path in Path(place).rglob("*") if not path.is_relative_to(folder)) == [
            "archive",
            "in",
        ]
        assert all(path.is_file() and path.name.isdecimal() for path in folder.iterdir())
        bytes_of = {
            file.path: (folder / str(file.inode)).read_bytes()
            for file in unpacked.files
            if not file.problem and file.perms != DIRECTORY
        }
        return unpacked, bytes_of


def root(unpacked, bytes_of):
    files = (
        (f.path, f.perms, hash_bytes(bytes_of.get(f.path, b"")).sha1_git)
        for f in unpacked.files
        if not f.problem
    )
    *_, (identifier, _) = build_directories(files)
    return identifier


def problems(unpacked):
    return {file.path: file.problem for file in unpacked.files if file.problem}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_members_have_their_bytes_and_permissions(mode):
    data = tar((b"p/a", b"1"), (b"p/run", b"2", {"mode": 0o744}), (b"p/b\xff", b"3"), mode=mode)
    unpacked, bytes_of = opened(data)
    assert (unpacked.problem, bytes_of) == ("", {b"p/a": b"1", b"p/b\xff": b"3", b"p/run": b"2"})
    assert [file.perms for file in unpacked.files] == [FILE, FILE, EXECUTABLE]


def test_zstd_is_read():
    plain = tar((b"p/a", b"1" * 100_000), mode="w")
    data = pa.compress(plain, codec="zstd", asbytes=True)
    assert opened(data)[1] == {b"p/a": b"1" * 100_000}
    assert opened(data[:-20])[0].problem


def test_zip_has_modes_and_links_unless_they_are_to_be_ignored():
    data = zipped(
        ("p/a", b"1"), ("p/run", b"2", 0o100755), ("p/link", b"a", stat.S_IFLNK | 0o777), ("p/d/", b"")
    )
    perms = {file.path: file.perms for file in opened(data)[0].files}
    assert perms == {b"p/a": FILE, b"p/run": EXECUTABLE, b"p/link": LINK, b"p/d": DIRECTORY}
    plain = {file.path: file.perms for file in opened(data, zip_modes=False)[0].files}
    assert plain == {b"p/a": FILE, b"p/run": FILE, b"p/link": FILE, b"p/d": DIRECTORY}


HOSTILE = [b"../x", b"a/../../x", b"..", b"C:\\x", b"c:/x", b"..\\x", b"a\\..\\x", b"a/.."]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_is_reported(name):
    for data in (tar((name, b"1"), (b"ok", b"2")), zipped((os.fsdecode(name), b"1"), ("ok", b"2"))):
        unpacked, bytes_of = opened(data)
        assert bytes_of == {b"ok": b"2"}
        assert problems(unpacked)[name].startswith("unsafe name")
        assert unpacked.problem == ""


def test_absolute_name_is_taken_from_the_root_of_the_archive():
    for data in (tar((b"/etc/x", b"1")), zipped(("/etc/x", b"1"))):
        assert opened(data)[1] == {b"etc/x": b"1"}


def test_name_longer_than_a_file_system_takes_is_kept():
    assert list(opened(tar((b"n" * 400, b"1")))[1]) == [b"n" * 400]


def test_member_behind_a_link_is_reported_and_the_link_kept():
    data = tar(
        (b"a", b"", {"type": tarfile.SYMTYPE, "linkname": "/tmp"}),
        (b"a/x", b"1"),
        (b"f", b""),
        (b"f/y", b"2"),
    )
    unpacked, bytes_of = opened(data)
    assert bytes_of == {b"a": b"/tmp", b"f": b""}
    assert problems(unpacked) == {b"a/x": "behind the symbolic link a", b"f/y": "behind the file f"}


def test_hard_link_is_a_second_name_of_its_member():
    link = {"type": HARD, "linkname": "p/a"}
    data = tar(
        (b"p/a", b"1", {"mode": 0o755}), (b"p/b", b"", link), (b"p/c", b"", {**link, "linkname": "../../x"})
    )
    unpacked, bytes_of = opened(data)
    assert bytes_of == {b"p/a": b"1", b"p/b": b"1"}
    assert {file.perms for file in unpacked.files if not file.problem} == {EXECUTABLE}
    assert problems(unpacked) == {b"p/c": "a hard link to a member that is not there"}


def test_devices_and_pipes_are_reported():
    unpacked, _ = opened(tar((b"d", b"", {"type": DEVICE}), (b"p", b"", {"type": FIFO})))
    assert set(problems(unpacked).values()) == {"not a regular file"}
    unpacked, _ = opened(zipped(("d", b"", stat.S_IFCHR | 0o644)))
    assert problems(unpacked) == {b"d": "not a regular file"}


def test_last_of_members_of_one_name_counts_and_the_others_are_reported():
    unpacked, bytes_of = opened(tar((b"a", b"1"), (b"./a", b"2")))
    assert bytes_of == {b"a": b"2"}
    assert problems(unpacked) == {b"a": "replaced by a later member of the same name"}
    unpacked, bytes_of = opened(
        tar((b"a", b"", {"type": DIR}), (b"a", b"2"), (b"b", b"3"), (b"b", b"", {"type": DIR}))
    )
    assert bytes_of == {b"b": b"3"}
    assert problems(unpacked) == {
        b"a": "a file of the name of a folder",
        b"b": "a folder of the name of a file",
    }


def test_folder_that_has_something_in_it_is_no_entry_of_its_own():
    data = tar(
        (b"p", b"", {"type": DIR}),
        (b"p/q", b"", {"type": DIR}),
        (b"p/e", b"", {"type": DIR}),
        (b"p/q/a", b"1"),
    )
    assert [(file.path, file.perms) for file in opened(data)[0].files] == [
        (b"p/e", DIRECTORY),
        (b"p/q/a", FILE),
    ]


def test_bomb_is_stopped_by_bytes_by_ratio_and_by_members(monkeypatch):
    bomb = b"\0" * (1 << 20)
    for data in (tar((b"ok", b"1"), (b"b", bomb)), zipped(("ok", b"1"), ("b", bomb))):
        unpacked, bytes_of = opened(data, Limits(unpacked_bytes=100_000))
        assert unpacked.problem == problems(unpacked)[b"b"]
        assert unpacked.problem.startswith("it unpacks to more than 100000 bytes")
        assert bytes_of == {b"ok": b"1"}
        monkeypatch.setattr("stack_platform.archive.unpacking._RATIO_FROM", 100_000)
        assert opened(data, Limits(ratio=2))[0].problem
        assert opened(data, Limits(members=1))[0].problem.startswith("it has more than 1 members")
        assert not opened(data, Limits(ratio=2000))[0].problem


def test_deep_member_is_reported():
    assert "folders deep" in problems(opened(tar((b"a/" * 300 + b"b", b"1")))[0])[b"a/" * 300 + b"b"]


def test_long_extended_header_is_refused():
    unpacked, _ = opened(tar((b"a", b"1", {"pax_headers": {"comment": "x" * 3_000_000}}), mode="w"))
    assert "an extended header of" in unpacked.problem


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archive_that_is_cut_off_keeps_what_came_before(mode, keep):
    noise = os.urandom(30_000)
    data = tar(*((b"%d" % number, noise) for number in range(5)), mode=mode)
    unpacked, bytes_of = opened(data[: int(len(data) * keep)])
    assert unpacked.problem.startswith("damaged or not an archive") or (mode == "w" and keep == 0.99)
    assert all(value == noise for value in bytes_of.values())


def test_zip_that_is_cut_off_is_damaged():
    data = zipped(("a", b"1" * 1000))
    assert opened(data[:-30])[0] == Unpacked((), "damaged or not an archive: File is not a zip file")


def test_wrong_checksums_are_found():
    data = bytearray(tar((b"a", b"1" * 1000)))
    data[-6] ^= 1  # of gzip's checksum
    assert "CRC" in opened(bytes(data))[0].problem
    data = bytearray(zipped(("a", os.urandom(1000)), ("b", b"2")))
    data[200] ^= 1
    unpacked, bytes_of = opened(bytes(data))
    assert bytes_of == {b"b": b"2"}
    assert problems(unpacked)[b"a"].startswith("damaged: ")
    assert unpacked.problem == "some members are damaged"


def test_damaged_header_in_the_middle_is_not_taken_for_the_end():
    data = bytearray(tar((b"a", b"1"), (b"b", b"2"), mode="w", form=tarfile.GNU_FORMAT))
    data[1024] ^= 1
    unpacked, bytes_of = opened(bytes(data))
    assert bytes_of == {b"a": b"1"}
    assert unpacked.problem == "damaged or not an archive: bad checksum"


def test_encrypted_member_is_reported():
    data = bytearray(zipped(("a", b"1"), ("b", b"2")))
    entry = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[entry + 8] |= 1
    unpacked, bytes_of = opened(bytes(data))
    assert bytes_of == {b"b": b"2"}
    assert problems(unpacked) == {b"a": "encrypted"}


@pytest.mark.parametrize(
    "data", [b"", b"no archive", b"PK\x03\x04", b"\x1f\x8b", b"BZh9", gzip.compress(b"text")]
)
def test_what_is_no_archive_is_a_problem(data):
    unpacked, _ = opened(data)
    assert unpacked.files == ()
    assert unpacked.problem.startswith("damaged or not an archive")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_no_damage_of_the_archive(tmp_path):
    (tmp_path / "archive").write_bytes(tar((b"a", b"1")))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0").symlink_to("/dev/full")
    with pytest.raises(SourceError, match="No space left on device; make room"):
        unpack(tmp_path / "archive", tmp_path / "in", Limits())


def test_archive_that_cannot_be_opened_is_unreadable(tmp_path):
    unpacked = unpack(tmp_path / "gone", tmp_path, Limits())
    assert unpacked == Unpacked((), "unreadable: No such file or directory")


def test_member_is_found_by_its_name(tmp_path):
    for data in (tar((b"a", b"1"), (b"p/PKG-INFO", b"2")), zipped(("a", b"1"), ("p/PKG-INFO", b"2"))):
        (tmp_path / "archive").write_bytes(data)
        assert find_member(tmp_path / "archive", lambda name: name.endswith("PKG-INFO"), Limits()) == b"2"
        assert find_member(tmp_path / "archive", lambda name: False, Limits()) is None
    (tmp_path / "archive").write_bytes(data[:20])
    assert find_member(tmp_path / "archive", lambda name: True, Limits()) is None


def test_limits_are_positive():
    with pytest.raises(ConfigError, match="the limit members is 0"):
        Limits(members=0)


parts = st.one_of(
    st.sampled_from(["..", ".", "", "a", "b", "C:", "~", "\\", "a\\..", "nul", "con", "a ", "ä", "\udcff"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
)
hostile = st.lists(parts, min_size=1, max_size=4).map("/".join)
kinds = st.sampled_from([tarfile.REGTYPE, DIR, FIFO, DEVICE, HARD, tarfile.SYMTYPE])


@given(st.lists(st.tuples(hostile, kinds, hostile), max_size=6))
@settings(max_examples=60, deadline=None)
@example([("a", tarfile.SYMTYPE, "../.."), ("a/b", tarfile.REGTYPE, "")])
def test_whatever_a_tar_says_nothing_lands_outside_and_no_member_is_lost(members):
    headers = [
        (os.fsencode(name), b"data" if kind == tarfile.REGTYPE else b"", {"type": kind, "linkname": link})
        for name, kind, link in members
    ]
    unpacked, _ = opened(tar(*headers))  # checks where things lie
    assert unpacked.problem == ""
    named = {file.path for file in unpacked.files}
    for name, _, _ in members:
        path = os.fsencode(name)
        short = b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
        assert (
            not short
            or named & {path, path.rstrip(b"/"), short}
            or any(n.startswith(short + b"/") for n in named)
        )
    assert not any(b".." in file.path.split(b"/") for file in unpacked.files if not file.problem)


@given(
    st.lists(
        st.tuples(hostile.filter(lambda name: "\udcff" not in name), st.integers(0, 0o177777)), max_size=6
    )
)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_a_zip_says_nothing_lands_outside(members):
    unpacked, _ = opened(
        zipped(*((name, b"" if name.endswith("/") else b"x", mode) for name, mode in members))
    )
    assert unpacked.problem == ""
    assert not any(b".." in file.path.split(b"/") for file in unpacked.files if not file.problem)


@given(st.binary(max_size=3000), st.integers(0, 3), st.integers(0, 2000))
@settings(max_examples=80, deadline=None)
def test_damage_anywhere_is_a_problem_and_never_an_exception(noise, kind, place):
    whole = [
        tar((b"a", b"1" * 600), (b"b/c", b"2"), mode="w"),
        tar((b"a", b"1" * 600), (b"b/c", b"2")),
        zipped(("a", b"1" * 600), ("b/c", b"2")),
        b"",
    ][kind]
    at = place % (len(whole) + 1)
    opened(whole[:at] + noise + whole[at + len(noise) :])


names = st.sampled_from(["a", "b c", "c.py", "ä", "-d"])
tree = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map("/".join),
    st.tuples(st.sampled_from(["file", "run", "link", "empty"]), st.binary(max_size=20)),
    max_size=8,
).filter(lambda tree: not any(other.startswith(path + "/") for path in tree for other in tree))


@given(tree)
@settings(max_examples=40, deadline=None)
def test_tree_has_one_id_as_a_folder_a_tar_and_a_zip(made):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "p")
        folder.mkdir()
        packed, members = [], []
        for path, (kind, data) in made.items():
            target, text = folder / path, data.hex() or "x"
            target.parent.mkdir(parents=True, exist_ok=True)
            if kind == "empty":
                target.mkdir()
                members.append((path + "/", b"", 0o040755))
                packed.append((path.encode(), b"", {"type": DIR}))
            elif kind == "link":
                target.symlink_to(text)
                members.append((path, text.encode(), stat.S_IFLNK | 0o777))
                packed.append((path.encode(), b"", {"type": tarfile.SYMTYPE, "linkname": text}))
            else:
                mode = 0o755 if kind == "run" else 0o644
                target.write_bytes(data)
                target.chmod(mode)
                members.append((path, data, stat.S_IFREG | mode))
                packed.append((path.encode(), data, {"mode": mode}))
        config = FoldersConfig((str(folder),))
        with config.visits(config.origins()) as (visit,):
            (release,) = visit.releases
            local = {
                f.path: os.fsencode((folder / os.fsdecode(f.path)).readlink())
                if f.perms == LINK
                else (folder / os.fsdecode(f.path)).read_bytes()
                for f in release.files
                if f.perms != DIRECTORY
            }
            expected = root(Unpacked(release.files, ""), local)
        assert root(*opened(tar(*packed))) == expected
        assert root(*opened(zipped(*members))) == expected
