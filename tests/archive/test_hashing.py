import hashlib
from pathlib import Path

import pytest

from stack_platform.archive.hashing import hash_bytes, hash_file
from stack_platform.errors import SourceError


def test_hashes_of_a_content_are_the_known_ones():
    hashes = hash_bytes(b"")
    assert hashes.sha1 == "da39a3ee5e6b4b0d3255bfef95601890afd80709"
    assert hashes.sha1_git == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert hashes.sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hashes.blake2s256 == "69217a3079908094e11121d042354a7c1f55b6482ca1a51e1b250dfd1ed0eef9"
    assert hashes.length == 0


def test_blake2s_does_not_depend_on_who_computes_it():
    assert hash_bytes(b"abc").blake2s256 == hashlib.blake2s(b"abc").hexdigest()


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 1 << 20])
def test_stream_gives_the_hashes_of_the_whole(tmp_path, chunk_bytes):
    data = bytes(range(256)) * 5
    (tmp_path / "file").write_bytes(data)
    assert hash_file(tmp_path / "file", chunk_bytes) == hash_bytes(data)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a file that is longer than it says")
def test_file_that_changes_its_length_is_refused():
    with pytest.raises(SourceError, match="changed while it was read: 0 bytes became"):
        hash_file("/proc/version")
