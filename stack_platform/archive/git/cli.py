"""Read a repository on this machine through git's own binary, without trusting the repository.

Objects come from ``git cat-file --batch``, verbatim: one process for a long list of ids (buffered), another that
stays for short ones. Where git gives up at a damaged object the reading goes on behind it in a new process.

Objects are read apart from the repository's configuration, by an empty repository of ours that borrows the folder
of objects: what a partial clone lacks is missing, and nothing fetches it. In the repository itself only commands run
that neither write nor start other programs, with its hooks and monitors turned off.
"""

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stack_platform.archive.git.objects import TARGETS
from stack_platform.archive.git.pipe import Answers, local_environment
from stack_platform.archive.git.store import HEAD, GitObject, Refs
from stack_platform.errors import SourceError

_SHORT = 256  # ids that fit into a pipe at once, so that no thread has to write them
_ID = re.compile(rb"[0-9a-f]{40}")


class GitRepository:
    """A repository in a folder: bare, with a working tree, or a linked working tree."""

    def __init__(self, path: str | Path, timeout_s: float) -> None:
        """Find the repository.

        Raises:
            SourceError: the folder holds none, or none of SHA-1 objects.

        """
        self._timeout_s = timeout_s
        self._path = Path(path).resolve()
        self._git_dir: str | None = None
        self._running: dict[tuple[str, bool], Answers] = {}
        found = self._run("rev-parse", "--absolute-git-dir", "--git-path", "objects", "--show-object-format")
        if found is None:
            raise SourceError("it is not a git repository, or a damaged one")
        git_dir, objects, object_format = os.fsdecode(found.rstrip(b"\n")).rsplit("\n", 2)
        if object_format != "sha1":
            raise SourceError(f"its objects are named by {object_format}; only sha1 has SWHIDs")
        self._git_dir = git_dir
        self._objects = self._path / objects
        self._own = tempfile.TemporaryDirectory(prefix="stack-platform-")
        own = Path(self._own.name)
        for folder in ("objects", "refs"):
            (own / folder).mkdir()
        (own / "HEAD").write_text("ref: refs/heads/none\n")
        (own / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
        self._apart = local_environment() | {
            "GIT_DIR": self._own.name,
            "GIT_OBJECT_DIRECTORY": str(self._objects),
        }

    def _command(self, *arguments: str) -> list[str]:
        where = ["-C", str(self._path)] if self._git_dir is None else [f"--git-dir={self._git_dir}"]
        trusted = ["-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
        return ["git", "--no-pager", *where, *trusted, *arguments]

    def _run(self, *arguments: str, sent: bytes | None = None, partly: bool = False) -> bytes | None:
        """Run a command; None where it fails, unless what it said by then will do.

        Commands that are sent ids read objects only, and run apart from the repository's configuration.
        """
        if sent is None:
            command = self._command(*arguments)
            environment = local_environment() | {"GIT_CEILING_DIRECTORIES": str(self._path.parent)}
        else:
            command, environment = ["git", "--no-pager", *arguments], self._apart
        try:
            done = subprocess.run(
                command,
                input=sent or b"",
                capture_output=True,
                env=environment,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SourceError(f"git {arguments[0]} took more than {self._timeout_s:g} seconds") from error
        return done.stdout if done.returncode == 0 or partly else None

    def origin(self) -> str | None:
        """Give the URL of the remote `origin`."""
        found = self._run("config", "--local", "--get", "remote.origin.url")
        return found.decode("utf-8", "replace").strip() or None if found is not None else None

    def read_refs(self) -> Refs:
        """Read the references as they are, also those to objects that are missing."""
        listed = self._run("for-each-ref", "--format=%(objectname)%00%(symref)%00%(refname)", partly=True)
        targets: dict[bytes, str] = {}
        symbolic: dict[bytes, bytes] = {}
        for line in (listed or b"").splitlines():
            target, alias, name = line.split(b"\0")
            if alias:
                symbolic[name] = alias
            else:
                targets[name] = target.decode()
        head = self._run("symbolic-ref", "--quiet", "HEAD")
        if head:
            symbolic[HEAD] = head.rstrip(b"\n")
        elif detached := self._run("rev-parse", "--quiet", "--verify", "HEAD"):
            targets[HEAD] = detached.decode().strip()
        return Refs(targets, symbolic)

    def state(self) -> str:
        """Digest names, sizes and times of packs, the number of loose objects and where the history is cut."""
        return store_state(self._objects)

    def shallow(self) -> frozenset[str]:
        """Give the commits at which the history was cut."""
        return shallow_commits(self._objects)

    def types(self, ids: Sequence[str]) -> dict[str, str]:
        """Give the types of those objects that are there."""
        answers = self._ask(ids, "--batch-check", lambda _, kind, __: kind)
        return {identifier: TARGETS[kind] for identifier, kind in answers if isinstance(kind, bytes)}

    def history(self, ids: Sequence[str], known: Sequence[str]) -> list[str]:
        """List commits by git's own walk, newest first; as far as it comes."""
        sent = "".join([*(f"{i}\n" for i in ids), *(f"^{i}\n" for i in known)]).encode()
        found = self._run("rev-list", "--ignore-missing", "--stdin", sent=sent, partly=True) or b""
        return [line.decode() for line in found.splitlines() if _ID.fullmatch(line)]

    def read(self, ids: Sequence[str], hold_bytes: int) -> Iterator[GitObject]:
        """Read objects in the order of the ids; those longer than `hold_bytes` are hashed only."""

        def take(answers: Answers, kind: bytes, size: int) -> GitObject:
            if size > hold_bytes and kind == b"blob":
                hashes = answers.hash(size)
                answers.take(1)
                return GitObject("", kind, b"", "", hashes)
            return GitObject("", kind, answers.take(size + 1)[:-1])

        for identifier, found in self._ask(ids, "--batch", take):
            if isinstance(found, str):
                yield GitObject(identifier, b"", b"", found)
            else:
                yield found._replace(id=identifier)

    def _ask(
        self, ids: Sequence[str], mode: str, take: Callable[[Answers, bytes, int], Any]
    ) -> Iterator[tuple[str, Any]]:
        """Ask for objects; give what `take` makes of each, or a text that says why there is none."""
        at = 0
        while at < len(ids):
            short = len(ids) - at <= _SHORT
            answers = self._answers(mode, short)
            answers.ask(ids[at:], last=not short)
            began = at
            try:
                while at < len(ids):
                    _, *found = answers.line().split(b" ")
                    there = len(found) == 2 and found[1].isdigit()
                    yield ids[at], take(answers, found[0], int(found[1])) if there else "missing"
                    at += 1
            except EOFError:
                if at == began:  # git died at this very object, and not at one that was read ahead
                    yield ids[at], "damaged: git cannot read it"
                    at += 1
                self._end(mode, short)
            finally:
                if not short or at < len(ids):
                    self._end(mode, short)

    def _answers(self, mode: str, short: bool) -> Answers:
        if (mode, short) in self._running:
            return self._running[mode, short]
        options = [mode] if short else [mode, "--buffer"]
        command = ["git", "-c", "core.deltaBaseCacheLimit=256m", "cat-file", *options]
        self._running[mode, short] = Answers(command, self._apart, self._timeout_s)
        return self._running[mode, short]

    def _end(self, mode: str, short: bool) -> None:
        answers = self._running.pop((mode, short), None)
        if answers is not None:
            answers.close()

    def close(self) -> None:
        """End the processes that still run."""
        for answers in self._running.values():
            answers.close()
        self._running.clear()
        self._own.cleanup()


def store_state(objects: Path) -> str:
    """Digest what the file system tells of a folder of objects: packs, loose objects, cut history."""
    digest = hashlib.sha256(" ".join(sorted(shallow_commits(objects))).encode())
    for folder in sorted(path for path in objects.glob("*") if path.is_dir()):
        if folder.name == "pack":
            for pack in sorted(folder.glob("*.pack")):
                status = pack.stat()
                digest.update(f"\n{pack.name} {status.st_size} {status.st_mtime_ns}".encode())
        else:
            digest.update(f"\n{folder.name} {sum(1 for _ in folder.iterdir())}".encode())
    return digest.hexdigest()


def shallow_commits(objects: Path) -> frozenset[str]:
    """Read the file `shallow` beside a folder of objects."""
    try:
        return frozenset((objects.parent / "shallow").read_text().split())
    except (OSError, ValueError):
        return frozenset()
