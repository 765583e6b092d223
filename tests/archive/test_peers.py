"""Software Heritage's own packages say the same ids: swh-model as a library, swh-loader-core as a bag of real archives.

swh-loader-core is looked for among the installed distributions, or as a wheel that the environment variable
SWH_LOADER_CORE_WHEEL names: the archives are in its tests, and so are the ids that Software Heritage gave them.
"""

import ast
import json
import os
import shutil
import stat
import tarfile
import zipfile
from datetime import datetime
from email.parser import BytesHeaderParser
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from stack_platform.archive.blobs import Located, read_blob
from stack_platform.archive.directories import build_directories
from stack_platform.archive.distributions import DistributionsConfig
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.sources import Known, Reading
from stack_platform.archive.swhid import (
    Branch,
    Entry,
    Signature,
    Swhid,
    content_swhid,
    directory_id,
    parse,
    release_id,
    revision_id,
    snapshot_id,
)
from stack_platform.archive.trees import DIRECTORY
from stack_platform.archive.unpacking import Limits, find_member, unpack

pytestmark = pytest.mark.peer
LOADERS = "swh/loader/package/"


@pytest.fixture(scope="module")
def model():
    return pytest.importorskip("swh.model.model")


def smallest_distributions() -> DistributionsConfig:
    """Take the smallest installed distributions, until they have enough files."""
    chosen, files = [], 0
    for origin in sorted(DistributionsConfig().origins(), key=lambda origin: (origin.bytes, origin.url)):
        if files < 4000:
            chosen.append(origin.url.removeprefix("pkg:pypi/"))
            files += origin.files
    return DistributionsConfig(include=tuple(chosen), max_content_bytes=1 << 20, hold_binary=True)


def test_ids_of_thousands_of_installed_objects_are_those_of_swh_model(model):
    rows: dict[str, list[dict]] = {}
    for name, batch in smallest_distributions().open().read(Known(), Reading()):
        rows.setdefault(name, []).extend(batch.to_pylist())
    checked = 0
    for row in rows["content"]:
        theirs = model.Content.from_data(row["data"])
        for name in ("sha1", "sha1_git", "sha256", "blake2s256"):
            assert row[name] == theirs.get_hash(name).hex()
        checked += 1
    entries: dict[str, list] = {row["id"]: [] for row in rows["directory"]}
    for row in rows["directory_entry"]:
        target = bytes.fromhex(row["target"])
        entries[row["directory_id"]].append(
            model.DirectoryEntry(name=row["name"], type=row["type"], target=target, perms=row["perms"])
        )
    for identifier, of_directory in entries.items():
        assert model.Directory(entries=tuple(of_directory)).id.hex() == identifier
        checked += 1
    for row in rows["release"]:
        theirs = model.Release(
            name=row["name"],
            message=None,
            target=bytes.fromhex(row["target"]),
            target_type=model.ReleaseTargetType.DIRECTORY,
            synthetic=True,
        )
        assert theirs.id.hex() == row["id"]
        checked += 1
    branches: dict[str, dict] = {row["id"]: {} for row in rows["snapshot"]}
    for row in rows["snapshot_branch"]:
        kind = model.SnapshotTargetType(row["target_type"])
        branch = model.SnapshotBranch(target=bytes.fromhex(row["target"]), target_type=kind)
        branches[row["snapshot_id"]][row["name"]] = branch
    for identifier, of_snapshot in branches.items():
        assert model.Snapshot(branches=of_snapshot).id.hex() == identifier
        checked += 1
    assert checked >= 3000


def signature(person, date):
    if person is None:
        return None
    if date is None:
        return Signature(person.fullname)
    return Signature(person.fullname, date.timestamp.seconds, date.timestamp.microseconds, date.offset_bytes)


