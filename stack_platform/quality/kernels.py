r"""Compiled passes over texts for the quality signals; import this module inside functions, numba is heavy.

A text is the bytes `starts[i]:stops[i]` of one buffer and valid UTF-8. Letters are counted as bytes where they are
ASCII and looked up by code point elsewhere. Runs of encoded data are found by looking at the last byte of the
smallest possible run first and skipping behind what cannot be part of one, so most bytes of source code are never
read; no byte is read more than a fixed number of times, whatever the text. All signals together: 360 MB/s of CPU
time on source code (benchmarks/quality.py).
The loops hold no interpreter lock; numba keeps their machine code beside this file or in the user's cache folder.
"""

from collections.abc import Callable
from typing import TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Index = NDArray[np.int64]

Function = TypeVar("Function", bound=Callable[..., object])

MIN_BASE64, MIN_ITEMS = 64, 8
"""Characters of the shortest run of base64; pairs of digits or escapes of the shortest run of the others."""

_MIN_HEX_RUN = MIN_ITEMS * 3 - 1  # two digits each, one character between them
_CODE_POINTS, _ALPHA, _DIGITS, _LINES, _LINE_POINTS, _MAX_LINE, _HEAD = range(7)
COUNTS = 7


def compiled(function: Function) -> Function:
    """Compile at the first call, without the interpreter lock, and keep the machine code where possible."""
    try:
        return numba.njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither this folder nor the user's cache folder can be written
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


def _members(characters: str) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(characters.encode("ascii"))] = True
    return table


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SPACES = " \t\n\r\f\v"
_HEX = _members("0123456789abcdefABCDEF")
_WORD = _members(_LETTERS + _LETTERS.upper() + "0123456789_")
_SPACE = _members(_SPACES)
_BASE64 = _members(_LETTERS + _LETTERS.upper() + "0123456789+/\n=")
_HEX_RUN = _members("0123456789abcdefABCDEFx\\," + _SPACES)
_COMMA, _BACKSLASH, _ZERO, _X, _U = (np.uint8(ord(character)) for character in ",\\0xu")
_NEWLINE, _RETURN = np.uint8(10), np.uint8(13)


@compiled
def count_texts(data: Bytes, starts: Index, stops: Index, kinds: Bytes, head_lines: int) -> Index:
    """Count characters and lines of each text.

    kinds: by code point, 1 for a letter, 2 for another alphanumeric; read for characters outside ASCII only.
    Returns (n, 7): code points, letters, other alphanumerics, lines, code points in lines, longest line in code
    points, and the byte where the first `head_lines` lines end.
    """
    counts = np.zeros((starts.size, COUNTS), np.int64)
    for row in range(starts.size):
        text = data[starts[row] : stops[row]]
        letters, digits, leads, returns, foreign = 0, 0, 0, 0, np.uint8(0)
        for byte in text:
            letters += ((byte | np.uint8(32)) - np.uint8(97)) & 0xFF < 26
            digits += (byte - np.uint8(48)) & 0xFF < 10
            leads += (byte & np.uint8(0xC0)) != 0x80
            returns += byte == _RETURN
            foreign |= byte
        counts[row, _CODE_POINTS], counts[row, _ALPHA], counts[row, _DIGITS] = leads, letters, digits
        if foreign >= 0x80:
            _count_foreign(text, kinds, counts[row])
        _count_lines(text, counts[row], head_lines)
    return counts


@compiled
def _count_foreign(text: Bytes, kinds: Bytes, counts: Index) -> None:
    position, size = 0, text.size
    while position < size:
        byte = np.int64(text[position])
        if byte < 0x80:
            position += 1
            continue
        width = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        point = byte & (0x7F >> width)
        for offset in range(1, width):
            point = (point << 6) | (np.int64(text[position + offset]) & 0x3F)
        kind = kinds[point]
        counts[_ALPHA] += kind == 1
        counts[_DIGITS] += kind == 2
        position += width


@compiled
def _count_lines(text: Bytes, counts: Index, head_lines: int) -> None:
    lines, points, total, longest, size = 0, 0, 0, 0, text.size
    head, position = size, 0
    while position < size:
        byte = text[position]
        position += 1
        if byte > _RETURN or (byte != _NEWLINE and byte != _RETURN):
            points += (byte & np.uint8(0xC0)) != 0x80
            continue
        if byte == _RETURN and position < size and text[position] == _NEWLINE:
            position += 1
        lines += 1
        if lines == head_lines:
            head = position
        total += points
        longest = max(longest, points)
        points = 0
    if size and text[size - 1] != _NEWLINE and text[size - 1] != _RETURN:
        lines += 1
        total += points
        longest = max(longest, points)
    counts[_LINES], counts[_LINE_POINTS], counts[_MAX_LINE], counts[_HEAD] = lines, total, longest, head


