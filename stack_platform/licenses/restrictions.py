"""The restriction guard: words beside a license that take away what the license gives.

Method: what no rule explained (`Tokens.rest`) is searched in two ways. Phrases of restriction from the
rule table (Commons Clause, non-commercial, evaluation only, military, training of models, employees above
a number, "but not sublicense", proprietary ...) count near a license statement. A text that is nothing
but a license (a license file, or prose that is mostly license text) is a closed world: every word that
sets a condition ("only", "must", "except", "if you" ...) and that no rule explained is an additional
term. This is the hole that ScanCode, licensee and licensecheck share: license text plus a restriction is
reported as the plain license.

Known error: a description beside the notice ("must be kept in sync with the other file") can look like a
restriction; the file is then not permissive, which is the safe side. A restriction far from the notice in
source code is seen only when it names itself (Commons Clause ...), or the file ("this code") and money.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from typing import TYPE_CHECKING

from stack_platform.licenses.rules import Match, rules_in
from stack_platform.licenses.tokens import find_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stack_platform.licenses.tokens import Tokens

ADDITIONAL_TERMS = "LicenseRef-additional-terms"

_ADVERBS = (
    r"(?:be )?(?:otherwise |further |also |in any way |commercially |knowingly |allowed to |permitted to )?"
)
_ACTS = (
    r"(?:use|used|copy|copied|distribute|distributed|redistribute|redistributed|modify|modified|sell|sold|resell"
    r"|reproduce|reproduced|sublicense|sublicensed|disclose|disclosed|publish|published|rent|lease|host|hosted|train"
    r"|share|remove) "
)
_DEONTIC = re.compile(
    rf" (?:may|shall|must|can|could|should|do|will|agree|don t|can t) not {_ADVERBS}{_ACTS}"
    rf"| (?:is|are) not (?:to be |allowed to |permitted to ){_ACTS}"
    rf"| (?:cannot|can t|don t|never) {_ADVERBS}{_ACTS}"
    r"| (?:solely|only|exclusively) (?:for|in|by|with|to|if|when|under|on) (?:the )?(?:use|internal|personal|academic"
    r"|research|non|educational|private|evaluation|members|customers|employees|purpose|purposes)"
    r"| (?:without|unless)(?: [a-z]+){0,6} (?:permission|consent|authorization|approval|agreement) "
)
_CONDITION = re.compile(
    r" (?:not|cannot|don t|can t|never|only|solely|exclusively|must|shall|(?:you|users?|licensees?) should"
    r"|have to|has to|needs?|requires?|required|except|exception|excluding|excluded|unless|without"
    r"|prohibit[a-z]*|forbid[a-z]*|disallow[a-z]*|deny|denied|revoked?|expires?|terminat[a-z]+"
    r"|restrict[a-z]*|provided that|agree|owe|pay|fee|commercial|commercially|personal|internal"
    r"|confidential|revocable|no rights?|ends|until|businesses|hobbyists|purchase|buy|subscription"
    r"|contact sales|if you|you may|may use|military|students|customers) "
)
_OBJECT = re.compile(
    r" (?:software|program|code|work|works|copy|copies|license|licensed|licensee|library|source|materials|package"
    r"|product|products|redistribut[a-z]+|derivative|permission|rights|use|uses|used|usage|using|granted|commercial) "
)
_LICENSE_WORD = re.compile(
    r" (?:software|permission|rights|granted|redistribut[a-z]+|this license|the license|license (?:is|to|may|shall)"
    r"|derivative|this (?:code|file|program|repository) (?:is|may|must|shall|can|for|to|in)|use this|use it|uses are"
    r"|all uses?|not used|used for|modified versions?|same license|derivative works?|forks?) "
)
_FAR = frozenset(
    ("non-commercial", "not-for-sale", "pay")
)  # restrictions that code does not speak of otherwise
_ITSELF = re.compile(
    r" this (?:file|software|code|source|source code|program|library|module|script|package|work) "
)
_NEAR = 420  # characters, about 60 tokens: as far as a sentence of the same notice reaches
_CLOSE = 110  # characters, about 16 tokens: the sentence before or after
_AROUND = 80  # characters in which words of restriction must name a licensed object
_MOSTLY = 0.4  # share of explained tokens above which prose is a license text

Range = tuple[int, int]


def find_restrictions(
    tokens: Tokens, anchors: Sequence[Range], texts: Sequence[Range], *, closed: bool
) -> list[Match]:
    """List restrictions in what no rule explained.

    `anchors` are the ranges of all statements, `texts` the merged ranges of license texts, whose gaps are
    known words; `closed` says that the whole text is a license.
    """
    rest = tokens.rest
    near, close = merge(anchors, _NEAR), merge(anchors, _CLOSE)

    def counts(start: int, end: int) -> bool:
        return closed or within(start, close) or (within(start, near) and _names(_OBJECT, rest, start, end))

    found = []
    for name, phrase, scope in rules_in(tokens).restrictions:
        for at in find_all(rest, phrase):
            end = at + len(phrase) - 1
            if scope == "sentence" and not closed and not _names(_LICENSE_WORD, rest, at, end):
                continue
            named = scope == "anywhere" or (name in _FAR and _names(_ITSELF, rest, at, end))
            if named or counts(at, end):
                tier = "restriction-anywhere" if named else "restriction"
                found.append(Match(ADDITIONAL_TERMS, name, tier, at, end))
                break
    if not anchors and not closed:
        return found
    found += _first(_DEONTIC, "deontic", tokens, counts)
    if closed:
        found += _first(_CONDITION, "condition", tokens, lambda start, _: not within(start, texts))
    else:
        found += _first(_CONDITION, "condition", tokens, lambda s, e: _conditional(rest, s, e, close, texts))
    return found


def may_add(around: Tokens, *, speaks: bool) -> bool:
    """Say whether comments beside a statement may add to it: a name, a grant or a restriction.

    `speaks` says that the statement's own comment has words about the license that no rule explained.
    """
    if not around.words:
        return False
    rows = rules_in(around)
    phrases = (*rows.names, *(row.phrase for row in rows.restrictions), *rows.grants)
    if rows.texts or rows.notices or any(phrase in around.rest for phrase in phrases):
        return True
    if not _holds(around, _CONDITION):
        return False
    return speaks or _holds(around, _LICENSE_WORD) or _holds(around, _DEONTIC)


def speaks_of_license(tokens: Tokens) -> bool:
    """Say whether words about the license are left that no rule explained."""
    return _holds(tokens, _LICENSE_WORD)


def _holds(tokens: Tokens, pattern: re.Pattern[str]) -> bool:
    return next(tokens.search(pattern), None) is not None


def is_mostly_license(tokens: Tokens, texts: Sequence[Range]) -> bool:
    """Say whether full license texts make up most of a text."""
    words = tokens.text.count(" ")
    return sum(tokens.text.count(" ", start, end) for start, end in texts) > _MOSTLY * words


def merge(ranges: Iterable[Range], by: int = 0) -> list[Range]:
    """Widen ranges by some characters and join those that touch; the result is sorted and disjoint."""
    merged: list[Range] = []
    for start, end in sorted((start - by, end + by) for start, end in ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def within(at: int, merged: Sequence[Range]) -> bool:
    """Say whether a position lies in one of some sorted, disjoint ranges.

    >>> within(3, [(0, 2), (3, 5)]), within(2, [(0, 2), (3, 5)])
    (True, False)
    """
    i = bisect_right(merged, (at, sys.maxsize)) - 1
    return i >= 0 and merged[i][0] <= at < merged[i][1]


def _first(
    pattern: re.Pattern[str], name: str, tokens: Tokens, counts: Callable[[int, int], bool]
) -> list[Match]:
    for hit in tokens.search(pattern):
        if counts(hit.start(), hit.end()):
            return [Match(ADDITIONAL_TERMS, name, "restriction", hit.start(), hit.end() - 1)]
    return []


def _conditional(rest: str, start: int, end: int, close: Sequence[Range], texts: Sequence[Range]) -> bool:
    """In source code a condition must stand in the sentence beside the statement and name the license."""
    if not within(start, close) or within(start, texts):
        return False
    return _names(_LICENSE_WORD, rest, start, end)


def _names(pattern: re.Pattern[str], rest: str, start: int, end: int) -> bool:
    return pattern.search(rest, max(0, start - _AROUND), min(len(rest), end + _AROUND)) is not None