def test_ids_of_random_objects_are_those_of_swh_model():
    strategies = pytest.importorskip("swh.model.hypothesis_strategies")
    model = pytest.importorskip("swh.model.model")

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.one_of(
            strategies.revisions(), strategies.releases(), strategies.directories(), strategies.snapshots()
        )
    )
    def check(theirs):
        if getattr(theirs, "raw_manifest", None) is not None:
            return
        if isinstance(theirs, model.Revision):
            ours = revision_id(
                theirs.directory.hex(),
                [parent.hex() for parent in theirs.parents],
                signature(theirs.author, theirs.date),
                signature(theirs.committer, theirs.committer_date),
                theirs.message,
                theirs.extra_headers,
            )
        elif isinstance(theirs, model.Release):
            author = signature(theirs.author, theirs.date)
            ours = release_id(
                theirs.name, theirs.target.hex(), theirs.target_type.value, theirs.message, author
            )
        elif isinstance(theirs, model.Directory):
            # git has no empty names and none with NUL, neither have we
            assume(all(entry.name and b"\0" not in entry.name for entry in theirs.entries))
            ours = directory_id(Entry(e.name, e.type, e.target.hex(), e.perms) for e in theirs.entries)
        else:
            ours = snapshot_id(
                {
                    name: None if branch is None else Branch(branch.target_type.value, branch.target.hex())
                    for name, branch in theirs.branches.items()
                }
            )
        assert ours == theirs.id.hex()

    check()


def test_swhid_texts_are_those_of_swh_model():
    theirs = pytest.importorskip("swh.model.swhids").QualifiedSWHID
    digits = "94a9ed024d3859793618152ea559a168bbcbb5e2"
    for path in ("/a b;c%d/ä.py", "/x=1&y=2~(z)"):
        ours = Swhid(
            "cnt",
            digits,
            origin="https://example.org/%20;x",
            visit=Swhid("snp", digits),
            path=path,
            lines=(1, 9),
        )
        assert str(theirs.from_string(str(ours))) == str(ours)
        assert parse(str(theirs.from_string(str(ours)))) == ours


@pytest.fixture(scope="module")
def loader_names():
    """Give the paths of the files of swh-loader-core."""
    wheel = os.environ.get("SWH_LOADER_CORE_WHEEL")
    if wheel:
        with zipfile.ZipFile(wheel) as opened:
            return opened.namelist()
    try:
        return [str(path) for path in metadata.files("swh-loader-core") or ()]
    except metadata.PackageNotFoundError:
        pytest.skip("neither swh-loader-core is installed nor SWH_LOADER_CORE_WHEEL names its wheel")


@pytest.fixture(scope="module")
def loader_file():
    """Give the function that reads a file of swh-loader-core."""
    wheel = os.environ.get("SWH_LOADER_CORE_WHEEL")
    if wheel:
        return zipfile.ZipFile(wheel).read
    try:
        distribution = metadata.distribution("swh-loader-core")
    except metadata.PackageNotFoundError:
        pytest.skip("neither swh-loader-core is installed nor SWH_LOADER_CORE_WHEEL names its wheel")
    return lambda path: Path(str(distribution.locate_file(path))).read_bytes()


def tree(data: bytes, folder: Path, **options: bool) -> list[str]:
    """Give the ids of the directories of an archive, the root last."""
    folder.mkdir(exist_ok=True)
    (folder / "archive").write_bytes(data)
    (folder / "unpacked").mkdir()
    unpacked = unpack(folder / "archive", folder / "unpacked", Limits(), **options)
    assert not unpacked.problem
    files = []
    for file in unpacked.files:
        located = Located(0, 0, str(folder / "unpacked" / str(file.inode)), file, text=True)
        target = "" if file.perms == DIRECTORY else read_blob(located, 1 << 30, True).hashes.sha1_git
        files.append((file.path, file.perms, target))
    return [identifier for identifier, _ in build_directories(files)]


