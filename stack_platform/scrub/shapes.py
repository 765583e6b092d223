"""The shape of a value: entropy, character classes, runs; drawn at random, or written by someone.

Everything here is linear in its argument, because it runs once per native hit.
"""

import math
import re
from collections import Counter
from itertools import pairwise

UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z", re.IGNORECASE)
HEX = re.compile(r"[0-9a-fA-F]+\Z")
WORDS = re.compile(r"[A-Za-z]+(?:[-_. /:][A-Za-z]+)*[-_./:!?]?\Z")
_NO_LETTERS = bytes(byte for byte in range(256) if not chr(byte).isalpha() or byte > 127)
_RUNS = re.compile(r"[A-Z]*[a-z]+|[A-Z]+|[0-9]+")


def entropy(value: str) -> float:
    """Return the Shannon entropy of the characters of a value, in bits per character."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values())


def digit_count(value: str) -> int:
    """Count the digits of a value."""
    return sum(map(str.isdigit, value))


def is_identifier(value: str) -> bool:
    """Tell whether a value reads like names in camel case: long runs of letters, hardly a digit."""
    runs = _RUNS.findall(value[:200])
    if len(value) >= 4 * len(runs) and digit_count(value) <= 3:
        return True
    parts = re.split(r"[_-]", value)
    return len(parts) > 2 and all(part.isalpha() or (part.isdigit() and len(part) <= 3) for part in parts)


def is_random(value: str) -> bool:
    """Tell whether a value changes between letters, capitals and digits as often as a drawn one does."""
    runs = _RUNS.findall(value[:200])
    figures = digit_count(value[:200])
    if figures < 2 or figures == len(value) or not runs:
        return False
    length = sum(map(len, runs))
    if HEX.match(value):
        return len(value) >= 16 and length <= 5.5 * len(runs) and entropy(value) >= 2.8
    return length <= 3.7 * len(runs) and entropy(value) >= 3.0


def classes(value: str) -> int:
    """Count the kinds of characters in a value: small letters, capitals, digits, signs."""
    return sum((
        any(map(str.islower, value)), any(map(str.isupper, value)), any(map(str.isdigit, value)),
        any(not char.isalnum() and char not in "_ " for char in value),
    ))  # fmt: skip


def is_sequence(value: str) -> bool:
    """Tell whether a value runs through the alphabet and the digits, as samples do (`aBcD…1234`, `Aa1Bb2…`)."""
    head = value[:40].lower().encode("ascii", "replace")
    return _steps(head) or _steps(head.translate(None, _NO_LETTERS))


def _steps(chars: bytes) -> bool:
    steps = sum([0 <= after - char <= 1 for char, after in pairwise(chars)])
    return len(chars) >= 12 and steps >= 0.8 * (len(chars) - 1)
