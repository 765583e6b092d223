"""Compiled inner loops from text to signature; import this module inside functions, numba is heavy.

Word tokens are runs of bytes that `WORD_BYTE` maps to something; a token's hash is FNV-1a over its
lower-cased bytes, finished with MurmurHash3's 64-bit mixer; a shingle's hash is the polynomial of `ngram`
consecutive token hashes modulo 2**64, rolled along the text, mixed again and cut to its upper 32 bits.
Signatures follow the scheme "affine32" of datasketch 2 bit for bit: Murmur's 32-bit mixer, then the minimum
of a*h + b modulo 2**32 over the shingles, for each permutation (a, b).

Sources: Fowler, Noll, Vo (FNV-1a, 64 bit); Appleby, MurmurHash3 (fmix32, fmix64); datasketch.MinHash.
Known error: two of n distinct shingles share a 32-bit hash with probability n**2 / 2**33, 0.01 at 10,000, and
each such pair moves a Jaccard similarity by less than 1 / n.
The loops hold no interpreter lock. Compiling all of them takes about 10 CPU s once; numba keeps the machine
code beside this file or, where that folder cannot be written, in the user's cache folder.
"""

from collections.abc import Callable
from typing import TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint32]
Wide = NDArray[np.uint64]
Index = NDArray[np.int64]
Flags = NDArray[np.bool_]
Slots = NDArray[np.int32]
Scores = NDArray[np.float64]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile at the first call, without the interpreter lock, and keep the machine code where possible."""
    try:
        return numba.njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither this folder nor the user's cache folder can be written
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


def _word_bytes() -> Bytes:
    table = np.zeros(256, np.uint8)
    for byte in range(256):
        character = chr(byte)
        if byte >= 0x80 or character == "_" or character.isalnum():
            table[byte] = byte if byte >= 0x80 else ord(character.lower())
    return table


WORD_BYTE = _word_bytes()  # 0 where a byte separates, else the byte in lower case
BLOCK = 2048  # shingles hashed before they meet the permutations: 8 KiB stay in the first-level cache
EMPTY = np.uint32(0xFFFFFFFF)  # datasketch's value of a permutation that saw nothing

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_BASE = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial: 2**64 over the golden ratio, odd


@compiled
def mix64(value: np.uint64) -> np.uint64:
    """Finish a 64-bit hash as MurmurHash3 does."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@compiled
def mix32(value: np.uint32) -> np.uint32:
    """Finish a 32-bit hash as MurmurHash3 does; numba widens products, so each step is cut back."""
    value = np.uint32(value ^ (value >> np.uint32(16)))
    value = np.uint32(value * np.uint32(0x85EBCA6B))
    value = np.uint32(value ^ (value >> np.uint32(13)))
    value = np.uint32(value * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ (value >> np.uint32(16)))


@compiled
def foreign_texts(data: Bytes, starts: Index, stops: Index) -> Flags:
    """Tell which texts hold a byte outside ASCII."""
    foreign = np.empty(starts.size, np.bool_)
    for text in range(starts.size):
        seen = np.uint8(0)
        for position in range(starts[text], stops[text]):
            seen |= data[position]
        foreign[text] = seen >= 0x80
    return foreign


@compiled
def next_shingles(
    data: Bytes, stop: int, cursor: Index, ring: Wide, leaving: np.uint64, block: Hashes
) -> int:
    """Hash shingles into `block` until it is full or the text ends; return how many.

    `cursor` holds position, ring slot and tokens so far, `ring` the last `ngram` token hashes and then the
    rolling polynomial; both carry the state to the next call. `leaving` is the base to the power `ngram`.
    """
    ngram = ring.size - 1
    position, slot, tokens = cursor[0], cursor[1], cursor[2]
    rolling = ring[ngram]
    filled = 0
    while filled < block.size:
        while position < stop and WORD_BYTE[data[position]] == 0:
            position += 1
        if position >= stop:
            break
        token = _FNV_OFFSET
        while position < stop:
            byte = WORD_BYTE[data[position]]
            if byte == 0:
                break
            token = (token ^ np.uint64(byte)) * _FNV_PRIME
            position += 1
        token = mix64(token)
        rolling = rolling * _BASE + token - ring[slot] * leaving
        ring[slot] = token
        slot = slot + 1 if slot + 1 < ngram else 0
        tokens += 1
        if tokens >= ngram:
            block[filled] = np.uint32(mix64(rolling) >> np.uint64(32))
            filled += 1
    cursor[0], cursor[1], cursor[2] = position, slot, tokens
    ring[ngram] = rolling
    return filled


