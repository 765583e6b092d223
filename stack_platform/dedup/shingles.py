r"""Word shingles of source files, as sets of 32-bit hashes.

A text's tokens are `re.findall(r"\w+", text.lower())` and its shingles the runs of `ngram` tokens. ASCII
texts are read where they lie in Arrow's buffers; a text with other bytes is lower-cased by Python first
(Unicode's rules: final sigma, characters that become two) and its separators outside ASCII are blanked, so
that the compiled loops see the same tokens in either. Bytes that are not UTF-8 count as U+FFFD, a separator.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stack_platform.errors import SchemaError

GROUP_BYTES = 4 << 20  # texts outside ASCII are rewritten in groups of this many bytes

_TOKEN = re.compile(r"\w+")
_POINTS = 0x110000
_LONGER, _BY_CONTEXT = (
    0x130,
    0x3A3,
)  # dotted I becomes two characters, a sigma is lowered by what stands beside it
_TEXT_TYPES = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


@dataclass(frozen=True, slots=True)
class Texts:
    """Lower-casable bytes of several texts in one buffer.

    Attributes:
        rows: (n,) row of the column that each text comes from
        data: bytes; every byte of 0x80 and above belongs to a word
        starts, stops: (n,) where each text lies in `data`

    """

    rows: NDArray[np.int64]
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """Distinct shingle hashes of several texts.

    Attributes:
        rows: (n,) row of the column that each set comes from
        hashes: all sets one after another, each sorted
        offsets: (n + 1,) where the sets begin and end in `hashes`

    """

    rows: NDArray[np.int64]
    hashes: NDArray[np.uint32]
    offsets: NDArray[np.int64]


def reference_tokens(text: str) -> list[str]:
    """Return the tokens of a text by definition; everything else here must agree with it."""
    return _TOKEN.findall(text.lower())


def reference_shingles(text: str, ngram: int = 5) -> set[tuple[str, ...]]:
    """Return the shingles of a text by definition."""
    tokens = reference_tokens(text)
    return {tuple(tokens[i : i + ngram]) for i in range(len(tokens) - ngram + 1)}


def texts_of(column: pa.Array, rows: NDArray[np.int64] | None = None) -> Iterator[Texts]:
    """Yield the chosen rows of a string or binary column, ASCII in place, the others rewritten in groups.

    Raises:
        SchemaError: the column holds neither strings nor bytes.

    """
    from stack_platform.dedup.kernels import foreign_texts

    data, offsets = _buffers(column)
    chosen = np.arange(len(column)) if rows is None else rows
    starts, stops = offsets[chosen], offsets[chosen + 1]
    if column.null_count:  # what lies under a null is undefined
        stops = np.where(column.is_null().to_numpy(zero_copy_only=False)[chosen], starts, stops)
    foreign = foreign_texts(data, starts, stops)
    plain = ~foreign
    if plain.any():
        yield Texts(chosen[plain], data, starts[plain], stops[plain])
    if foreign.any():
        yield from _rewritten(chosen[foreign], data, starts[foreign], stops[foreign])


def shingle_sets(
    column: pa.Array, ngram: int = 5, rows: NDArray[np.int64] | None = None
) -> Iterator[ShingleSets]:
    """Yield the shingle sets of the chosen rows; texts of fewer than `ngram` tokens have empty ones.

    Raises:
        SchemaError: the column holds neither strings nor bytes.

    """
    from stack_platform.dedup.kernels import hash_texts, squeeze_sorted

    for texts in texts_of(column, rows):
        hashes, offsets = hash_texts(texts.data, texts.starts, texts.stops, ngram)
        for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            hashes[start:stop].sort()  # numpy sorts with vector instructions, compiled Python cannot
        offsets = squeeze_sorted(hashes, offsets)
        yield ShingleSets(texts.rows, hashes[: offsets[-1]], offsets)


def _buffers(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of a column and its n + 1 offsets, without copying the bytes."""
    if column.type not in _TEXT_TYPES:
        raise SchemaError(f"content has the type {column.type}; cast it to large_string or large_binary")
    if len(column) == 0:
        return _constant(b""), np.zeros(1, np.int64)
    _, positions, data = column.buffers()
    wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    offsets = np.frombuffer(positions, np.int64 if wide else np.int32)
    offsets = offsets[column.offset : column.offset + len(column) + 1].astype(np.int64)
    return _constant(data or b""), np.asarray(offsets, np.int64)


