"""Finds license texts, headers and exceptions that are nearly the words of the fingerprint index.

Method: (1) rare 4-grams of the rules (`fingerprints`) propose rules and where they lie; the best is tried alone
first, and what it holds word by word leaves its variants out; (2) each candidate is aligned with the document,
from an anchor to both its ends, in linear time: run over equal words, then look for the nearest place where both
go on alike; words of the rule that lack and words of the document that are too many are counted, gaps and
optional parts are free; (3) what may differ is decided in `differences`; (4) where accepted rules overlap, the one
that explains most words with fewest differences stays, so a variant is never taken for its sibling; of equals
the one that is not permissive stays.

What differs inside a permissive text stays visible in `Tokens.rest`, for the restriction guard.

Cost: linear in the text; about half of the time of `detect` where every text is another license text. There are
no compiled loops: importing numba takes 63 MB, with its first kernel 138, and the whole process has 116. 10 MB of
most words or phrases repeated take 1 to 3 s, of a sentence that thousands of rules share ("this program is free
software ...") 2 s for each MB. Measured: 658 of the 676 texts of the SPDX list are found under their own name, the
rest under a name with the same words or with their own label.

Known error: at most 48 candidates of a range are aligned in a round, those with most anchors for their
length first; 0.6 % of the rules, most of them GNU notices, are crowded out by relatives even in their own
words, and are then left to the later tiers.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stack_platform.licenses.differences import Limits, is_copyright, is_name, judge, limits_of, word_sets
from stack_platform.licenses.fingerprints import Anchors, FingerprintIndex, Grams, Rule, Side, grams_of, index
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


class Text(NamedTuple):
    """A document read in one direction: its word numbers, two bytes each, and the same as integers."""

    data: bytes
    words: memoryview


class Candidate(NamedTuple):
    """A rule worth an alignment: the best score it can have, and where its anchors lie in document and rule."""

    number: int
    bound: float
    spots: Array
    places: Array


class Tally(NamedTuple):
    """The rules that anchors name, how many anchors of each, and which share of all its anchors."""

    rules: Array
    counts: Array
    shares: Array


def find_near(document: Array) -> list[Found]:
    """Find the rules that a row of word numbers holds, disjoint, in order."""
    known = index()
    grams = grams_of(document)
    anchors = known.find_anchors(grams)
    if not len(anchors.rules):
        return []
    texts = _text(document), _text(document[::-1])
    chosen: list[Found] = []
    tally = _count(known, anchors)
    whole = _find_verbatim(known, tally, anchors, texts)
    if whole is not None:
        chosen = [whole]
        beaten = known.expression == known.expression[whole.number]
        beaten |= known.lengths < int(whole.score)  # a longer variant in full would be `whole`
        inside = (anchors.spots >= whole.start) & (anchors.spots < whole.end)
        anchors = anchors.at(~(beaten.take(anchors.rules) & inside))
        tally = _count(known, anchors)
    for _ in range(_ROUNDS):
        if not len(anchors.rules):
            break
        new = _accept(_candidates(known, grams, tally, anchors, chosen), chosen, texts)
        if not new:
            break
        chosen = _cover([*chosen, *new])
        anchors = anchors.at(_outside(chosen, anchors.spots))
        if len(anchors.rules) < _LEFT_OVER:
            break
        tally = _count(known, anchors)
    return chosen


def _text(words: Array) -> Text:
    data = words.tobytes()
    return Text(data, memoryview(data).cast("H"))


def _find_verbatim(
    known: FingerprintIndex, tally: Tally, anchors: Anchors, texts: tuple[Text, Text]
) -> Found | None:
    """Return the rule with most anchors for its length, begun where most of them say, if no word differs."""
    explained = tally.shares * known.lengths[tally.rules]
    number = int(tally.rules[explained.argmax()])
    _, places, spots = anchors.at(anchors.rules == number)
    begins = (spots - places).tolist()
    supports = Counter(begins)
    most = max(supports.values())
    first = min(begin for begin, support in supports.items() if support == most)
    at = begins.index(first)
    return _align(number, int(places[at]), int(spots[at]), texts, exact=True)


def _count(known: FingerprintIndex, anchors: Anchors) -> Tally:
    """Count the anchors of each rule; the rules come out sorted."""
    counts = np.bincount(anchors.rules)
    present = (counts > 0).nonzero()[0]
    counts = counts[present]
    return Tally(present, counts, np.minimum(counts / known.anchors[present], 1.0))


def _outside(chosen: list[Found], spots: Array) -> Array:
    """Mark the places that lie in none of some sorted, disjoint matches."""
    starts = np.array([f.start for f in chosen])
    ends = np.array([f.end for f in chosen])
    before = np.searchsorted(starts, spots, side="right") - 1
    return (before < 0) | (spots >= ends[before])


def _accept(candidates: list[Candidate], chosen: list[Found], texts: tuple[Text, Text]) -> list[Found]:
    """Align candidates, best first; what lies in a match that none of them can beat is not aligned."""
    accepted = list(chosen)
    for c in candidates:
        first, last = int(c.spots[0]), int(c.spots[-1])
        above = [f for f in accepted if f.score >= c.bound]
        if any(f.start <= first and last < f.end for f in above):
            continue
        done = -1
        failed: list[int] = []  # where the rule would begin in the document
        for spot, place in zip(c.spots.tolist(), c.places.tolist(), strict=True):
            if spot < done or any(abs(spot - place - begin) <= _SAME for begin in failed):
                continue
            if any(f.start <= spot < f.end for f in above):
                continue
            found = _align(c.number, place, spot, texts)
            if found is not None:
                accepted.append(found)
                above += [found] if found.score >= c.bound else []
                done = found.end
                continue
            failed.append(spot - place)
            if len(failed) == _ATTEMPTS:
                break
    return accepted[len(chosen) :]


def _candidates(
    known: FingerprintIndex, grams: Grams, tally: Tally, anchors: Anchors, chosen: list[Found]
) -> list[Candidate]:
    """List the rules worth an alignment, most explained words first.

    An anchor that lacks is at least one difference, and so is a run of 4-grams that lack. A rule that lies in a
    chosen match and cannot beat it by its anchors alone is left out before its 4-grams are looked up.
    """
    likely = (tally.shares >= known.shares[tally.rules]).nonzero()[0]
    if not len(likely):
        return []
    kept, counts = tally.rules[likely], tally.counts[likely]
    if len(likely) > 1:
        best = np.lexsort((kept, -tally.shares[likely] * known.lengths[kept]))[:_CANDIDATES]
        kept, counts = kept[best], counts[best]
    lengths = known.lengths[kept].astype(np.float64)
    bounds = lengths - 4.0 * np.maximum(known.anchors[kept] - counts, 0)
    _, places, spots = _group(anchors, kept, len(known.lengths))
    ends = counts.cumsum()
    starts = ends - counts
    firsts, lasts = spots[starts], spots[ends - 1]
    beaten = np.zeros(len(kept), np.bool_)
    for f in chosen:
        beaten |= (firsts >= f.start) & (lasts < f.end) & (bounds <= f.score)
    left = (~beaten).nonzero()[0]
    if not len(left):
        return []
    missing = known.count_missing(grams, kept[left])
    near = missing <= _MISSING * lengths[left]
    left, missing = left[near], missing[near]
    bounds = np.minimum(bounds[left], lengths[left] - missing / 2)
    order = np.lexsort((kept[left], -bounds))
    rows = zip(left[order].tolist(), bounds[order].tolist(), strict=True)
    return [
        Candidate(int(kept[i]), bound, spots[starts[i] : ends[i]], places[starts[i] : ends[i]])
        for i, bound in rows
    ]


def _group(anchors: Anchors, rules: Array, count: int) -> Anchors:
    """Return the anchors of some of `count` rules, one rule after the other."""
    ranks = np.zeros(count, np.uint8)
    ranks[rules] = np.arange(1, len(rules) + 1)
    ranks = ranks[anchors.rules]
    own = ranks.nonzero()[0]
    return anchors.at(own[ranks[own].argsort(kind="stable")])


def _align(
    number: int, place: int, spot: int, texts: tuple[Text, Text], *, exact: bool = False
) -> Found | None:
    """Align a rule from one pair of places to both its ends; `exact` gives up at the first word that differs."""
    rule = index().rule(number)
    forward, backward = texts
    size, total = len(rule.forward.data) // 2, len(forward.words)
    limits = limits_of(rule)
    limits = limits._replace(budget=0) if exact else limits
    ahead = _walk(forward, spot, rule.forward, place, limits)
    if ahead is None:
        return None
    behind = _walk(backward, total - spot, rule.backward, size - place, limits)
    if behind is None:
        return None
    matched = [(total - e, total - s) for s, e in reversed(behind.matched)] + ahead.matched
    if not matched:
        return None
    deleted = [*behind.deleted, *ahead.deleted]
    inserted = [*behind.inserted, *ahead.inserted]
    score = judge(rule, sum(e - s for s, e in matched), deleted, inserted)
    if score is None:
        return None
    exact = not deleted and not inserted
    return Found(number, rule, matched[0][0], matched[-1][1], score, tuple(matched), exact)


def _walk(text: Text, d: int, side: Side, r: int, limits: Limits) -> Walk | None:
    """Align from one pair of places to the end of the rule; None when they differ too much."""
    size = len(side.data) // 2
    matched: list[tuple[int, int]] = []
    deleted: list[int] = []
    inserted: list[int] = []
    while r < size:
        run = _equal(text.data, d, side.data, r)
        if run:
            matched.append((d, d + run))
        d, r = d + run, r + run
        if r >= size:
            break
        step = _resync(text, d, side, r)
        if step is None and size - r - len(side.optional) > limits.budget:
            return None
        skipped, jump = step or (0, size - r)
        lost = _listed(side.data, r, r + jump)
        if side.optional:
            lost = [word for k, word in enumerate(lost, r) if k not in side.optional]
        if not (step and is_name(text.words, d, skipped, lost)):
            extra = text.words[d : d + skipped].tolist()
            free = max((side.gaps.get(k, 0) for k in range(r, r + jump + 1)), default=0) if step else 0
            named = skipped <= free and limits.barred.isdisjoint(extra)
            extra = [] if named or (extra and is_copyright(extra)) else extra
            deleted += lost
            inserted += extra
            if len(deleted) + len(inserted) > limits.budget or limits.forbid(lost + extra):
                return None
        d, r = d + skipped, r + jump
    return Walk(matched[-1][1] if matched else d, matched, deleted, inserted)


def _listed(data: bytes, start: int, end: int) -> list[int]:
    return memoryview(data[2 * start : 2 * end]).cast("H").tolist()


def _equal(document: bytes, d: int, rule: bytes, r: int) -> int:
    """Count the equal words from two places on; words are two bytes."""
    size = 128
    d, r = 2 * d, 2 * r
    left = min(len(document) - d, len(rule) - r)
    done = 0
    while done < left:
        stop = min(left, done + size)
        here, there = document[d + done : d + stop], rule[r + done : r + stop]
        if here != there:
            differ = int.from_bytes(here, "little") ^ int.from_bytes(there, "little")
            return done // 2 + ((differ & -differ).bit_length() - 1) // 16
        done, size = stop, size * 8
    return left // 2


def _window(side: Side, r: int) -> tuple[int, int, dict[bytes, int], tuple[int, ...]]:
    """Return what comes next in a rule: how far to look, the gap, runs of words by place, lengths at its end."""
    data = side.data
    size = len(data) // 2
    reach = _REACH
    while r + reach < size and r + reach in side.optional:
        reach += 1
    stop = min(size, r + reach + 1)
    gap = max((n for at, n in side.gaps.items() if r <= at < stop), default=0) if side.gaps else 0
    keys = {data[2 * k : 2 * (k + _RESYNC)]: k - r for k in range(stop - 1, r - 1, -1)}
    return reach, gap, keys, tuple(2 * n for n in (1, 2) if size - n < stop and size >= n)


def _resync(text: Text, d: int, side: Side, r: int) -> tuple[int, int] | None:
    """Find the nearest places behind `d` and `r` from which both go on alike."""
    window = side.windows.get(r)
    if window is None:
        window = side.windows[r] = _window(side, r)
    reach, gap, keys, tails = window
    if not word_sets().copyright.isdisjoint(text.words[d : d + _REACH]):
        gap = max(gap, _COPYRIGHT_LINE)
    data, jump_of = text.data, keys.get
    best: tuple[int, int] | None = None
    least = reach + gap + _REACH
    for i in range(min(max(reach, gap + 2), len(text.words) - d)):
        if i > least:
            break
        at = 2 * (d + i)
        for n in (2 * _RESYNC, *tails):
            jump = jump_of(data[at : at + n])
            if jump is not None and i + jump < least:
                best, least = (i, jump), i + jump
    return best


def _cover(found: Sequence[Found]) -> list[Found]:
    """Choose disjoint matches, those that explain most first; of equals the more restrictive."""
    chosen: list[Found] = []
    order = sorted(
        set(found),
        key=lambda f: (
            -f.score,
            f.rule.permissive,
            f.rule.kind != "text",
            f.start,
            f.rule.expression,
            f.number,
        ),
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
