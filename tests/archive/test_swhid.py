import hashlib
import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.archive.swhid import (
    Branch,
    Entry,
    Signature,
    Swhid,
    content_swhid,
    directory_id,
    origin_id,
    parse,
    release_id,
    revision_id,
    snapshot_id,
)
from stack_platform.errors import ConfigError, SourceError

EMPTY = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
HASHES = st.text("0123456789abcdef", min_size=40, max_size=40)
NAMES = st.binary(min_size=1, max_size=8).filter(lambda name: b"/" not in name and b"\0" not in name)


@pytest.fixture
def git(tmp_path):
    settings = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "Ann",
        "GIT_AUTHOR_EMAIL": "ann@example.org",
        "GIT_AUTHOR_DATE": "1700000000 +0130",
        "GIT_COMMITTER_NAME": "Bob",
        "GIT_COMMITTER_EMAIL": "bob@example.org",
        "GIT_COMMITTER_DATE": "1700000001 -0800",
    }

    def run(*arguments, data=b""):
        command = ["git", "-C", str(tmp_path), *arguments]
        environment = {**os.environ, **settings}
        return (
            subprocess.run(command, input=data, capture_output=True, check=True, env=environment)
            .stdout.decode()
            .strip()
        )

    run("init", "--quiet")
    return run


def test_ids_of_nothing_are_the_known_ones():
    assert content_swhid(b"") == f"swh:1:cnt:{EMPTY}"
    assert directory_id([]) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    assert snapshot_id({}) == "1a8893e6a86f444e8be8e7bda6cb34fb1735a00e"


def test_origin_id_is_the_sha1_of_the_url():
    assert origin_id("https://github.com/torvalds/linux") == "b63a575fe3faab7692c9f38fb09d4bb45651bb0f"


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\0\xff" * 5000])
def test_content_id_is_gits_blob_id(git, data):
    assert content_swhid(data) == "swh:1:cnt:" + git("hash-object", "--stdin", data=data)


def test_directory_id_is_gits_tree_id_also_where_a_folder_sorts_after_a_file(git):
    blob = git("hash-object", "-w", "--stdin", data=b"x")
    folder = git("mktree", data=b"100644 blob %s\tx" % blob.encode())
    listing = [
        (b"a", "dir", folder, 0o40000),
        (b"a.b", "file", blob, 0o100644),
        (b"a0", "file", blob, 0o100755),
        (b"link", "file", blob, 0o120000),
        (b"\xff", "file", blob, 0o100644),
    ]
    kinds = {"file": b"blob", "dir": b"tree"}
    lines = b"".join(b"%06o %s %s\t%s\0" % (p, kinds[t], target.encode(), n) for n, t, target, p in listing)
    assert directory_id(Entry(*row) for row in listing) == git("mktree", "-z", data=lines)


def test_revision_id_is_gits_commit_id(git):
    tree = git("mktree")
    first = git("commit-tree", tree, data=b"one\n")
    author = Signature(b"Ann <ann@example.org>", 1700000000, offset=b"+0130")
    committer = Signature(b"Bob <bob@example.org>", 1700000001, offset=b"-0800")
    assert revision_id(tree, (), author, committer, b"one\n") == first
    second = git("commit-tree", tree, "-p", first, data=b"two\n\nlines\n")
    assert revision_id(tree, [first], author, committer, b"two\n\nlines\n") == second


def test_extra_header_of_several_lines_is_continued_with_a_space(git):
    tree = git("mktree")
    author = Signature(b"Ann <a@b>", 1, offset=b"+0000")
    raw = b"tree %s\nauthor Ann <a@b> 1 +0000\ncommitter Ann <a@b> 1 +0000\ngpgsig x\n y\n\nm" % tree.encode()
    expected = git("hash-object", "-t", "commit", "--stdin", data=raw)
    assert revision_id(tree, (), author, author, b"m", [(b"gpgsig", b"x\ny")]) == expected


def test_release_id_is_gits_tag_id(git):
    blob = git("hash-object", "-w", "--stdin", data=b"x")
    raw = b"object %s\ntype blob\ntag v1\ntagger Ann <a@b> 12 +0100\n\nhello\n" % blob.encode()
    signed = Signature(b"Ann <a@b>", 12, offset=b"+0100")
    assert release_id(b"v1", blob, "content", b"hello\n", signed) == git("mktag", data=raw)


def test_release_without_author_and_message_is_a_tag_without_tagger_and_empty_line(git):
    tree = git("mktree")
    raw = b"object %s\ntype tree\ntag 1.0\n" % tree.encode()
    assert release_id(b"1.0", tree) == git("hash-object", "-t", "tag", "--literally", "--stdin", data=raw)


def test_message_that_is_empty_differs_from_no_message():
    assert release_id(b"1.0", EMPTY, message=b"") != release_id(b"1.0", EMPTY)


def test_microseconds_lose_their_trailing_zeros():
    whole = release_id(b"1", EMPTY, author=Signature(b"a", 5, 120000))
    assert whole == release_id(b"1", EMPTY, author=Signature(b"a 5.12 +0000"))


