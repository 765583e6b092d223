"""Build the directories of a tree from its files, from the leaves to the root, each as soon as it is complete.

With the paths in order only the folders on the way to the present one are open, so memory is that of one path's
folders and not of the tree.
"""

from collections.abc import Iterable, Iterator

from stack_platform.archive.swhid import Entry, directory_id, tree_order
from stack_platform.archive.trees import DIRECTORY


def build_directories(files: Iterable[tuple[bytes, int, str]]) -> Iterator[tuple[str, list[Entry]]]:
    """Make the directories of (path, perms, sha1_git) ordered by path: (id, entries in git's order), the root last.

    A row with the perms of a directory is one without entries; its sha1_git is not looked at.

    Raises:
        SourceError: a path is a file and a folder, or the paths are not in order.

    """
    opened: list[tuple[bytes, list[Entry]]] = [(b"", [])]
    for path, perms, target in files:
        above, _, name = path.rpartition(b"/")
        folder = path if perms == DIRECTORY else above
        while opened[-1][0] and folder != opened[-1][0] and not folder.startswith(opened[-1][0] + b"/"):
            yield _close(opened)
        while folder != opened[-1][0]:
            end = folder.find(b"/", len(opened[-1][0]) + 1)
            opened.append((folder if end == -1 else folder[:end], []))
        if perms != DIRECTORY:
            opened[-1][1].append(Entry(name, "file", target, perms))
    while opened:
        yield _close(opened)


def _close(opened: list[tuple[bytes, list[Entry]]]) -> tuple[str, list[Entry]]:
    folder, entries = opened.pop()
    entries.sort(key=tree_order)
    identifier = directory_id(entries)
    if opened:
        opened[-1][1].append(Entry(folder.rpartition(b"/")[2], "dir", identifier, DIRECTORY))
    return identifier, entries
