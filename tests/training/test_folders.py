"""A folder appears whole or not at all."""

import pytest

from stack_platform.training.folders import whole_folder


class Killed(BaseException):
    """Stands for the end of the process, which no `except Exception` sees."""


def test_folder_appears_only_when_the_block_ends(tmp_path):
    target = tmp_path / "deep" / "target"
    with whole_folder(target) as fresh:
        (fresh / "a").write_text("1")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert (target / "a").read_text() == "1"


def test_killed_save_leaves_no_half_folder(tmp_path):
    with pytest.raises(Killed), whole_folder(tmp_path / "target") as fresh:
        (fresh / "a").write_text("half")
        raise Killed
    assert list(tmp_path.iterdir()) == []


def test_killed_save_leaves_the_old_folder(tmp_path):
    target = tmp_path / "target"
    with whole_folder(target) as fresh:
        (fresh / "a").write_text("old")
    with pytest.raises(Killed), whole_folder(target) as fresh:
        (fresh / "a").write_text("new")
        raise Killed
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "a").read_text() == "old"


def test_old_folder_is_replaced_with_all_its_files(tmp_path):
    target = tmp_path / "target"
    for name in ("old", "new"):
        with whole_folder(target) as fresh:
            (fresh / name).touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_old_folder_comes_back_when_the_last_rename_fails(tmp_path):
    target = tmp_path / "target"
    with whole_folder(target) as fresh:
        (fresh / "a").write_text("old")
    with pytest.raises(FileNotFoundError), whole_folder(target) as fresh:
        fresh.rmdir()
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
