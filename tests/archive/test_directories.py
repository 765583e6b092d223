import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.archive.directories import build_directories
from stack_platform.archive.swhid import Entry, directory_id
from stack_platform.archive.trees import DIRECTORY, EXECUTABLE, FILE
from stack_platform.errors import SourceError

BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
EMPTY = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

names = st.binary(min_size=1, max_size=3).filter(
    lambda name: not set(name) & {0, 47} and name not in (b".", b"..")
)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
trees = st.dictionaries(paths, st.sampled_from([FILE, EXECUTABLE]), max_size=20).filter(
    lambda tree: not any(other.startswith(path + b"/") for path in tree for other in tree)
)


def nested(tree):
    """Give the id of a tree by recursion."""
    folders, entries = {}, []
    for path, perms in tree.items():
        name, _, below = path.partition(b"/")
        if below:
            folders.setdefault(name, {})[below] = perms
        else:
            entries.append(Entry(name, "file", BLOB, perms))
    entries += [Entry(name, "dir", nested(folder), DIRECTORY) for name, folder in folders.items()]
    return directory_id(entries)


@given(trees)
def test_root_is_that_of_the_tree_built_by_recursion(tree):
    *_, (root, _) = build_directories((path, perms, BLOB) for path, perms in sorted(tree.items()))
    assert root == nested(tree)


def test_directories_come_from_the_leaves_to_the_root():
    made = list(build_directories([(b"a/b/c", FILE, BLOB), (b"a/d", FILE, BLOB), (b"e", FILE, BLOB)]))
    assert [[entry.name for entry in entries] for _, entries in made] == [[b"c"], [b"b", b"d"], [b"a", b"e"]]


def test_directory_without_entries_is_one():
    made = list(build_directories([(b"a", FILE, BLOB), (b"b/c", DIRECTORY, "")]))
    assert made[0] == (EMPTY, [])
    assert made[1][1] == [Entry(b"c", "dir", EMPTY, DIRECTORY)]


def test_tree_without_files_is_the_empty_directory():
    assert list(build_directories([])) == [(EMPTY, [])]


def test_very_deep_tree_is_no_problem():
    assert len(list(build_directories([(b"a/" * 5000 + b"b", FILE, BLOB)]))) == 5001


def test_path_that_is_file_and_folder_is_refused():
    with pytest.raises(SourceError, match="two entries named b'a'"):
        list(build_directories([(b"a", FILE, BLOB), (b"a/b", FILE, BLOB)]))
