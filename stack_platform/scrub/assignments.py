"""Verdicts on values that are assigned to a sensitive name.

The name says how much to expect of the value: `password = "…"` needs little proof, `key: …` a lot. Evidence
adds up to a score: kind of name, quotes, length, character classes, entropy; code expressions, placeholders,
hashes and public identifiers are thrown out. Known error: a password that is one lower-case word is reported only
by the strict and paranoid sensitivities.
"""

import re
from collections.abc import Iterator

from stack_platform.scrub.context import before, in_hash_context, is_alphabet, is_placeholder
from stack_platform.scrub.known import refuted
from stack_platform.scrub.names_of_secrets import PASSWORD_NAME, PUBLIC_NAME, STRONG_NAME, name_before
from stack_platform.scrub.shapes import UUID, WORDS, classes, digit_count, entropy, is_identifier, is_sequence
from stack_platform.scrub.spans import Span

_OPERATOR = re.compile(r"=>|[:?.]=|<=|[!=]==?|=|:|,|\(|[ \t]+(?=[\"'`\\])")
_QUOTED = {quote: re.compile(rf"(?:[^{quote}\\\n]|\\.){{1,512}}") for quote in "\"'`"}
_ESCAPED = re.compile(r"[^\s\"'`\\]{1,512}")
_BARE = re.compile(r"[^\s\"'`<>,;|\\]{4,512}")
# What code writes where a value is expected: attribute chains, calls, paths, addresses, imports.
_CODE = re.compile(
    r"[A-Za-z_$][\w$]*(?:(?:\.|->|::)[A-Za-z_$][\w$]*)+\W*\Z|[A-Za-z_$][\w$.]*\s*[(\[](?!.*[)\]][A-Za-z0-9])"
    r"|&?\$?(?:self|this|req|request|config|options|params|env)\b"
    r"|[~.]{0,2}/?[\w-]+(?:/[\w.-]+)+\.[a-z]{1,5}\Z|[~.]{0,2}/[\w./-]+\Z|[A-Z]{3,}\Z|[A-Z]+(?:_[A-Z0-9]+)+\Z|\w+!?=|[\w.-]+@[\w-]+\."
)
_CREDENTIAL_ID = re.compile(r"credentials?_?id\Z", re.IGNORECASE)
_OWNED = re.compile(
    r"(?<![A-Za-z])(?!(?:api|auth|access|private|secret|client|app|my|user|session|cache|event|job|task|request)[_.-])"
    r"[A-Za-z0-9]{3,}[_.-](?:(?:api|access|secret|private|auth)[_.-]?)*(?:key|token|secret|pat)\Z",
    re.IGNORECASE,
)
_ID = re.compile(r"(?:[a-z]I|[_-]i|_I)[dD]s?\Z")
_RELEASE = re.compile(r"[~^<>=v]{0,2}\d+(?:\.\d+){1,3}(?:[-+][\w.]+)?\Z|[A-Z][A-Za-z]+-\d(?:\.\d)*\Z")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,20}://")


