from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from stack_platform.archive.git.history import HISTORY, file_history
from stack_platform.archive.git.source import GitConfig
from stack_platform.errors import ConfigError, SchemaError, SourceError

Read = Callable[..., dict[str, pa.Table]]
PATHS = ("src/a.py", "src/b.py", "src", "README", "run.sh", "nothing", "src/a.py/below", "moved")


@pytest.fixture(scope="module")
def repo(git_folder_at: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make a history with merges, a deletion and its return, a mode change, and a file that becomes a folder."""
    repo = git_folder_at(tmp_path_factory.mktemp("history") / "repo")
    repo.commit({"src/a.py": b"1", "README": b"r", "run.sh": b"x"})
    for number in range(5):
        repo.commit({"src/a.py": b"main %d" % number, "src/b.py": b"b" if number > 2 else b"c"})
        repo.git("checkout", "--quiet", "-b", f"side{number}", "HEAD~1")
        repo.commit({f"side{number}.py": b"s", "README": b"r %d" % number})
        repo.git("checkout", "--quiet", "main")
        repo.git("merge", "--quiet", "--no-edit", f"side{number}")
    repo.commit({"src/b.py": None, "moved": b"file"})
    repo.git("update-index", "--chmod=+x", "run.sh")
    repo.git("commit", "--quiet", "--message", "executable")
    repo.commit({"moved": None, "src/b.py": b"again"})
    repo.commit({"moved/below": b"folder"})
    return repo


@pytest.fixture(scope="module")
def tables(repo: Any, read_git: Read) -> dict[str, pa.Table]:
    """Read it once."""
    return read_git(GitConfig((str(repo.path),), authors="verbatim"))


@pytest.mark.parametrize("path", PATHS)
def test_first_parents_are_those_of_git(repo: Any, tables: dict[str, pa.Table], path: str) -> None:
    found = file_history(tables, repo.git("rev-parse", "HEAD"), path)
    assert found.schema == HISTORY
    logged = repo.git("log", "--first-parent", "--format=%H", "--", path).split()
    assert found["revision_id"].to_pylist() == logged
    held = [repo.git("rev-parse", "--verify", "--quiet", f"{i}:{path}", check=False) or None for i in logged]
    assert found["content_id"].to_pylist() == held


@pytest.mark.parametrize("path", PATHS)
def test_all_parents_are_those_of_git_less_merges_of_one_side(
    repo: Any, tables: dict[str, pa.Table], path: str
) -> None:
    found = file_history(tables, "git:repo", path, first_parent=False)
    logged = repo.git("log", "--full-history", "--format=%H", "--", path).split()
    merges = set(repo.git("log", "--full-history", "--merges", "--format=%H", "--", path).split())
    shown = [
        i for i in logged if i not in merges or repo.git("diff-tree", "-c", "--no-commit-id", i, "--", path)
    ]
    assert sorted(found["revision_id"].to_pylist()) == sorted(shown)


def test_rows_tell_when_and_who(repo: Any, tables: dict[str, pa.Table]) -> None:
    [*_, first] = file_history(tables, "git:repo", b"README").to_pylist()
    root = repo.git("rev-list", "--max-parents=0", "HEAD")
    assert first["revision_id"] == root
    assert first["author"] == b"Ann Other <ann@example.org>"
    assert first["date"]["seconds"] == int(repo.git("log", "-1", "--format=%at", root))


def test_unknown_starts_and_paths_are_explained(tables: dict[str, pa.Table]) -> None:
    with pytest.raises(SourceError, match="is not in the archive"):
        file_history(tables, "1" * 40, "a")
    with pytest.raises(SourceError, match="neither a revision's id nor an origin"):
        file_history(tables, "git:other", "a")
    with pytest.raises(ConfigError, match="empty parts"):
        file_history(tables, "git:repo", "/src")
    with pytest.raises(SchemaError, match="no table 'revision'"):
        file_history({}, "1" * 40, "a")


def test_an_origin_without_a_revision_is_explained(git_folder: Callable, read_git: Read) -> None:
    tables = read_git(GitConfig((str(git_folder("void").path),)))
    with pytest.raises(SourceError, match="no revision at its head"):
        file_history(tables, "git:void", "a")
