"""Spans of sensitive text and the resolution of their overlaps.

A span counts code points of the text it was found in, half-open. Spans of several rules often cover
the same secret; `merge_spans` joins whatever overlaps, because a part left standing would be found by
the next pass and scrubbing would not be idempotent. The joined span takes type and rule of the most
specific member that covers at least half of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# From the most to the least specific: a private key explains everything inside it, a generic
# assignment nothing about its value.
TYPES = (
    "PRIVATE_KEY",
    "EMAIL",
    "CREDIT_CARD",
    "IBAN",
    "IP_ADDRESS",
    "KEY",
    "PASSWORD",
    "PHONE",
    "NAME",
    "USERNAME",
)
_RANK = {name: rank for rank, name in enumerate(TYPES)}


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """One stretch of sensitive text."""

    start: int  # code points from the beginning of the text, inclusive
    end: int  # code points, exclusive
    type: str  # one of TYPES
    rule: str  # id of the rule that found it: `sp.…` ours, otherwise the engine's
    score: float  # belief that it is sensitive, 0 to 1


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Join overlapping spans and return them sorted and disjoint."""
    merged: list[Span] = []
    group: list[Span] = []
    end = -1
    for span in sorted(spans):
        if group and span.start < end:
            group.append(span)
            end = max(end, span.end)
            continue
        if group:
            merged.append(_join(group, end))
        group, end = [span], span.end
    if group:
        merged.append(_join(group, end))
    return merged


def _join(group: list[Span], end: int) -> Span:
    start = group[0].start
    large = [span for span in group if 2 * (span.end - span.start) >= end - start]
    best = min(
        large or group, key=lambda span: (_RANK[span.type], -span.score, span.start - span.end, span.rule)
    )
    return Span(start, end, best.type, best.rule, max(span.score for span in group))
