"""What reading a git repository gives, whatever reads it: references, and objects by id.

`read_refs` and `read` are given by two back ends with the same results, git's own binary and dulwich; an object
that is missing, damaged or not what its id says comes with a problem instead of bytes and never ends the reading.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from stack_platform.archive.hashing import Hashes
from stack_platform.archive.swhid import Branch

HEAD = b"HEAD"


class GitObject(NamedTuple):
    """One object, or why there is none."""

    id: str
    kind: bytes
    """blob, tree, commit or tag; empty where there is a problem"""
    data: bytes
    problem: str = ""
    hashes: Hashes | None = None
    """of a blob that is too long to hold, whose bytes are not given"""


@dataclass(frozen=True, slots=True)
class Refs:
    """The references of a repository."""

    targets: dict[bytes, str]
    """ids by name; HEAD is among them where it is detached"""
    symbolic: dict[bytes, bytes] = field(default_factory=dict)
    """names by name, as HEAD usually is"""

    def select(self, include: Sequence[str], exclude: Sequence[str]) -> "Refs":
        """Keep the references whose names match a pattern of `include`, and none of `exclude`; HEAD stays."""

        def taken(name: bytes) -> bool:
            text = name.decode("utf-8", "surrogateescape")
            if any(fnmatchcase(text, pattern) for pattern in exclude):
                return False
            return name == HEAD or any(fnmatchcase(text, pattern) for pattern in include)

        return Refs(
            {name: target for name, target in self.targets.items() if taken(name)},
            {name: target for name, target in self.symbolic.items() if taken(name)},
        )

    def ids(self) -> list[str]:
        """Give the ids that the references name, each once, ordered by the first name."""
        return list(dict.fromkeys(self.targets[name] for name in sorted(self.targets)))

    def branches(self, types: dict[str, str]) -> dict[bytes, Branch | None]:
        """Give a snapshot's branches as Software Heritage's loader does; a target of no type dangles.

        An alias whose target is not there makes the target a dangling branch, unless nothing at all is there: a
        new repository, whose HEAD names a branch without commits, is the empty snapshot.
        """
        branches: dict[bytes, Branch | None] = {
            name: Branch(types[target], target) if target in types else None
            for name, target in self.targets.items()
        }
        if not branches:
            return {}
        for name, target in self.symbolic.items():
            branches[name] = Branch("alias", target.hex())
            if target not in self.targets and target not in self.symbolic:
                branches[target] = None
        return dict(sorted(branches.items()))


class Repository(Protocol):
    """A repository on this machine."""

    def origin(self) -> str | None:
        """Give the URL of the remote `origin`."""

    def read_refs(self) -> Refs:
        """Read the references.

        Raises:
            SourceError: this is no repository, or none whose references can be read.

        """

    def state(self) -> str:
        """Digest what the file system tells of the objects' store, without reading objects."""

    def shallow(self) -> frozenset[str]:
        """Give the commits at which the history was cut."""

    def types(self, ids: Sequence[str]) -> dict[str, str]:
        """Give the types of those objects that are there, as a snapshot names them."""

    def history(self, ids: Sequence[str], known: Sequence[str]) -> list[str]:
        """Suggest commits that are reachable from `ids` and not from `known`; may be incomplete or empty."""

    def read(self, ids: Sequence[str], hold_bytes: int) -> Iterator[GitObject]:
        """Read objects in the order of the ids; the caller checks the bytes. Longer blobs are hashed only."""

    def close(self) -> None:
        """End what was started."""