def test_snapshot_manifest_is_the_specified_bytes():
    branches = {b"b": None, b"HEAD": Branch("alias", b"a".hex()), b"a": Branch("content", EMPTY)}
    manifest = b"alias HEAD\x001:acontent a\x0020:" + bytes.fromhex(EMPTY) + b"dangling b\x000:"
    assert snapshot_id(branches) == hashlib.sha1(b"snapshot %d\0" % len(manifest) + manifest).hexdigest()


def test_unknown_target_types_are_refused():
    with pytest.raises(SourceError, match="'folder'"):
        release_id(b"1", EMPTY, "folder")
    with pytest.raises(SourceError, match="b'x' points to a 'tag'"):
        snapshot_id({b"x": Branch("tag", EMPTY)})


@pytest.mark.parametrize("name", [b"", b"a/b", b"a\0"])
def test_impossible_entry_name_is_refused(name):
    with pytest.raises(SourceError, match="cannot be a name"):
        directory_id([Entry(name, "file", EMPTY, 0o100644)])


def test_two_entries_of_one_name_are_refused():
    with pytest.raises(SourceError, match="two entries named b'a'"):
        directory_id([Entry(b"a", "file", EMPTY, 0o100644), Entry(b"a", "dir", EMPTY, 0o40000)])


@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(["file", "dir"]), HASHES)), st.randoms())
def test_directory_id_does_not_depend_on_the_order_of_entries(entries, random):
    rows = [Entry(name, kind, target, 0o100644) for name, (kind, target) in entries.items()]
    shuffled = random.sample(rows, len(rows))
    assert directory_id(rows) == directory_id(shuffled)


cores = st.builds(Swhid, st.sampled_from(["cnt", "dir", "rev", "rel", "snp"]), HASHES)
paths = st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
ranges = st.tuples(st.integers(1, 99), st.none() | st.integers(99, 200))
swhids = st.builds(
    Swhid,
    st.sampled_from(["cnt", "dir", "rev", "rel", "snp"]),
    HASHES,
    origin=st.none() | st.text(max_size=12),
    visit=st.none() | st.builds(Swhid, st.just("snp"), HASHES),
    anchor=st.none() | cores.filter(lambda core: core.type != "cnt"),
    path=st.none() | paths,
    lines=st.none() | ranges,
)


@given(swhids)
def test_every_swhid_survives_its_text(swhid):
    assert parse(str(swhid)) == swhid
    assert str(parse(str(swhid))) == str(swhid)


def test_semicolon_and_percent_are_escaped_in_origin_and_path():
    swhid = Swhid("cnt", EMPTY, origin="https://example.org/a;b%20c", path="/x;y%z.py")
    assert str(swhid) == f"swh:1:cnt:{EMPTY};origin=https://example.org/a%3Bb%2520c;path=/x%3By%25z.py"


def test_qualifiers_are_written_in_the_order_of_the_specification():
    text = f"swh:1:cnt:{EMPTY};lines=1-2;path=/a;anchor=swh:1:rev:{EMPTY};visit=swh:1:snp:{EMPTY};origin=o"
    assert list(parse(text).qualifiers) == ["origin", "visit", "anchor", "path", "lines"]
    assert parse(text).core == f"swh:1:cnt:{EMPTY}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a SWHID; write swh:1:"),
        ("e69de29b", "is not a SWHID"),
        (f"SWH:1:cnt:{EMPTY}", "is not a SWHID"),
        (f"swh:2:cnt:{EMPTY}", "version '2'"),
        (f"swh:1:blob:{EMPTY}", "type 'blob' is unknown; write one of cnt, dir"),
        (f"swh:1:ori:{EMPTY}", "type 'ori'"),
        (f"swh:1:cnt:{EMPTY[:-1]}", "40 lowercase hexadecimal digits"),
        (f"swh:1:cnt:{EMPTY.upper()}", "40 lowercase hexadecimal digits"),
        (f"swh:1:cnt:{EMPTY}\n", "40 lowercase hexadecimal digits"),
        (f"swh:1:cnt:{EMPTY};", "'' in .* is no qualifier"),
        (f"swh:1:cnt:{EMPTY};branch=x", "'branch=x' in .* is no qualifier"),
        (f"swh:1:cnt:{EMPTY};path", "'path' in .* is no qualifier"),
        (f"swh:1:cnt:{EMPTY};path=/a;path=/b", "'path' twice"),
        (f"swh:1:cnt:{EMPTY};lines=a", "lines='a'"),
        (f"swh:1:cnt:{EMPTY};lines=0", "ascend from 1"),
        (f"swh:1:cnt:{EMPTY};lines=9-3", "ascend from 1"),
        (f"swh:1:cnt:{EMPTY};visit=swh:1:rev:{EMPTY}", "points to a revision; it takes snp"),
        (f"swh:1:cnt:{EMPTY};anchor=swh:1:cnt:{EMPTY}", "points to a content; it takes dir or rev"),
        (f"swh:1:cnt:{EMPTY};visit=HEAD", "'HEAD' is not a SWHID"),
    ],
)
def test_bad_text_is_refused_with_the_part_that_is_wrong(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_qualifier_with_qualifiers_of_its_own_is_refused():
    with pytest.raises(ConfigError, match="qualifiers of its own"):
        Swhid("cnt", EMPTY, visit=Swhid("snp", EMPTY, origin="x"))
