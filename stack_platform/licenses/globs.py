"""Path patterns of REUSE.toml and DEP-5 in one form, matched in linear time by RE2.

The form: `*` is any run of characters without `/`, `**` any run at all, `**/` as a whole component any
number of folders (also none, as the REUSE tool has it), `?` one character, and a backslash makes the next
character literal. REUSE (specification 3.3) has no `?`; in DEP-5 (Debian's machine-readable copyright format
1.0) a single `*` crosses `/`. A pattern covers a whole path below the folder of its file.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(r"\\(.)|(?P<folders>(?:^|(?<=/))\*\*+/)|(\*+)|(\?)|(.)|\\", re.DOTALL)
_MAX_CHARS = 1000  # a longer pattern names no path of a file system


class Glob(NamedTuple):
    """A pattern ready to match: an RE2 expression, the text before its first wildcard, and what kind it is."""

    regex: str
    prefix: str
    literal: bool  # no wildcard: `prefix` is the one path it matches


def from_reuse(pattern: str) -> str:
    """Translate a `path` of REUSE.toml, where `?` is itself."""
    return re.sub(r"(?s)\\.|\?", lambda m: r"\?" if m[0] == "?" else m[0], pattern)


def from_dep5(pattern: str) -> str:
    """Translate a pattern of a `Files:` field.

    >>> from_dep5("./src/*.c")
    'src/**.c'
    """

    def star(match: re.Match[str]) -> str:
        return match[0] if match[1] is None else "**" + match[1].replace("/", r"\/")

    starred = re.sub(r"(?s)\\.|\*+(/?)", star, pattern)
    return starred.removeprefix("./")


def compile_glob(pattern: str) -> Glob | None:
    """Make a pattern of the common form ready to match; None when it is too long to name a path."""
    if len(pattern) > _MAX_CHARS:
        return None
    prefix, regex, literal = [], [], True
    for escaped, folders, stars, one, plain in (m.groups() for m in _TOKEN.finditer(pattern)):
        if folders or stars or one:
            literal = False
            regex.append("(?:.*/)?" if folders else "." if one else ".*" if len(stars) > 1 else "[^/]*")
            continue
        character = escaped or plain or "\\"
        regex.append(re.escape(character))
        if literal:
            prefix.append(character)
    return Glob(f"(?s)^{''.join(regex)}$", "".join(prefix), literal)


def escape(path: str) -> str:
    """Write a path as the pattern that matches only it."""
    return re.sub(r"([\\*?])", r"\\\1", path)
