import os

import pytest

from stack_platform.archive.blobs import Located, is_binary, read_blob, read_in_order
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.trees import LINK, list_files


def locate(folder, file):
    return Located(0, 0, str(folder / os.fsdecode(file.path)), file)


@pytest.fixture
def located(tmp_path):
    for number in range(600):
        (tmp_path / f"{number:03}").write_bytes(b"%d" % number * (number % 50))
    files = list_files(str(tmp_path), [b"%03d" % number for number in range(600)])
    return [locate(tmp_path, file) for file in files]


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_files_and_the_long_ones_last(located, threads):
    short = [item for item in located if item.file.length <= 100]
    long = [item for item in located if item.file.length > 100]
    blobs = [blob for group in read_in_order(short, long, (100, True), threads) for blob in group]
    assert [blob.located for blob in blobs] == short + long
    assert all(blob.data is None and blob.problem.startswith("too large") for blob in blobs[len(short) :])


def test_reader_can_be_left_early(located):
    reader = read_in_order(located, [], (1000, True), 2)
    next(reader)
    reader.close()


def test_file_that_grew_beyond_the_limit_is_not_held(located):
    blob = read_blob(located[5]._replace(file=located[5].file._replace(length=0)), 4, True)
    assert (blob.data, blob.problem) == (None, "too large: 5 bytes, the limit is 4")
    assert blob.hashes == hash_bytes(b"55555")


def test_text_of_a_link_is_not_tidied(tmp_path):
    (tmp_path / "link").symlink_to(".//somewhere/")
    (file,) = list_files(str(tmp_path), [b"link"])
    assert read_blob(locate(tmp_path, file), 100, False).data == b".//somewhere/"


def test_file_that_became_a_link_or_a_pipe_is_neither_followed_nor_waited_for(tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "a").write_bytes(b"1")
    (file,) = list_files(str(tmp_path), [b"a"])
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to("secret")
    assert read_blob(locate(tmp_path, file), 100, True).problem.startswith("unreadable")
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    assert read_blob(locate(tmp_path, file), 100, True).data in (b"", None)


def test_link_that_became_a_file_is_reported(located):
    file = located[1].file._replace(perms=LINK)
    assert read_blob(located[1]._replace(file=file), 100, False).problem == "unreadable: Invalid argument"


def test_nul_in_the_first_8000_bytes_means_binary():
    assert is_binary(b"a" * 7999 + b"\0")
    assert not is_binary(b"a" * 8000 + b"\0")
