"""One visit of one git repository: look at its references, read what is new, and say how it went."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc

from stack_platform.archive.git.cli import GitRepository
from stack_platform.archive.git.clone import GitRemote, RemoteError, check_url, is_url, public_url
from stack_platform.archive.git.dulwich_store import DulwichRemote, DulwichRepository
from stack_platform.archive.git.rows import Batches, Held
from stack_platform.archive.git.store import Refs, Repository
from stack_platform.archive.git.walk import Holding, Walk
from stack_platform.archive.sources import Known, LastVisit, Reading, Rows
from stack_platform.archive.swhid import Branch, origin_id, snapshot_id
from stack_platform.errors import SourceError

VISIT_TYPE = "git"


class Target:
    """One repository of the configuration."""

    def __init__(self, name: str, renamed: str | None, uses_git: bool, timeout_s: float) -> None:
        self.name, self.is_url = name, is_url(name)
        self._renamed, self._git, self._timeout_s = renamed, uses_git, timeout_s

    def origin(self) -> str:
        """Name the origin, without credentials and without this machine's paths."""
        if self._renamed is not None:
            return self._renamed
        if self.is_url:
            return public_url(self.name)
        try:
            repository = self.local()
        except SourceError:
            found = None
        else:
            found = repository.origin()
            repository.close()
        if found is not None and is_url(found) and not found.lower().startswith("file:"):
            return public_url(found)
        path = Path(self.name).resolve()
        return f"git:{path.parent.name if path.name == '.git' else path.name}"

    def local(self) -> Repository:
        """Open a repository in a folder.

        Raises:
            SourceError: there is none.

        """
        path = Path(self.name)
        if not path.exists():
            raise RemoteError("not_found", "there is no such folder")
        path = path if path.is_dir() else path.parent
        return GitRepository(path, self._timeout_s) if self._git else DulwichRepository(path)

    def connect(self) -> GitRemote | DulwichRemote:
        """Prepare to talk with a remote repository.

        Raises:
            SourceError: the URL is none.

        """
        check_url(self.name)
        return (GitRemote if self._git else DulwichRemote)(self.name, self._timeout_s)

    def look(self) -> tuple[Refs, str]:
        """Give the references and what the file system tells of the objects (nothing for a URL).

        Raises:
            SourceError: the repository cannot be read.

        """
        if self.is_url:
            return self.connect().list_refs(), ""
        repository = self.local()
        try:
            return repository.read_refs(), repository.state()
        finally:
            repository.close()


class Visit:
    """One visit of one repository."""

    def __init__(
        self,
        target: Target,
        origin: str,
        patterns: tuple[Sequence[str], Sequence[str]],
        holding: Holding,
        known: Known,
        held: Held,
        reading: Reading,
    ) -> None:
        self._target, self._origin, self._patterns = target, origin, patterns
        self._holding, self._known, self._held, self._reading = holding, known, held, reading
        self._last = known.visits.get(origin, LastVisit(0, "", None))
        self._batches = Batches()

    def rows(self) -> Iterator[Rows]:
        """Give the rows of the visit, or none where nothing changed."""
        with ExitStack() as opened:
            try:
                if self._target.is_url:
                    found = self._fetch(opened)
                else:
                    repository = self._target.local()
                    found = repository, repository.read_refs().select(*self._patterns)
                if found is not None:
                    opened.callback(found[0].close)
                    yield from self._read(*found)
            except SourceError as error:
                status = error.status if isinstance(error, RemoteError) else "failed"
                if self._last.status != status:
                    self._add_visit(status, None, str(error))
        yield from self._batches.rest()

    def _fetch(self, opened: ExitStack) -> tuple[Repository, Refs] | None:
        """Fetch a remote repository, unless its references already tell that it is the snapshot of the last visit."""
        remote = self._target.connect()
        refs = remote.list_refs().select(*self._patterns)
        types: dict[str, str] = {}
        for table in ("revision", "release", "directory", "content"):
            unknown = [target for target in refs.ids() if target not in types]
            lacked = set(self._held.lacks(table, unknown))
            types |= {target: table for target in unknown if target not in lacked}
        if len(types) == len(refs.ids()) and self._is_last(snapshot_id(refs.branches(types))):
            return None
        scratch = self._reading.scratch
        if scratch is None:
            scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="stack-platform-")))
        return remote.fetch(refs, scratch / "git"), refs

    def _is_last(self, snapshot: str) -> bool:
        return self._last.status == "full" and self._last.snapshot == snapshot

    def _read(self, repository: Repository, refs: Refs) -> Iterator[Rows]:
        types = repository.types(refs.ids())
        branches = refs.branches(types)
        snapshot = snapshot_id(branches)
        if self._is_last(snapshot):
            return
        number = self._last.visit + 1
        walk = Walk(repository, self._origin, number, self._held, self._holding, self._reading)
        walk.problems += [f"{target}: missing" for target in refs.ids() if target not in types]
        rows = 0
        try:
            for table, batch in walk.rows(types, self._heads()):
                rows += batch.num_rows
                yield table, batch
        except SourceError as error:  # git fell silent
            walk.problems.append(str(error))
        self._held.end_origin(complete=not walk.problems)
        shallow = repository.shallow()
        problem = _summary(walk.problems, len(shallow))
        status = "partial" if problem else "full"
        if rows or (status, snapshot) != (self._last.status, self._last.snapshot):
            self._add_snapshot(snapshot, branches)
            self._add_visit(status, snapshot, problem)

    def _heads(self) -> list[str]:
        """Give the revisions that the last snapshot's branches name."""
        if self._last.snapshot is None:
            return []
        table = self._known.read("snapshot_branch", ["snapshot_id", "target", "target_type"])
        last = pc.equal(table["snapshot_id"], self._last.snapshot)
        heads = table.filter(pc.and_(last, pc.equal(table["target_type"], "revision")))["target"]
        return sorted(set(heads.to_pylist()))

    def _add_snapshot(self, snapshot: str, branches: dict[bytes, Branch | None]) -> None:
        if self._held.lacks("snapshot", [snapshot]):
            self._held.add("snapshot", snapshot)
            self._held.end_origin(complete=True)
            self._batches.add("snapshot", (snapshot,))
            for name, branch in branches.items():
                target, kind = (branch.target, branch.target_type) if branch else (None, None)
                self._batches.add("snapshot_branch", (snapshot, name, target, kind))

    def _add_visit(self, status: str, snapshot: str | None, problem: str) -> None:
        number, date = self._last.visit + 1, _date(self._reading.visit_date)
        if self._origin not in self._known.origins:
            self._batches.add("origin", (origin_id(self._origin), self._origin))
        self._batches.add("origin_visit", (self._origin, number, date, VISIT_TYPE))
        self._batches.add("origin_visit_status", (self._origin, number, date, status, snapshot, VISIT_TYPE))
        if problem:
            row = (None, None, None, None, None, "absent", problem, self._origin, None, number)
            self._batches.add("skipped_content", row)


def _summary(problems: list[str], cut: int) -> str:
    """Say in one line why a visit is partial; empty where it is not."""
    parts = [f"shallow: the history is cut at {cut} revisions"] if cut else []
    if problems:
        parts.append(f"{len(problems)} objects cannot be read: {'; '.join(problems[:5])}")
    return "; ".join(parts)


def _date(moment: datetime | None) -> dict[str, int] | None:
    if moment is None:
        return None
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return {"seconds": since // timedelta(seconds=1), "microseconds": moment.microsecond}
