r"""Turn the start of a file into hashed counts of what it is made of.

Six kinds of features, each hashed into one table of `SIZE` numbers: tokens (a word, a number, up to six signs, line
ends), pairs of neighboring tokens, the first eight tokens of the file, single bytes, and of each line its first token
and its shape (the first signs, with every word as `w`), both with whether the line is indented. The last two tell
settings, listings and layouts, whose words say little; they gained .03 accuracy. Every digit counts as `0`, so that a
number is its length. Of a long comment at the start only the first and the last line are read: licenses stand there,
and they drew files to whatever language had few files and the same license (.017 accuracy). Only the first
`CONSIDERED_BYTES` of the rest count. The hash is CRC-32, the same on every machine; unlike features may share a
number, which costs little at this size.
"""

import re
import zlib

import numpy as np
from numpy.typing import NDArray

SIZE = 1 << 18
"""Numbers that a feature may hash to."""
CONSIDERED_BYTES = 6000
"""Bytes from the start that are read; twice as many gain under .005 accuracy and take twice the time."""

_READ_BYTES = 2 * CONSIDERED_BYTES
"""Bytes in which the comment at the start may stand."""
_MIN_COMMENT_BYTES = 200
"""Shorter comments at the start are read as they are."""
_FIRST_LINE_BYTES = 40
"""The first line that is kept ends after these."""

_SIGN = rb"(//|#|;|--|%|!|'|\"|\*|@?[Rr][Ee][Mm]\b|dnl\b|[Cc](?=[ \t\n])|@c\b|\.\\\")"
_COMMENT_LINES = rb"[ \t]*" + _SIGN + rb"(?:[^\w\n][^\n]*)?\n(?:[ \t]*(?:\1(?:[^\w\n][^\n]*)?)?\n){2,}"
_BRACKETS = (
    (rb"/\*", rb"\*/"),
    (rb"\(\*", rb"\*\)"),
    (rb"\{-", rb"-\}"),
    (rb"<!--", rb"-->"),
    (rb"<#--", rb"-->"),
    (rb"<%--", rb"--%>"),
    (rb"\#\*", rb"\*\#"),
    (rb"%\{", rb"%\}"),
    (rb"--\[\[", rb"\]\]"),
    (rb"=begin", rb"=end"),
)
_COMMENT_BLOCK = (
    rb"[ \t]*(?:" + rb"|".join(start + rb".{120,}?" + end for start, end in _BRACKETS) + rb")[^\n]*\n?"
)
_FIRST_COMMENT = re.compile(
    rb"\A(?:(?:\#!|<\?|<!D)[^\n]*\n)?\s*(?:" + _COMMENT_LINES + rb"|" + _COMMENT_BLOCK + rb")", re.DOTALL
)

_FIRST_TOKENS = 8
_SHAPE_BYTES = 10
_TOKEN = re.compile(rb"[A-Za-z_][A-Za-z0_]*|0+|\n+|[^\sA-Za-z0_]{1,6}")
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0_]*")
_WORDS = re.compile(rb"w[ \t]+(?:w[ \t]+)*w")
_LINE = re.compile(rb"^([ \t]*)(([A-Za-z_][A-Za-z0_]*|0+|[^\sA-Za-z0_]{1,6})[^\n]{0,24})", re.MULTILINE)
"""Indentation, start and first token of a line."""
_DIGITS = bytes.maketrans(b"123456789\r", b"000000000\n")
_PAIR, _FIRST, _BYTE = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)


def features(content: bytes) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return the numbers of the features and 1 + the logarithm of how often each occurs; those of bytes come last."""
    read = without_first_comment(content[:_READ_BYTES].replace(b"\r\n", b"\n"))
    text = read[:CONSIDERED_BYTES].translate(_DIGITS)
    tokens = np.fromiter(map(zlib.crc32, _TOKEN.findall(text)), np.uint32)
    held = np.bincount(np.frombuffer(text, np.uint8), minlength=256)
    seen = np.flatnonzero(held)
    pairs = (tokens[:-1] * _PAIR) ^ tokens[1:]
    first = tokens[:_FIRST_TOKENS] * _FIRST
    single = (seen.astype(np.uint32) + np.uint32(1)) * _BYTE
    lines = np.fromiter(map(zlib.crc32, _line_features(text)), np.uint32)
    hashed = np.concatenate([tokens, pairs, first, lines])
    numbers, counts = np.unique(_folded(hashed), return_counts=True)
    strengths = 1 + np.log(np.concatenate([counts, held[seen]]))
    return np.concatenate([numbers, _folded(single)]), strengths.astype(np.float32)


def without_first_comment(text: bytes) -> bytes:
    """Return the text with only the first and last line of a long comment at its start."""
    found = _FIRST_COMMENT.match(text)
    if found is None or found.end() < _MIN_COMMENT_BYTES:
        return text
    comment = found[0]
    first, last = comment.find(b"\n", _FIRST_LINE_BYTES), comment.rstrip().rfind(b"\n")
    return comment[:first] + comment[last:] + text[found.end() :] if 0 <= first < last else text


def _line_features(text: bytes) -> list[bytes]:
    """Return the first token of each line that is not blank, then the shape of each."""
    lines = _LINE.findall(text)
    shapes = _WORDS.sub(b"w w", _WORD.sub(b"w", b"\n".join([start for _, start, _ in lines]))).split(b"\n")
    found = [(b"L>" if indented else b"L|") + token for indented, _, token in lines]
    found += [
        (b"S>" if line[0] else b"S|") + shape[:_SHAPE_BYTES]
        for line, shape in zip(lines, shapes, strict=False)
    ]
    return found


def _folded(hashed: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (hashed ^ (hashed >> np.uint32(15))) & np.uint32(SIZE - 1)
