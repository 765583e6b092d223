"""Combines the statements of a content into one SPDX expression.

Method: tags win over everything that agrees with them; texts, notices, references and labels add up (AND),
unless the words between two of them make them a choice (OR); an exception joins its license (WITH); a
vague name ("GPL") yields to an exact one ("GPL-2.0-only"). A permissive result beside words of restriction
becomes `... AND LicenseRef-additional-terms`, beside a grant nobody named `... AND LicenseRef-unknown-terms`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx
from stack_platform.licenses.policy import license_type
from stack_platform.licenses.restrictions import ADDITIONAL_TERMS

_MARKS = rb"[\s\W]{0,40}(?:\(the\s+\W{0,3}\w{1,12}\W{1,4}\s*)?(?:licen[cs]es?\W{1,20})?"
_OR = re.compile(_MARKS + rb"(?:or|and/or)\W{1,20}(?:the\s+|under\s+|\W){0,6}$")
_AND = re.compile(_MARKS + rb"(?:and|&|/|,)\W{0,20}(?:the\s+|under\s+|\W){0,6}$")
_ALTERNATIVELY = re.compile(rb"\balternatively\b.{0,200}$", re.DOTALL)
_ALTERNATIVELY_FIRST = re.compile(rb"(?i)\W{0,4}alternatively\b")
_DUAL = re.compile(rb"\b(?:dual|double|tri|triple)[\s-]*licen|\beither\b|your (?:choice|option)")
_HOST = re.compile(r"(?:[AL]?GPL|Apache)-\d")
_QUOTE = 200  # bytes of matched text kept as evidence
_LIST_OF_LICENSES = 5  # different licenses named, none in full: a list of licenses, not a statement
_NAMED = ("text", "notice", "exception", "reference", "label", "scancode")


@dataclass(frozen=True, slots=True)
class LicenseEvidence:
    """One statement: the rule that found it, its tier, its own expression, and the words, cut to 200."""

    rule: str
    tier: str
    expression: str
    text: str


@dataclass(frozen=True, slots=True)
class LicenseFinding:
    """What a content says about its license.

    `expression` is canonical SPDX, `NONE` or `UNKNOWN`; `spans` are byte offsets, one for each evidence.
    """

    expression: str
    spans: tuple[tuple[int, int], ...] = ()
    evidence: tuple[LicenseEvidence, ...] = ()


class Found(NamedTuple):
    """A statement; `start` and `end` are byte offsets of the content."""

    expression: str
    rule: str
    tier: str
    start: int  # bytes
    end: int


def conclude(tags: list[Found], found: list[Found], content: bytes, *, whole: bool) -> LicenseFinding:
    """Combine statements into one expression."""
    named = [f for f in found if f.tier in _NAMED]
    texts = [f for f in named if f.tier == "text"]
    tags = [tag for tag in tags if not any(f.start < tag.start and tag.end <= f.end for f in texts)]
    named = [f for f in named if f.tier != "exception"] if tags else named
    guard = [f for f in found if f.tier.startswith("restriction")]
    grants = [f for f in found if f.tier == "grant"]
    weak = [f for f in found if f.tier == "weak-grant"]
    if tags:
        kept = tags
        if license_type(_join([tag.expression for tag in tags])) == "permissive":
            kept = tags + [f for f in named if license_type(f.expression) != "permissive"]
        if whole:  # the tag of a part, such as a bundled font, below the license of the whole
            kept = kept + [f for f in named if f.tier == "text" and f.end <= tags[0].start and f not in kept]
    else:
        kept = _drop_vague(_attach_exceptions(named)) or [f for f in found if f.tier == "url"]
    if not kept:
        pointed = any(f.tier == "pointer" for f in found)
        return _unnamed(grants + weak, guard, content, whole=whole and not pointed)
    names = {f.expression for f in kept}
    if len(names) >= _LIST_OF_LICENSES and all(f.tier in ("reference", "label") for f in kept):
        return _finding(spdx.UNKNOWN, kept, content)
    expression = _combine(kept, content)
    if license_type(expression) == "permissive":
        if guard:
            return _finding(_join([expression, ADDITIONAL_TERMS]), kept + guard, content)
        if grants and not tags:
            return _finding(_join([expression, spdx.UNKNOWN]), kept + grants, content)
    return _finding(expression, kept, content)


def _combine(kept: list[Found], content: bytes) -> str:
    """AND the statements; words between two of them can make them a choice (OR)."""
    ordered = sorted(kept, key=lambda f: f.start)
    groups = [ordered[0].expression]
    for before, after in pairwise(ordered):
        between = content[min(before.end, after.start) : after.start].lower()
        lead = content[max(0, before.start - 80) : before.end].lower()
        if (
            (b"alternatively" in between and _ALTERNATIVELY.search(between))
            or _ALTERNATIVELY_FIRST.match(content, after.start)
            or _OR.match(between)
            or (_DUAL.search(lead) and _AND.match(between))
        ):
            groups[-1] = _join([groups[-1], after.expression], "OR")
        else:
            groups.append(after.expression)
    return _join(groups)


def _join(expressions: list[str], operator: str = "AND") -> str:
    """Combine expressions; too many to make one expression are UNKNOWN."""
    try:
        return spdx.combine(expressions, operator)
    except PolicyError:
        return spdx.UNKNOWN


def _attach_exceptions(named: list[Found]) -> list[Found]:
    """Join each exception with the license before it that it can be an exception to, else the first after it.

    The whole text of a license beside the same license with an exception is its copy, not a second license.
    An exception without a license is UNKNOWN.
    """
    named = [_as_exception(f, named) for f in named]
    kept = [f for f in named if f.tier != "exception"]
    for exception in (f for f in named if f.tier == "exception"):
        hosts = [f for f in kept if _HOST.match(f.expression) and " " not in f.expression]
        stated = any(f.expression.endswith(f" WITH {exception.expression}") for f in kept)
        if not hosts:
            kept += [] if stated else [exception._replace(expression=spdx.UNKNOWN)]
            continue
        before = [f for f in hosts if f.start <= exception.start]
        host = max(before, key=lambda f: f.start) if before else min(hosts, key=lambda f: f.start)
        joined = host._replace(
            expression=f"{host.expression} WITH {exception.expression}", end=max(host.end, exception.end)
        )
        kept = [joined if f is host else f for f in kept]
    plain = {f.expression.partition(" WITH ")[0] for f in kept if " WITH " in f.expression}
    return [f for f in kept if not (f.tier == "text" and f.expression in plain)]


def _as_exception(found: Found, named: list[Found]) -> Found:
    """Read the text of `GPL-2.0 WITH x` as the exception alone where a notice states the version."""
    host, _, exception = found.expression.partition(" WITH ")
    family = host.partition("-")[0]
    alone = found.tier == "text" and exception and " " not in exception
    if alone and any(f.expression.startswith(f"{family}-") and " " not in f.expression for f in named):
        return found._replace(expression=exception, tier="exception")
    return found


def _drop_vague(named: list[Found]) -> list[Found]:
    """Drop a name without a version or number where another statement names the same family exactly."""
    vague = {
        "GPL-1.0-or-later": "GPL-",
        "LGPL-2.0-or-later": "LGPL-",
        "AGPL-3.0-or-later": "AGPL-",
        "LicenseRef-BSD": "BSD-",
        "MPL-2.0": "MPL-2.0-no-copyleft",
    }
    exact = {f.expression for f in named}
    return [
        f
        for f in named
        if not (f.expression in vague and any(vague[f.expression] in e for e in exact - {f.expression}))
    ]


def _unnamed(grants: list[Found], guard: list[Found], content: bytes, *, whole: bool) -> LicenseFinding:
    if grants or any(whole or f.tier == "restriction-anywhere" for f in guard):
        return _finding(spdx.UNKNOWN, grants + guard, content)
    if whole and content.strip():
        return LicenseFinding(spdx.UNKNOWN)
    return LicenseFinding(spdx.NONE)


def _finding(expression: str, kept: list[Found], content: bytes) -> LicenseFinding:
    ordered = sorted(set(kept), key=lambda f: (f.start, f.end, f.expression, f.rule))
    return LicenseFinding(
        expression,
        tuple((f.start, f.end) for f in ordered),
        tuple(
            LicenseEvidence(
                f.rule, f.tier, f.expression, _quote(content[f.start : min(f.end, f.start + _QUOTE)])
            )
            for f in ordered
        ),
    )


def _quote(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")[:_QUOTE]
