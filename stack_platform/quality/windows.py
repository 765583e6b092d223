"""Compiled searches for many benchmark items at once; import this module inside functions, numba is heavy.

Substrings: a text is read once, without white space and in lower case, under a rolling hash of `window` bytes. Each
item is known by the hash of one of its windows, its anchor; a bitmap, then a hash table, tell whether a window may be
an anchor, and every byte of the item is compared before it counts. N-grams: words are hashed, the last `ngram` of
them roll, and a table gives the items that hold the n-gram; 64-bit hashes are taken for the n-grams themselves.

Cost: one multiplication and one look-up a byte, whatever the number of items. Known error: two different n-grams share
a hash with probability 2**-64.
"""

import numpy as np
from numpy.typing import NDArray

from stack_platform.quality.kernels import Bytes, Index, compiled

Wide = NDArray[np.uint64]
Bits = NDArray[np.uint8]
Table = tuple[Bits, Wide, Index]  # bitmap, keys, values (-1: free); sizes are powers of two

_BASE = np.uint64(0x9E3779B97F4A7C15)
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_TO_BIT = np.uint64(24)  # the lowest bits of a product are the weakest


def _lowered(characters: str) -> Bytes:
    table = np.zeros(256, np.uint8)
    for character in characters:
        table[ord(character)] = ord(character.lower())
    table[0x80:] = np.arange(0x80, 0x100, dtype=np.uint8)
    return table


_PRINTED = "".join(chr(byte) for byte in range(1, 128) if chr(byte) not in " \t\n\r\f\v")
SQUEEZED = _lowered(_PRINTED)  # 0 for white space (and NUL), else the byte in lower case
WORD = _lowered("".join(c for c in _PRINTED if c.isalnum() or c == "_"))  # 0 for what separates words


@compiled
def mix(value: np.uint64) -> np.uint64:
    """Spread a hash over all bits."""
    value ^= value >> np.uint64(33)
    value *= _MIX
    return value ^ (value >> np.uint64(29))


@compiled
def power(length: int) -> np.uint64:
    """Return the base of the rolling hashes to the power `length`."""
    product = np.uint64(1)
    for _ in range(length):
        product *= _BASE
    return product


@compiled
def window_hashes(squeezed: Bytes, window: int) -> Wide:
    """Hash every window of a squeezed text."""
    hashes = np.empty(max(squeezed.size - window + 1, 0), np.uint64)
    leaving, rolling = power(window), np.uint64(0)
    for position in range(squeezed.size):
        entering = np.uint64(squeezed[position])
        if position >= window:
            entering -= leaving * np.uint64(squeezed[position - window])
        rolling = rolling * _BASE + entering
        if position + 1 >= window:
            hashes[position + 1 - window] = rolling * _MIX
    return hashes


@compiled
def fill_table(table: Table, hashes: Wide) -> None:
    """Enter distinct hashes; the value of a hash is its place among them."""
    bitmap, keys, values = table
    for index in range(hashes.size):
        value = hashes[index]
        bit = (value >> _TO_BIT) & np.uint64(bitmap.size * 8 - 1)
        bitmap[bit >> np.uint64(3)] |= np.uint8(1) << np.uint8(bit & np.uint64(7))
        slot = np.int64((value >> np.uint64(32)) & np.uint64(keys.size - 1))
        while values[slot] >= 0:
            slot = (slot + 1) & (keys.size - 1)
        keys[slot], values[slot] = value, index


@compiled
def _may_hold(bitmap: Bits, mask: np.uint64, value: np.uint64) -> bool:
    bit = (value >> _TO_BIT) & mask
    return bool((bitmap[bit >> np.uint64(3)] >> np.uint8(bit & np.uint64(7))) & np.uint8(1))


@compiled
def _look_up(table: Table, value: np.uint64) -> int:
    _, keys, values = table
    slot = np.int64((value >> np.uint64(32)) & np.uint64(keys.size - 1))
    while values[slot] >= 0:
        if keys[slot] == value:
            return int(values[slot])
        slot = (slot + 1) & (keys.size - 1)
    return -1


