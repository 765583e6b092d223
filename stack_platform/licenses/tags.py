"""Reads `SPDX-License-Identifier` lines and other labels that name a license on one line.

Method: a tag counts when its line holds nothing before it but comment leaders, and when its value is an
SPDX expression of known symbols or `LicenseRef-*`. A tag inside a string, a pattern or a template is code
that talks about tags. A real tag whose value nobody knows is `UNKNOWN`. Source: SPDX specification 3.0.1,
annex B.5 ("using SPDX short-form identifiers in source files"); REUSE 3.3 for `REUSE-IgnoreStart`.

Known error: a tag quoted at the start of a documentation line is read as a statement.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx
from stack_platform.licenses.restrictions import within
from stack_platform.licenses.rules import table
from stack_platform.licenses.tokens import as_phrase, find_keywords

_TAG = re.compile(rb"(?i)SPDX-License-Identifier:[ \t]*([^\r\n]{0,600})")
_LABEL = re.compile(
    rb"(?im)^[ \t]{0,80}(?:[#*;%!/.\-\"|]|\(\*|<!--|REM |dnl ){0,8}[ \t]{0,40}"
    rb"(?:@licen[cs]e:?|licen[cs]e:|licen[cs]ed? under:|__licen[cs]e__ ?=)[ \t]*([^\r\n]{1,160})"
)
_LEADER = re.compile(rb"(?i)^(?:[^a-z0-9\"'`\\(=$]|\(\*|\"\"\"|'''|\bdnl\b|\brem\b|\bc\b|\.\\\"){0,60}$")
_CLOSERS = ("*/", "*)", "-->", "->", '"""', "'''", "%}", "]]", "|#", "*", "#", ";", "%", "//", "--", "\\n")
_TEMPLATE = re.compile(r"[{}<>$%\\`\"'=\[\]|^?@*]|\.\.\.|\b(?:expression|identifier|xxx)\b", re.IGNORECASE)


_URL = re.compile(
    rb"(?i)https?://(?:www\.)?(?:(?:opensource|spdx)\.org/licen[cs]es?/(?P<id>[a-z0-9][a-z0-9.+-]{1,40})"
    rb"|creativecommons\.org/(?:licenses/(?P<cc>by(?:-nc)?(?:-nd|-sa)?)/(?P<version>[1-4]\.[05])|publicdomain/(?P<zero>zero/1\.0))"
    rb"|gnu\.org/(?:copyleft|licen[cs]es)/(?:old-licenses/)?(?P<gnu>fdl|gpl|lgpl|agpl)(?:-(?P<gnu_version>[123]\.[0-3]))?"
    rb"|(?P<apache>apache\.org/licen[cs]es/licen[cs]e-2\.0)|(?P<mpl>mozilla\.org/mpl/2\.0)|(?P<boost>boost\.org/license_1_0))"
)
_URL_WORD = re.compile(rb"(?i)licen[cs]ed?\b[^\r\n]{0,60}$")
_LEAD = 200  # bytes; what stands before a label in its line is shorter
_HEAD = 2048  # bytes; an address further down is code or documentation
_FAR = 4096  # bytes; comment leaders, with byte order marks among them, are shorter
_SHORT = 400  # bytes; a text this short is nothing but its reference


class Tag(NamedTuple):
    """A one-line statement; `start` and `end` are byte offsets of the value's line part."""

    expression: str
    rule: str
    start: int
    end: int


def find_tags(content: bytes, hits: list[int] | None = None) -> list[Tag]:
    """List the SPDX tags of a content in order; templates and code are left out.

    `hits` are the offsets of its keywords (`tokens.find_keywords`), if the caller has them.
    """
    tags: list[Tag] = []
    starts = _starts(content, b"spdx", hits)
    skipped = _ignored(content) if starts else []
    end = 0
    for hit in starts:
        match = _TAG.match(content, hit) if hit >= end else None
        if match is None:
            continue
        end = match.end()
        if within(hit, skipped) or not _LEADER.match(_before(content, hit)):
            continue
        expression = _read_value(match.group(1).decode("utf-8", errors="replace"))
        if expression is not None:
            tags.append(Tag(expression, "spdx-license-identifier", match.start(), match.end()))
    return tags


def _before(content: bytes, at: int) -> bytes:
    """Return what stands before a tag in its line; of a line that is too long for a tag, only the end."""
    start = content.rfind(b"\n", max(0, at - _FAR), at) + 1 or max(0, at - _FAR)
    start = max(start, content.rfind(b"\r", start, at) + 1)
    return content[start:at].replace(b"\xef\xbb\xbf", b"")


def _ignored(content: bytes) -> list[tuple[int, int]]:
    """List the sorted, disjoint ranges between REUSE-IgnoreStart and REUSE-IgnoreEnd."""
    ranges = []
    start = content.find(b"REUSE-IgnoreStart")
    while start >= 0:
        end = content.find(b"REUSE-IgnoreEnd", start)
        ranges.append((start, end if end >= 0 else len(content)))
        start = content.find(b"REUSE-IgnoreStart", end) if end >= 0 else -1
    return ranges


def _without_closer(value: str) -> str:
    """Drop what ends a comment from the end of a line."""
    value = value.strip()
    while closer := next((c for c in _CLOSERS if value.endswith(c)), None):
        value = value[: -len(closer)].rstrip()
    return value


