"""Finds license texts, headers and exceptions that are nearly the words of the fingerprint index.

Method: (1) rare 4-grams of the rules (`fingerprints`) propose rules and where they lie; (2) each candidate is
aligned with the document, from an anchor to both its ends, in linear time: run over equal words, then
look for the nearest place where both go on alike; words of the rule that lack and words of the document
that are too many are counted, gaps and optional parts are free; (3) what may differ depends on the rule:
a short permissive text may differ by words that change nothing ("the", "program" for "software"), a long
one by a hundredth without a word that grants or forbids, a text that is not permissive by a tenth;
(4) where accepted rules overlap, the one that explains most words with fewest differences stays, so a
variant is never taken for its sibling; of equals the one that is not permissive stays.

What differs inside a permissive text stays visible in `Tokens.rest`, for the restriction guard.

Cost: linear in the text; 3 MB/s of one core where every text is another license text. 10 MB of any one word
or phrase repeated take 1 to 3 s. Measured: 658 of the 676 texts of the SPDX list are found under their own
name, the rest under a name with the same words or with their own label.

Known error: at most 48 candidates of a range are aligned in a round, those with most anchors for their
length first; 0.6 % of the rules, most of them GNU notices, are crowded out by relatives even in their own
words, and are then left to the later tiers. A text in which a right is taken away without a weighty word is
found when it is long.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stack_platform.licenses.fingerprints import FingerprintIndex, Rule, Side, index
from stack_platform.licenses.rules import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stack_platform.licenses.tokens import Tokens

_HARMLESS = (
    "the a an of this that these those such its s c and b d e f g h i ii iii iv v vi vii viii ix x 1 2 3 4 5 6 7 8 9"
    " 10 11 12 o"
)
_BENIGN = (
    "software program programs library code package file files materials work works product module source document"
    " author authors holder holders contributor contributors copyright owners company inc ltd corporation is are"
    " his her their it shall will be www http https org com html txt name names project script application"
    " documentation tool system you they font fonts acknowledgement acknowledgment following all any in to on by"
    " as at warranties warranty liability damage damages notices notice disclaimer copies and or regents university"
)
_WEIGHTY = (
    "not no non never only solely must may except unless without prohibited forbidden prohibit commercial"
    " noncommercial commercially personal academic research educational evaluation military nuclear weapons fee charge"
    " free paid pay sell sold distribute redistribute distributed sublicense modify modified copy use used rights"
    " permission granted grant royalty employees train training advertising patent internal private however exclude"
    " excluding permit permitted allow allowed require required provided competing restriction restricted evil good"
)
_TELLING = (
    "0 1 2 3 4 5 later any only lesser library affero exception general newer both either v1 v2 v3 20 21 lgpl gpl"
    " agpl"
)
_BEFORE_NAME = "by shall of neither will names name contributors"
_AFTER_NAME = "as be nor may and or disclaims disclaim make makes assumes assume shall"
_COPYRIGHT = "copyright c portions"
_NAME = 16  # words of a name
_REACH = 14  # words; how far after a difference the texts must agree again
_COPYRIGHT_LINE = 40  # words of copyright lines, which belong to no license text
_RESYNC = 3  # equal words that end a difference
_CANDIDATES = 48
_MISSING = 0.15  # of a rule's 4-grams; no accepted alignment lacked more (0.137), 3 of 4 failed ones did
_ROUNDS = 4  # texts of a document that crowd out others are matched, then the rest is looked at again
_LEFT_OVER = 3  # anchors outside of all matches that make another round worth it
_SAME = 25  # words; alignments that begin closer than this fail alike
_ATTEMPTS = 8  # failed alignments of one rule in a range, after which it is given up
_SHORT = 400  # words; a permissive rule this short may differ by harmless words only
_TOO_SHORT = 14  # words; such a rule must be there word by word

Array = np.ndarray[Any, Any]


class Walk(NamedTuple):
    """Where an alignment ended in the document, what it matched, and the differences."""

    end: int
    matched: list[tuple[int, int]]
    deleted: list[int]
    inserted: list[int]


class Limits(NamedTuple):
    """How many words may differ, and which: any when `only` is None."""

    budget: int
    only: frozenset[int] | None

    def forbid(self, words: list[int]) -> bool:
        """Say whether one of the words must not differ."""
        return self.only is not None and not self.only.issuperset(words)


class Found(NamedTuple):
    """An accepted rule; `start` and `end` count words of the document."""

    rule: Rule
    start: int
    end: int
    score: float
    matched: tuple[tuple[int, int], ...]


class _WordSets(NamedTuple):
    harmless: frozenset[int]
    benign: frozenset[int]
    weighty: frozenset[int]
    telling: frozenset[int]
    before: frozenset[int]
    after: frozenset[int]
    copyright: frozenset[int]
    rights: int


@cache
def _word_sets() -> _WordSets:
    number = index().number_of
    lists = (_HARMLESS, _BENIGN, _WEIGHTY, _TELLING, _BEFORE_NAME, _AFTER_NAME, _COPYRIGHT)
    sets = [frozenset(map(number, words.split())) - {0} for words in lists]
    return _WordSets(sets[0], sets[1], sets[2], sets[3], sets[4], sets[5], sets[6], number("rights"))


def find_near(words: list[str]) -> list[Found]:
    """Find the rules that a list of normalized words holds, disjoint, in order."""
    known = index()
    document = known.number(words)
    rules, places, spots = known.find_anchors(document)
    if not len(rules):
        return []
    words_of, listed = document, document.tolist()
    document, backward = np.append(document, np.uint16(0)), listed[::-1]
    forward_side = (document, listed)
    backward_side = (np.append(document[:-1][::-1], np.uint16(0)), backward)
    chosen: list[Found] = []
    for _ in range(_ROUNDS):
        new = _accept(_candidates(known, words_of, rules, places, spots), forward_side, backward_side)
        if not new:
            break
        chosen = _cover([*chosen, *new])
        outside = _outside(chosen, spots)
        rules, places, spots = rules[outside], places[outside], spots[outside]
        if len(rules) < _LEFT_OVER:
            break
    return chosen


def _outside(chosen: list[Found], spots: Array) -> Array:
    """Mark the places that lie in none of some sorted, disjoint matches."""
    starts = np.array([f.start for f in chosen])
    ends = np.array([f.end for f in chosen])
    before = np.searchsorted(starts, spots, side="right") - 1
    return (before < 0) | (spots >= ends[before])


def _accept(
    candidates: list[tuple[int, float, list[tuple[int, int]]]],
    forward: tuple[Array, list[int]],
    backward: tuple[Array, list[int]],
) -> list[Found]:
    """Align candidates, best first; what lies in a match that none of them can beat is not aligned."""
    accepted: list[Found] = []
    for i, bound, hits in candidates:
        rule = index().rule(i)
        done = -1
        failed: list[int] = []  # where the rule would begin in the document
        for spot, place in hits:
            if spot < done or any(abs(spot - place - begin) <= _SAME for begin in failed):
                continue
            if any(f.start <= spot < f.end and f.score >= bound for f in accepted):
                continue
            found = _align(rule, place, spot, forward, backward)
            if found is not None:
                accepted.append(found)
                done = found.end
                continue
            failed.append(spot - place)
            if len(failed) == _ATTEMPTS:
                break
    return accepted


def _candidates(
    known: FingerprintIndex, document: Array, rules: Array, places: Array, spots: Array
) -> list[tuple[int, float, list[tuple[int, int]]]]:
    """List the rules worth an alignment, most explained words first: number, best possible score, anchors.

    An anchor that lacks is at least one difference, and so is a run of 4-grams that lack.
    """
    counts = np.bincount(rules, minlength=len(known.lengths))
    share = np.minimum(counts / known.anchors, 1.0)
    present = np.flatnonzero(share >= known.shares)
    value = share[present] * known.lengths[present]
    kept = present[np.lexsort((present, -value))][:_CANDIDATES]
    missing = known.count_missing(document, kept)
    kept, missing = (column[missing <= _MISSING * known.lengths[kept]] for column in (kept, missing))
    lengths = known.lengths[kept].astype(np.float64)
    lacking = known.anchors[kept] - np.minimum(counts[kept], known.anchors[kept])
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
    rule: Rule, place: int, spot: int, forward: tuple[Array, list[int]], backward: tuple[Array, list[int]]
) -> Found | None:
    size, total = len(rule.forward.words), len(forward[1])
    limits = _limits(rule)
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
    score = _judge(rule, sum(e - s for s, e in matched), deleted, inserted)
    if score is None:
        return None
    return Found(rule, matched[0][0], matched[-1][1], score, tuple(matched))


def _limits(rule: Rule) -> Limits:
    """Return what ends an alignment early; `_judge` decides about what remains."""
    sets = _word_sets()
    size = len(rule.forward.words)
    if not rule.permissive:
        return Limits(max(3, size // 6), None)
    return Limits(max(2, size // 10), sets.benign | sets.harmless)


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
        if not (step and _is_name(listed, d, skipped, lost)):
            extra = extra if skipped > free and not _is_copyright(extra) else []
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
    if not _word_sets().copyright.isdisjoint(listed[d : d + _REACH]):
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


def _is_copyright(extra: list[int]) -> bool:
    """Say whether words are a copyright line, read in either direction, that says nothing else."""
    sets = _word_sets()
    ends = extra[0] in sets.copyright or extra[-1] in sets.copyright
    return ends and not any(word in sets.weighty and word != sets.rights for word in extra)


def _is_name(listed: list[int], d: int, size: int, lost: list[int]) -> bool:
    """Say whether a difference is another name where a text names somebody: 'provided by ... as is'."""
    sets = _word_sets()
    if d == 0 or d + size >= len(listed) or size > _NAME or len(lost) > _NAME:
        return False
    before, after = listed[d - 1], listed[d + size]
    if not (
        (before in sets.before and after in sets.after) or (after in sets.before and before in sets.after)
    ):
        return False
    if any(word in sets.weighty for word in listed[d : d + size]):
        return False
    return not any(word in sets.weighty for word in lost)


def _judge(rule: Rule, matched: int, deleted: list[int], inserted: list[int]) -> float | None:
    """Return how well a rule explains the document, or None when it differs too much."""
    sets = _word_sets()
    differing = deleted + inserted
    heavy = [word for word in differing if word not in sets.harmless]
    size = len(rule.forward.words) - len(rule.forward.optional)
    score = matched - 4.0 * len(heavy) - 0.5 * (len(differing) - len(heavy))
    if not differing:
        return float(matched)
    if size < _TOO_SHORT or matched < size // 2:
        return None
    if rule.kind == "notice" and any(word in sets.telling for word in differing):
        return None
    if rule.permissive:
        few = max(1, size // 25) if size < _SHORT else size // 60
        allowed = len(heavy) <= few and sets.benign.issuperset(heavy)
        return score if allowed and len(differing) <= max(2, size // 10) else None
    return score if len(heavy) <= size // (8 if size >= _SHORT else 25) else None


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
    words = tokens.text.split()
    found = find_near(words)
    if not found:
        return []
    bounds = np.concatenate([[0], np.cumsum([len(word) + 1 for word in words])]).tolist()
    result = []
    for f in found:
        pieces = f.matched if f.rule.permissive or f.rule.kind == "exception" else ((f.start, f.end),)
        match = Match(f.rule.expression, f"near-{f.rule.kind}", f.rule.kind, bounds[f.start], bounds[f.end])
        result.append((match, [(bounds[s], bounds[e]) for s, e in pieces]))
    return result