@compiled
def find_substrings(
    texts: tuple[Bytes, Index, Index],
    window: int,
    table: Table,
    anchored: tuple[Index, Index, Index],
    items: tuple[Bytes, Index],
    hits: Index,
) -> int:
    """Find each item's first occurrence in each text; return how many, of which `hits` keeps those it has room for.

    texts: data, starts, stops. anchored: for the hash of value v, `which[bounds[v] : bounds[v + 1]]` are the items
    and `offsets` where the anchor lies in each. items: squeezed bytes, bounds. hits: (n, 5) row, item, first
    squeezed byte, the one behind the last, and 0.
    """
    data, starts, stops = texts
    bounds, which, offsets = anchored
    sought, ends = items
    leaving, mask = power(window), np.uint64(table[0].size * 8 - 1)
    seen = np.full(ends.size, -1, np.int64)  # the last row that an item was found in
    found, largest = 0, 0
    for row in range(starts.size):
        largest = max(largest, stops[row] - starts[row])
    squeezed = np.empty(largest, np.uint8)
    for row in range(starts.size):
        size = 0
        for position in range(starts[row], stops[row]):
            byte = SQUEEZED[data[position]]
            squeezed[size] = byte
            size += byte != 0
        rolling = np.uint64(0)
        for position in range(size):
            entering = np.uint64(squeezed[position])
            if position >= window:
                entering -= leaving * np.uint64(squeezed[position - window])
            rolling = rolling * _BASE + entering
            if position + 1 < window or not _may_hold(table[0], mask, rolling * _MIX):
                continue
            value = _look_up(table, rolling * _MIX)
            if value < 0:
                continue
            for entry in range(bounds[value], bounds[value + 1]):
                item, start = which[entry], position + 1 - window - offsets[entry]
                wanted = sought[ends[item] : ends[item + 1]]
                if seen[item] == row or not _is_at(squeezed, size, start, wanted):
                    continue
                seen[item] = row
                if found < hits.shape[0]:
                    hits[found, 0], hits[found, 1] = row, item
                    hits[found, 2], hits[found, 3] = start, start + wanted.size
                found += 1
    return found


@compiled
def _is_at(squeezed: Bytes, size: int, start: int, wanted: Bytes) -> bool:
    if start < 0 or start + wanted.size > size:
        return False
    for offset in range(wanted.size):  # noqa: SIM110 - numba compiles no generators in `all`
        if squeezed[start + offset] != wanted[offset]:
            return False
    return True


@compiled
def ngram_hashes(data: Bytes, start: int, stop: int, ngram: int, hashes: Wide, places: Index) -> int:
    """Hash the n-grams of words of a text; `places` gets the first byte and the byte behind the last of each."""
    ring, begins = np.zeros(ngram, np.uint64), np.zeros(ngram, np.int64)
    leaving, rolling, position, words, found, slot = power(ngram), np.uint64(0), start, 0, 0, 0
    while position < stop:
        if WORD[data[position]] == 0:
            position += 1
            continue
        word, begin = _FNV_OFFSET, position
        while position < stop and WORD[data[position]]:
            word = (word ^ np.uint64(WORD[data[position]])) * _FNV_PRIME
            position += 1
        word = mix(word)
        rolling = rolling * _BASE + word - leaving * ring[slot]
        ring[slot], begins[slot] = word, begin
        slot = slot + 1 if slot + 1 < ngram else 0  # of the first of the last words
        words += 1
        if words >= ngram:
            hashes[found] = rolling * _MIX
            places[found, 0], places[found, 1] = begins[slot], position
            found += 1
    return found


@compiled
def find_overlaps(
    texts: tuple[Bytes, Index, Index],
    ngram: int,
    table: Table,
    shared: tuple[Index, Index],
    needed: Index,
    hits: Index,
) -> int:
    """Find the texts that hold at least `needed[item]` distinct n-grams of an item; return how many hits there are.

    shared: for the n-gram of value v, `which[bounds[v] : bounds[v + 1]]` are its items. hits: (n, 5) row, item, first
    byte of the first n-gram found, the byte behind the last one, n-grams found.
    """
    data, starts, stops = texts
    bounds, which = shared
    mask = np.uint64(table[0].size * 8 - 1)
    seen = np.full(bounds.size, -1, np.int64)  # the last row that an n-gram was found in
    tallies = np.zeros((needed.size, 3), np.int64)  # n-grams found, first byte, byte behind the last
    touched = np.empty(needed.size, np.int64)
    largest = 0
    for row in range(starts.size):
        largest = max(largest, stops[row] - starts[row])
    hashes, places = np.empty(largest // 2 + 1, np.uint64), np.empty((largest // 2 + 1, 2), np.int64)
    found = 0
    for row in range(starts.size):
        count, ngrams = 0, ngram_hashes(data, starts[row], stops[row], ngram, hashes, places)
        for index in range(ngrams):
            if not _may_hold(table[0], mask, hashes[index]):
                continue
            value = _look_up(table, hashes[index])
            if value < 0 or seen[value] == row:
                continue
            seen[value] = row
            for item in which[bounds[value] : bounds[value + 1]]:
                if tallies[item, 0] == 0:
                    touched[count] = item
                    count += 1
                    tallies[item, 1] = places[index, 0] - starts[row]
                tallies[item, 0] += 1
                tallies[item, 2] = places[index, 1] - starts[row]
        for item in touched[:count]:
            if tallies[item, 0] >= needed[item]:
                if found < hits.shape[0]:
                    hits[found, 0], hits[found, 1] = row, item
                    hits[found, 2], hits[found, 3] = tallies[item, 1], tallies[item, 2]
                    hits[found, 4] = tallies[item, 0]
                found += 1
            tallies[item, 0] = 0
    return found
