import os
import subprocess

import pytest

from stack_platform.archive.folders import FoldersConfig
from stack_platform.archive.sources import Known, Reading
from stack_platform.archive.trees import DIRECTORY, LINK
from stack_platform.errors import ConfigError, SourceError


def visits(config):
    with config.visits(config.origins()) as shown:
        return shown


def files(config):
    (visit,) = visits(config)
    assert visit.status == "full"
    return {file.path: file for file in visit.releases[0].files}


def rows(config):
    read = {}
    for table, batch in config.open().read(Known(), Reading()):
        read.setdefault(table, []).extend(batch.to_pylist())
    return read


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "project"
    (place / "src").mkdir(parents=True)
    (place / "src" / "a.py").write_bytes(b"1")
    (place / "run.sh").write_bytes(b"2")
    (place / "run.sh").chmod(0o755)
    (place / "link").symlink_to("src")
    return place


def test_folder_is_an_origin_named_after_it_and_no_machine_path_gets_out(folder):
    made = rows(FoldersConfig((str(folder),)))
    assert [row["url"] for row in made["origin"]] == ["dir:project"]
    assert str(folder.parent) not in repr(made)


def test_root_is_the_tree_that_git_writes(folder):
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*arguments):
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, check=True, env=environment, text=True
        ).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    (branch,) = rows(FoldersConfig((str(folder),)))["snapshot_branch"]
    assert (branch["name"], branch["target_type"], branch["target"]) == (
        b"HEAD",
        "directory",
        git("write-tree"),
    )


def test_links_are_kept_and_never_followed(folder, tmp_path):
    (folder / "out").symlink_to(tmp_path)
    (folder / "gone").symlink_to("nowhere")
    found = files(FoldersConfig((str(folder),)))
    assert {path for path, file in found.items() if file.perms == LINK} == {b"link", b"out", b"gone"}
    assert b"link/a.py" not in found


def test_version_control_is_left_out_at_any_depth(folder):
    for name in (".git", ".hg", "src/.svn"):
        (folder / name).mkdir()
        (folder / name / "x").write_bytes(b"")
    (folder / "src" / ".git").write_bytes(b"gitdir: elsewhere\n")
    assert set(files(FoldersConfig((str(folder),)))) == {b"src/a.py", b"run.sh", b"link"}


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*.py", {b"run.sh", b"link", b"src"}),
        ("src", {b"run.sh", b"link"}),
        ("src/", {b"run.sh", b"link"}),
        ("src/*.py", {b"run.sh", b"link", b"src"}),
        ("*/run.sh", {b"src/a.py", b"run.sh", b"link"}),
        ("[lr]*", {b"src/a.py"}),
    ],
)
def test_patterns_exclude_names_and_paths(folder, pattern, left):
    assert set(files(FoldersConfig((str(folder),), exclude=(pattern,)))) == left


def test_folder_without_entries_is_a_directory(folder):
    (folder / "empty").mkdir()
    assert files(FoldersConfig((str(folder),)))[b"empty"].perms == DIRECTORY
    assert "4b825dc642cb6eb9a060e54bf8d69288fbee4904" in {
        row["target"] for row in rows(FoldersConfig((str(folder),)))["directory_entry"]
    }


def test_pipes_and_names_of_any_bytes_are_listed(folder):
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"\xff\n.py")).write_bytes(b"3")
    found = files(FoldersConfig((str(folder),)))
    assert found[b"pipe"].problem == "not a regular file"
    assert found[b"\xff\n.py"].problem == ""
    (skipped,) = rows(FoldersConfig((str(folder),)))["skipped_content"]
    assert (skipped["path"], skipped["reason"]) == (b"pipe", "not a regular file")


def test_folder_that_cannot_be_read_is_reported(folder, monkeypatch):
    listed = os.scandir

    def refuse(path):
        if path.endswith(b"/src/"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = files(FoldersConfig((str(folder),)))
    assert found[b"src"].problem == "unreadable: Permission denied"
    assert b"src/a.py" not in found
    monkeypatch.setattr(
        os, "scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    (visit,) = visits(FoldersConfig((str(folder),)))
    assert (visit.status, visit.problem) == ("failed", "unreadable: Permission denied")


def test_missing_folder_is_not_found_beside_others_and_an_error_alone(folder, tmp_path):
    missing = str(tmp_path / "missing")
    shown = visits(FoldersConfig((missing, str(folder))))
    assert [(visit.origin, visit.status) for visit in shown] == [
        ("dir:missing", "not_found"),
        ("dir:project", "full"),
    ]
    with pytest.raises(SourceError, match=f"there is no folder '{missing}'"):
        FoldersConfig((missing,)).origins()


def test_urls_name_the_origins(folder):
    shown = visits(FoldersConfig((str(folder),), urls=("https://example.org/p",)))
    assert [visit.origin for visit in shown] == ["https://example.org/p"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": ()}, "paths names no folder"),
        ({"paths": ("/",)}, "has no name to make a URL of"),
        ({"paths": ("/a/b", "/c/b")}, "two folders would be the origin 'dir:b'"),
        ({"paths": ("/a", "/b"), "urls": ("x",)}, "urls has 1 entries for 2 paths"),
        ({"paths": ("/a",), "max_content_bytes": 0}, "max_content_bytes is 0"),
    ],
)
def test_unusable_setting_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        FoldersConfig(**settings)
