"""Git repositories, in folders or behind URLs, as a source: full history, ids verbatim from git.

A visit's snapshot is made from the references as Software Heritage's git loader makes it: symbolic ones are
aliases, annotated tags releases, and GitHub's automatic merges (``refs/pull/*/merge``) are left out. Where the
snapshot is the one of the last full visit nothing is read; a remote repository is asked for its references only.

Statuses: ``full``; ``partial`` where a tag, commit or tree could not be read (a shallow clone, damage); ``failed``
and ``not_found``. The reason is a row of skipped_content with neither id nor path. A content that is missing,
damaged or too long is a row of skipped_content with its id and does not make the visit partial.
Known limit: people are digests by default, but names within messages and raw manifests stay, as in the export.
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from stack_platform.archive.git.clone import public_url
from stack_platform.archive.git.objects import digest, verbatim
from stack_platform.archive.git.rows import Held
from stack_platform.archive.git.visit import Target, Visit
from stack_platform.archive.git.walk import Holding
from stack_platform.archive.sources import Known, Reading, Rows
from stack_platform.errors import ConfigError, SourceError

FORMAT = "git/1"  # part of every fingerprint: raise it when the same repository gives other rows

_BACKENDS = ("auto", "git", "dulwich")
_AUTHORS = {"sha256": digest, "verbatim": verbatim}


@dataclass(frozen=True, slots=True)
class GitConfig:
    """Which repositories to archive, and what to hold of them.

    Raises:
        ConfigError: no repository is named or one twice, or a setting has a value that is none of those it takes.

    """

    repositories: tuple[str, ...]
    """folders (bare, with a working tree, linked working trees) or URLs (https, http, ssh, git, file)"""
    origins: Mapping[str, str] = field(default_factory=dict)
    """origin by repository, for folders; without one the URL of its remote `origin`, or ``git:<folder name>``"""
    max_content_bytes: int = 10 * 1024 * 1024
    """longest content to hold, bytes (The Stack v2: 10 MiB); longer ones are hashed and reported"""
    hold_binary: bool = False
    """hold the bytes of contents with a NUL in the first 8000 bytes, too"""
    authors: str = "sha256"
    """people as SHA-256 of their full names, as in Software Heritage's public export, or `verbatim`"""
    include: tuple[str, ...] = ("*",)
    """patterns of references to take, as ``refs/heads/*``; HEAD is always taken"""
    exclude: tuple[str, ...] = ("refs/pull/*/merge",)
    """patterns of references to leave out; those that Software Heritage leaves out"""
    backend: str = "auto"
    """git (its binary), dulwich, or auto: git where it is installed"""
    timeout_s: float = 3600.0
    """longest time that one git command takes, or that reading waits for the next object, seconds"""

    def __post_init__(self) -> None:
        if not self.repositories:
            raise ConfigError("repositories is empty; name folders or URLs of git repositories")
        twice = sorted({name for name in self.repositories if self.repositories.count(name) > 1})
        if twice:
            raise ConfigError(f"repositories names {public_url(twice[0])!r} twice; keep one")
        unused = sorted(set(self.origins) - set(self.repositories))
        if unused:
            raise ConfigError(f"origins names {unused[0]!r}, which is not in repositories; add it there")
        for name, value, choices in (
            ("authors", self.authors, tuple(_AUTHORS)),
            ("backend", self.backend, _BACKENDS),
        ):
            if value not in choices:
                raise ConfigError(f"{name} is {value!r}; write one of {', '.join(choices)}")
        if self.max_content_bytes < 1 or self.timeout_s <= 0:
            raise ConfigError(
                f"max_content_bytes is {self.max_content_bytes} and timeout_s {self.timeout_s}; write positive ones"
            )

    def open(self) -> "GitSource":
        """Give the source that these settings describe.

        Raises:
            ConfigError: the backend is git and there is no git binary.

        """
        if self.backend == "git" and shutil.which("git") is None:
            raise ConfigError(
                "backend is git, but there is no git binary; install git, or write backend: auto"
            )
        return GitSource(self)


class GitSource:
    """The repositories of a configuration."""

    def __init__(self, config: GitConfig) -> None:
        self.config = config

    def _targets(self) -> list[tuple[str, Target]]:
        config = self.config
        uses_git = config.backend != "dulwich" and shutil.which("git") is not None
        made = [
            Target(name, config.origins.get(name), uses_git, config.timeout_s) for name in config.repositories
        ]
        targets = sorted(((target.origin(), target) for target in made), key=lambda pair: pair[0])
        for (origin, first), (other, second) in itertools.pairwise(targets):
            if origin == other:
                names = f"{public_url(first.name)!r} and {public_url(second.name)!r}"
                raise ConfigError(
                    f"{names} have the same origin {origin!r}; give one another name in origins"
                )
        return targets

    def fingerprint(self) -> str:
        """Digest settings, references and the state of the objects' stores; a repository's failure counts, too.

        Raises:
            ConfigError: two repositories have the same origin.

        """
        config = self.config
        settings = [FORMAT, config.max_content_bytes, config.hold_binary, config.authors]
        lines = [json.dumps([*settings, config.include, config.exclude])]
        for origin, target in self._targets():
            try:
                refs, state = target.look()
            except SourceError as error:
                lines.append(json.dumps([origin, "failed", str(error)]))
                continue
            refs = refs.select(config.include, config.exclude)
            lines.append(json.dumps([origin, state]))
            lines += [f"{name.hex()} {named}" for name, named in sorted(refs.targets.items())]
            lines += [f"{name.hex()} @{alias.hex()}" for name, alias in sorted(refs.symbolic.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def read(self, known: Known, reading: Reading) -> Iterator[Rows]:
        """Give the rows that `known` lacks, origin after origin, ordered by URL.

        Raises:
            ConfigError: two repositories have the same origin, the date of the visit has no time zone, or a number
                is not positive.

        """
        if reading.visit_date is not None and reading.visit_date.tzinfo is None:
            date = reading.visit_date.isoformat()
            raise ConfigError(f"visit_date {date} has no time zone; add one, as in '+00:00'")
        if reading.threads < 1 or reading.batch_bytes < 1:
            raise ConfigError(
                f"threads is {reading.threads} and batch_bytes {reading.batch_bytes}; both must be 1 or more"
            )
        config, held = self.config, Held(known)
        holding = Holding(config.max_content_bytes, config.hold_binary, _AUTHORS[config.authors])
        patterns = (config.include, config.exclude)
        for origin, target in self._targets():
            yield from Visit(target, origin, patterns, holding, known, held, reading).rows()
