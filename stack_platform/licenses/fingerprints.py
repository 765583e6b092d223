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
from typing import Any

import numpy as np

from stack_platform.licenses.policy import license_type

FILE = Path(__file__).with_name("fingerprints.npz")
GRAM = 4  # words of an anchor
_SHARE = 0.34  # of a rule's anchors that a document must hold to be compared with it
_SHARE_PERMISSIVE = 0.5  # a permissive text may differ less
_FILTER_BITS = 20
_PRESENT_BITS = 22  # of the table of 4-grams of a document; two share a slot once in 2,000
_CHUNK = 1 << 18  # words
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing
_WORD_BYTES = 32
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)  # the first n of eight bytes
_BUCKET_BITS = 16  # of the table of words; the fullest bucket holds a few

Array = np.ndarray[Any, Any]


def hash_words(text: bytes, starts: Array, lengths: Array) -> Array:
    """Return the fixed 64-bit numbers of words, eight bytes of them at a time; only the first 32 bytes count."""
    padded = text + bytes(_WORD_BYTES)
    eights: Array = np.ndarray((len(text),), "<u8", buffer=padded, strides=(1,))
    hashes = (eights[starts] & _MASKS[np.minimum(lengths, 8)]) * _MIX
    for done in range(8, _WORD_BYTES, 8):
        longer = np.flatnonzero(lengths > done)
        if not len(longer):
            break
        rest = eights[starts[longer] + done] & _MASKS[np.minimum(lengths[longer] - done, 8)]
        mixed = hashes[longer] ^ rest
        hashes[longer] = (mixed ^ (mixed >> np.uint64(32))) * _MIX
    return hashes ^ (hashes >> np.uint64(29))


def hash_word(word: str) -> int:
    """Return the fixed 64-bit number of one word."""
    data = word.encode("latin-1", "replace")
    return int(hash_words(data, np.zeros(1, np.int64), np.array([len(data)]))[0])


def pack_grams(words: Array) -> Array:
    """Pack each run of four word numbers into one 64-bit key."""
    wide = words.astype(np.uint64)
    if len(wide) < GRAM:
        return np.zeros(0, np.uint64)
    keys = wide[: -GRAM + 1].copy()
    for i in range(1, GRAM):
        keys = (keys << np.uint64(16)) | wide[i : len(wide) - GRAM + 1 + i]
    return keys


