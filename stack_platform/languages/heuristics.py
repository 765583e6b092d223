r"""Tell languages apart that share an extension, by what only one of them writes.

The rules are data, in `heuristics.toml`: extension -> ordered (language, patterns), written for this project. A rule
speaks only where several languages claim an extension, or where the extension is so common that its name says
nothing (`GENERIC`). Only the first 50 KiB count. Line ends become `\n` first, so that old Mac and Windows files obey
the same patterns. Patterns take time linear in the file; a test feeds each of them the inputs that make others slow.
"""

import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from stack_platform.languages.catalog import catalog, extensions_of

CONSIDERED_BYTES = 50 * 1024
"""Bytes from the start of a file that decide (50 KiB, as linguist)."""

GENERIC = frozenset(
    f".{name}" for name in (*"123456789", "app", "cmp", "msg", "resource", "sol", "stl", "tag", "url")
)
"""Extensions that many programs use for their own data: the name alone is no evidence, a rule has to hold."""

_TOKEN = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]")
"""An escape, or a whole character class."""

_ANCHOR = re.compile(r"(?P<case>\(\?i:)?(?P<at>\^|\\A)")
"""What a pattern may start with, after which it is filed by where it may stand."""

_CPP_MARKS = rb"""
    \bstd:: | ^[ \t]*template[ \t]*< | ^[ \t]*(?:class|namespace)[ \t]+\w+[^;\n]*(?:\{|$) | \w::~?\w+[ \t]*\(
  | ^[ \t]*using[ \t]+namespace | extern[ \t]+"C" | ^\#[ \t]*include[ \t]*<\w+> | \b(?:static|dynamic)_cast<
"""
_TYPESCRIPT_MARKS = rb"""
    ^[ \t]*[^\s*/'"`][^\n'"`*]{0,200}[\w)\]?]:[ \t]*(?:string|number|boolean|void|any|unknown|never)\b(?![ \t]*[:(.])
  | ^[ \t]*(?:export[ \t]+)?(?:
        declare[ \t]+\w+ | interface[ \t]+\w+[^\n(=]{0,200}\{ | type[ \t]+\w+(?:<[^>\n]{0,100}>)?[ \t]*=
      | (?:const[ \t]+)?enum[ \t]+\w+[ \t]*\{ | namespace[ \t]+[\w.]+[ \t]*\{ | abstract[ \t]+class\b
    )
  | ^import[ \t]+type\b
"""
_DIALECTS = tuple(
    (smaller, larger, re.compile(marks, re.MULTILINE | re.VERBOSE))
    for smaller, larger, marks in (
        ("Objective-C", "Objective-C++", _CPP_MARKS),
        ("M4", "M4Sugar", rb"\b(?:A[CMSUTX]|m4|_?LT|PKG)_[A-Za-z]\w+"),
        ("JavaScript", "TypeScript", _TYPESCRIPT_MARKS),
    )
)
"""A language, its superset, and what only the superset writes."""

_RULES_FILE = Path(__file__).with_name("heuristics.toml")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the rules: the language, and what its files contain, sorted by where it may stand."""

    language: str
    """Linguist's name."""
    at_start: re.Pattern[bytes] | None = None
    """Holds where the file starts with it."""
    at_line: re.Pattern[bytes] | None = None
    """Holds where a line starts with it; begins with the line end before, which `re` finds far faster than ^."""
    anywhere: re.Pattern[bytes] | None = None
    """Holds where the file contains it."""

    def has_pattern(self) -> bool:
        """Tell whether anything has to be found."""
        return not (self.at_start is None and self.at_line is None and self.anywhere is None)

    def holds(self, after_line_end: bytes) -> bool:
        """Tell whether any pattern is found in a text that a line end was put before; a rule without one holds."""
        if not self.has_pattern():
            return True
        return bool(
            (self.at_start and self.at_start.match(after_line_end, 1))
            or (self.at_line and self.at_line.search(after_line_end))
            or (self.anywhere and self.anywhere.search(after_line_end, 1))
        )


@cache
def _sources() -> MappingProxyType[str, tuple[tuple[str, ...], ...]]:
    sections = tomllib.loads(_RULES_FILE.read_text(encoding="utf-8"))
    return MappingProxyType(
        {
            extension: tuple(tuple(line) for line in lines)
            for extensions, lines in sections.items()
            for extension in extensions.split()
        }
    )


def extensions() -> tuple[str, ...]:
    """Return the extensions that have rules, sorted."""
    return tuple(sorted(_sources()))


@cache
def rules(extension: str) -> tuple[Rule, ...]:
    """Return the rules of a lower-case extension with its dot, compiled; none where it has no rules."""
    return tuple(_rule(language, patterns) for language, *patterns in _sources().get(extension, ()))


def _rule(language: str, patterns: list[str]) -> Rule:
    start: list[str] = []
    line: list[str] = []
    anywhere: list[str] = []
    for pattern in patterns:
        anchor = _ANCHOR.match(pattern)
        if anchor is None:
            anywhere.append(pattern)
        else:
            rest = (anchor["case"] or "") + pattern[anchor.end() :]
            (start if anchor["at"] == r"\A" else line).append(rest)
    return Rule(language, _compiled(start), _compiled(line, before=r"\n"), _compiled(anywhere))


def _compiled(patterns: list[str], before: str = "") -> re.Pattern[bytes] | None:
    if not patterns:
        return None
    text = before + "(?:" + "|".join(f"(?:{pattern})" for pattern in patterns) + ")"
    return re.compile(_TOKEN.sub(_without_h, text).encode(), re.MULTILINE)


def _without_h(token: re.Match[str]) -> str:
    text = token[0]
    if text == r"\h":
        return r"[ \t]"
    return text.replace(r"\h", r" \t") if text.startswith("[") else text


def normalized(content: bytes) -> bytes:
    r"""Return the first 50 KiB with `\n` as the only line end."""
    start = content[:CONSIDERED_BYTES]
    return start.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in start else start


def by_rules(name: str, content: bytes, candidates: Collection[str]) -> str | None:
    """Return the first language among the candidates whose rule holds, by the longest extension that has rules.

    Without candidates every rule of the extension is tried.
    """
    known = _sources()
    extension = next((each for each in extensions_of(name) if each in known), None)
    if extension is None:
        return None
    text = b"\n" + normalized(content)
    for rule in rules(extension):
        if candidates and rule.language not in candidates:
            continue
        if rule.holds(text):
            return rule.language
    return None


def between(rivals: Sequence[str], content: bytes) -> str | None:
    """Return the rival whose rule holds, by the extensions that it shares with the first one, or None.

    A rule without a pattern says what is left when an extension is known; here it says nothing.
    """
    if len(rivals) < 2:
        return None
    text = b"\n" + normalized(content)
    known = _sources()
    languages = catalog().languages
    for extension in languages[rivals[0]].extensions if rivals[0] in languages else ():
        for rule in rules(extension) if extension in known else ():
            if rule.language in rivals and rule.has_pattern() and rule.holds(text):
                return rule.language
    return None


def dialect(language: str, content: bytes) -> str:
    """Return the relative whose marks the text shows or lacks, where a language and its superset look alike.

    >>> dialect("Objective-C++", b"@implementation A"), dialect("JavaScript", b"let a: string = b;")
    ('Objective-C', 'TypeScript')
    """
    for smaller, larger, marks in _DIALECTS:
        if language in {smaller, larger}:
            return larger if marks.search(normalized(content)) else smaller
    return language
