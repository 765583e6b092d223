import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.archive.git.objects import (
    TARGETS,
    check_id,
    digest,
    offset_minutes,
    parse_commit,
    parse_headers,
    parse_signature,
    parse_tag,
    parse_tree,
    verbatim,
)
from stack_platform.archive.swhid import (
    Entry,
    Signature,
    directory_id,
    object_id,
    release_id,
    revision_id,
)
from stack_platform.errors import SourceError

TREE, PARENT = "4b825dc642cb6eb9a060e54bf8d69288fbee4904", "1" * 40
PERSON = b"author Ann <a@b> 1 +0000\ncommitter Ann <a@b> 2 -0530\n"
NAMES = st.binary(max_size=12).map(lambda b: b.replace(b"\n", b" "))
LINES = st.lists(
    st.one_of(
        st.sampled_from([b"tree " + TREE.encode(), b"parent " + PARENT.encode(), b"object " + PARENT.encode()]),
        st.sampled_from([b"type commit", b"type tree", b"tag v1", b"encoding latin-1", b"gpgsig a\n b\n ", b"x"]),
        st.sampled_from([b" continued", b"", b"author A <a> -1 +051800", b"committer A <a> 01 +0000", b"tagger A"]),
        st.builds(lambda key, name: key + b" " + name, st.sampled_from([b"author", b"tagger", b"note"]), NAMES),
    ),
    max_size=9,
)  # fmt: skip
OBJECTS = st.one_of(st.binary(max_size=60), LINES.map(b"\n".join), LINES.map(lambda x: b"\n".join(x) + b"\n"))


def rebuilt_commit(identifier: str, data: bytes) -> str:
    """Give the id of a commit from its rows alone."""
    commit = parse_commit(identifier, data, verbatim)
    row = commit.revision
    if row[12] is not None:
        return hashlib.sha1(row[12]).hexdigest()
    people = []
    for name, at in ((row[2], 3), (row[6], 7)):
        seconds = (row[at] or {}).get("seconds")
        people.append(None if name is None else Signature(name, seconds, 0, row[at + 2] or b""))
    return revision_id(row[10], commit.parents, *people, row[1], commit.extra_headers)


@given(OBJECTS)
def test_every_commit_can_be_rebuilt_from_its_rows(data: bytes) -> None:
    identifier = object_id(b"commit", data)
    assert rebuilt_commit(identifier, data) == identifier


@given(OBJECTS)
def test_every_tag_can_be_rebuilt_from_its_row(data: bytes) -> None:
    identifier = object_id(b"tag", data)
    row = parse_tag(identifier, data, verbatim).release
    if row[9] is not None:
        assert hashlib.sha1(row[9]).hexdigest() == identifier
    else:
        author = (
            None if row[5] is None else Signature(row[5], (row[6] or {}).get("seconds"), 0, row[8] or b"")
        )
        assert release_id(row[1], row[3], row[4], row[2], author) == identifier


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([b"100644", b"100664", b"40000", b"040000", b"120000", b"160000", b"0", b"40755", b"9"]),
        st.one_of(st.sampled_from([b"a", b"a.b", b"a/b", b"b", b"\xff"]), st.binary(max_size=3)),
        st.binary(min_size=20, max_size=20),
    ),
    max_size=6,
)  # fmt: skip


@given(ENTRIES, st.booleans(), st.binary(max_size=4))
def test_every_tree_can_be_rebuilt_from_its_rows(
    entries: list[tuple[bytes, bytes, bytes]], ordered: bool, rest: bytes
) -> None:
    if ordered:
        entries = sorted(entries, key=lambda e: e[1] + b"/" * (e[0] == b"40000"))
    data = b"".join(mode + b" " + name + b"\0" + target for mode, name, target in entries) + rest
    tree = parse_tree(data)
    identifier = object_id(b"tree", data)
    if tree.raw_manifest is not None:
        assert hashlib.sha1(tree.raw_manifest).hexdigest() == identifier
    else:
        rows = zip(tree.names, tree.types, tree.targets, tree.perms, strict=True)
        assert directory_id(Entry(*row) for row in rows) == identifier


def test_a_canonical_tree_needs_no_raw_manifest_and_keeps_odd_modes() -> None:
    data = b"100664 a.c\0" + b"1" * 20 + b"40755 d\0" + b"2" * 20 + b"160000 m\0" + b"3" * 20
    tree = parse_tree(data)
    assert tree.raw_manifest is None
    assert (tree.types, tree.perms) == (("file", "dir", "rev"), (0o100664, 0o40755, 0o160000))
    assert parse_tree(b"040000 d\0" + b"2" * 20).raw_manifest is not None


