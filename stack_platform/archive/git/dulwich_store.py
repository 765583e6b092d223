"""Read a repository on this machine with dulwich, where there is no git binary; the rows are the same.

dulwich reads every object whole, so a blob beyond the limit takes its length in memory; alternates, packs, linked
working trees and packed references are read, replacement objects and grafts are not followed. Its walk of history
is not used: the caller's own follows what the commits say.
"""

import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from stack_platform.archive.git.cli import shallow_commits, store_state
from stack_platform.archive.git.clone import CREDENTIALS, RemoteError, mirror_of, public_url, sweep
from stack_platform.archive.git.objects import TARGETS
from stack_platform.archive.git.store import HEAD, GitObject, Refs
from stack_platform.errors import SourceError

_KINDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
_SYMBOLIC = b"ref: "


class DulwichRepository:
    """A repository in a folder: bare, with a working tree, or a linked working tree."""

    def __init__(self, path: str | Path) -> None:
        """Open the repository.

        Raises:
            SourceError: the folder holds none, or none of SHA-1 objects.

        """
        from dulwich.errors import NotGitRepository
        from dulwich.repo import Repo

        self._damage = _damage()
        unusable: tuple[type[Exception], ...] = (NotGitRepository, *self._damage)
        try:
            self._repo: Any = Repo(str(Path(path).resolve()))
        except unusable as error:
            raise SourceError("it is not a git repository, or a damaged one") from error
        if self._repo.object_format.name != "sha1":
            self._repo.close()
            raise SourceError(
                f"its objects are named by {self._repo.object_format.name}; only sha1 has SWHIDs"
            )
        self._objects = Path(os.fsdecode(self._repo.commondir())) / "objects"

    def origin(self) -> str | None:
        """Give the URL of the remote `origin`."""
        unusable: tuple[type[Exception], ...] = (KeyError, *self._damage)
        try:
            found: bytes = self._repo.get_config().get((b"remote", b"origin"), b"url")
        except unusable:
            return None
        return found.decode("utf-8", "replace").strip() or None

    def read_refs(self) -> Refs:
        """Read the references as they are, also those to objects that are missing."""
        targets: dict[bytes, str] = {}
        symbolic: dict[bytes, bytes] = {}
        for name in sorted({*self._repo.refs.allkeys(), HEAD}):
            try:
                value: bytes | None = self._repo.refs.read_ref(name)
            except self._damage:
                continue
            if name != HEAD and not name.startswith(b"refs/"):
                continue  # ORIG_HEAD and the like
            if value is not None and value.startswith(_SYMBOLIC):
                symbolic[name] = value.removeprefix(_SYMBOLIC).strip()
            elif value is not None and len(value) == 40:
                targets[name] = value.decode()
        return Refs(targets, symbolic)

    def state(self) -> str:
        """Digest names, sizes and times of packs, the number of loose objects and where the history is cut."""
        return store_state(self._objects)

    def shallow(self) -> frozenset[str]:
        """Give the commits at which the history was cut."""
        return shallow_commits(self._objects)

    def types(self, ids: Sequence[str]) -> dict[str, str]:
        """Give the types of those objects that are there."""
        read = self.read(ids, 0)
        return {found.id: TARGETS[found.kind] for found in read if not found.problem}

    def history(self, ids: Sequence[str], known: Sequence[str]) -> list[str]:  # noqa: ARG002  git's own walk
        """Suggest nothing."""
        return []

    def read(self, ids: Sequence[str], hold_bytes: int) -> Iterator[GitObject]:  # noqa: ARG002  whole anyway
        """Read objects in the order of the ids."""
        for identifier in ids:
            try:
                number, data = self._repo.object_store.get_raw(identifier.encode())
                yield GitObject(identifier, _KINDS[number], data)
            except KeyError:
                yield GitObject(identifier, b"", b"", "missing")
            except self._damage:
                yield GitObject(identifier, b"", b"", "damaged: git cannot read it")

    def close(self) -> None:
        """Close the packs."""
        self._repo.close()


class DulwichRemote:
    """A repository behind a URL; of protocols the ones that dulwich speaks (ssh needs an ssh program)."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Take a URL that `check_url` accepts."""
        self.url, self._timeout_s = url, timeout_s

    def _client(self) -> tuple[Any, Any]:
        from dulwich.client import HttpGitClient, get_transport_and_path

        if self.url.lower().startswith(("http:", "https:")):
            parts = urlsplit(self.url)
            plain = public_url(self.url)
            client: Any = HttpGitClient(
                plain,
                timeout=self._timeout_s,
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
            )
            return client, plain
        client, path = get_transport_and_path(self.url, quiet=True)
        return client, path

    def _call(self, work: Callable[[Any, Any], Any]) -> Any:
        from dulwich.client import HTTPProxyUnauthorized, HTTPUnauthorized
        from dulwich.errors import GitProtocolError, NotGitRepository
        from urllib3.exceptions import HTTPError

        try:
            return work(*self._client())
        except NotGitRepository as error:
            raise RemoteError("not_found", "there is no repository") from error
        except (HTTPUnauthorized, HTTPProxyUnauthorized) as error:
            raise RemoteError("failed", CREDENTIALS) from error
        except (GitProtocolError, HTTPError, OSError, ValueError, KeyError) as error:
            words = type(error).__name__
            raise RemoteError("failed", f"it cannot be reached or read ({words})") from error

    def list_refs(self) -> Refs:
        """Ask for the references.

        Raises:
            RemoteError: the repository cannot be read.

        """
        found = self._call(lambda client, path: client.get_refs(path))
        targets: dict[bytes, str] = {}
        for name, target in found.refs.items():
            wanted = name == HEAD or name.startswith(b"refs/")
            if target is not None and wanted and not name.endswith(b"^{}"):
                targets[name] = target.decode()
        symbolic = {name: target for name, target in found.symrefs.items() if name == HEAD}
        if HEAD in symbolic:
            targets.pop(HEAD, None)
        return Refs(targets, symbolic)

    def fetch(self, refs: Refs, folder: Path) -> DulwichRepository:
        """Bring the objects of references into the mirror of this URL below `folder`, and open it.

        Raises:
            RemoteError: the repository cannot be read.

        """
        from dulwich.repo import Repo

        mirror = mirror_of(self.url, folder)
        fresh = mirror.with_name(f"{mirror.name}.partial")
        if not mirror.exists():
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            Repo.init_bare(str(fresh)).close()
            fresh.rename(mirror)
        sweep(mirror)
        opened: Any = Repo(str(mirror))
        with opened as repo:
            wanted = sorted({target.encode() for target in refs.targets.values()})
            lacked = [target for target in wanted if b"refs/seen/" + target not in repo.refs.allkeys()]
            if lacked:
                self._call(
                    lambda client, path: client.fetch(
                        path, repo, determine_wants=lambda *_, **__: lacked, progress=lambda _: None
                    )
                )
                for target in lacked:
                    repo.refs[b"refs/seen/" + target] = target
        return DulwichRepository(mirror)


def _damage() -> tuple[type[Exception], ...]:
    """Name what dulwich raises over bytes that are not what they should be."""
    from dulwich import errors
    from dulwich.file import FileLocked

    own = (
        errors.ApplyDeltaError,
        errors.ChecksumMismatch,
        errors.FileFormatException,
        errors.WrongObjectException,
    )
    python = (
        AssertionError,
        EOFError,
        IndexError,
        MemoryError,
        OSError,
        OverflowError,
        TypeError,
        ValueError,
    )
    return (*own, *python, FileLocked, struct.error, zlib.error)
