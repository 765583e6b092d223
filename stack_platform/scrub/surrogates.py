"""Surrogates: what a secret is replaced with, and how a replacement is known again.

A surrogate is drawn from HMAC-SHA256(key, scope, type, value): the same secret has the same surrogate in
every file of a scope, and without the key nobody can test a guess against it. It keeps length and character classes
where code depends on them (keys, passwords, key blocks) or lies in a range reserved for documentation (e-mail: RFC
2606, IPv4: RFC 5737, IPv6: RFC 3849, phone: ...555-01xx; cards fail Luhn, account numbers have the check digits 00).

Scrubbing twice must change nothing, so a surrogate carries its proof: its last characters are a checksum of
the rest under a public key. Any scanner can recognize one, no secret is needed for an audit, and a
real secret passes for a surrogate once in 2^23. Values too short for a checksum become a prefix
of REDACTEDREDACTED..., so that different short secrets share a surrogate.
"""

import hashlib
import hmac
import re
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase, digits

from stack_platform.scrub.numbers import luhn_valid

_CHECK_KEY = b"stack-platform scrub check"
_CHECK_SPACE = 2**24
_MIN_BODY = 4  # drawn characters a surrogate must have besides its check
_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")
_HEX = re.compile(r"(?=.*\d)[0-9a-fA-F:-]+\Z")
_KEPT = re.compile(
    r"\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)|%[0-9a-fA-F]{2}"  # escapes stay valid
    r"|-{4,5} ?(?:BEGIN|END) [A-Z0-9 ]{0,40}-{4,5}|AGE-SECRET-KEY-1|PuTTY-User-Key-File-\d: [^\n]{0,40}"
    r"|(?m:^(?:Public-Lines|Private-Lines|Encryption|Proc-Type):[^\n]{0,40}|^[A-Z][A-Za-z-]{3,20}:)"
    r"|\A[a-z][a-z0-9+.-]{1,20}://[\w.-]{1,80}/",
    re.DOTALL,
)
# What the values of a kind look like when nothing else has been joined to them.
_PLAIN = {
    "PHONE": re.compile(r"(?=(?:\D*\d){7})[\d ()+./,;:extEXT-]+"),
    "CREDIT_CARD": re.compile(r"\d[\d -]{10,40}\d"),
    "IBAN": re.compile(r"[A-Z]{2}\d\d[A-Z0-9 ]{8,40}"),
}
_LEXICON = "REDACTED"
# Given names of every gender; the family name is made of syllables, and belongs to nobody we know.
_GIVEN = (
    "Alex",
    "Andrea",
    "Ariel",
    "Casey",
    "Jamie",
    "Jean",
    "Jordan",
    "Kim",
    "Lee",
    "Morgan",
    "Robin",
    "Sam",
)


def surrogate(kind: str, value: str, key: bytes, scope: str = "", attempt: int = 0) -> str:
    """Return the replacement of a value; `attempt` draws another one when the context spoils the first."""
    draw = _Draw(key, scope, kind, value, attempt)
    if kind == "EMAIL":
        return f"user-{draw.bits(32):08x}@example.com"
    if kind == "IP_ADDRESS":
        return _address(value, draw)
    if kind in _PLAIN and not _PLAIN[kind].fullmatch(value):
        return _shaped(value, draw)  # joined with something else
    if kind == "PHONE":
        return _phone(value, draw)
    if kind == "CREDIT_CARD":
        return _card(value, draw)
    if kind == "NAME":
        return _person(draw)
    if kind == "USERNAME":
        body = f"user{draw.bits(16):04x}"
        return f"{body}{_check_number(body) % 2**16:04x}"
    if kind == "IBAN":
        return value[:2] + "00" + "".join(_drawn(char, draw, hexadecimal=False) for char in value[4:])
    return _shaped(value, draw)


def is_surrogate(kind: str, value: str) -> bool:
    """Tell whether a value is a surrogate of its kind (of any key)."""
    if kind == "EMAIL":
        return value.endswith("@example.com")
    if kind == "IP_ADDRESS":
        return value.startswith(tuple(f"{net}." for net in _NETWORKS)) or _is_own_ipv6(value)
    number = "".join(filter(str.isdigit, value))
    if kind == "PHONE":
        return number[-7:-2] == "55501" and (len(number) <= 7 or number[-1] == _check_digit(number[:-1]))
    if kind == "CREDIT_CARD":
        return number.startswith("9")
    if kind == "NAME":
        given, _, family = value.partition(" ")
        return given in _GIVEN and family[4:] == _syllables(_check_number(f"{given} {family[:4]}"))
    if kind == "USERNAME":
        return (
            re.fullmatch(r"user[0-9a-f]{8}", value) is not None
            and value[8:] == f"{_check_number(value[:8]) % 2**16:04x}"
        )
    if kind == "IBAN":
        return value[2:4] == "00"
    return _is_shaped(value)


class _Draw:
    """Uniform integers from a keyed hash of (scope, kind, value, attempt)."""

    def __init__(self, key: bytes, scope: str, kind: str, value: str, attempt: int) -> None:
        fields = [field.encode("utf-8", "surrogatepass") for field in (scope, kind, str(attempt), value)]
        message = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
        # One HMAC seeds an extendable hash: a key block needs thousands of characters.
        self._seed = hashlib.shake_256(hmac.digest(key, message, "sha256"))
        self._bytes = b""
        self._used = 0

    def bits(self, count: int) -> int:
        """Return the next `count` bits, a multiple of 8, as an integer."""
        size = count // 8
        if self._used + size > len(self._bytes):
            self._bytes = self._seed.digest(max(64, 2 * len(self._bytes)))
        self._used += size
        return int.from_bytes(self._bytes[self._used - size : self._used], "big")

    def below(self, limit: int) -> int:
        """Return the next integer from 0 to limit - 1, limit far below 2^16."""
        return self.bits(16) % limit