def test_a_truncated_tree_gives_the_entries_before_the_cut() -> None:
    data = b"100644 a\0" + b"1" * 20 + b"100644 b\0" + b"2" * 19
    tree = parse_tree(data)
    assert tree.names == (b"a",)
    assert tree.raw_manifest == b"tree %d\0" % len(data) + data


def test_headers_of_a_commit_keep_their_order_and_their_lines() -> None:
    signed = b"gpgsig -----BEGIN\n \n line\n -----END\n"
    head = b"tree " + TREE.encode() + b"\nparent " + PARENT.encode() + b"\n" + PERSON
    data = head + b"encoding latin-1\n" + signed + b"\nm\xe9ssage"
    commit = parse_commit(object_id(b"commit", data), data, verbatim)
    assert commit.extra_headers == ((b"encoding", b"latin-1"), (b"gpgsig", b"-----BEGIN\n\nline\n-----END"))
    assert commit.revision[-1] is None
    assert commit.revision[1] == b"m\xe9ssage"
    assert commit.revision[6:10] == (b"Ann <a@b>", {"seconds": 2, "microseconds": 0}, -330, b"-0530")
    assert (commit.parents, commit.directory) == ((PARENT,), TREE)


def test_people_are_digests_unless_they_are_asked_for() -> None:
    data = b"tree " + TREE.encode() + b"\n" + PERSON + b"\nm"
    row = parse_commit(object_id(b"commit", data), data, digest).revision
    assert row[2] == hashlib.sha256(b"Ann <a@b>").digest()
    assert row[-1] is None


@pytest.mark.parametrize(
    ("value", "seconds", "offset"),
    [
        (b"A <a> 0 +0000", 0, b"+0000"),
        (b"A <a> -62135596800 +0000", -62135596800, b"+0000"),  # year 1
        (b"A <a> 253402300799 -0000", 253402300799, b"-0000"),  # year 9999
        (b"A <a> 9223372036854775807 +051800", 9223372036854775807, b"+051800"),
        (b"A <a> 9223372036854775808 +0000", None, b"+0000"),
        (b"A <a> 12", 12, b""),
        (b"A <a>", None, b"+0000"),
        (b"A a 12 +0100", 12, b"+0100"),
        (b"", None, b"+0000"),
    ],
)
def test_dates_travel_as_numbers(value: bytes, seconds: int | None, offset: bytes) -> None:
    signature = parse_signature(value)
    assert (signature.seconds, signature.offset) == (seconds, offset)


def test_the_name_ends_at_the_last_angle_bracket() -> None:
    assert parse_signature(b"A > B <a> 1 +0000").fullname == b"A > B <a>"
    assert parse_signature(b" <> 1 +0000").fullname == b" <>"


@pytest.mark.parametrize(
    ("offset", "minutes"),
    [(b"+0530", 330), (b"-0530", -330), (b"-0000", 0), (b"+051800", 0), (b"+0190", 0), (b"", 0), (b"+1", 1)],
)
def test_offsets_are_minutes_or_nothing(offset: bytes, minutes: int) -> None:
    if offset == b"+051800":
        minutes = 518 * 60  # hours and minutes of any number of digits, as in Software Heritage
    assert offset_minutes(offset) == minutes


def test_headers_without_a_message_have_none() -> None:
    assert parse_headers(b"a b\n") == ([(b"a", b"b")], None)
    assert parse_headers(b"a b\n\n") == ([(b"a", b"b")], b"")
    assert parse_headers(b"\nonly") == ([], b"only")


def test_tags_point_to_any_kind_and_may_lack_a_tagger() -> None:
    for kind, target_type in TARGETS.items():
        data = b"object " + PARENT.encode() + b"\ntype " + kind + b"\ntag v1\n\nmessage"
        tag = parse_tag(object_id(b"tag", data), data, verbatim)
        assert (tag.target, tag.target_type) == (PARENT, target_type)
        assert tag.release[5:] == (None, None, None, None, None)


def test_bytes_that_belong_to_another_id_are_refused() -> None:
    check_id(object_id(b"blob", b"x"), b"blob", b"x")
    with pytest.raises(SourceError, match="give the id"):
        check_id(PARENT, b"blob", b"x")
