"""Finds which annotations (REUSE.toml, DEP-5, sidecars) speak for which paths, and puts them in their place.

Of the annotations of one file the last one that matches a path counts. A pattern without wildcards is looked
up, any other is one RE2 pass over the paths of its repository: linear time, whatever the pattern.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.licenses import spdx
from stack_platform.licenses.directories import Inherited, and_all
from stack_platform.licenses.globs import Glob, compile_glob, escape
from stack_platform.licenses.policy import license_type

Levels = tuple[tuple[str, Inherited], ...]
"""What directories say, nearest first: (directory, what it passes on)."""


class _Match(NamedTuple):
    root: str
    says: Inherited
    general: bool  # the pattern is nothing but stars: it is about everything


class Annotations:
    """The annotations of a table of paths: `rows` maps the row of a path to what its annotations say."""

    def __init__(self, paths: pa.Table, evidence: pa.Table, vendored: frozenset[str]) -> None:
        self.rows: dict[int, list[_Match]] = {}
        annotated = evidence.filter(pc.is_valid(evidence["patterns"]))
        files: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for row in annotated.to_pylist():
            files.setdefault(row["repo_name"], {}).setdefault(row["path"], []).append(row)
        if not files:
            return
        repositories = paths.column("repo_name").combine_chunks()
        for repo, of_repo in files.items():
            places = pc.indices_nonzero(pc.equal(repositories, repo)).to_pylist()
            names = paths.column("path").take(pa.array(places, pa.int64())).combine_chunks()
            finder = _Finder(names, vendored)
            for file in sorted(of_repo):
                for i, match in finder.find(sorted(of_repo[file], key=lambda row: row["rank"])).items():
                    self.rows.setdefault(places[i], []).append(match)

    def weave(self, row: int, levels: Levels) -> Levels:
        """Put what the annotations of a row say before the directory they belong to; overrides come first."""
        matches = sorted(self.rows[row], key=lambda match: -len(match.root))
        ours = [match for match in matches if match.says.precedence != "override"]
        if ours:
            levels = _insert(levels, _combine(ours))
        overrides = [match for match in matches if match.says.precedence == "override"]
        return tuple((match.root, match.says) for match in reversed(overrides)) + levels


def _combine(matches: list[_Match]) -> _Match:
    """Make one of the annotations of a path, nearest first: all that aggregate, and the nearest other."""
    closest = [match for match in matches if match.says.precedence == "closest"][:1]
    adding = [match for match in matches if match.says.precedence == "aggregate"]
    if not adding:
        return closest[0]
    first = max([*closest, *adding], key=lambda match: len(match.root))
    together = and_all(match.says.expression for match in [*closest, *adding])
    general = all(match.general for match in [*closest, *adding])
    return _Match(first.root, first.says._replace(expression=together, precedence="aggregate"), general)


def _insert(levels: Levels, match: _Match) -> Levels:
    at = next((i for i, (root, _) in enumerate(levels) if len(root) <= len(match.root)), len(levels))
    says = match.says
    if match.general and license_type(says.expression) == "permissive":
        beside = [level.expression for root, level in levels[at : at + 1] if root == match.root]
        restrictive = [expression for expression in beside if license_type(expression) != "permissive"]
        says = says._replace(expression=and_all([says.expression, *restrictive]))
    return (*levels[:at], (match.root, says), *levels[at:])


class _Finder:
    """Matches patterns with the paths of one repository."""

    def __init__(self, names: pa.Array, vendored: frozenset[str]) -> None:
        self._names = names
        self._texts: list[str] = names.to_pylist()
        self._vendored = vendored
        self._places: dict[str, list[int]] = {}
        for i, name in enumerate(self._texts):
            self._places.setdefault(name, []).append(i)

    def find(self, annotations: list[dict[str, Any]]) -> dict[int, _Match]:
        """Return what the last matching annotation of one file says, by place of the path."""
        found: dict[int, _Match] = {}
        for row in annotations:
            root = row["root"]
            base = f"{root}/" if root else ""
            source = "file" if row["kind"] == "sidecar" else "dir" if root else "repo"
            says = Inherited(row["expression"], source, row["path"], row["precedence"])
            for pattern in row["patterns"]:
                glob = compile_glob(escape(base) + pattern)
                if glob is not None:
                    match = _Match(root, says, general=not pattern.strip("*/"))
                    found.update(dict.fromkeys(self._matching(glob, root), match))
        return {i: match for i, match in found.items() if match.says.expression != spdx.NONE}

    def _matching(self, glob: Glob, root: str) -> list[int]:
        if glob.literal:
            places = self._places.get(glob.prefix, [])
        else:
            places = pc.indices_nonzero(pc.match_substring_regex(self._names, glob.regex)).to_pylist()
        return [i for i in places if self._reaches(glob.prefix, root, self._texts[i])]

    def _reaches(self, prefix: str, root: str, path: str) -> bool:
        """Say whether a pattern may speak for a path: of a vendored folder below the root it names the folder."""
        folder = _innermost(path, self._vendored)
        return len(folder) <= len(root) or prefix.startswith(f"{folder}/")


@lru_cache(maxsize=65536)
def _innermost(path: str, vendored: frozenset[str]) -> str:
    """Return the deepest folder of a path with foreign code, "" for none."""
    parts = path.split("/")[:-1]
    depth = max((i + 1 for i, part in enumerate(parts) if part in vendored), default=0)
    return "/".join(parts[:depth])