def literal(source: str, name: str):
    """Give the value that a module assigns to a name."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.literal_eval(node.value)
    raise LookupError(name)


def test_archive_of_gnu_8sync_has_the_ids_that_software_heritage_gave_it(loader_file, tmp_path):
    expected = loader_file(LOADERS + "archive/tests/test_archive.py").decode()
    data = loader_file(LOADERS + "archive/tests/data/https_ftp.gnu.org/gnu_8sync_8sync-0.1.0.tar.gz")
    directories = tree(data, tmp_path)
    assert set(directories) == set(literal(expected, "_expected_new_directories_first_visit"))
    (artifact, *_) = literal(expected, "GNU_ARTIFACTS")
    message = f"Synthetic release for archive at {artifact['url']}\n".encode()
    author = Signature(b"", artifact["time"])
    release = release_id(artifact["version"].encode(), directories[-1], "directory", message, author)
    assert {release: directories[-1]} == literal(expected, "_expected_new_releases_first_visit")


def test_python_packages_have_the_release_and_snapshot_ids_that_software_heritage_gave_them(
    loader_file, tmp_path
):
    expected = loader_file(LOADERS + "pypi/tests/test_pypi.py").decode()
    project = json.loads(loader_file(LOADERS + "pypi/tests/data/https_pypi.org/pypi_0805nexter_json"))
    branches = {}
    for version in ("1.1.0", "1.2.0"):
        artifact = next(file for file in project["releases"][version] if file["packagetype"] == "sdist")
        name = artifact["url"].removeprefix("https://files.pythonhosted.org/").replace("/", "_")
        data = loader_file(LOADERS + f"pypi/tests/data/https_files.pythonhosted.org/{name}")
        root = tree(data, tmp_path / version)[-1]
        metadata = find_member(
            tmp_path / version / "archive", lambda name: name.endswith("/PKG-INFO"), Limits()
        )
        info = BytesHeaderParser().parsebytes(metadata)
        moment = datetime.fromisoformat(artifact["upload_time"] + "+00:00")
        author = Signature(f"{info['Author']} <{info['Author-email']}>".encode(), int(moment.timestamp()))
        message = artifact["comment_text"] or (
            f"Synthetic release for PyPI source package {project['info']['name']} version {version}\n"
        )
        release = release_id(version.encode(), root, "directory", message.encode(), author)
        assert f'"{release}"' in expected
        branches[b"releases/" + version.encode()] = Branch("release", release)
    snapshot = snapshot_id({b"HEAD": Branch("alias", b"releases/1.2.0".hex()), **branches})
    assert f'"{snapshot}"' in expected


def test_real_archives_have_the_directory_that_swh_model_finds_in_their_files(
    loader_names, loader_file, tmp_path
):
    from_disk = pytest.importorskip("swh.model.from_disk")
    compared = 0
    for name in loader_names:
        kind = "zip" if name.endswith(".zip") else "tar"
        if not name.endswith((".zip", ".tar.gz", ".tgz", ".crate", ".tar.bz2", ".tar.xz")):
            continue
        data = loader_file(name)
        place = tmp_path / str(compared)
        (place / "theirs").mkdir(parents=True)
        (place / "given").write_bytes(data)
        try:
            if kind == "zip":
                shutil.unpack_archive(place / "given", place / "theirs", "zip")
            else:
                with tarfile.open(place / "given") as archive:
                    archive.extractall(place / "theirs", filter="tar")
        except (tarfile.TarError, shutil.ReadError):
            assert unpack(place / "given", place, Limits()).problem
            continue
        for file in (place / "theirs").rglob("*"):
            if not file.is_symlink():
                file.chmod(0o755 if file.is_dir() or file.stat().st_mode & stat.S_IXUSR else 0o644)
        theirs = from_disk.Directory.from_disk(path=os.fsencode(place / "theirs"), max_content_length=None)
        assert tree(data, place, zip_modes=False)[-1] == theirs.hash.hex(), name
        compared += 1
    assert compared > 50


def test_content_ids_of_random_bytes_are_those_of_swh_model(model):
    for data in (b"", b"\0" * 100, os.urandom(100_000)):
        theirs = model.Content.from_data(data)
        assert content_swhid(data) == str(theirs.swhid())
        assert hash_bytes(data).blake2s256 == theirs.blake2s256.hex()
