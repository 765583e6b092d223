"""Reads sentences that name a license: "licensed under the MIT license", "GPL, version 2 or later".

Method: a lead ("licensed under", "under the terms of", "distributed under" ...) followed by filler words
and a name of the rule table is a statement; a name alone is not. The GNU family has its own grammar,
because version and "or later" stand before or after the name in a hundred ways. Two names joined by "or"
after one lead are a choice (OR); so is "dual licensed under A and B", and a notice that starts with
"alternatively". Everything else adds up (AND).

Known error: the name after the lead is taken at its word; "not licensed under the GPL" is a GPL statement,
which errs on the safe side; "not licensed under the MIT license" is UNKNOWN.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from stack_platform.licenses import spdx
from stack_platform.licenses.rules import Match, rules_in, table

if TYPE_CHECKING:
    from stack_platform.licenses.tokens import Tokens

_FILLER = (
    r"(?: (?:the|a|an|terms|term|conditions|condition|and|of|either|standard|permissive|open|source|free|software"
    r"|following|version|both|your|choice|in|liberal|very|simple|s|with|one|this|provisions|same|under|by|to|as|is"
    r"|osi|approved|gnu|whole|licenses?|any|all|part)){0,10}?"
)
_LEAD = (
    r" (?:dual licensed|double licensed|tri licensed|triple licensed|licensed|licensable|relicensed|released"
    r"|released out|distributed|redistributed?|made available|available|published|provided|covered|governed"
    r"|contributed|offered|subject|used|use|usable|copied|copying|modified|modify it|modify|redistribute it|files?"
    r"|code|software|under|license|license is|licenses?|licensing)"
    r"(?: (?:it|this \w+|and or modify it|and or modify|only|freely|openly|here|for use|at your option|also)){0,2}"
    r" (?:under|via|by|to|is|are|with|according to|in accordance with|pursuant to|terms of)"
)
_GNU = re.compile(
    r" (?:gnu )?(?:(?P<kind>affero|lesser|library)(?: (?:or |and )?(?:lesser|library))? )?"
    r"(?:(?:gnu )?(?:general public|generic public|gnu public) (?:license|licenses)(?: (?:[al]?gpl)(?=[ ]))?"
    r"(?:v(?P<p0>\d))?|(?P<short>[al]?gpl)(?:v?(?P<p1>\d))?)(?= )"
)
_AFTER = re.compile(
    r"(?: (?:as|published|by|the|free|software|foundation|either|gnu|license|licenses|under|inc|general|public|fsf"
    r"|agreement)){0,12}?(?: (?:v|version|versions|ver|rev|revision|v(?=\d)))? ?(?<= )?v?(?P<major>[123])"
    r"(?: (?P<minor>[01])(?= ))?(?= )"
)
_BEFORE = re.compile(
    r" (?:v|version|versions)? ?v?(?P<major>[123])(?: (?P<minor>[01]))?"
    r"(?P<later> \+| or (?:at your option )?(?:any )?(?:later|newer)(?: version)?| or higher)?"
    r"(?: (?:of|the|only|terms|either)){0,4}$"
)
_LATER = re.compile(
    r" (?:or|and)(?: [a-z]{1,8}){0,4}? (?:later|newer|higher|greater|above|subsequent)(?: versions?)?(?= )"
    r"| \+(?= )| any (?:later|newer|higher|subsequent)(?= )| any version(?= )"
)
_OR_NEXT = re.compile(
    r"(?: of the license)? (?:or|and or)(?: at your option)?(?: the)? (?:version |v)"
    r"(?P<major>[23])(?: (?P<minor>[01]))? "
)
_CONTEXT = re.compile(
    r" (?:under|terms|licensed|covered|governed|subject|pursuant|approved|license (?:is|as|for|used|to|of)"
    r"|licenses are) (?:[a-z0-9+]+ ){0,9}$"
    r"| (?:file|program|code|software|library|module|script|package|project) is (?:[a-z0-9]+ ){0,3}$"
)
_NO_STATEMENT = re.compile(
    r" (?:copy of|compatible with|incompatible|unlike|see|like|such as|refer to|than|not|text of|non|contact"
    r"|exception to|including) (?:the )?(?:terms of the )?$"
)
_NEGATED = re.compile(
    r" (?:not|never|no longer|isn t|aren t|formerly|previously|once|was|were)(?: be| been)? $"
)


@cache
def _named() -> re.Pattern[str]:
    """Compile lead + filler + name; longer names first."""
    return re.compile(f"{_LEAD}{_FILLER} (?P<name>{_alternatives()})(?= )")


@cache
def _next_name() -> re.Pattern[str]:
    """Compile what follows a name when another one follows: "or the Apache license"."""
    joined = r"(?: licenses?)? (?P<word>or|and|and or)(?: (?:the|under|a|an|terms|of)){0,6}"
    return re.compile(rf"{joined} (?P<name>{_alternatives()})(?= )")


def _alternatives() -> str:
    return "|".join(
        re.escape(name) for name in sorted((n.strip() for n in table().names), key=lambda n: (-len(n), n))
    )


def read_gnu_name(phrase: str) -> str | None:
    """Read a phrase that is nothing but a name of the GNU family with its version.

    >>> read_gnu_name(" gnu lesser general public license v2 1 or later ")
    'LGPL-2.1-or-later'
    """
    match = _GNU.search(phrase)
    if match is None or match.start() > 12 or len(phrase) > 140:
        return None
    return _gnu_expression(phrase, match)[0]


def match_references(tokens: Tokens) -> list[Match]:
    """Find sentences that name a license in what is not yet explained, and hide them from `tokens.rest`."""
    found = _gnu_references(tokens)
    tokens.hide([(match.start, match.end) for match in found])
    for named in tokens.search(_named()) if rules_in(tokens).names else ():
        key = table().names[f" {named.group('name')} "]
        end = named.end()
        choice = re.search(r" (?:dual|double|either|tri|triple) ?(?:licensed)?", named.group()) is not None
        while follow := _next_name().match(tokens.rest, end):
            other = table().names[f" {follow.group('name')} "]
            key = spdx.combine([key, other], "OR" if choice or follow.group("word") == "or" else "AND")
            end = follow.end()
        if _NEGATED.search(tokens.rest, max(0, named.start() - 30), named.start() + 1):
            key = spdx.UNKNOWN
        found.append(Match(key, "named-license", "reference", named.start(), end))
    tokens.hide([(match.start, match.end) for match in found])
    return sorted(found, key=lambda m: m.start)


def _gnu_references(tokens: Tokens) -> list[Match]:
    text = tokens.rest
    found: list[Match] = []
    if "gpl" not in text and " public " not in text:
        return found
    for match in tokens.search(_GNU):
        before = text[max(0, match.start() - 110) : match.start() + 1]
        if not _CONTEXT.search(before) or _NO_STATEMENT.search(before):
            continue
        expression, end = _gnu_expression(text, match)
        found.append(Match(expression, "gnu-license", "reference", match.start(), end))
    return found


def _gnu_expression(text: str, match: re.Match[str]) -> tuple[str, int]:
    """Return the SPDX expression of a GNU name and the end of the words that were read."""
    family = _family(match)
    end = match.end()
    major, minor = match.group("p0") or match.group("p1"), None
    before = text[max(0, match.start() - 80) : match.start()]
    later = False
    if major is not None:
        if dot := re.match(r" ([01])(?= )", text[end : end + 3]):
            minor, end = dot.group(1), end + 2
    elif after := _AFTER.match(text, end):
        major, minor, end = after.group("major"), after.group("minor"), after.end()
    elif prior := _BEFORE.search(before):
        major, minor, later = prior.group("major"), prior.group("minor"), prior.group("later") is not None
    if major is None:
        return _unversioned(family), end
    tail = text[end : end + 90]
    if not later and (hit := _LATER.search(tail)) is not None and hit.start() < 45:
        later, end = True, end + hit.end()
    expression = _versioned(family, major, minor, later=later)
    if not later and (second := _OR_NEXT.match(text, end)):
        other = _versioned(family, second.group("major"), second.group("minor"), later=False)
        expression, end = spdx.combine([expression, other], "OR"), second.end() - 1
    return expression, end


def _family(match: re.Match[str]) -> str:
    kind = match.group("kind")
    short = match.group("short") or ""
    if kind == "affero" or short == "agpl":
        return "AGPL"
    return "LGPL" if kind or short == "lgpl" else "GPL"


def _unversioned(family: str) -> str:
    first = {"GPL": "1.0", "LGPL": "2.0", "AGPL": "3.0"}[family]
    return f"{family}-{first}-or-later"


def _versioned(family: str, major: str, minor: str | None, *, later: bool) -> str:
    version = f"{major}.{minor or '0'}"
    known = {"GPL": ("1.0", "2.0", "3.0"), "LGPL": ("2.0", "2.1", "3.0"), "AGPL": ("1.0", "3.0")}[family]
    if version not in known:
        later, version = True, max([v for v in known if v <= version], default=known[0])
    return f"{family}-{version}-{'or-later' if later else 'only'}"
