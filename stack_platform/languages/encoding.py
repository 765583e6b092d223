"""Find the encoding of a file's bytes, and decode them.

Order: byte order mark, UTF-16 without one (a NUL in every second byte of mostly ASCII text), NUL byte (binary), strict
UTF-8, the encoding the file itself declares in its first two
lines (PEP 263's `coding:`, XML's `encoding=`, HTML's `charset=`), and a statistical detector (`charset-normalizer`)
for the rest, which is under 1 % of public code. The detector sees the first 64 KiB up to a line end. An answer
counts only where the whole file decodes without an error, so a name that this module returns always decodes.

Known error: short texts in single-byte encodings decode under many of them; the detector's choice is a guess.
"""

import codecs
import re

from stack_platform.errors import ConfigError

BINARY_MARK = b"\0"
"""A byte that text never holds, except in UTF-16 and UTF-32, which start with a byte order mark here."""

_SAMPLE_BYTES = 64 * 1024

_WIDE_BYTES = 4096
"""Bytes from the start that show UTF-16 without a mark."""
_MIN_WIDE_BYTES = 16
_MIN_NUL_SHARE = 0.6
"""Share of the high bytes that are NUL: source code is mostly ASCII, machine data rarely alternates so."""
_CONTROL = re.compile("[\\x00-\\x08\\x0e-\\x1a\\x7f]")
_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_DECLARED = re.compile(rb"(?:coding|charset)\s*[:=]\s*[\"']?([A-Za-z0-9][\w.-]{1,30})")
_DECLARATION_LINES = 2

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Longer marks first: UTF-32's little-endian mark starts with UTF-16's."""

# fmt: off
_LEGACY = (
    "cp1252", "latin_1", "iso8859_15", "shift_jis", "cp932", "euc_jp", "gbk", "gb18030", "big5", "euc_kr", "cp949",
    "cp1251", "koi8_r", "cp866", "iso8859_2", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp437", "cp850",
    "mac_roman",
)
# fmt: on
"""What the detector may answer, in the order that settles a draw: the encodings that old source code is written in."""

_WESTERN = frozenset({"cp1252", "iso8859-1", "iso8859-15"})
_TURKISH = frozenset(letter.encode("cp1254") for letter in "ÇĞİÖŞÜçğıöşüâîûÂÎÛ")
_ONLY_TURKISH = frozenset(letter.encode("cp1254") for letter in "ĞİŞğış")
"""cp1252 has Ð, Ý, Þ, ð, ý, þ at these bytes; Icelandic and Faroese text holds accents that Turkish lacks."""


def byte_order_mark(data: bytes) -> str | None:
    """Return the codec that a leading byte order mark announces, or None.

    `utf-16` and `utf-32` read the byte order from the mark; like `utf-8-sig` they leave the mark out of the text.
    """
    return next((codec for mark, codec in _MARKS if data.startswith(mark)), None)


def wide_codec(data: bytes) -> str | None:
    """Return the codec of text in units of two or four bytes, or None for everything else.

    `utf-16` and `utf-32` where a byte order mark says so, `utf-16-le` and `utf-16-be` where NUL bytes do.
    """
    if BINARY_MARK not in data[:_WIDE_BYTES]:
        return byte_order_mark(data) if data.startswith(_WIDE_MARKS) else None
    mark = byte_order_mark(data)
    if mark is not None:
        return mark if mark != "utf-8-sig" else None
    return _unmarked_wide_codec(data)


def _unmarked_wide_codec(data: bytes) -> str | None:
    """Return UTF-16's byte order where one half of the bytes is mostly NUL, the other never, and all of it decodes."""
    head = data[:_WIDE_BYTES]
    if len(data) % 2 or len(data) < _MIN_WIDE_BYTES:
        return None
    for codec, high, low in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if 0 not in low and high.count(0) > _MIN_NUL_SHARE * len(high) and _decodes(data, codec):
            return None if _CONTROL.search(data.decode(codec)) else codec
    return None


def is_binary(data: bytes) -> bool:
    """Tell whether the bytes hold a NUL that neither a byte order mark nor UTF-16 explains."""
    return BINARY_MARK in data and wide_codec(data) is None


def src_encoding(data: bytes) -> str | None:
    """Return a Python codec that decodes all of the bytes, or None where they are binary or no codec fits.

    Pure ASCII and UTF-8 are `utf-8`; with a byte order mark `utf-8-sig`.
    """
    if is_binary(data):
        return None
    wide = wide_codec(data)
    codec = wide or byte_order_mark(data) or "utf-8"
    if _decodes(data, codec):
        return codec
    return None if wide else _declared_encoding(data) or _legacy_encoding(data)


def decode(data: bytes, encoding: str) -> str:
    """Return the text of the bytes, strictly: nothing is replaced and line ends stay as they are.

    For `utf-8`, `utf-8-sig` and single-byte codecs `text.encode(encoding)` gives back the same bytes.

    Raises:
        ConfigError: Python has no such codec, or the bytes are not in it.

    """
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise ConfigError(
            f"encoding {encoding!r} is unknown to Python; take the one src_encoding() names"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"byte {error.start} of {len(data)} is not {encoding}; take the encoding src_encoding() names"
        ) from error


def _decodes(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _declared_encoding(data: bytes) -> str | None:
    """Return the text codec that the first two lines name, where all of the bytes decode under it."""
    head = b"\n".join(data[:500].splitlines()[:_DECLARATION_LINES])
    found = _DECLARED.search(head)
    if found is None:
        return None
    try:
        codec = codecs.lookup(found.group(1).decode())
        return codec.name if isinstance(data.decode(codec.name), str) else None
    except (LookupError, ValueError):
        return None


def _legacy_encoding(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    sample = data[:_SAMPLE_BYTES]
    if len(data) > _SAMPLE_BYTES and b"\n" in sample:
        sample = sample[: sample.rindex(b"\n") + 1]
    draws = sorted(
        (guess.chaos, -guess.coherence, _LEGACY.index(codec))
        for guess in from_bytes(sample, cp_isolation=list(_LEGACY))
        for codec in guess.could_be_from_charset
        if codec in _LEGACY
    )
    ranked = (_LEGACY[rank] for _, _, rank in draws)
    found = next((codecs.lookup(codec).name for codec in ranked if _decodes(data, codec)), None)
    turkish = found in _WESTERN and _is_turkish(sample) and _decodes(data, "cp1254")
    return "cp1254" if turkish else found


def _is_turkish(sample: bytes) -> bool:
    """Tell whether every high letter is Turkish and one is where Western European encodings have Icelandic ones."""
    letters = set(re.findall(rb"[\xc0-\xff]", sample))
    return letters <= _TURKISH and not letters.isdisjoint(_ONLY_TURKISH)
