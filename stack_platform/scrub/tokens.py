"""Verdicts on tokens: formats of vendors, JSON Web Tokens, tokens beside a service's name, long random values.

What identifies its vendor needs no more proof than not to be a placeholder. Everything else must look drawn at random
(see shapes.is_random), and must not be announced as a hash, a revision or a public key.
"""

import re
from collections.abc import Iterator

from stack_platform.scrub.context import before, in_hash_context, is_alphabet, is_placeholder
from stack_platform.scrub.known import begins_known, refuted
from stack_platform.scrub.names_of_secrets import PASSWORD_NAME, PUBLIC_NAME, STRONG_NAME, name_before
from stack_platform.scrub.shapes import HEX, UUID, digit_count, entropy, is_identifier, is_random, is_sequence
from stack_platform.scrub.spans import Span

_JWT = re.compile(r"eyJ[\w-]{8,4000}\.eyJ[\w-]{8,16000}(?:\.[\w-]{4,8000})?")
_LOOSE = re.compile(r"[A-Za-z0-9+/_=.-]{0,40}[0-9][A-Za-z0-9+/_=.-]{7,300}")
_TOKEN = re.compile(r"[A-Za-z0-9+/_=-]{24,300}")
_NEAR = re.compile(r"(?<![A-Za-z0-9+/_-])(?:[A-Za-z0-9+/_-]{10,200}={0,2}|\d{3}[A-Za-z0-9-]{10,80})")
_PREFIXED = re.compile(
    r"[A-Za-z][A-Za-z0-9]{0,14}(?:[_.-][A-Za-z0-9]{1,12}){0,3}[_.-](?P<tail>[A-Za-z0-9]{20,200})"
    r"(?:[_-][A-Za-z0-9_-]{0,120})?"
)
_LABEL = re.compile(
    r"\A[A-Za-z_-]{0,40}?(?:key|secret|token|access|private)[A-Za-z0-9]{0,8}[_-]+", re.IGNORECASE
)
_ASSIGNED = re.compile(r"\A[A-Za-z0-9_-]{0,24}\s?[=:]\s?[\"']?\Z")
_VERSION = re.compile(r"v?\d+(?:[.-]\d+)+")
_WORDS_JOINED = re.compile(r"[A-Za-z]+(?:[-_/][A-Za-z0-9]+)*\Z")
_CODE_TOKEN = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)+\Z|[~.]{0,2}/[\w./-]+\Z")
_HASH_PATH = re.compile(r"(?:sha\d*|md5|h1|hash|chunk|css|build|rev|commit|blob|tree)[:_.=-]", re.IGNORECASE)


