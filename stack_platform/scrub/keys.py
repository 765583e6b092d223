r"""Verdicts on private keys: the whole block, not its first line.

Formats: PEM and OpenSSH and SSH2 armor (RFC 7468, RFC 4716), OpenPGP private key blocks, PuTTY key files, age
identities, minisign secret keys; in a file of their own, in a string literal with `\n`, or in a log with a
prefix on each line. A header without key material (a constant that is compared or printed) is no secret.
"""

import base64
import re
from collections.abc import Iterator

from stack_platform.scrub.spans import Span

MAX_BLOCK = 16_384  # code points; a 16,384-bit RSA key takes 12,700
_ARMOR = re.compile(r"-{4,5} ?BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_ARMOR_END = re.compile(r"-{4,5} ?END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_PUTTY_END = re.compile(r"Private-(?:MAC|Hash): ?[0-9a-fA-F]{20,64}")
_MATERIAL = re.compile(r"[A-Za-z0-9+/]{24}")
_SHORT_MATERIAL = re.compile(r"[A-Za-z0-9+/=]{12}")
_AGE = re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]{20,80}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{80,}={0,2}")
_MINISIGN = re.compile(r"[^\n]{0,40}\n(RW[A-Za-z0-9+/=]{60,300})")


def private_key(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the private key whose header is in a hit."""
    head = text[start:end]
    if head.startswith("AGE"):
        found = _AGE.match(text, start, start + 120)
        span = (start, found.end()) if found else None
    elif head.startswith("minisign"):
        found = _MINISIGN.search(text, end, end + 400)
        span = found.span(1) if found else None
    elif head.startswith("LS0t"):
        span = _wrapped(text, start)
    elif head.startswith("PuTTY"):
        span = _putty(text, start)
    else:
        span = _armored(text, max(0, start - 1), min(len(text), start + MAX_BLOCK))
    if span:
        yield Span(span[0], span[1], "PRIVATE_KEY", "sp.private-key", 0.99)


def wireguard(text: str, _: int, end: int) -> Iterator[Span]:
    """Judge the WireGuard key that a hit assigns."""
    value = text[end - 44 : end]
    if len(set(value)) > 12 and not text[end : end + 1].isalnum():
        yield Span(end - 44, end, "PRIVATE_KEY", "sp.wireguard", 0.95)


def _wrapped(text: str, start: int) -> tuple[int, int] | None:
    """Find the armored key that is itself encoded as base64, as Kubernetes and CI settings hold it."""
    found = _BASE64.match(text, start, start + 2 * MAX_BLOCK)
    if found is None or b"PRIVATE KEY" not in base64.b64decode(found.group()[:80]):
        return None
    return found.span()


def _putty(text: str, start: int) -> tuple[int, int] | None:
    high = min(len(text), start + MAX_BLOCK)
    found = _PUTTY_END.search(text, start, high)
    last = found.end() if found else _material_end(text, start, high)
    return (start, last) if _MATERIAL.search(text, start, last) else None


def _armored(text: str, low: int, high: int) -> tuple[int, int] | None:
    header = _ARMOR.search(text, low, min(high, low + 90))
    if header is None:
        return None
    # Up to the next header only: a file of headers would be read 16,384 times otherwise.
    again = _ARMOR.search(text, header.end(), high)
    high = again.start() if again else high
    footer = _ARMOR_END.search(text, header.end(), high)
    if footer:
        last = footer.end()
        material = _MATERIAL.search(text, header.end(), footer.start()) or _short(
            text, header.end(), footer.start()
        )
    else:
        last = _material_end(text, header.end(), high)
        material = _MATERIAL.search(text, header.end(), last)
    return (header.start(), last) if material else None


def _short(text: str, low: int, high: int) -> re.Match[str] | None:
    """Find the material of a block that is all material: a cut key in documentation, wrapped narrowly."""
    return _SHORT_MATERIAL.search(text, low, high) if high - low < 400 and "(" not in text[low:high] else None


def _material_end(text: str, start: int, high: int) -> int:
    """Return where the lines with key material after a header end, when nothing closes the block."""
    last = start
    misses = 0
    place = start
    while place < high and misses < 6:
        line_end = text.find("\n", place, high)
        line_end = high if line_end < 0 else line_end
        if _MATERIAL.search(text, place, line_end):
            last, misses = _last_material(text, place, line_end), 0
        else:
            misses += 1
        place = line_end + 1
    return last


def _last_material(text: str, low: int, high: int) -> int:
    last = low
    for found in re.finditer(r"[A-Za-z0-9+/]{16,}={0,2}", text[low:high]):
        last = low + found.end()
    return last