@compiled
def next_run(text: Bytes, position: int, members: NDArray[np.bool_], shortest: int) -> tuple[int, int]:
    """Find the next maximal run of member bytes of at least `shortest`; (size, size) where there is none.

    `position` must not lie inside a run that began before it.
    """
    size, known = text.size, position  # position:known are members
    while position + shortest <= size:
        probe = position + shortest - 1
        while probe >= known and members[text[probe]]:
            probe -= 1
        if probe < known:
            stop = position + shortest
            while stop < size and members[text[stop]]:
                stop += 1
            return position, stop
        known = position + shortest
        position = probe + 1
    return size, size


@compiled
def _hex_item(text: Bytes, position: int) -> int:
    r"""Match \b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*) at a position; return its end, or -1."""
    size = text.size
    after_word = position > 0 and _WORD[text[position - 1]]
    prefixed = position + 1 < size and text[position + 1] == _X
    if text[position] == _BACKSLASH:
        if not (after_word and prefixed):
            return -1
        position += 2
    elif after_word:
        return -1
    elif text[position] == _ZERO and prefixed:
        position += 2
    if position + 2 > size or not (_HEX[text[position]] and _HEX[text[position + 1]]):
        return -1
    position += 2
    if position < size and text[position] == _COMMA:
        return position + 1
    if position < size and _WORD[text[position]]:
        return -1
    while position < size and _SPACE[text[position]]:
        position += 1
    return position


@compiled
def _escape_item(text: Bytes, position: int) -> int:
    r"""Match \\u[0-9a-fA-F]{4} at a position; return its end, or -1."""
    if position + 6 > text.size or text[position] != _BACKSLASH or text[position + 1] != _U:
        return -1
    for offset in range(2, 6):
        if not _HEX[text[position + offset]]:
            return -1
    return position + 6


@compiled
def _find_items(text: Bytes, position: int, stop: int, escapes: bool, spans: Index, found: int) -> int:
    """Append the runs of at least MIN_ITEMS items that begin in position:stop; return how many spans there are.

    An item cannot begin inside another, so a run that is too short is skipped as a whole.
    """
    while position < stop:
        end = _escape_item(text, position) if escapes else _hex_item(text, position)
        if end < 0:
            position += 1
            continue
        start, items = position, 0
        while end >= 0:
            items += 1
            position = end
            if position >= text.size:
                break
            end = _escape_item(text, position) if escapes else _hex_item(text, position)
        if items >= MIN_ITEMS:
            spans[found, 0], spans[found, 1] = start, position
            found += 1
    return found


@compiled
def find_encoded(data: Bytes, starts: Index, stops: Index) -> Index:
    """Find base64, hexadecimal and escaped data; return (n, 2): the longest run and the bytes in any run."""
    result = np.zeros((starts.size, 2), np.int64)
    largest = 0
    for row in range(starts.size):
        largest = max(largest, stops[row] - starts[row])
    spans = np.empty((largest // 8 + 8, 2), np.int64)
    for row in range(starts.size):
        text = data[starts[row] : stops[row]]
        found = 0
        start, stop = next_run(text, 0, _BASE64, MIN_BASE64)
        while start < text.size:
            spans[found, 0], spans[found, 1] = start, stop
            found += 1
            start, stop = next_run(text, stop, _BASE64, MIN_BASE64)
        start, stop = next_run(text, 0, _HEX_RUN, _MIN_HEX_RUN)
        while start < text.size:
            found = _find_items(text, start, stop, False, spans, found)
            start, stop = next_run(text, stop, _HEX_RUN, _MIN_HEX_RUN)
        found = _find_escapes(text, spans, found)
        if found:
            result[row, 0], result[row, 1] = _measure(spans[:found])
    return result


@compiled
def _find_escapes(text: Bytes, spans: Index, found: int) -> int:
    backslashes = 0
    for byte in text:
        backslashes += byte == _BACKSLASH
    if backslashes < MIN_ITEMS:
        return found
    return _find_items(text, 0, text.size, True, spans, found)


@compiled
def _measure(spans: Index) -> tuple[int, int]:
    """Return the longest span and the bytes of their union."""
    longest, covered, reached = 0, 0, 0
    for which in np.argsort(spans[:, 0], kind="mergesort"):
        start, stop = spans[which, 0], spans[which, 1]
        longest = max(longest, stop - start)
        if stop > reached:
            covered += stop - max(start, reached)
            reached = stop
    return longest, covered
