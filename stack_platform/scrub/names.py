"""Verdicts on names of people and of accounts, in comments and strings only.

A name is looked for where a convention says that one stands: author tags, trailers of commits, copyright lines,
`TODO(name)`, home directories, `username = "…"`. Whether the place is a comment, a string or code is asked of the
syntax tree (syntax.py), where there is a grammar, and otherwise of the marks that begin a comment line. Names in
license headers stay by default: attribution is a duty of most licenses. Known errors: names elsewhere in prose (see
ner.py), names of one word, companies without a telling word.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from stack_platform.scrub.spans import Span
from stack_platform.scrub.syntax import Region, regions

TYPES = frozenset({"NAME", "USERNAME"})
BEST_SCORE = 0.46  # over every score of this module: names count from the sensitivity strict
_UPPER = re.escape("".join(filter(str.isupper, map(chr, range(0x530)))))  # Latin, Greek, Cyrillic
_PART = rf"[{_UPPER}][\w'’-]*\.?"
_PARTICLES = r"(?:(?:de|del|della|van|von|der|den|la|le|el|bin|al|di|da|du|dos|ter|ten|zu)[ \t]){0,2}"
_NAME = re.compile(rf"{_PART}(?:[ \t]{_PARTICLES}{_PART}){{1,3}}|[\u3400-\u9fff]{{2,4}}|[가-힣]{{2,4}}")
_NEXT = re.compile(r"(?:\s*<[^>\n]{3,80}>|\s*\([^)\n]{3,80}\))?[ \t]*(?:,|;|&|and\b|und\b)[ \t]*")
_ORGANIZATION = re.compile(
    r"\b(?:Inc|Ltd|LLC|GmbH|AG|SA|Corp(?:oration)?|Co|Company|Foundation|Project|Team|Group|Authors?|Contributors?"
    r"|Developers?|Community|University|Universit\w+|Institute|Laborator\w+|Software|Systems|Technolog\w+|Labs?|Networks?"
    r"|Consortium|Association|Council|Committee|Committers|Organization|Organisation|Department|Google|Microsoft|Facebook"
    r"|Amazon|Apple|Oracle|Intel|IBM|NVIDIA|Red Hat|Apache|Mozilla|Free|Open|All|Rights|Reserved|The|This|Licen[sc]e\w*"
    r"|Version|Copyright|Public|General|Regents|Holders?|Owners?|Notice|See|Use|Unless|Permission|Redistribution)\b"
)
_NOBODY = re.compile(
    r"(?:x+|redacted|"
    r"admin|administrator|alice|anonymous|app|bar|baz|bob|build|builder|centos|circleci|codespace|data"
    r"|debian|default|demo|dev|developer|docker|ec2\-user|example|false|fedora|foo|git|guest|home|jenkins"
    r"|jovyan|local|login|me|mysql|myuser|name|nobody|node|none|null|owner|pi|postgres|project|public|redis"
    r"|root|runner|shared|somebody|someone|someuser|src|string|system|test|tester|testuser|travis|true"
    r"|ubuntu|user|user1|user2|username|username1|users|vagrant|value|vscode|work|workspace|www|www\-data"
    r"|you|your|your\-username|yourname"
    r")\Z"
)
_ACCOUNT = re.compile(r"[A-Za-z][A-Za-z0-9._-]{1,38}\Z")
_HEADER = re.compile(r"copyright|licen[sc]e|spdx-", re.IGNORECASE)
_COMMENT_LINE = re.compile(r"[ \t]*(?:#|//|/?\*|--|;|%|\"\"\"|'''|<!--|rem\b|dnl\b|\.\.)", re.IGNORECASE)
_PROSE = re.compile(
    r"(?:^|/)[^/.]*$|\.(?:md|markdown|rst|txt|adoc|org|tex|html?|patch|diff|log)$", re.IGNORECASE
)
_TOP = re.compile(
    r"\s*(?:<\?(?:php|xml[^>]{0,80}\?>))?\s*"
)  # what may stand before or between the comments of a header
_MAX_NAMES = 12
_HEADER_WITHIN = 40  # lines


def person(text: str, _: int, end: int) -> Iterator[Span]:
    """Judge the names that follow the announcement in a hit."""
    place = end - 1
    high = text.find("\n", place)
    high = min(len(text) if high < 0 else high, place + 300)
    for _ in range(_MAX_NAMES):
        found = _NAME.match(text, place, high)
        if found is None:
            return
        value = found.group().rstrip(".,'’-")
        if not _ORGANIZATION.search(value):
            yield Span(place, place + len(value), "NAME", "sp.name", 0.45)
        following = _NEXT.match(text, found.end(), high)
        if following is None:
            return
        place = following.end()


def username(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the account at the end of a hit."""
    if "@" in text[start:end] and text[end : end + 1] == "/":
        return  # a scope of packages
    value = text[start:end].rstrip("\"')")
    found = _ACCOUNT.search(value)
    last = start + len(value)
    if found and not _NOBODY.match(found.group().lower().rstrip(".-_")) and not found.group().isupper():
        yield Span(last - len(found.group()), last, "USERNAME", "sp.username", 0.45)


def in_prose_only(spans: Sequence[Span], text: str, path: str, *, keep_license_headers: bool) -> list[Span]:
    """Drop the names that stand in code, and with `keep_license_headers` those in the header of the file."""
    found = regions(text, path)
    areas = found if found is not None else _comment_lines(text, path)
    header = _license_header(text, areas) if keep_license_headers else 0
    starts = [area.start for area in areas]
    kept = []
    for span in spans:
        if span.type in TYPES and span.rule.startswith("sp."):
            place = bisect_right(starts, span.start) - 1
            if place < 0 or areas[place].end < span.end or span.start < header:
                continue
        kept.append(span)
    return kept


def _license_header(text: str, areas: Sequence[Region]) -> int:
    """Return where the comments at the top of a file end that speak of a license, or 0."""
    end = low = 0
    for area in areas:
        deep = text.count("\n", 0, area.start) > _HEADER_WITHIN
        if area.kind != "comment" or deep or not _TOP.fullmatch(text, low, area.start):
            break
        low = area.end
        if _HEADER.search(text, area.start, area.end):
            end = area.end
    return end if end == 0 else low


def _comment_lines(text: str, path: str) -> list[Region]:
    """Take for comments the lines that begin like one; in prose, all of them."""
    if _PROSE.search(path):
        return [Region(0, len(text), "text")]
    areas = []
    low = 0
    for line in text.splitlines(keepends=True):
        if _COMMENT_LINE.match(line):
            areas.append(Region(low, low + len(line), "comment"))
        low += len(line)
    return areas
