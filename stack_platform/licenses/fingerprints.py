"""Loads the fingerprint index: license texts, headers and notices as sequences of numbers.

Format of `fingerprints.npz` (see `derive_fingerprints`), arrays in this order of use:
 1. `vocabulary` sorted 64-bit hashes of words (`hash_words`); a word's number is its place + 1, 0 is any other;
 2. `words`, `lengths` all rules' word numbers, one after the other (rules sorted by expression);
 3. `expression`, `kind` of each rule, as indices into the lists of `about` (JSON, with the sources and with
    the names that the SPDX list gives its licenses);
 4. `gaps` (rule, word, n): up to n words of a document may stand before this word of the rule;
 5. `optional` (rule, start, end): words of the rule that a document may leave out;
 6. `anchor_key`, `anchor_rule`, `anchor_place` rare 4-grams of each rule, sorted by key: four word numbers
    packed into 64 bits, so a key is the 4-gram itself and never collides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stack_platform.licenses.policy import license_type

FILE = Path(__file__).with_name("fingerprints.npz")
GRAM = 4  # words of an anchor
_SHARE = 0.34  # of a rule's anchors that a document must hold to be compared with it
_SHARE_PERMISSIVE = 0.5  # a permissive text may differ less
_FILTER_BITS = 20
_PRESENT_BITS = 22  # of the table of 4-grams of a document; two share a slot once in 2,000
_CHUNK = 1 << 16  # words
_KEPT = 4096  # rules that are kept in the form an alignment reads; 2 KB each
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing
_HALF, _FOLD = np.uint64(32), np.uint64(29)  # bits
_WORD_BYTES = 32
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)  # the first n of eight bytes
_WORD_BITS = 18  # of the table of words; one in 40 shares its slot with another

Array = np.ndarray[Any, Any]


def hash_words(text: bytes, starts: Array, lengths: Array) -> Array:
    """Return the fixed 64-bit numbers of words, eight bytes of them at a time; only the first 32 bytes count."""
    padded = text + bytes(_WORD_BYTES)
    eights: Array = np.ndarray((len(text),), "<u8", buffer=padded, strides=(1,))
    hashes = (eights[starts] & _MASKS.take(lengths, mode="clip")) * _MIX
    longer = None
    for done in range(8, _WORD_BYTES, 8):
        longer = (lengths > done).nonzero()[0] if longer is None else longer[lengths[longer] > done]
        if not len(longer):
            break
        rest = eights[starts[longer] + done] & _MASKS.take(lengths[longer] - done, mode="clip")
        rest ^= hashes[longer]
        rest ^= rest >> _HALF
        rest *= _MIX
        hashes[longer] = rest
    return hashes ^ (hashes >> _FOLD)


def hash_word(word: str) -> int:
    """Return the fixed 64-bit number of one word."""
    data = word.encode("latin-1", "replace")
    return int(hash_words(data, np.zeros(1, np.int64), np.array([len(data)]))[0])


def pack_grams(words: Array) -> Array:
    """Pack each run of four word numbers into one 64-bit key."""
    if len(words) < GRAM:
        return np.zeros(0, np.uint64)
    first_high = words.astype(">u2")
    runs: Array = np.ndarray((len(words) - GRAM + 1,), ">u8", buffer=first_high.data, strides=(2,))
    return runs.astype(np.uint64)


def is_permissive_name(expression: str) -> bool:
    """Say whether an expression is permissive by the policy."""
    return license_type(expression) == "permissive"


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A rule read in one direction: word numbers of two bytes, gaps (word -> n), optional words."""

    data: bytes
    gaps: dict[int, int]
    optional: frozenset[int]
    windows: dict[int, Any] = field(default_factory=dict)
    """What an alignment looks for next, by place; filled when it is first needed."""

    @property
    def words(self) -> Array:
        """The word numbers."""
        return np.frombuffer(self.data, np.uint16)