def quoted_assignment(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the quoted value that a hit assigns to a sensitive name."""
    first = max(text.rfind(quote, start, end) for quote in _QUOTED) + 1
    while first - 2 > start and text[first - 2] in _QUOTED and text[first - 3] in " =:(":
        first -= 1  # a quote inside of the value, directly after the one that opens it
    operators = list(_OPERATOR.finditer(text, start, first))
    if not operators or not first:
        return
    escaped = text[first - 2] == "\\"
    inside = (_ESCAPED if escaped else _QUOTED[text[first - 1]]).match(text, first)
    if inside is None:
        return
    if not escaped and text[inside.end() : inside.end() + 1] != text[first - 1]:
        inside = _BARE.match(text, first)  # the quote never closes on this line
    if inside is not None:
        # In `token: str = "..."` the name ends before the first operator and the last one assigns.
        name = name_before(text, start, operators[0].start())
        operator = next((found.group().strip() for found in reversed(operators) if found.group().strip()), "")
        value = inside.group().rstrip()
        yield from _assigned(
            text, start, first, value, name, _assignment_score(name, value, operator, quoted=True)
        )


def bare_assignment(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the unquoted value that a hit assigns to a sensitive name."""
    operator = _OPERATOR.search(text, start, end)
    if operator is None:
        return
    first = operator.end()
    while text[first : first + 1] in (" ", "\t"):
        first += 1
    found = _BARE.match(text, first)
    if found is not None:
        value = found.group()
        # A bracket that opened before the value closes after it.
        value = value.rstrip(")]}.\\" if not any(char in value for char in "({[") else ".\\")
        name = name_before(text, start, operator.start())
        score = _assignment_score(name, value, operator.group(), quoted=False)
        yield from _assigned(text, start, first, value, name, score)


def _assigned(text: str, start: int, first: int, value: str, name: str, score: float) -> Iterator[Span]:
    if score and not in_hash_context(text, start):
        kind = "PASSWORD" if PASSWORD_NAME.search(name) else "KEY"
        if score >= 0.5 and kind == "KEY" and (is_sequence(value) or refuted(before(text, first, 60), value)):
            score = 0.45
        yield Span(first, first + len(value), kind, "sp.assignment", score)


def _assignment_score(name: str, value: str, op: str, *, quoted: bool) -> float:
    if len(value) < 4 or PUBLIC_NAME.search(name) or is_placeholder(value) or is_alphabet(value):
        return 0.0
    if " " in value and not (quoted and PASSWORD_NAME.search(name) and len(value) < 24):
        return 0.0
    if _SCHEME.match(value) or _RELEASE.match(value):
        return 0.0  # the rule for URL passwords finds the place
    if not op and name.lower() == "pass":
        return 0.0  # the verb: pass "x" to f
    password = PASSWORD_NAME.search(name) is not None
    if _CODE.match(value) and not (quoted and (entropy(value) > 3.8 or password) and digit_count(value) >= 1):
        return 0.0
    return (
        _password_score(value, op, quoted=quoted) if password else _key_score(name, value, op, quoted=quoted)
    )


def _password_score(value: str, op: str, *, quoted: bool) -> float:
    if WORDS.match(value):
        return 0.4 if quoted and " " not in value and op in "=:=>" else 0.0
    kinds = classes(value)
    if op in ("==", "===", "!=", "!==", "(", ",", "<=", "") and kinds < 3:
        return 0.45 if quoted else 0.0
    if quoted:
        return 0.8 if kinds >= 2 and len(value) >= 5 else 0.55 if len(value) >= 5 else 0.35
    return 0.65 if kinds >= 2 and len(value) >= 6 else 0.4


def _key_score(name: str, value: str, op: str, *, quoted: bool) -> float:
    strong = STRONG_NAME.search(name) is not None
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    bits = entropy(value)
    if WORDS.match(value) or is_identifier(value):
        return 0.55 if strong and len(value) >= 20 and bits > 4.2 and " " not in value else 0.0
    if UUID.match(value):
        # `acme_token` says whose; `token` alone is as often the identifier of something.
        return 0.52 if _OWNED.search(name) and not _ID.search(name) else 0.45
    if not mixed:
        return 0.5 if strong and len(value) >= 20 and bits >= (2.6 if value.isdigit() else 3.8) else 0.3
    if len(value) < 8 or bits < 2.5:
        return 0.3
    score = 0.35 + 0.15 * strong + 0.1 * quoted + 0.1 * (len(value) >= 16) + 0.1 * (len(value) >= 24)
    score += 0.1 * (bits >= 3.0) + 0.1 * (bits >= 3.6)
    if op in ("", ",", "(", "==", "<="):
        score -= 0.15
    if len(value) < 12:
        score -= 0.1
    return min(score, 0.45 if _CREDENTIAL_ID.search(name) else 0.89)
