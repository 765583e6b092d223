"""Finds the copyright lines of a text, as their authors wrote them.

Method: only lines that hold `copyright`, `(c)`, `©` or `&copy;` are looked at. A line is a copyright line when it
 1. is a tag `SPDX-FileCopyrightText:` (REUSE),
 2. has `Copyright` followed by a symbol, a year, or `by` and a holder,
 3. starts with a symbol and a year, or
 4. starts with `Copyright` and a name in capitals that is no legal word ("Copyright Google LLC").
What speaks about copyright ("the above copyright notice", "copyright holders be liable") and what waits to be
filled in ("<year> <name>", "[yyyy]") is none. Comment leaders and closers are taken off, blanks are joined; a
line that ends in a comma or after its years goes on in the next. Time is linear; a line counts to 500
characters, a text to 500 different lines.

Known errors: a holder on the third line of a notice is not followed; a name that stands alone in an AUTHORS
file is no copyright line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_CANDIDATE = re.compile(r"copyright|\(c\)|©|&copy;", re.IGNORECASE)
_MAX_LINE, _MAX_LINES = 500, 500  # characters, different lines of one text
_LEADER = re.compile(
    r"^(?:[\s#*/;%!|>\"'`~+=\-–•.,:]|<!--|\(\*|\{-|\{#|@(?!c)|\\(?:par|n)\b|rem\b|dnl\b|<[a-z/][^>]{0,80}>)+",
    re.IGNORECASE,
)
_CLOSER = re.compile(
    r"(?:[\s*#/;|\"'`\\=~{}<,]|\*/|-->|--|#\}|-\}|\\n|</[a-z]\w*>|<br ?/?>)+$", re.IGNORECASE
)
_TAG = re.compile(r"SPDX-(?:File|Snippet)CopyrightText:[ \t]*(\S.*)")
_SYMBOL = r"(?:\(c\)|©|&copy;|\\\(co|\\copyright\b|<c>)"
_YEAR = r"(?:1[89]|20)\d\d"
_YEARS = rf"{_YEAR}(?:\s*(?:[-–,/&]|to|and|present|now|\s)\s*(?:{_YEAR}|\d\d(?!\d)|present|now))*"
_STATED = re.compile(
    rf"(?<![\w-])copyright(?:ed|s)?[\s:,]*(?:notice[\s:,]*)?"
    rf"(?:(?:{_SYMBOL}[\s:,]*)+(?=[\w\"'<\[&*.@])|(?=\(?{_YEAR}\b)|by[\s:]+(?=(?-i:[A-Z@])))",
    re.IGNORECASE,
)
_MARKED = re.compile(rf"{_SYMBOL}[\s:,]*(?:copyright[\s:,]*)?(?:by\s+)?\(?{_YEAR}\b", re.IGNORECASE)
_NAMED = re.compile(r"Copyright:?[ \t]+(?=(?:[A-Z][\w.&-]*|the [A-Z]))(?P<word>\w+)")
_LEGAL = frozenset(
    {
        "holder",
        "holders",
        "owner",
        "owners",
        "notice",
        "notices",
        "law",
        "laws",
        "license",
        "licence",
        "act",
        "office",
    }
    | {
        "information",
        "statement",
        "and",
        "or",
        "status",
        "policy",
        "infringement",
        "agent",
        "protection",
        "disclaimer",
        "term",
        "terms",
    }
    | {
        "is",
        "in",
        "of",
        "for",
        "year",
        "date",
        "interest",
        "claim",
        "interests",
        "all",
        "violation",
        "directive",
    }
    | {"this", "to"}
)
_PLACEHOLDER = re.compile(
    r"(?i)[<\[{(]\s*(?:yyyy|years?|dates?|name|owner|copyright|author|full ?name|company|organi[sz]ation|insert)"
    r"[^>\]})]*[>\]})]|\byyyy\b|\b(?:19|20)(?:xx|yy)\b|\{\{|<%|\$\{|%s|name of (?:author|copyright)"
)
_OPEN = re.compile(rf"(?i)(?:{_YEARS}|{_SYMBOL}|copyright)[\s,]*$|(?:,|\band|&)\s*$")
_CODE = re.compile(r"[=!]=|[;{]\s*$|\breturn\b|\(\)|=>")
_WORD = re.compile(r"[^\W\d_]{2}")


def find_copyrights(text: str) -> tuple[str, ...]:
    """List the copyright lines of a text, each once, in their order.

    >>> find_copyrights("/* Copyright (c) 2031  Ada Example. */")
    ('Copyright (c) 2031 Ada Example.',)
    """
    found: dict[str, None] = {}
    done = 0
    for candidate in _CANDIDATE.finditer(text):
        if candidate.start() < done:
            continue
        start = max(text.rfind("\n", 0, candidate.start()) + 1, candidate.start() - _MAX_LINE // 2)
        end = text.find("\n", candidate.start())
        end = len(text) if end < 0 else end
        done = min(end, start + _MAX_LINE)
        if line := _read_line(text[start:done], text[end + 1 : end + 1 + _MAX_LINE]):
            found[line] = None
            if len(found) == _MAX_LINES:
                break
    return tuple(found)


def merge_copyrights(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Join the copyright lines of several texts; sorted, those that differ only in case and blanks once."""
    kept: dict[str, str] = {}
    for line in sorted({line for group in groups for line in group}):
        kept.setdefault(" ".join(line.lower().split()).rstrip(". "), line)
    return tuple(sorted(kept.values()))


def _read_line(line: str, following: str) -> str | None:
    if tag := _TAG.search(line):
        return _tidy(tag[1]) or None
    bare = _LEADER.sub("", line.rstrip())
    match = _STATED.search(bare) or _MARKED.match(bare) or _NAMED.match(bare)
    if match is None or _PLACEHOLDER.search(bare):
        return None
    if match.re is _NAMED and (match["word"].lower() in _LEGAL or len(bare.split()) > 12):
        return None
    statement = _tidy(bare[match.start() :])
    if _OPEN.search(bare.rstrip(" */#\"'")):
        more = _LEADER.sub("", following.split("\n", 1)[0])
        if more and not _CANDIDATE.search(more) and len(more.split()) <= 12:
            statement = _tidy(f"{statement} {more}")
    rest = re.sub(rf"(?i)copyright(?:ed|s)?|{_SYMBOL}|\bby\b|all rights reserved", "", statement)
    return statement if _WORD.search(rest) and not _CODE.search(statement) else None


def _tidy(text: str) -> str:
    return " ".join(_CLOSER.sub("", text).split())