class Anchors(NamedTuple):
    """Anchors of rules in a document, by place in it: number of the rule, place in the rule and in the document."""

    rules: Array
    places: Array
    spots: Array

    def at(self, chosen: Array) -> Anchors:
        """Return some of them."""
        return Anchors(self.rules[chosen], self.places[chosen], self.spots[chosen])


class Grams(NamedTuple):
    """The 4-grams of a document: their keys, and their slots in a table of 2^_PRESENT_BITS."""

    keys: Array
    slots: Array


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule, forward and backward."""

    expression: str
    kind: str
    permissive: bool
    forward: Side
    backward: Side


class FingerprintIndex:
    """The index in memory."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        about = json.loads(arrays["about"].tobytes())
        self.names: dict[str, str] = about["names"]
        self._arrays = {name: arrays[name] for name in ("words", "kind", "gaps", "optional")}
        self._expressions: list[str] = about["expressions"]
        self._kinds: list[str] = about["kinds"]
        self._starts = np.concatenate([[0], np.cumsum(arrays["lengths"].astype(np.int64))])
        self._words = np.concatenate([np.zeros(1, np.uint64), arrays["vocabulary"]])  # by number
        self._numbers = np.zeros(1 << _WORD_BITS, np.uint16)
        self._numbers[_word_slot(self._words[1:])] = np.arange(1, len(self._words))
        self.lengths = arrays["lengths"]
        self.expression = arrays["expression"]  # of each rule, a number
        keys, first = np.unique(arrays["anchor_key"], return_index=True)
        self._keys = np.concatenate([np.zeros(1, np.uint64), keys])  # by number
        self._first = np.concatenate([[0], first, [len(arrays["anchor_key"])]])
        self._filter = np.zeros(1 << _FILTER_BITS, np.min_scalar_type(len(self._keys)))
        self._filter[_slot(keys, _FILTER_BITS)] = np.arange(1, len(self._keys))
        self._anchor_rule = arrays["anchor_rule"].astype(np.int64)
        self._anchor_place = arrays["anchor_place"].astype(np.int32)
        self.anchors = np.bincount(self._anchor_rule, minlength=len(self.lengths))
        self._permissive = np.array([is_permissive_name(e) for e in self._expressions])
        self.shares = np.where(self._permissive[self.expression], _SHARE_PERMISSIVE, _SHARE)
        self._bounds = {
            name: np.searchsorted(arrays[name][:, 0], np.arange(len(self.lengths) + 1))
            for name in ("gaps", "optional")
        }
        self._places = self._gram_slots()
        self._present = np.zeros(1 << _PRESENT_BITS, np.bool_)
        self.rule = lru_cache(maxsize=_KEPT)(self._rule)

    def number(self, text: str, spaces: Array) -> Array:
        """Return the numbers of the words between the spaces of a normalized text."""
        starts = spaces[:-1] + 1
        hashes = hash_words(text.encode("latin-1"), starts, spaces[1:] - starts)
        numbers: Array = self._numbers.take(_word_slot(hashes))
        _correct(numbers, self._words, hashes)
        return numbers

    def number_of(self, word: str) -> int:
        """Return the number of one word, 0 when no rule has it."""
        return int(self.number(f" {word} ", np.array([0, len(word) + 1]))[0])

    def find_anchors(self, grams: Grams) -> Anchors:
        """Find each anchor that occurs in a document."""
        numbers = self._filter.take(grams.slots >> (_PRESENT_BITS - _FILTER_BITS))
        spots = numbers.nonzero()[0]
        numbers = numbers[spots]
        _correct(numbers, self._keys, grams.keys[spots])
        known = numbers.nonzero()[0]
        if len(known) < len(numbers):
            spots, numbers = spots[known], numbers[known]
        first = self._first.take(numbers)
        counts = self._first.take(numbers + 1) - first
        ends = counts.cumsum()
        postings = np.arange(ends[-1] if len(ends) else 0)
        postings += np.repeat(first - ends + counts, counts)
        return Anchors(
            self._anchor_rule.take(postings), self._anchor_place.take(postings), np.repeat(spots, counts)
        )

    def _gram_slots(self) -> Array:
        """Return for each word of all rules the slot of the 4-gram that begins there; 0 where a text may differ."""
        words, gaps, optional = (self._arrays[name] for name in ("words", "gaps", "optional"))
        slots = np.zeros(len(words), np.uint32)
        for start in range(0, len(words), _CHUNK):  # in pieces, to keep the peak of memory low
            keys = pack_grams(words[start : start + _CHUNK + GRAM - 1])
            slots[start : start + len(keys)] = np.maximum(_slot(keys, _PRESENT_BITS), 1)
        for back in range(1, GRAM):
            slots[np.maximum(self._starts[1:] - back, 0)] = 0
            slots[np.maximum(self._starts[gaps[:, 0]] + gaps[:, 1] - back, 0)] = 0
        for i, start, end in optional.tolist():
            slots[max(0, self._starts[i] + start - GRAM + 1) : self._starts[i] + end] = 0
        return slots

    def count_missing(self, grams: Grams, rules: Array) -> Array:
        """Count for each rule its 4-grams that are nowhere in a document."""
        present = self._present
        present[grams.slots] = present[0] = True
        begins, ends = self._starts.take(rules), self._starts.take(rules + 1)
        spans = [self._places[i:j] for i, j in zip(begins.tolist(), ends.tolist(), strict=True)]
        here = present.take(np.concatenate(spans)) if spans else np.zeros(0, np.bool_)
        present[grams.slots] = False
        sizes = ends - begins
        missing: Array = sizes - np.add.reduceat(here, sizes.cumsum() - sizes, dtype=np.int64)
        return missing

    def _rule(self, i: int) -> Rule:
        words = self._arrays["words"][self._starts[i] : self._starts[i + 1]]
        size = len(words)
        kind = self._kinds[self._arrays["kind"][i]]
        expression = int(self.expression[i])
        gaps = [(at, n) for _, at, n in self._rows_of("gaps", i)]
        optional = [k for _, start, end in self._rows_of("optional", i) for k in range(start, end)]
        return Rule(
            self._expressions[expression],
            kind,
            kind != "exception" and bool(self._permissive[expression]),
            Side(words.tobytes(), dict(gaps), frozenset(optional)),
            Side(
                words[::-1].tobytes(),
                {size - at: n for at, n in gaps},
                frozenset(size - 1 - k for k in optional),
            ),
        )

    def _rows_of(self, name: str, i: int) -> list[list[int]]:
        start, end = self._bounds[name][i : i + 2]
        rows: list[list[int]] = self._arrays[name][start:end].tolist()
        return rows


@cache
def index() -> FingerprintIndex:
    """Load the index, once."""
    with np.load(FILE) as arrays:
        return FingerprintIndex(dict(arrays))


def grams_of(words: Array) -> Grams:
    """Return the 4-grams of a row of word numbers."""
    keys = pack_grams(words)
    return Grams(keys, _slot(keys, _PRESENT_BITS))


def _slot(keys: Array, bits: int) -> Array:
    return ((keys * _MIX) >> np.uint64(64 - bits)).view(np.int64)


def _word_slot(hashes: Array) -> Array:
    return (hashes >> np.uint64(64 - _WORD_BITS)).view(np.int64)


def _correct(numbers: Array, values: Array, wanted: Array) -> None:
    """Look up in order what a table did not answer: `values[numbers]` become those wanted, or number 0."""
    missed = (values.take(numbers) != wanted).nonzero()[0]
    if len(missed):
        wanted = wanted[missed]
        found = np.minimum(values[1:].searchsorted(wanted) + 1, len(values) - 1)
        numbers[missed] = np.where(values[found] == wanted, found, 0)
