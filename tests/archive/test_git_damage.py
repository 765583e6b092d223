import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stack_platform.archive.git.cli import GitRepository
from stack_platform.archive.git.source import GitConfig
from stack_platform.archive.sources import Known, Reading

Read = Callable[..., dict[str, pa.Table]]
BACKENDS = pytest.mark.parametrize("backend", ["git", "dulwich"])


@pytest.fixture(scope="module")
def made(git_folder_at: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make three commits, with loose objects only."""
    repo = git_folder_at(tmp_path_factory.mktemp("made") / "repo")
    for number in range(3):
        repo.commit({"src/a.py": b"print(%d)\n" % number * 50, "b.txt": b"b %d" % number})
    repo.git("tag", "--annotate", "--message", "one", "v1")
    return repo


@pytest.fixture
def repo(made: Any, tmp_path: Path) -> Any:
    """Give a copy of them."""
    return made.copy(tmp_path / "repo")


def loose(repo: Any, name: str) -> Path:
    identifier = repo.git("rev-parse", name)
    return Path(repo.path / ".git/objects" / identifier[:2] / identifier[2:])


def status_of(tables: dict[str, pa.Table]) -> tuple[str, list[str]]:
    [row] = tables["origin_visit_status"].to_pylist()
    reasons = [r["reason"] for r in tables["skipped_content"].to_pylist() if r["sha1_git"] is None]
    return str(row["status"]), reasons


@BACKENDS
def test_a_missing_content_is_skipped_and_the_rest_is_there(repo: Any, read_git: Read, backend: str) -> None:
    whole = read_git(GitConfig((str(repo.path),), backend=backend))
    identifier = repo.git("rev-parse", "HEAD:src/a.py")
    loose(repo, "HEAD:src/a.py").unlink()
    tables = read_git(GitConfig((str(repo.path),), backend=backend))
    [row] = tables["skipped_content"].to_pylist()
    assert (row["sha1_git"], row["reason"], row["path"]) == (identifier, "missing", b"src/a.py")
    assert tables["content"].num_rows == whole["content"].num_rows - 1
    assert tables["revision"].equals(whole["revision"])
    assert status_of(tables) == ("full", [])


@BACKENDS
@pytest.mark.parametrize("damage", ["truncated", "garbage", "other"])
def test_a_damaged_content_is_skipped(repo: Any, read_git: Read, backend: str, damage: str) -> None:
    path = loose(repo, "HEAD:src/a.py")
    other = loose(repo, "HEAD:b.txt").read_bytes()
    path.chmod(0o644)
    path.write_bytes({"truncated": path.read_bytes()[:15], "garbage": b"garbage" * 9, "other": other}[damage])
    tables = read_git(GitConfig((str(repo.path),), backend=backend))
    [row] = tables["skipped_content"].to_pylist()
    assert row["sha1_git"] == repo.git("rev-parse", "HEAD:src/a.py")
    assert row["reason"].startswith(("damaged", "missing"))
    assert tables["content"].num_rows == 5
    assert tables["revision"].num_rows == 3


@BACKENDS
@pytest.mark.parametrize(
    ("name", "table"), [("HEAD^{tree}", "directory"), ("HEAD~1", "revision"), ("v1", "release")]
)
def test_a_lost_object_makes_the_visit_partial(
    repo: Any, read_git: Read, known_of: Callable, backend: str, name: str, table: str
) -> None:
    whole = read_git(GitConfig((str(repo.path),), backend=backend))
    path = loose(repo, name)
    data = path.read_bytes()
    path.unlink()
    config = GitConfig((str(repo.path),), backend=backend)
    tables = read_git(config)
    status, [reason] = status_of(tables)
    assert status == "partial"
    assert "cannot be read" in reason
    assert tables["revision"].num_rows >= 1
    assert not any(t.num_rows for t in read_git(config, known_of(tables)).values())  # nothing new to tell
    path.write_bytes(data)
    healed = read_git(config, known_of(tables))
    assert status_of(healed)[0] == "full"
    assert sorted(tables[table]["id"].to_pylist() + healed[table]["id"].to_pylist()) == sorted(
        whole[table]["id"].to_pylist()
    )
    ids = tables["content"]["sha1_git"].to_pylist() + healed["content"]["sha1_git"].to_pylist()
    assert sorted(ids) == sorted(whole["content"]["sha1_git"].to_pylist())


@BACKENDS
def test_a_corrupt_pack_never_raises(repo: Any, read_git: Read, backend: str) -> None:
    repo.git("gc", "--quiet", "--prune=now")
    [pack] = (repo.path / ".git/objects/pack").glob("*.pack")
    data = bytearray(pack.read_bytes())
    pack.chmod(0o644)
    for at in (40, len(data) // 2, len(data) - 60):
        data[at : at + 6] = b"\xff\0\xff\0\xff\0"
    pack.write_bytes(data)
    tables = read_git(GitConfig((str(repo.path),), backend=backend))
    assert tables["origin_visit_status"].num_rows == 1
    assert tables["skipped_content"].num_rows >= 1


@BACKENDS
def test_a_shallow_clone_is_partial_and_says_so(
    repo: Any, read_git: Read, tmp_path: Path, backend: str
) -> None:
    repo.git("clone", "--quiet", "--depth=1", f"file://{repo.path}", str(tmp_path / "cut"))
    tables = read_git(GitConfig((str(tmp_path / "cut"),), backend=backend))
    status, [reason] = status_of(tables)
    assert status == "partial"
    assert reason.startswith("shallow: the history is cut at 1 revisions")
    assert tables["revision"]["id"].to_pylist() == [repo.git("rev-parse", "HEAD")]
    assert tables["content"].num_rows == 2


@BACKENDS
def test_a_partial_clone_is_read_without_fetching(
    repo: Any, read_git: Read, tmp_path: Path, backend: str
) -> None:
    repo.git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "lean.git"
    repo.git("clone", "--quiet", "--bare", "--filter=blob:none", f"file://{repo.path}", str(clone))
    marker = tmp_path / "ran"
    subprocess.run(
        ["git", "-C", str(clone), "config", "remote.origin.uploadpack", f"touch {marker}; git-upload-pack"],
        check=True,
    )
    tables = read_git(GitConfig((str(clone),), backend=backend))
    assert not marker.exists()
    assert tables["content"].num_rows == 0
    assert set(tables["skipped_content"]["reason"].to_pylist()) == {"missing"}
    assert tables["skipped_content"].num_rows == 6


@BACKENDS
def test_alternates_are_read_and_replacements_are_not_followed(
    repo: Any, read_git: Read, tmp_path: Path, backend: str
) -> None:
    expected = read_git(GitConfig((str(repo.path),), backend=backend))
    repo.git("clone", "--quiet", "--shared", str(repo.path), str(tmp_path / "shared"))
    shared = tmp_path / "shared"
    replaced = [repo.git("rev-parse", f"HEAD{up}") for up in ("", "~2")]
    subprocess.run(["git", "-C", str(shared), "replace", *replaced], check=True)
    (shared / ".git/info").mkdir(exist_ok=True)
    (shared / ".git/info/grafts").write_text(f"{replaced[0]}\n")
    tables = read_git(GitConfig((str(shared),), backend=backend))
    for table in ("revision", "revision_history", "content"):
        assert sorted(map(str, tables[table].to_pylist())) == sorted(map(str, expected[table].to_pylist()))


@BACKENDS
def test_a_reference_to_nothing_dangles(repo: Any, read_git: Read, backend: str) -> None:
    (repo.path / ".git/refs/heads/lost").write_text("1" * 40 + "\n")
    tables = read_git(GitConfig((str(repo.path),), backend=backend))
    branches = {r["name"]: r["target_type"] for r in tables["snapshot_branch"].to_pylist()}
    assert branches[b"refs/heads/lost"] is None
    assert branches[b"refs/heads/main"] == "revision"
    assert status_of(tables) == ("partial", [f"1 objects cannot be read: {'1' * 40}: missing"])


@BACKENDS
def test_odd_objects_keep_their_ids(repo: Any, read_git: Read, backend: str) -> None:
    blob, tree = repo.write("blob", b"x"), repo.git("rev-parse", "HEAD^{tree}")
    odd_tree = repo.write("tree", b"0100644 a\0" + bytes.fromhex(blob))
    head = f"tree {odd_tree}\nparent {repo.git('rev-parse', 'HEAD')}\n".encode()
    commits = [
        head + b"author \xe9 <a> 99999999999 +051800\ncommitter A <a> -1 -0000\nencoding latin-1\n\n\xff\n",
        head + b"author A <a> 0001 +0000\ncommitter A <a> 1 +0000\n\nm",
        f"tree {tree}\ncommitter A <a> 1 +0000\n".encode(),
    ]
    ids = [repo.write("commit", data) for data in commits]
    for number, identifier in enumerate(ids):
        (repo.path / f".git/refs/heads/odd{number}").write_text(identifier + "\n")
    tables = read_git(GitConfig((str(repo.path),), backend=backend, authors="verbatim"))
    rows = {row["id"]: row for row in tables["revision"].to_pylist()}
    assert rows[ids[0]]["raw_manifest"] is None
    assert (rows[ids[0]]["date"]["seconds"], rows[ids[0]]["date_offset"]) == (99999999999, 518 * 60)
    assert rows[ids[0]]["committer_date_raw_offset_bytes"] == b"-0000"
    assert rows[ids[1]]["raw_manifest"] == b"commit %d\0" % len(commits[1]) + commits[1]
    assert (rows[ids[2]]["author"], rows[ids[2]]["message"]) == (None, None)
    manifests = {r["id"]: r["raw_manifest"] for r in tables["directory"].to_pylist()}
    assert manifests[odd_tree].startswith(b"tree ")
    assert manifests[tree] is None


def test_no_repository_and_no_folder_are_visits_with_a_reason(
    repo: Any, read_git: Read, known_of: Callable, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    (repo.path / "inside").mkdir()
    names = ("plain", "nowhere", "repo/inside", "ext::sh -c true", "repo")
    config = GitConfig(tuple(str(tmp_path / name) for name in names))
    tables = read_git(config)
    found = {row["origin"]: row["status"] for row in tables["origin_visit_status"].to_pylist()}
    assert found == {
        "git:ext::sh -c true": "not_found",
        "git:inside": "failed",
        "git:nowhere": "not_found",
        "git:plain": "failed",
        "git:repo": "full",
    }
    assert not any(str(tmp_path) in str(table.to_pylist()) for table in tables.values())
    assert not any(table.num_rows for table in read_git(config, known_of(tables)).values())
    assert config.open().fingerprint() == config.open().fingerprint()


def test_sha256_repositories_are_refused_with_a_reason(git_folder: Callable, read_git: Read) -> None:
    repo = git_folder("new", "--object-format=sha256")
    for backend in ("git", "dulwich"):
        status, [reason] = status_of(read_git(GitConfig((str(repo.path),), backend=backend)))
        assert (status, "sha256" in reason or "not a git repository" in reason) == ("failed", True)


def test_git_that_falls_silent_is_not_waited_for(
    repo: Any, read_git: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("git")
    wrapper = tmp_path / "bin/git"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *"cat-file --batch"*) exec sleep 60;; esac\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:/usr/bin:/bin")
    started = time.monotonic()
    status, reasons = status_of(read_git(GitConfig((str(repo.path),), timeout_s=0.3)))
    assert (status, reasons) == ("failed", ["git was silent for 0.3 seconds"])
    assert time.monotonic() - started < 20


def test_closing_the_reading_ends_git(repo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    close = GitRepository.close
    monkeypatch.setattr(
        GitRepository, "close", lambda self: (closed.append(len(self._running)), close(self))[1]
    )
    rows = GitConfig((str(repo.path),)).open().read(Known(), Reading(batch_bytes=1))
    next(rows)
    rows.close()
    assert closed[-1] >= 1
