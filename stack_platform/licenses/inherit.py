"""What a file inherits from the license texts, annotations and package metadata around it.

The rules (policy `nearest`, the default):
 1. Evidence lives in directories (`evidence`), and a directory covers its subtree. What one directory says
    is decided by `directories`. A file inherits from the nearest directory above it that says something.
 2. Annotations (REUSE.toml, `.reuse/dep5`, `debian/copyright`) speak for the paths they name and come before
    the license files of their directory; an annotation for everything does not outrank a text beside it
    that is not permissive: both hold. As REUSE 3.3 says, the topmost `override` wins over all below it,
    `aggregate` adds to the rest, `closest` is what it says. A sidecar `x.license` overrides for `x`.
 3. Folders of foreign code (node_modules, vendor, third_party, _vendor ...) inherit nothing from above,
    except by an annotation whose pattern names the folder. Their own evidence counts as anywhere else.
 4. When no directory says anything, the license of the repository in `gha_license_id` does, if there is that
    column; NOASSERTION is UNKNOWN (there is a license that nobody could name).
Policy `union` ANDs all directories above (The Stack v2; an MIT subtree below a GPL root is lost), policy
`strictest` takes the least permissive of them, the nearest among equals.

`inherited_source` is `package` when metadata decided, `repo` for the root of the repository or its metadata,
`dir` below it, `file` for a sidecar. `inherited_precedence` tells `judge` whether the file's own words come
first. Cost: linear in paths; a pattern with wildcards is one RE2 pass over the paths of its repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa

from stack_platform.errors import ConfigError, SchemaError
from stack_platform.licenses.annotated import Annotations
from stack_platform.licenses.directories import NOTHING, Inherited, and_all, decide_directory
from stack_platform.licenses.evidence import (
    EVIDENCE,
    Evidence,
    EvidenceKind,
    directory_evidence,
    evidence_files,
    evidence_table,
)
from stack_platform.licenses.policy import license_type
from stack_platform.licenses.reuse import combine_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stack_platform.licenses.directories import Directory

__all__ = [
    "EVIDENCE",
    "VENDORED",
    "Evidence",
    "EvidenceKind",
    "InheritConfig",
    "directory_evidence",
    "evidence_files",
    "evidence_table",
    "inherit",
]

InheritPolicy = Literal["nearest", "union", "strictest"]
POLICIES: tuple[InheritPolicy, ...] = ("nearest", "union", "strictest")
_STRICTNESS = {"no_license": 0, "permissive": 0, "unknown": 1, "non_permissive": 2}

VENDORED = frozenset(
    {"node_modules", "bower_components", "jspm_packages", "site-packages", "dist-packages"}
    | {"vendor", "vendors", "vendored", "_vendor", "_vendored", "extern", "external", "externals"}
    | {"third_party", "third-party", "thirdparty", "3rdparty", "3rd_party"}
)
"""Names of folders whose content was written elsewhere."""


@dataclass(frozen=True, slots=True)
class InheritConfig:
    """How the evidence of several directories above a file becomes one expression."""

    policy: InheritPolicy = "nearest"
    """`nearest`, `union` (The Stack v2) or `strictest`; see the module docstring."""

    vendored: frozenset[str] = VENDORED
    """Folder names that inherit nothing from above; The Stack v2 had none."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(
                f"policy={self.policy!r} is no way to inherit; choose from {', '.join(POLICIES)}"
            )


class _Chain(NamedTuple):
    """What the directories above a file say, nearest first, and whether the climb reached the root."""

    levels: tuple[tuple[str, Inherited], ...]
    open: bool


def inherit(paths: pa.Table, evidence: pa.Table, config: InheritConfig = InheritConfig()) -> pa.Table:
    """Add `inherited_expression`, `inherited_source`, `inherited_path` and `inherited_precedence`.

    Columns in: paths `repo_name`, `path`, and `gha_license_id` if known; evidence as EVIDENCE. Sources are
    `file`, `dir`, `package`, `repo`, `none`. Raises SchemaError when a column is missing.
    """
    _require(paths, ("repo_name", "path"), "paths")
    _require(evidence, EVIDENCE.names, "evidence")
    decided = _decide_directories(evidence)
    climb = _climber(decided, config.vendored)
    annotations = Annotations(paths, evidence, config.vendored)
    names, repositories = (paths.column(name).to_pylist() for name in ("path", "repo_name"))
    known = "gha_license_id" in paths.column_names
    ids = paths.column("gha_license_id").to_pylist() if known else [None] * len(names)
    rows = []
    for i, (repo, path, gha) in enumerate(zip(repositories, names, ids, strict=True)):
        folder, _, name = path.rpartition("/")
        directory = decided.get((repo, folder))
        chain = climb(repo, folder, name if directory is not None and directory.named else "")
        levels = annotations.weave(i, chain.levels) if i in annotations.rows else chain.levels
        if chain.open and gha:
            levels = (*levels, ("", _of_repository(gha)))
        rows.append(_choose(levels, config.policy))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(Inherited._fields)
    for field, values in zip(Inherited._fields, columns, strict=True):
        paths = paths.append_column(f"inherited_{field}", pa.array(values, pa.string()))
    return paths


def _decide_directories(evidence: pa.Table) -> dict[tuple[str, str], Directory]:
    by_root: dict[tuple[str, str], list[Evidence]] = {}
    fields = ("repo_name", "path", "root", "kind", "expression", "exact", "distribution")
    for row in evidence.filter(evidence["patterns"].is_null()).select(fields).to_pylist():
        by_root.setdefault((row["repo_name"], row["root"]), []).append(Evidence(**row))
    decided = {key: decide_directory(sorted(rows, key=lambda e: e.path)) for key, rows in by_root.items()}
    return {key: directory for key, directory in decided.items() if directory is not None}


def _climber(
    decided: dict[tuple[str, str], Directory], vendored: frozenset[str]
) -> Callable[[str, str, str], _Chain]:
    """Make the function that lists what the directories above a file say; `name` is of the file in its folder."""

    @cache
    def climb(repo: str, folder: str, name: str) -> _Chain:
        levels = []
        while True:
            if (directory := decided.get((repo, folder))) is not None:
                levels.append((folder, directory.of(name)))
            parent, _, own = folder.rpartition("/")
            if not folder or own in vendored:
                return _Chain(tuple(levels), open=not folder)
            folder, name = parent, own

    return climb


def _of_repository(license_id: str) -> Inherited:
    return Inherited(combine_names([license_id]), "repo", None)


def _choose(levels: tuple[tuple[str, Inherited], ...], policy: InheritPolicy) -> Inherited:
    if not levels:
        return NOTHING
    nearest = levels[0][1]
    if policy == "union":
        return nearest._replace(expression=and_all(says.expression for _, says in levels))
    if policy == "strictest":
        return max((says for _, says in levels), key=lambda says: _STRICTNESS[license_type(says.expression)])
    return nearest


def _require(table: pa.Table, names: Iterable[str], what: str) -> None:
    missing = sorted(set(names) - set(table.column_names))
    if missing:
        raise SchemaError(f"{what} lack the columns {missing}; they have {table.column_names}")