@lru_cache(maxsize=4096)
def _alphabet(char: str, *, hexadecimal: bool) -> str:
    """Return the characters that may stand for one; empty for those that stay."""
    if char.isascii():
        if char.isdigit():
            return digits
        if char.islower():
            return "abcdef" if hexadecimal else ascii_lowercase
        if char.isupper():
            return "ABCDEF" if hexadecimal else ascii_uppercase
        return "_" if char == "@" else ""
    return ascii_lowercase if char.isalnum() else ""


def _drawn(char: str, draw: _Draw, *, hexadecimal: bool) -> str:
    alphabet = _alphabet(char, hexadecimal=hexadecimal)
    return alphabet[draw.below(len(alphabet))] if alphabet else char


def _places(value: str) -> list[int]:
    """Return the places of a value that are neither escapes nor armor."""
    places: list[int] = []
    last = 0
    for kept in _KEPT.finditer(value):
        places.extend(range(last, kept.start()))
        last = kept.end()
    places.extend(range(last, len(value)))
    return places


def _check_places(value: str, places: list[int], *, hexadecimal: bool) -> list[int]:
    """Return the last places that together can hold the checksum, or none where the value is too short."""
    taken: list[int] = []
    space = 1
    body = 0
    for place in reversed(places):
        size = len(_alphabet(value[place], hexadecimal=hexadecimal))
        if size < 2:
            continue
        if space < _CHECK_SPACE:
            space *= size
            taken.append(place)
        else:
            body += 1
            if body == _MIN_BODY:
                return taken
    return []


def _checked(value: str, check: list[int], *, hexadecimal: bool) -> str:
    """Return a value with its checksum written into the places of `check`."""
    chars = list(value)
    alphabets = [_alphabet(chars[place], hexadecimal=hexadecimal) for place in check]
    for place, alphabet in zip(check, alphabets, strict=True):
        chars[place] = alphabet[0]
    number = _check_number("".join(chars))
    for place, alphabet in zip(check, alphabets, strict=True):
        number, index = divmod(number, len(alphabet))
        chars[place] = alphabet[index]
    return "".join(chars)


def _shaped(value: str, draw: _Draw) -> str:
    hexadecimal = _HEX.match(value) is not None
    places = _places(value)
    check = _check_places(value, places, hexadecimal=hexadecimal)
    if not check:
        return (_LEXICON * (len(value) // len(_LEXICON) + 1))[: len(value)]
    chars = list(value)
    for place in places:
        chars[place] = _drawn(chars[place], draw, hexadecimal=hexadecimal)
    return _checked("".join(chars), check, hexadecimal=hexadecimal)


def _is_shaped(value: str) -> bool:
    if len(value) >= 3 and (_LEXICON * (len(value) // len(_LEXICON) + 1)).startswith(value):
        return True
    places = _places(value)
    for hexadecimal in (False, True):
        check = _check_places(value, places, hexadecimal=hexadecimal)
        if check and _checked(value, check, hexadecimal=hexadecimal) == value:
            return True
    return False


def _person(draw: _Draw) -> str:
    given, family = _GIVEN[draw.below(len(_GIVEN))], _syllables(draw.below(60 * 60)).capitalize()
    return f"{given} {family}{_syllables(_check_number(f'{given} {family}'))}"


def _syllables(number: int) -> str:
    """Spell a number as two syllables."""
    first, second = number % 60, number // 60 % 60
    return "".join("bdfgklmnprst"[value // 5] + "aeiou"[value % 5] for value in (first, second))


def _address(value: str, draw: _Draw) -> str:
    if ":" in value:
        body = "2001:db8:" + ":".join(f"{draw.bits(16):x}" for _ in range(5))
        return f"{body}:{_check_number(body) % 2**16:x}"
    return f"{_NETWORKS[draw.below(len(_NETWORKS))]}.{1 + draw.below(254)}"


def _phone(value: str, draw: _Draw) -> str:
    """Keep the layout and the leading digit, end in 555-01xx with a check digit."""
    places = [place for place, char in enumerate(value) if char.isdigit()]
    chars = list(value)
    for place in places[1:-7]:
        chars[place] = digits[draw.below(10)]
    for place, char in zip(places[-7:-1], f"55501{draw.below(10)}", strict=True):
        chars[place] = char
    chars[places[-1]] = _check_digit("".join(chars[place] for place in places[:-1]))
    return "".join(chars)


def _check_number(body: str) -> int:
    digest = hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=16, key=_CHECK_KEY)
    return int.from_bytes(digest.digest(), "big")


def _check_digit(number: str) -> str:
    return digits[_check_number(number) % 10]


def _is_own_ipv6(value: str) -> bool:
    body, _, last = value.rpartition(":")
    return value.startswith("2001:db8:") and last == f"{_check_number(body) % 2**16:x}"


def _card(value: str, draw: _Draw) -> str:
    """Keep the grouping, begin with 9 (no payment network), fail Luhn."""
    chars = [_drawn(char, draw, hexadecimal=False) for char in value]
    chars[0] = "9"
    if luhn_valid("".join(filter(str.isdigit, chars))):
        chars[-1] = digits[(int(chars[-1]) + 1) % 10]
    return "".join(chars)