def is_permissive_name(expression: str) -> bool:
    """Say whether an expression is permissive by the policy."""
    return license_type(expression) == "permissive"


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A rule read in one direction: word numbers as array and list, gaps (word -> n), optional words."""

    words: Array
    listed: list[int]
    gaps: dict[int, int]
    optional: frozenset[int]
    windows: dict[int, Any] = field(default_factory=dict)
    """What an alignment looks for next, by place; filled when it is first needed."""


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
        self._arrays = arrays
        self._expressions: list[str] = about["expressions"]
        self._kinds: list[str] = about["kinds"]
        self._starts = np.concatenate([[0], np.cumsum(arrays["lengths"].astype(np.int64))])
        self._integers = list(
            range(len(arrays["vocabulary"]) + 1)
        )  # shared: an integer of its own takes 28 bytes
        vocabulary = arrays["vocabulary"]
        self._vocabulary = np.append(vocabulary, np.zeros(1, np.uint64))
        buckets = np.arange(1 << _BUCKET_BITS, dtype=np.uint64) << np.uint64(64 - _BUCKET_BITS)
        self._buckets = np.searchsorted(vocabulary, buckets).astype(np.int64)
        self._fullest = int(np.diff(self._buckets, append=len(vocabulary)).max())
        self.lengths = arrays["lengths"]
        self.expression = arrays["expression"]  # of each rule, a number
        keys = arrays["anchor_key"]
        self._keys, first = np.unique(keys, return_index=True)
        self._first = np.append(first, len(keys))
        self._filter = np.zeros(1 << _FILTER_BITS, np.bool_)
        self._filter[_slot(self._keys)] = True
        self.anchors = np.bincount(arrays["anchor_rule"], minlength=len(self.lengths))
        permissive = np.array([is_permissive_name(e) for e in self._expressions])[arrays["expression"]]
        self.shares = np.where(permissive, _SHARE_PERMISSIVE, _SHARE)
        self._places = self._gram_slots()
        self._present = np.zeros(1 << _PRESENT_BITS, np.bool_)
        self.rule = lru_cache(maxsize=1024)(self._rule)

    def number(self, text: str, spaces: Array) -> Array:
        """Return the numbers of the words between the spaces of a normalized text."""
        hashes = hash_words(text.encode("latin-1"), spaces[:-1] + 1, np.diff(spaces) - 1)
        places = self._buckets[hashes >> np.uint64(64 - _BUCKET_BITS)]
        numbers = np.zeros(len(hashes), np.uint16)
        last = len(self._vocabulary) - 1
        for _ in range(self._fullest):
            numbers += (self._vocabulary[places] == hashes) * (places + 1).astype(np.uint16)
            places = np.minimum(places + 1, last)
        return numbers

    def number_of(self, word: str) -> int:
        """Return the number of one word, 0 when no rule has it."""
        return int(self.number(f" {word} ", np.array([0, len(word) + 1]))[0])

    def find_anchors(self, words: Array) -> tuple[Array, Array, Array]:
        """Return rule, place in the rule and place in the document of each anchor that occurs."""
        keys = pack_grams(words)
        places = np.flatnonzero(self._filter[_slot(keys)])
        keys = keys[places]
        slots = np.searchsorted(self._keys, keys)
        known = slots < len(self._keys)
        known[known] = self._keys[slots[known]] == keys[known]
        places, slots = places[known], slots[known]
        counts = self._first[slots + 1] - self._first[slots]
        ends = np.cumsum(counts)
        postings = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            self._first[slots] - ends + counts, counts
        )
        return (
            self._arrays["anchor_rule"][postings].astype(np.int64),
            self._arrays["anchor_place"][postings].astype(np.int64),
            np.repeat(places, counts),
        )

    def _gram_slots(self) -> Array:
        """Return for each word of all rules the slot of the 4-gram that begins there; 0 where a text may differ."""
        words, gaps, optional = (self._arrays[name] for name in ("words", "gaps", "optional"))
        slots = np.zeros(len(words), np.uint32)
        for start in range(0, len(words), _CHUNK):  # in pieces, to keep the peak of memory low
            keys = pack_grams(words[start : start + _CHUNK + GRAM - 1])
            slots[start : start + len(keys)] = np.maximum(_slot(keys, _PRESENT_BITS), np.uint64(1))
        for back in range(1, GRAM):
            slots[np.maximum(self._starts[1:] - back, 0)] = 0
            slots[np.maximum(self._starts[gaps[:, 0]] + gaps[:, 1] - back, 0)] = 0
        for i, start, end in optional.tolist():
            slots[max(0, self._starts[i] + start - GRAM + 1) : self._starts[i] + end] = 0
        return slots

    def count_missing(self, words: Array, rules: Array) -> Array:
        """Count for each rule its 4-grams that are nowhere in the words of a document."""
        found = _slot(pack_grams(words), _PRESENT_BITS)
        present = self._present
        present[found] = present[0] = True
        spans = [self._places[self._starts[i] : self._starts[i + 1]] for i in rules.tolist()]
        ends = np.cumsum([0] + [len(span) for span in spans])
        lacking = np.concatenate([[0], np.cumsum(~present[np.concatenate(spans)])]) if spans else ends
        present[found] = False
        return np.diff(lacking[ends])

    def _rule(self, i: int) -> Rule:
        words = self._arrays["words"][self._starts[i] : self._starts[i + 1]]
        size = len(words)
        kind = self._kinds[self._arrays["kind"][i]]
        expression = self._expressions[self._arrays["expression"][i]]
        gaps = [(int(at), int(n)) for _, at, n in _rows_of(self._arrays["gaps"], i)]
        optional = [k for _, s, e in _rows_of(self._arrays["optional"], i) for k in range(int(s), int(e))]
        listed = [self._integers[word] for word in words.tolist()]
        return Rule(
            expression,
            kind,
            kind != "exception" and is_permissive_name(expression),
            Side(words, listed, dict(gaps), frozenset(optional)),
            Side(
                words[::-1],
                listed[::-1],
                {size - at: n for at, n in gaps},
                frozenset(size - 1 - k for k in optional),
            ),
        )


@cache
def index() -> FingerprintIndex:
    """Load the index, once."""
    with np.load(FILE) as arrays:
        return FingerprintIndex(dict(arrays))


def _slot(keys: Array, bits: int = _FILTER_BITS) -> Array:
    return (keys * _MIX) >> np.uint64(64 - bits)


def _rows_of(table: Array, i: int) -> Array:
    start, end = np.searchsorted(table[:, 0], [i, i + 1])
    return table[start:end]