def _starts(content: bytes, word: bytes, hits: list[int] | None) -> list[int]:
    """List where a word stands that is the beginning of a keyword, in upper or lower case."""
    hits = find_keywords(content) if hits is None else hits
    initials, size = (word[0], word[:1].upper()[0]), len(word)
    return [hit for hit in hits if content[hit] in initials and content[hit : hit + size].lower() == word]


def find_labels(content: bytes, hits: list[int] | None = None) -> list[Tag]:
    """List lines such as `@license MIT` whose value is exactly a name of the rule table.

    `hits` are the offsets of the content's keywords (`tokens.find_keywords`), if the caller has them.
    """
    starts = (content.rfind(b"\n", max(0, hit - _LEAD), hit) + 1 for hit in _starts(content, b"licen", hits))
    labels = []
    for start in dict.fromkeys(starts):
        match = _LABEL.match(content, start)
        if match is None:
            continue
        value = match.group(1).decode("latin-1").strip().strip("\"'").strip()
        value = _without_closer(value).rstrip(" .,")
        expression = name_to_expression(value)
        if expression is not None:
            labels.append(Tag(expression, "license-label", match.start(1), match.end()))
    return labels


def find_urls(content: bytes) -> list[Tag]:
    """List addresses of well-known license texts: the whole content, or one after the word license in the head.

    A content that names several is about licenses; it states none.
    """
    bare = len(content) <= _SHORT
    found: list[Tag] = []
    if content.find(b"://", 0, _HEAD + _SHORT) < 0:
        return found
    for match in _URL.finditer(content, 0, _HEAD + _SHORT):
        line = content[max(0, match.start() - 90) : match.start()]
        expression = _read_url({k: (v or b"").decode("latin-1") for k, v in match.groupdict().items()})
        if expression is not None and (bare or (match.start() < _HEAD and _URL_WORD.search(line))):
            found.append(Tag(expression, "license-url", match.start(), match.end()))
    return found if bare or len({tag.expression for tag in found}) == 1 else []


def _read_url(parts: dict[str, str]) -> str | None:
    """Translate the parts of a license address to SPDX; None when they are no known license."""
    if parts["id"]:
        name = re.sub(r"(?i)\.(?:html?|php|txt|json)$", "", parts["id"]).rstrip(".")
        candidates = [name, re.sub(r"(?i)-licen[cs]e(?:-|$)", "-", name).strip("-")]
        return next((spdx.normalize(c) for c in candidates if spdx.is_known(c)), None)
    if parts["cc"]:
        candidate = f"CC-{parts['cc']}-{parts['version']}"
        return spdx.normalize(candidate) if spdx.is_known(candidate) else None
    if parts["gnu"]:
        family = {"fdl": "GFDL"}.get(parts["gnu"].lower(), parts["gnu"].upper())
        newest = {"GFDL": "1.3"}.get(family, "3.0")
        candidate = f"{family}-{parts['gnu_version'] or newest}-only"
        return candidate if spdx.is_known(candidate) else None
    fixed = {"zero": "CC0-1.0", "apache": "Apache-2.0", "mpl": "MPL-2.0", "boost": "BSL-1.0"}
    return next(expression for key, expression in fixed.items() if parts[key])


def _read_value(value: str) -> str | None:
    """Return the expression of a tag's value, UNKNOWN for a value nobody knows, None for a template."""
    value = _without_closer(value).rstrip(".,;")
    if not value or _TEMPLATE.search(value):
        return None
    if spdx.is_known(value):
        return spdx.normalize(value)
    return name_to_expression(value) or spdx.UNKNOWN


def name_to_expression(value: str) -> str | None:
    """Translate a license field as people write it ('MIT License', 'Apache 2.0', 'GPLv3+') to SPDX.

    Returns None when the words are not exactly a known name, and for `NONE`-like values.

    >>> name_to_expression("The MIT License"), name_to_expression("GPLv3+"), name_to_expression("see below")
    ('MIT', 'GPL-3.0-or-later', None)
    """
    from stack_platform.licenses.references import read_gnu_name

    text = " ".join(value.split())[:300]
    if spdx.is_known(text):
        return spdx.normalize(text)
    phrase = as_phrase(text)
    for lead in (" the ", " gnu "):
        if phrase.startswith(lead) and phrase not in table().field_names:
            phrase = phrase[len(lead) - 1 :]
    if phrase in table().field_names:
        return table().field_names[phrase]
    if gnu := read_gnu_name(phrase):
        return gnu
    return _read_list(text)


def _read_list(text: str) -> str | None:
    """Read 'MIT or Apache-2.0', 'MIT/Apache-2.0' and 'MIT, BSD' (the comma and 'and' mean AND)."""
    for separator, operator in ((r"\s+or\s+|\s*/\s*|\s*\|\|?\s*", "OR"), (r"\s+and\s+|\s*[,;&]\s*", "AND")):
        parts = [part.strip(" ()") for part in re.split(separator, text, flags=re.IGNORECASE)]
        if 1 < len(parts) <= 6 and all(parts):
            names = [name_to_expression(part) if len(part) < len(text) else None for part in parts]
            try:
                return spdx.combine([n for n in names if n], operator) if all(names) else None
            except PolicyError:
                return None
    return None
