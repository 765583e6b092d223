import os

from stack_platform.archive.trees import EXECUTABLE, FILE, LINK, list_files


def test_files_come_ordered_by_path_with_git_permissions(tmp_path):
    (tmp_path / "b").write_bytes(b"12")
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "a").chmod(0o700)
    (tmp_path / "c").symlink_to("nowhere")
    files = list_files(str(tmp_path), [b"c", b"b", b"a", b"b"])
    assert [(file.path, file.perms, file.length) for file in files] == [
        (b"a", EXECUTABLE, 1),
        (b"b", FILE, 2),
        (b"c", LINK, 7),
    ]


def test_path_behind_a_linked_folder_is_reported_and_the_link_kept(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(outside)
    link, behind = list_files(str(root), [b"linked/secret"])
    assert (link.path, link.perms, link.problem) == (b"linked", LINK, "")
    assert (behind.path, behind.problem) == (b"linked/secret", "behind the symbolic link linked")


def test_what_is_gone_or_no_file_is_reported(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    paths = [b"gone", b"file/below", b"folder", b"pipe", b"n" * 300, b"nul\0"]
    problems = {file.path: file.problem for file in list_files(str(tmp_path), paths)}
    assert problems[b"gone"] == problems[b"file/below"] == "missing"
    assert problems[b"folder"] == problems[b"pipe"] == "not a regular file"
    assert problems[b"n" * 300] == "unreadable: File name too long"
    assert problems[b"nul\0"] == "unreadable: embedded null byte"


def test_very_deep_path_is_no_problem(tmp_path):
    (file,) = list_files(str(tmp_path), [b"a/" * 3000 + b"b"])
    assert file.problem


def test_name_that_is_not_utf8_is_kept(tmp_path):
    (tmp_path / os.fsdecode(b"\xe9.py")).write_bytes(b"1")
    (file,) = list_files(str(tmp_path), [b"\xe9.py"])
    assert (file.path, file.length, file.problem) == (b"\xe9.py", 1, "")
