"""Decides what one directory passes on, from all the evidence whose root it is.

The rules:
 1. Several license files of one directory add up (AND), and so do several declarations.
 2. License files and metadata in one directory: when the texts say nothing that the declared expression
    does not name, the expression decides (LICENSE-MIT + LICENSE-APACHE with "MIT OR Apache-2.0" is a
    choice). Otherwise the texts decide, and a declaration that is not permissive is added to them; one
    that nobody could name ("see the file") leaves it to the texts. A text that is UNKNOWN stays unknown.
 3. An installed Python distribution: `<name>-<version>.dist-info/` (or `.egg-info/`) belongs to the folder
    it lies in; its metadata covers that whole tree, and outranks the texts beside it, with two exceptions:
    an own text nobody could name is added, and so is an own text with restrictions when the declaration
    was no SPDX expression. Own is what lies directly in the folder or in its `licenses/`; a text further
    down or named after a third party is of what the distribution carries along. Without a declaration the
    own texts decide, AND-ed. Of several distributions in one folder each covers what bears its name, and
    what bears no name of theirs is under all of them.
 4. Texts of a `LICENSES/` folder decide, AND-ed, only where there is nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx
from stack_platform.licenses.policy import license_type
from stack_platform.licenses.restrictions import ADDITIONAL_TERMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stack_platform.licenses.evidence import Evidence

_FOREIGN = re.compile(r"(?i)third|bundled|vendor|external")  # texts of what a distribution carries along
_RESTRICTIVE = frozenset({ADDITIONAL_TERMS, "LicenseRef-proprietary"})


class Inherited(NamedTuple):
    """What a file is passed on by what lies around it."""

    expression: str
    source: str  # file, dir, package, repo, none
    path: str | None
    precedence: str = "closest"


NOTHING = Inherited(spdx.NONE, "none", None)


class Directory(NamedTuple):
    """What a directory passes on to all below it, and to what bears the name of a distribution."""

    general: Inherited
    named: dict[str, Inherited]  # first path component below, lower case with `_` -> its distribution

    def of(self, component: str) -> Inherited:
        """Return what the subtree or file `component` inherits."""
        if not self.named:
            return self.general
        stem = component.removesuffix(".py").removesuffix(".libs")
        return self.named.get(_plain(stem), self.general)


def decide_directory(rows: list[Evidence]) -> Directory | None:
    """Combine the evidence of one directory, given in order of path; None when it only has annotations."""
    installed: dict[str, list[Evidence]] = {}
    for row in rows:
        if row.distribution:
            folder = row.path.removeprefix(row.root).lstrip("/").partition("/")[0]
            installed.setdefault(folder, []).append(row)
    if installed:
        decided = {folder: _decide_distribution(of_one) for folder, of_one in installed.items()}
        if len(decided) == 1:
            return Directory(next(iter(decided.values())), {})
        return Directory(_together(list(decided.values())), _by_name(decided))
    plain = [row for row in rows if row.kind in ("license", "package")]
    texts = [row for row in rows if row.kind == "text"]
    if plain:
        return Directory(_decide_plain(plain), {})
    if texts:
        named_there = and_all(text.expression for text in texts)
        return Directory(Inherited(named_there, _place(texts[0].root), texts[0].path), {})
    return None


def _decide_plain(rows: list[Evidence]) -> Inherited:
    texts = [row for row in rows if row.kind == "license"]
    declared, first = _declared(rows)
    if first is None:
        return Inherited(and_all(e.expression for e in texts), _place(rows[0].root), texts[0].path)
    if not texts:
        return Inherited(declared, "package", first.path)
    text = and_all(e.expression for e in texts)
    if text != spdx.UNKNOWN and set(symbols(text)) <= set(symbols(declared)) - {"LicenseRef-BSD"}:
        return Inherited(declared, "package", first.path)
    if license_type(declared) != "permissive" and declared != spdx.UNKNOWN:
        text = and_all([text, declared])
    return Inherited(text, _place(rows[0].root), texts[0].path)


def _decide_distribution(rows: list[Evidence]) -> Inherited:
    texts = [row for row in rows if row.kind == "license"]
    own = [row for row in texts if _is_own(row)]
    declared, first = _declared(rows)
    if first is None:
        deciding = own or texts
        return Inherited(and_all(e.expression for e in deciding), "package", deciding[0].path)
    if declared == spdx.UNKNOWN and own:
        return Inherited(and_all(e.expression for e in own), "package", own[0].path)
    kept = [e.expression for e in own if e.expression == spdx.UNKNOWN]
    if not first.exact:
        kept += [e.expression for e in own if _RESTRICTIVE & set(symbols(e.expression))]
    return Inherited(and_all([declared, *kept]), "package", first.path)


def _by_name(decided: dict[str, Inherited]) -> dict[str, Inherited]:
    """Map names of packages to their distributions; `jaraco` stands for jaraco.text and jaraco.context."""
    owners: dict[str, list[Inherited]] = {}
    for folder, one in decided.items():
        name = folder.partition("-")[0]
        for own in {_plain(name), _plain(name.partition(".")[0]), _plain(folder)}:
            owners.setdefault(own, []).append(one)
    return {name: _together(several) for name, several in owners.items()}


def _together(several: list[Inherited]) -> Inherited:
    return several[0]._replace(expression=and_all(one.expression for one in several))


def _declared(rows: list[Evidence]) -> tuple[str, Evidence | None]:
    """AND the declarations: those that are SPDX expressions, and of the others what is not permissive."""
    found = sorted((e for e in rows if e.kind == "package"), key=lambda e: (not e.exact, e.path))
    if not found:
        return spdx.NONE, None
    if not found[0].exact:
        return and_all(e.expression for e in found), found[0]
    kept = [e for e in found if e.exact or license_type(e.expression) != "permissive"]
    return and_all(e.expression for e in kept), found[0]


def _is_own(row: Evidence) -> bool:
    folders = row.path.removeprefix(row.root).lstrip("/").split("/")[1:-1]
    nested = len(folders) > (1 if folders[:1] == ["licenses"] else 0)
    return not nested and not _FOREIGN.search(row.path.rpartition("/")[2])


def _place(root: str) -> str:
    return "repo" if root == "" else "dir"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def symbols(expression: str) -> tuple[str, ...]:
    """List the symbols of an expression; none when it cannot be parsed."""
    try:
        return spdx.symbols(expression)
    except PolicyError:
        return ()


def and_all(expressions: Iterable[str]) -> str:
    """AND expressions; when the result is too long to be an expression, it is UNKNOWN."""
    try:
        return spdx.combine(expressions)
    except PolicyError:
        return spdx.UNKNOWN