def _constant(data: pa.Buffer | bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """View bytes without the right to write: numba compiles once more for arrays with it."""
    view = np.frombuffer(data, np.uint8)
    view.setflags(write=False)
    return view


def _rewritten(
    rows: NDArray[np.int64], data: NDArray[np.uint8], starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> Iterator[Texts]:
    """Lower-case and blank texts outside ASCII, a bounded number of bytes at a time."""
    groups = np.cumsum(stops - starts) // GROUP_BYTES
    cuts = np.flatnonzero(np.diff(groups)) + 1
    for group in np.split(np.arange(rows.size), cuts):
        texts = [
            _lower(data[start:stop].tobytes())
            for start, stop in zip(starts[group], stops[group], strict=True)
        ]
        ends = np.cumsum([0, *map(len, texts)])
        yield Texts(rows[group], _blanked(b"".join(texts)), ends[:-1], ends[1:])


def _lower(raw: bytes) -> bytes:
    """Lower-case what is not ASCII, in place where Python's rules keep each character's length."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _lower_by_python(raw)
    data = np.frombuffer(bytearray(raw), np.uint8)
    leads, width, code = _characters(data)
    lowered = _lowered()[code]
    if (lowered < 0).any():
        return _lower_by_python(raw)
    changed = np.flatnonzero(lowered != code)
    leads, width, code = leads[changed], width[changed], lowered[changed]
    for step in range(4):
        inside = width > step
        bits = code[inside] >> 6 * (width[inside] - 1 - step)
        mark = 0x80 if step else 0xF00 >> width[inside] & 0xFF
        data[leads[inside] + step] = mark | bits & (0x3F if step else 0xFF)
    return data.tobytes()


def _lower_by_python(raw: bytes) -> bytes:
    return raw.decode("utf-8", errors="replace").lower().encode()


def _characters(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Return where the characters outside ASCII begin in valid UTF-8, their widths in bytes and code points."""
    leads = np.flatnonzero(data >= 0xC0)
    first = data[leads].astype(np.int32)
    width = 2 + (first >= 0xE0).astype(np.int32) + (first >= 0xF0)
    code = first & (0x7F >> width)
    for step in range(1, 4):
        inside = width > step
        code[inside] = code[inside] << 6 | data[leads[inside] + step] & 0x3F
    return leads, width, code


def _blanked(text: bytes) -> NDArray[np.uint8]:
    """Overwrite the characters outside ASCII that are not part of a word; the text is valid UTF-8."""
    data = np.frombuffer(bytearray(text), np.uint8)
    leads, width, code = _characters(data)
    separates = ~_word_characters()[code]
    for step in range(4):
        data[leads[separates & (width > step)] + step] = 0x20
    return _constant(data)


@cache
def _lowered() -> NDArray[np.int32]:
    """Return a table over all code points: the lower case, -1 where it has another length or depends on neighbors."""
    points = list(map(chr, range(_POINTS)))
    points[_LONGER] = points[_BY_CONTEXT] = " "
    lowered = "".join(points).lower().encode("utf-32-le", "surrogatepass")
    if len(lowered) != 4 * _POINTS:  # a Unicode to come, with more characters that become two
        return np.full(_POINTS, -1, np.int32)
    table = np.frombuffer(lowered, np.int32).copy()
    widths = np.searchsorted([0x80, 0x800, 0x10000], np.arange(_POINTS), side="right")
    table[widths[table] != widths] = -1
    table[[_LONGER, _BY_CONTEXT]] = -1
    return table


@cache
def _word_characters() -> NDArray[np.bool_]:
    """Return a table over all code points, true for those that are part of a word."""
    table = np.zeros(_POINTS, np.bool_)
    for run in _TOKEN.finditer("".join(map(chr, range(_POINTS)))):
        table[run.start() : run.end()] = True
    return table