def vendor_format(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge a credential in the format of its vendor; the hit is the credential."""
    value = text[start:end]
    if not is_placeholder(value) or value[0] == "$" or value.startswith("{SSHA"):
        kind = "PASSWORD" if (value[0] in "${p" and "$" in value) or value.startswith("{SSHA") else "KEY"
        # A format that goes on is another one, or a sample that somebody has spoiled.
        spoiled = (
            text[end : end + 1].isalnum() or text[end : end + 1] in ("_", "-") or is_sequence(value[-24:])
        )
        yield Span(start, end, kind, "sp.format", 0.45 if spoiled else 0.9)


def jwt(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the JSON Web Token that begins in a hit."""
    found = _JWT.match(text, start)
    if found and found.end() >= end:
        score = 0.92 if found.group().count(".") == 2 else 0.6
        yield Span(found.start(), found.end(), "KEY", "sp.jwt", score)


def loose(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the long token that follows a sensitive word in a hit, with nothing but a blank or a tag between."""
    low = max((text.rfind(mark, start, end) for mark in " \t\n>\"'`"), default=-1) + 1
    found = _LOOSE.match(text, low) if low else None
    if found is None:
        return
    value, name = found.group().rstrip("."), name_before(text, start, low)
    if PUBLIC_NAME.search(name) or is_placeholder(value) or _CODE_TOKEN.match(value):
        return
    score = _token_score(value)
    if score and not in_hash_context(text, low):
        kind = "PASSWORD" if PASSWORD_NAME.search(name) else "KEY"
        yield Span(
            low, low + len(value), kind, "sp.assignment.loose", _doubted(score, before(text, low, 60), value)
        )


def _doubted(score: float, lead: str, value: str) -> float:
    return min(score, 0.45) if score >= 0.5 and refuted(lead, value) else score


def _token_score(value: str) -> float:
    bits = entropy(value)
    figures = digit_count(value)
    if len(value) < 12 or figures < 2 or is_identifier(value) or _VERSION.match(value):
        return 0.0
    if figures == len(value) or bits < 2.8:
        return 0.3
    parts = re.split(r"[_-]", value)  # a name in several words has none that looks drawn
    drawn = len(parts) == 1 or is_random(max(parts, key=len))
    return 0.55 if len(value) >= 16 and bits >= 3.0 and drawn else 0.4


def service(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the long token that stands beside the name of a service in a hit."""
    for found in _NEAR.finditer(text, start, min(len(text), end + 200)):
        value = _LABEL.sub("", found.group(), count=1).lstrip("-_/")
        if found.start() >= end or (len(value) < 16 and not STRONG_NAME.search(text[start : found.start()])):
            continue
        low = found.end() - len(value)
        if low <= start + 1:
            continue  # a longer name that begins like that of the service
        drawn = UUID.match(value) or is_random(value) or (len(value) >= 20 and digit_count(value) >= 4)
        if not drawn or is_identifier(value) or value.count("/") > 2:
            continue
        if is_placeholder(value) or in_hash_context(text, low) or text[low - 1] in "#&":
            return
        lead = text[start:low]
        strong = STRONG_NAME.search(lead) is not None or _ASSIGNED.match(lead) is not None
        score = 0.6 if strong or (is_random(value) and len(value) >= 20) else 0.45
        yield Span(low, found.end(), "KEY", "sp.service", _doubted(score, lead, value))
        return


def prefixed(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the token in a hit that has a short prefix before many random characters, as vendors make them."""
    low = start
    while low > max(0, start - 48) and (
        (text[low - 1].isascii() and text[low - 1].isalnum()) or text[low - 1] in "_-"
    ):
        low -= 1
    found = _PREFIXED.match(text, low)
    if found is None or found.end() < end or text[max(0, low - 1) : low] in ("/", "."):
        return
    if low and (text[low - 1].isalnum() or text[low - 1] in "_-"):
        return  # the middle of something longer
    value, tail = found.group(), found["tail"]
    if not is_random(tail) or is_placeholder(value) or is_alphabet(value) or UUID.match(value[:36]):
        return
    if in_hash_context(text, low + 1) or _HASH_PATH.match(value):
        return
    hexadecimal = HEX.match(tail) is not None
    mixed = any(map(str.islower, tail)) and any(map(str.isupper, tail))
    score = 0.55 if mixed and digit_count(tail) >= 3 else 0.45 if not hexadecimal else 0.42
    if text[found.end() : found.end() + 1] in ("(", "/", ".", "["):
        score = 0.3
    # The engine looked at every token that begins like this one and took it for none.
    yield Span(low, found.end(), "KEY", "sp.prefixed", min(score, 0.45) if begins_known(value) else score)


def token(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge a long token that nothing announces."""
    low = start if start == 0 and (text[0].isalnum() or text[0] in "+/_=-") else start + 1
    found = _TOKEN.match(text, low, min(len(text), end + 300))
    if found is None:
        return
    first = low
    # In `name=token` the token begins behind the last sign that no padding follows.
    low = found.start() + found.group().rstrip("=").rfind("=") + 1
    value = text[low : found.end()]
    figures = digit_count(value)
    if len(value) < 20 or figures < 2 or figures == len(value) or value.count("/") > 3:
        return
    if is_identifier(value) or in_hash_context(text, first) or is_placeholder(value) or is_alphabet(value):
        return
    bits = entropy(value)
    lead = before(text, low, 80)
    announced = STRONG_NAME.search(lead) is not None or PASSWORD_NAME.search(lead) is not None
    if HEX.match(value) or UUID.match(value):
        score = 0.45 if announced and bits >= 3.0 else 0.28 if bits >= 3.0 else 0.0
    elif _WORDS_JOINED.match(value) and bits < 4.2:
        score = 0.0  # words joined by dashes
    else:
        score = 0.45 if announced and bits >= 3.6 else 0.3 if bits >= 4.0 else 0.0
    if score:
        yield Span(low, found.end(), "KEY", "sp.token", score)
