"""Finds license texts, headers and exceptions that are nearly the words of the fingerprint index.

Method: (1) rare 4-grams of the rules (`fingerprints`) propose rules and where they lie; the best is tried alone
first, and what it holds word by word leaves its variants out; (2) each candidate is aligned with the document,
from an anchor to both its ends, in linear time: run over equal words, then look for the nearest place where both
go on alike; words of the rule that lack and words of the document that are too many are counted, gaps and
optional parts are free; (3) what may differ is decided in `differences`; (4) where accepted rules overlap, the one
that explains most words with fewest differences stays, so a variant is never taken for its sibling; of equals
the one that is not permissive stays.

What differs inside a permissive text stays visible in `Tokens.rest`, for the restriction guard.

Cost: linear in the text; about half of the time of `detect` where every text is another license text. 10 MB of
any one word or phrase repeated take 1 to 3 s. Measured: 658 of the 676 texts of the SPDX list are found under their own
name, the rest under a name with the same words or with their own label.

Known error: at most 48 candidates of a range are aligned in a round, those with most anchors for their
length first; 0.6 % of the rules, most of them GNU notices, are crowded out by relatives even in their own
words, and are then left to the later tiers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stack_platform.licenses.differences import Limits, is_copyright, is_name, judge, limits_of, word_sets
from stack_platform.licenses.fingerprints import FingerprintIndex, Rule, Side, index
from stack_platform.licenses.rules import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stack_platform.licenses.tokens import Tokens

_REACH = 14  # words; how far after a difference the texts must agree again
_COPYRIGHT_LINE = 40  # words of copyright lines, which belong to no license text
_RESYNC = 3  # equal words that end a difference
_CANDIDATES = 48
_MISSING = 0.15  # of a rule's 4-grams; no accepted alignment lacked more (0.137), 3 of 4 failed ones did
_ROUNDS = 4  # texts of a document that crowd out others are matched, then the rest is looked at again
_LEFT_OVER = 3  # anchors outside of all matches that make another round worth it
_SAME = 25  # words; alignments that begin closer than this fail alike
_ATTEMPTS = 8  # failed alignments of one rule in a range, after which it is given up
Array = np.ndarray[Any, Any]


class Walk(NamedTuple):
    """Where an alignment ended in the document, what it matched, and the differences."""

    end: int
    matched: list[tuple[int, int]]
    deleted: list[int]
    inserted: list[int]


class Found(NamedTuple):
    """An accepted rule; `start` and `end` count words of the document."""

    number: int  # of the rule
    rule: Rule
    start: int
    end: int
    score: float
    matched: tuple[tuple[int, int], ...]
    exact: bool  # no word differs


def find_near(document: Array) -> list[Found]:
    """Find the rules that a row of word numbers holds, disjoint, in order."""
    known = index()
    rules, places, spots = known.find_anchors(document)
    if not len(rules):
        return []
    words_of, listed = document, document.tolist()
    document, backward = np.append(document, np.uint16(0)), listed[::-1]
    forward_side = (document, listed)
    backward_side = (np.append(document[:-1][::-1], np.uint16(0)), backward)
    chosen: list[Found] = []
    whole = _find_verbatim(known, rules, places, spots, forward_side, backward_side)
    if whole is not None:
        chosen = [whole]
        beaten = (spots >= whole.start) & (spots < whole.end)
        same = known.expression[rules] == known.expression[whole.number]
        beaten &= same | (known.lengths[rules] < whole.score)  # a longer variant in full would be `whole`
        rules, places, spots = rules[~beaten], places[~beaten], spots[~beaten]
    for _ in range(_ROUNDS):
        if not len(rules):
            break
        new = _accept(_candidates(known, words_of, rules, places, spots), chosen, forward_side, backward_side)
        if not new:
            break
        chosen = _cover([*chosen, *new])
        outside = _outside(chosen, spots)
        rules, places, spots = rules[outside], places[outside], spots[outside]
        if len(rules) < _LEFT_OVER:
            break
    return chosen


def _find_verbatim(
    known: FingerprintIndex,
    rules: Array,
    places: Array,
    spots: Array,
    forward: tuple[Array, list[int]],
    backward: tuple[Array, list[int]],
) -> Found | None:
    """Return the rule with most anchors for its length, begun where most of them say, if no word differs."""
    present, counts = _count(rules)
    explained = np.minimum(counts / known.anchors[present], 1.0) * known.lengths[present]
    number = int(present[explained.argmax()])
    own = np.flatnonzero(rules == number)
    begins = spots[own] - places[own]
    starts, supports = np.unique(begins, return_counts=True)
    at = int(own[(begins == starts[supports.argmax()]).argmax()])
    found = _align(number, int(places[at]), int(spots[at]), forward, backward)
    return found if found is not None and found.exact else None


def _count(rules: Array) -> tuple[Array, Array]:
    """Return the different numbers of rules, sorted, and how often each occurs."""
    counts = np.bincount(rules)
    present = np.flatnonzero(counts)
    return present, counts[present]


def _outside(chosen: list[Found], spots: Array) -> Array:
    """Mark the places that lie in none of some sorted, disjoint matches."""
    starts = np.array([f.start for f in chosen])
    ends = np.array([f.end for f in chosen])
    before = np.searchsorted(starts, spots, side="right") - 1
    return (before < 0) | (spots >= ends[before])


def _accept(
    candidates: list[tuple[int, float, list[tuple[int, int]]]],
    chosen: list[Found],
    forward: tuple[Array, list[int]],
    backward: tuple[Array, list[int]],
) -> list[Found]:
    """Align candidates, best first; what lies in a match that none of them can beat is not aligned."""
    accepted = list(chosen)
    for i, bound, hits in candidates:
        first, last = hits[0][0], hits[-1][0]
        if any(f.start <= first and last < f.end and f.score >= bound for f in accepted):
            continue
        done = -1
        failed: list[int] = []  # where the rule would begin in the document
        for spot, place in hits:
            if spot < done or any(abs(spot - place - begin) <= _SAME for begin in failed):
                continue
            if any(f.start <= spot < f.end and f.score >= bound for f in accepted):
                continue
            found = _align(i, place, spot, forward, backward)
            if found is not None:
                accepted.append(found)
                done = found.end
                continue
            failed.append(spot - place)
            if len(failed) == _ATTEMPTS:
                break
    return accepted[len(chosen) :]


def _candidates(
    known: FingerprintIndex, document: Array, rules: Array, places: Array, spots: Array
) -> list[tuple[int, float, list[tuple[int, int]]]]:
    """List the rules worth an alignment, most explained words first: number, best possible score, anchors.

    An anchor that lacks is at least one difference, and so is a run of 4-grams that lack.
    """
    present, counts = _count(rules)
    share = np.minimum(counts / known.anchors[present], 1.0)
    likely = share >= known.shares[present]
    present, counts, share = present[likely], counts[likely], share[likely]
    if not len(present):
        return []
    best = np.lexsort((present, -share * known.lengths[present]))[:_CANDIDATES]
    kept, counts = present[best], counts[best]
    missing = known.count_missing(document, kept)
    near = missing <= _MISSING * known.lengths[kept]
    kept, counts, missing = kept[near], counts[near], missing[near]
    lengths = known.lengths[kept].astype(np.float64)
    lacking = known.anchors[kept] - np.minimum(counts, known.anchors[kept])
    bound = np.minimum(lengths - 4.0 * lacking, lengths - missing / 2)
    chosen = np.zeros(len(known.lengths), np.bool_)
    chosen[kept] = True
    mask = chosen[rules]
    hits: dict[int, list[tuple[int, int]]] = {int(i): [] for i in kept}
    for i, spot, place in zip(rules[mask].tolist(), spots[mask].tolist(), places[mask].tolist(), strict=True):
        hits[i].append((spot, place))
    listed = zip(hits.items(), bound.tolist(), strict=True)
    return sorted(((i, best, found) for (i, found), best in listed), key=lambda c: (-c[1], c[0]))


def _align(
    number: int, place: int, spot: int, forward: tuple[Array, list[int]], backward: tuple[Array, list[int]]
) -> Found | None:
    rule = index().rule(number)
    size, total = len(rule.forward.words), len(forward[1])
    limits = limits_of(rule)
    ahead = _walk(*forward, spot, rule.forward, place, limits)
    if ahead is None:
        return None
    behind = _walk(*backward, total - spot, rule.backward, size - place, limits)
    if behind is None:
        return None
    matched = [(total - e, total - s) for s, e in reversed(behind.matched)] + ahead.matched
    deleted = [*behind.deleted, *ahead.deleted]
    inserted = [*behind.inserted, *ahead.inserted]
    if not matched:
        return None
    score = judge(rule, sum(e - s for s, e in matched), deleted, inserted)
    if score is None:
        return None
    exact = not deleted and not inserted
    return Found(number, rule, matched[0][0], matched[-1][1], score, tuple(matched), exact)


def _walk(document: Array, listed: list[int], d: int, side: Side, r: int, limits: Limits) -> Walk | None:
    """Align from one pair of places to the end of the rule; None when they differ too much."""
    size = len(side.words)
    matched: list[tuple[int, int]] = []
    deleted: list[int] = []
    inserted: list[int] = []
    while r < size:
        run = _equal(document, d, side.words, r)
        if run:
            matched.append((d, d + run))
        d, r = d + run, r + run
        if r >= size:
            break
        step = _resync(listed, d, side, r)
        if step is None and size - r - len(side.optional) > limits.budget:
            return None
        skipped, jump = step or (0, size - r)
        lost = [side.listed[k] for k in range(r, r + jump) if k not in side.optional]
        extra = listed[d : d + skipped]
        free = max((side.gaps.get(k, 0) for k in range(r, r + jump + 1)), default=0) if step else 0
        if not (step and is_name(listed, d, skipped, lost)):
            named = skipped <= free and limits.barred.isdisjoint(extra)
            extra = [] if named or (extra and is_copyright(extra)) else extra
            deleted += lost
            inserted += extra
            if len(deleted) + len(inserted) > limits.budget or limits.forbid(lost + extra):
                return None
        d, r = d + skipped, r + jump
    return Walk(matched[-1][1] if matched else d, matched, deleted, inserted)


def _equal(document: Array, d: int, words: Array, r: int) -> int:
    """Count the equal words from two places on; the document ends with a word that no rule has."""
    size = 64
    total = min(len(document) - d, len(words) - r)
    done = 0
    while done < total:
        stop = min(total, done + size)
        differ = document[d + done : d + stop] != words[r + done : r + stop]
        at = int(differ.argmax())
        if differ[at]:
            return done + at
        done, size = stop, size * 8
    return done


def _window(side: Side, r: int) -> tuple[int, int, dict[tuple[int, ...], int], tuple[int, ...]]:
    """Return what comes next in a rule: how far to look, the gap, runs of words by place, lengths at its end."""
    size = len(side.listed)
    reach = _REACH
    while r + reach < size and r + reach in side.optional:
        reach += 1
    stop = min(size, r + reach + 1)
    gap = max((n for at, n in side.gaps.items() if r <= at < stop), default=0) if side.gaps else 0
    keys: dict[tuple[int, ...], int] = {}
    for k in range(stop - 1, r - 1, -1):
        keys[tuple(side.listed[k : k + _RESYNC])] = k - r
    return reach, gap, keys, tuple(n for n in (1, 2) if size - n < stop and size >= n)


def _resync(listed: list[int], d: int, side: Side, r: int) -> tuple[int, int] | None:
    """Find the nearest places behind `d` and `r` from which both go on alike."""
    window = side.windows.get(r)
    if window is None:
        window = side.windows[r] = _window(side, r)
    reach, gap, keys, tails = window
    if not word_sets().copyright.isdisjoint(listed[d : d + _REACH]):
        gap = max(gap, _COPYRIGHT_LINE)
    best: tuple[int, int] | None = None
    least = reach + gap + _REACH
    for i in range(min(max(reach, gap + 2), len(listed) - d)):
        if i > least:
            break
        for n in (_RESYNC, *tails):
            jump = keys.get(tuple(listed[d + i : d + i + n]))
            if jump is not None and i + jump < least:
                best, least = (i, jump), i + jump
    return best


def _cover(found: Sequence[Found]) -> list[Found]:
    """Choose disjoint matches, those that explain most first; of equals the more restrictive."""
    chosen: list[Found] = []
    order = sorted(
        set(found),
        key=lambda f: (-f.score, f.rule.permissive, f.rule.kind != "text", f.start, f.rule.expression),
    )
    for f in order:
        if all(f.end <= c.start or c.end <= f.start for c in chosen):
            chosen.append(f)
    return sorted(chosen, key=lambda f: f.start)


def match_fingerprints(tokens: Tokens) -> list[tuple[Match, list[tuple[int, int]]]]:
    """Find rules of the index in tokens: the match, and the ranges of `tokens.text` that it explains."""
    found = find_near(index().number(tokens.text, tokens.spaces))
    bounds = tokens.spaces
    result = []
    for f in found:
        pieces = f.matched if f.rule.permissive or f.rule.kind == "exception" else ((f.start, f.end),)
        start, end = int(bounds[f.start]), int(bounds[f.end])
        match = Match(f.rule.expression, f"near-{f.rule.kind}", f.rule.kind, start, end)
        result.append((match, [(int(bounds[s]), int(bounds[e])) for s, e in pieces]))
    return result
