import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stack_platform.archive.files import walk_files
from stack_platform.archive.git.source import GitConfig
from stack_platform.archive.git.walk import extension
from stack_platform.archive.sources import Known, Reading
from stack_platform.archive.swhid import Branch, Entry, directory_id, snapshot_id
from stack_platform.errors import ConfigError
from stack_platform.schemas import ARCHIVE

Folder = Any
Read = Callable[..., dict[str, pa.Table]]
EMPTY_SNAPSHOT = "1a8893e6a86f444e8be8e7bda6cb34fb1735a00e"
DATE = datetime(2024, 5, 1, tzinfo=UTC)


def rows_of(tables: dict[str, pa.Table]) -> dict[str, list[str]]:
    return {name: sorted(map(str, table.to_pylist())) for name, table in tables.items()}


def branches_of(tables: dict[str, pa.Table]) -> dict[bytes, tuple[str | None, str | None]]:
    return {r["name"]: (r["target_type"], r["target"]) for r in tables["snapshot_branch"].to_pylist()}


def status_of(tables: dict[str, pa.Table]) -> str:
    [row] = tables["origin_visit_status"].to_pylist()
    return str(row["status"])


@pytest.fixture(scope="module")
def made(git_folder_at: Callable[..., Folder], tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Make a history with a merge, a deletion, tags of all kinds, a link, a submodule and an odd name."""
    repo = git_folder_at(tmp_path_factory.mktemp("made") / "repo")
    repo.commit({"src/a.py": b"print(1)\n", "README.md": b"# r\n", "bin/tool": b"\0binary"}, "first")
    repo.git("checkout", "--quiet", "-b", "side")
    (repo.path / "link").symlink_to("src/a.py")
    (repo.path / "n\udcffame.py").write_bytes(b"odd = 1\n")
    repo.commit({"src/b.py": b"print(2)\n"}, "on a side")
    repo.git("checkout", "--quiet", "main")
    repo.commit({"src/a.py": b"print(3)\n", "README.md": None}, "on main")
    repo.git("merge", "--quiet", "--no-edit", "side")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{'5' * 40},module")
    repo.git("commit", "--quiet", "--message", "a submodule")
    repo.git("tag", "light")
    repo.git("tag", "--annotate", "--message", "one", "v1")
    repo.git("tag", "--annotate", "--message", "tag of a tag", "v2", "v1")
    repo.git("tag", "--annotate", "--message", "of a tree", "tree", "HEAD^{tree}")
    repo.git("tag", "--annotate", "--message", "of a blob", "blob", "HEAD:src/a.py")
    repo.git("update-ref", "refs/pull/1/merge", "HEAD")
    return repo


@pytest.fixture
def repo(made: Folder, tmp_path: Path) -> Folder:
    """Give a copy of that history."""
    return made.copy(tmp_path / "repo")


def test_all_objects_of_git_are_rows_with_its_ids(repo: Folder, read_git: Read) -> None:
    tables = read_git(GitConfig((str(repo.path),)), visit_date=DATE)
    listed = repo.git("cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)")
    kinds = {"blob": "content", "tree": "directory", "commit": "revision", "tag": "release"}
    for kind, table in kinds.items():
        column = "sha1_git" if table == "content" else "id"
        expected = {line.split()[1] for line in listed.splitlines() if line.startswith(f"{kind} ")}
        assert expected, kind
        assert sorted(tables[table][column].to_pylist()) == sorted(expected)
    assert tables["skipped_content"].num_rows == 0
    assert tables["origin"]["url"].to_pylist() == ["git:repo"]
    assert tables["origin_visit"].to_pylist() == [
        {"origin": "git:repo", "visit": 1, "date": {"seconds": 1714521600, "microseconds": 0}, "type": "git"}
    ]


def test_the_snapshot_is_the_one_of_software_heritages_loader(repo: Folder, read_git: Read) -> None:
    tables = read_git(GitConfig((str(repo.path),)))
    branches = branches_of(tables)
    head = repo.git("rev-parse", "HEAD")
    assert branches[b"HEAD"] == ("alias", b"refs/heads/main".hex())
    assert branches[b"refs/heads/main"] == ("revision", head)
    assert branches[b"refs/tags/light"] == ("revision", head)
    assert branches[b"refs/tags/v2"] == ("release", repo.git("rev-parse", "v2"))
    assert b"refs/pull/1/merge" not in branches
    stated = snapshot_id({name: Branch(kind, target) for name, (kind, target) in branches.items()})
    assert tables["snapshot"]["id"].to_pylist() == [stated]
    assert tables["origin_visit_status"]["snapshot"].to_pylist() == [stated]


def test_releases_name_what_they_tag(repo: Folder, read_git: Read) -> None:
    tables = read_git(GitConfig((str(repo.path),), authors="verbatim"))
    releases = {row["name"]: row for row in tables["release"].to_pylist()}
    assert {name: row["target_type"] for name, row in releases.items()} == {
        b"v1": "revision",
        b"v2": "release",
        b"tree": "directory",
        b"blob": "content",
    }
    assert releases[b"v1"]["author"] == b"Ann Other <ann@example.org>"
    assert releases[b"v1"]["date_offset"] == 120
    assert releases[b"v1"]["message"] == b"one\n"


def test_parents_and_entries_keep_their_order(repo: Folder, read_git: Read) -> None:
    tables = read_git(GitConfig((str(repo.path),)))
    head = repo.git("rev-parse", "HEAD^")
    parents = [
        (r["parent_id"], r["parent_rank"]) for r in tables["revision_history"].to_pylist() if r["id"] == head
    ]
    assert parents == [(repo.git("rev-parse", f"{head}^{n}"), n - 1) for n in (1, 2)]
    root = repo.git("rev-parse", "HEAD^{tree}")
    entries = [r for r in tables["directory_entry"].to_pylist() if r["directory_id"] == root]
    assert [(r["name"], r["type"], r["perms"]) for r in entries] == [
        (b"bin", "dir", 0o40000),
        (b"link", "file", 0o120000),
        (b"module", "rev", 0o160000),
        (b"n\xffame.py", "file", 0o100644),
        (b"src", "dir", 0o40000),
    ]
    assert directory_id(Entry(r["name"], r["type"], r["target"], r["perms"]) for r in entries) == root


def test_binary_contents_are_held_only_on_request(repo: Folder, read_git: Read) -> None:
    config = GitConfig((str(repo.path),))
    [null] = [r["length"] for r in read_git(config)["content"].to_pylist() if r["data"] is None]
    assert null == 7
    held = read_git(dataclasses.replace(config, hold_binary=True))
    assert held["content"]["data"].null_count == 0


def test_large_contents_are_hashed_and_reported(repo: Folder, read_git: Read) -> None:
    for backend in ("git", "dulwich"):
        config = GitConfig((str(repo.path),), max_content_bytes=8, backend=backend)
        tables = read_git(config)
        [row] = [r for r in tables["skipped_content"].to_pylist() if r["path"] == b"src/b.py"]
        assert row["reason"] == "too large: 9 bytes, the limit is 8"
        assert row["sha1_git"] == repo.git("rev-parse", "HEAD:src/b.py")
        assert (len(row["sha256"]), row["origin"], row["visit"]) == (64, "git:repo", 1)
        assert status_of(tables) == "full"


def test_both_back_ends_give_the_same_rows(repo: Folder, read_git: Read) -> None:
    repo.git("gc", "--quiet", "--prune=now")
    repo.commit({"late.py": b"loose = 1\n"})
    read = [
        read_git(GitConfig((str(repo.path),), backend=name), visit_date=DATE) for name in ("git", "dulwich")
    ]
    assert rows_of(read[0]) == rows_of(read[1])
    assert read[0]["content"].equals(read[1]["content"])


def test_threads_and_batches_change_nothing(repo: Folder, read_git: Read) -> None:
    config = GitConfig((str(repo.path),))
    one, many = (read_git(config, threads=n, batch_bytes=size) for n, size in ((1, 1), (4, 1 << 20)))
    for table in ARCHIVE:
        assert one[table].equals(many[table]), table


def test_contents_of_an_extension_lie_together(repo: Folder, read_git: Read) -> None:
    tables = read_git(GitConfig((str(repo.path),)))
    names = {r["target"]: r["name"] for r in tables["directory_entry"].to_pylist()}
    endings = [extension(names[i]) for i in tables["content"]["sha1_git"].to_pylist()]
    blocks = [end for at, end in enumerate(endings) if at == 0 or endings[at - 1] != end]
    assert len(blocks) == len(set(blocks))


def test_an_unchanged_repository_gives_nothing(repo: Folder, read_git: Read, known_of: Callable) -> None:
    config = GitConfig((str(repo.path),))
    before = config.open().fingerprint()
    first = read_git(config)
    assert config.open().fingerprint() == before
    assert not any(table.num_rows for table in read_git(config, known_of(first)).values())


@pytest.mark.parametrize("backend", ["git", "dulwich"])
def test_a_new_visit_costs_its_new_objects(
    repo: Folder, read_git: Read, known_of: Callable, backend: str
) -> None:
    config = GitConfig((str(repo.path),), backend=backend)
    before = config.open().fingerprint()
    first = read_git(config)
    head = repo.commit({"src/new.py": b"new = 1\n"})
    assert config.open().fingerprint() != before
    second = read_git(config, known_of(first))
    assert second["revision"]["id"].to_pylist() == [head]
    assert second["content"].num_rows == 1
    assert second["directory"].num_rows == 2
    assert second["origin"].num_rows == 0
    assert second["origin_visit"]["visit"].to_pylist() == [2]
    assert not any(t.num_rows for t in read_git(config, known_of(first, second)).values())
    repo.git("reset", "--quiet", "--hard", "HEAD~1")
    third = read_git(config, known_of(first, second))
    assert {name: t.num_rows for name, t in third.items() if t.num_rows} == {
        "origin_visit": 1,
        "origin_visit_status": 1,
    }


def test_a_fork_costs_its_own_objects(repo: Folder, read_git: Read, tmp_path: Path) -> None:
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(tmp_path / "fork.git"))
    tables = read_git(GitConfig((str(repo.path), str(tmp_path / "fork.git"))))
    assert sorted(tables["origin"]["url"].to_pylist()) == ["git:fork.git", "git:repo"]
    for table in ("content", "directory", "revision", "release", "snapshot"):
        column = tables[table][0].to_pylist() if table != "content" else tables[table]["sha1_git"].to_pylist()
        assert len(column) == len(set(column)), table


def test_the_walk_over_files_reads_what_git_gave(repo: Folder, read_git: Read) -> None:
    walked = walk_files(read_git(GitConfig((str(repo.path),)), visit_date=DATE)).to_pylist()
    found = {row["path"]: row["skip_reason"] for row in walked}
    assert found["src/b.py"] is None
    assert (found["link"], found["module"]) == ("symbolic link", "submodule")
    assert {row["revision_id"] for row in walked} == {repo.git("rev-parse", "HEAD")}


def test_the_origin_is_the_remote_without_credentials(repo: Folder, read_git: Read) -> None:
    repo.git("remote", "add", "origin", "https://ann:secret@example.org/a/b?token=1")
    for backend in ("git", "dulwich"):
        config = GitConfig((str(repo.path),), backend=backend)
        assert read_git(config)["origin"]["url"].to_pylist() == ["https://example.org/a/b"]
    named = GitConfig((str(repo.path),), origins={str(repo.path): "https://example.org/other"})
    assert read_git(named)["origin"]["url"].to_pylist() == ["https://example.org/other"]
    repo.git("remote", "set-url", "origin", "/home/somebody/repo")
    assert read_git(GitConfig((str(repo.path),)))["origin"]["url"].to_pylist() == ["git:repo"]


@pytest.mark.parametrize("backend", ["git", "dulwich"])
def test_bare_repositories_and_linked_working_trees_are_read(
    repo: Folder, read_git: Read, tmp_path: Path, backend: str
) -> None:
    repo.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"), "HEAD~1")
    config = GitConfig((str(tmp_path / "tree"), str(repo.path / ".git")), backend=backend)
    tables = read_git(config)
    assert tables["origin"]["url"].to_pylist() == ["git:repo", "git:tree"]
    heads = {r["target"] for r in tables["snapshot_branch"].to_pylist() if r["name"] == b"HEAD"}
    assert heads == {b"refs/heads/main".hex(), repo.git("rev-parse", "HEAD~1")}


@pytest.mark.parametrize("backend", ["git", "dulwich"])
def test_empty_unborn_and_dangling(git_folder: Callable, read_git: Read, backend: str) -> None:
    empty = git_folder("empty")
    tables = read_git(GitConfig((str(empty.path),), backend=backend))
    assert tables["snapshot"]["id"].to_pylist() == [EMPTY_SNAPSHOT]
    assert (status_of(tables), tables["snapshot_branch"].num_rows) == ("full", 0)
    unborn = git_folder("unborn")
    head = unborn.commit({"a": b"a"})
    unborn.git("symbolic-ref", "HEAD", "refs/heads/nowhere")
    tables = read_git(GitConfig((str(unborn.path),), backend=backend))
    assert branches_of(tables) == {
        b"HEAD": ("alias", b"refs/heads/nowhere".hex()),
        b"refs/heads/main": ("revision", head),
        b"refs/heads/nowhere": (None, None),
    }
    alias = Branch("alias", b"refs/heads/nowhere".hex())
    branches = {b"HEAD": alias, b"refs/heads/main": Branch("revision", head), b"refs/heads/nowhere": None}
    assert tables["snapshot"]["id"].to_pylist() == [snapshot_id(branches)]


def test_references_are_chosen_by_patterns(repo: Folder, read_git: Read) -> None:
    config = GitConfig((str(repo.path),), include=("refs/heads/*",), exclude=("refs/heads/s*",))
    assert set(branches_of(read_git(config))) == {b"HEAD", b"refs/heads/main"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repositories": ()}, "repositories is empty"),
        ({"repositories": ("a", "a")}, "twice"),
        ({"origins": {"b": "x"}}, "not in repositories"),
        ({"authors": "plain"}, "authors is 'plain'; write one of sha256, verbatim"),
        ({"backend": "svn"}, "backend is 'svn'"),
        ({"max_content_bytes": 0}, "max_content_bytes is 0"),
        ({"timeout_s": 0}, "timeout_s 0"),
    ],
)
def test_settings_that_nobody_can_use_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GitConfig(**{"repositories": ("a",), **settings})


def test_two_repositories_of_one_origin_are_refused(git_folder: Callable) -> None:
    paths = tuple(str(git_folder(name).path) for name in ("a/repo", "b/repo"))
    with pytest.raises(ConfigError, match="the same origin 'git:repo'"):
        GitConfig(paths).open().fingerprint()


def test_a_date_without_a_zone_is_refused(repo: Folder) -> None:
    reading = Reading(visit_date=datetime(2024, 1, 1))  # noqa: DTZ001
    with pytest.raises(ConfigError, match="no time zone"):
        next(GitConfig((str(repo.path),)).open().read(Known(), reading))