@compiled
def power(ngram: int) -> np.uint64:
    """Return the base of the polynomial to the power `ngram`."""
    product = np.uint64(1)
    for _ in range(ngram):
        product *= _BASE
    return product


@compiled
def lower_minima(minima: Hashes, block: Hashes, multipliers: Hashes, addends: Hashes) -> None:
    """Lower each permutation's minimum by a block of premixed shingle hashes."""
    for lane in range(minima.size):
        a, b, least = multipliers[lane], addends[lane], minima[lane]
        for index in range(block.size):
            least = min(least, np.uint32(a * block[index] + b))
        minima[lane] = least


@compiled
def sign_texts(
    data: Bytes, starts: Index, stops: Index, ngram: int, multipliers: Hashes, addends: Hashes,
    signatures: Hashes, tokens: Index,
) -> None:  # fmt: skip
    """Write the signature and the number of tokens of each text."""
    block, ring, cursor = np.empty(BLOCK, np.uint32), np.empty(ngram + 1, np.uint64), np.empty(3, np.int64)
    leaving = power(ngram)
    for text in range(starts.size):
        ring[:] = np.uint64(0)
        cursor[0], cursor[1], cursor[2] = starts[text], 0, 0
        signatures[text] = EMPTY
        while True:
            filled = next_shingles(data, stops[text], cursor, ring, leaving, block)
            if filled == 0:
                break
            for index in range(filled):
                block[index] = mix32(block[index])
            lower_minima(signatures[text], block[:filled], multipliers, addends)
        tokens[text] = cursor[2]


@compiled
def hash_texts(data: Bytes, starts: Index, stops: Index, ngram: int) -> tuple[Hashes, Index]:
    """Return the shingle hashes of all texts, repeats included, and where each text's begin and end."""
    block, ring, cursor = np.empty(BLOCK, np.uint32), np.empty(ngram + 1, np.uint64), np.empty(3, np.int64)
    leaving = power(ngram)
    offsets = np.zeros(starts.size + 1, np.int64)
    hashes = np.empty((stops - starts).sum() // 8 + BLOCK, np.uint32)
    used = 0
    for text in range(starts.size):
        ring[:] = np.uint64(0)
        cursor[0], cursor[1], cursor[2] = starts[text], 0, 0
        while True:
            filled = next_shingles(data, stops[text], cursor, ring, leaving, block)
            if filled == 0:
                break
            if used + filled > hashes.size:
                larger = np.empty(2 * hashes.size, np.uint32)
                larger[:used] = hashes[:used]
                hashes = larger
            hashes[used : used + filled] = block[:filled]
            used += filled
        offsets[text + 1] = used
    return hashes[:used], offsets


@compiled
def squeeze_sorted(hashes: Hashes, offsets: Index) -> Index:
    """Drop repeats from each sorted segment, in place; return the new offsets."""
    squeezed = np.zeros(offsets.size, np.int64)
    used = 0
    for text in range(offsets.size - 1):
        first = used
        for index in range(offsets[text], offsets[text + 1]):
            value = hashes[index]
            if used == first or hashes[used - 1] != value:
                hashes[used] = value
                used += 1
        squeezed[text + 1] = used
    return squeezed


@compiled
def condense(signatures: Hashes, rows: int, keys: Hashes, lanes: Bytes) -> None:
    """Hash each band of `rows` lanes to 32 bits, and keep the low 8 bits of every lane."""
    for text in range(signatures.shape[0]):
        for band in range(keys.shape[1]):
            key = np.uint64(band)
            for lane in range(band * rows, band * rows + rows):
                key = mix64(key * _BASE + np.uint64(signatures[text, lane]))
            keys[text, band] = np.uint32(key >> np.uint64(32))
        for lane in range(lanes.shape[1]):
            lanes[text, lane] = np.uint8(signatures[text, lane] & np.uint32(255))
