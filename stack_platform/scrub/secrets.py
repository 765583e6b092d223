"""Verdicts on secrets without a format of their own: passwords in URLs, assignments, long tokens.

The name says how much to expect of the value: `password = "…"` needs little proof, `key: …` a lot. Evidence
adds up to a score: kind of name, quotes, length, character classes, entropy; code expressions, placeholders,
hashes and public identifiers are thrown out. Known error: a password that is one lower-case word is reported only
by the strict and paranoid sensitivities.
"""

import re
from collections.abc import Iterator

from stack_platform.scrub.context import HEX, UUID, before, entropy, in_hash_context, is_placeholder
from stack_platform.scrub.spans import Span

_URL = re.compile(r"://[^\s/:@'\"<>]{0,80}:([^\s/@'\"<>]{1,120})@")
_JWT = re.compile(r"eyJ[\w-]{8,4000}\.eyJ[\w-]{8,16000}(?:\.[\w-]{4,8000})?")

_OPERATOR = re.compile(r"=>|[:?.]=|<=|==|=|:|,|\(|[ \t]+(?=[\"'`])")
_QUOTED = {quote: re.compile(rf"(?:[^{quote}\\\n]|\\.){{1,512}}") for quote in "\"'`"}
_BARE = re.compile(r"[^\s\"'`<>,;|\\]{4,512}")
_LOOSE = re.compile(r"[A-Za-z0-9+/_=.-]{0,40}[0-9][A-Za-z0-9+/_=.-]{7,300}")
_FLAG = re.compile(
    r"(?:\s--?(?:pass(?:word|wd)?|pwd?)[ =:]|mysql[^\n]{0,60} -p ?|sshpass -p ?"
    r"|curl [^\n]{0,80}(?:-u|--user) ?[\w.@-]{1,40}:)"
    r"(?P<value>[^\s\"'`<>|;]{5,128})",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[A-Za-z0-9+/_=-]{24,300}")

_PASSWORD_NAME = re.compile(r"pass|pw|pswd|\bpin\b|identified by", re.IGNORECASE)
_STRONG_NAME = re.compile(
    r"secret|token|api[_ -]?key|access[_ -]?key|private[_ -]?key|auth|cred|bearer", re.IGNORECASE
)
_PUBLIC_NAME = re.compile(
    r"(?:public|primary|foreign|sort|cache|partition|index|row|column|dict|map|group|object|s3|bucket|translation|i18n"
    r"|idempotency|routing|hot|short|license|verify|signing_?cert)[_-]?(?:key|token)|keyboard|keyword|keycode|key_?code|key_?name"
    r"|key_?id|sha-?\d|md5|checksum|digest|author|tokeni[sz]|bypass|passenger|compass|passive|passage"
    r"|(?:[_-]|(?<=[a-z]))(?:[Tt]ype|[Uu]r[il]|[Pp]ath|[Ff]ile(?:name)?|[Ff]ield|[Ll]abel|[Ll]en(?:gth)?|[Ss]ize|[Cc]ount"
    r"|[Ee]xpir\w*|ttl|[Ff]ormat|[Hh]int|[Pp]rompt|[Pp]olicy|[Hh]eader|[Pp]aram(?:eter)?|[Cc]lass|[Rr]egex|[Pp]attern"
    r"|[Vv]ersion|[Aa]lg(?:orithm)?|[Mm]ethod|[Ss]cheme|[Ee]ndpoint|[Hh]ash(?:ed)?|[Pp]laceholder|[Tt]itle|[Tt]ext|[Mm]essage"
    r"|[Ee]rror|[Pp]refix|[Ss]uffix|[Nn]ame|[Ii]nput|[Mm]ode|[Rr]ef|[Uu]sage)s?\W{0,4}\Z",
    re.IGNORECASE,
)
# What code writes where a value is expected: attribute chains, calls, paths, addresses, imports.
_CODE = re.compile(
    r"[A-Za-z_$][\w$]*(?:(?:\.|->|::)[A-Za-z_$][\w$]*)+\W*\Z|[A-Za-z_$][\w$.]*\s*[(\[]"
    r"|&?\$?(?:self|this|req|request|config|options|params|env)\b"
    r"|[~.]{0,2}/?[\w-]+(?:/[\w.-]+)+\.[a-z]{1,5}\Z|[~.]{0,2}/[\w./-]+\Z|[A-Z]{3,}\Z|[A-Z]+(?:_[A-Z0-9]+)+\Z|\w+!?=|[\w.-]+@[\w-]+\.",
)
_WORDS = re.compile(r"[A-Za-z]+(?:[-_. /:][A-Za-z]+)*[-_./:!?]?\Z")
_RUNS = re.compile(r"[A-Z]*[a-z]+|[A-Z]+|[0-9]+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,20}://")


def url_password(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the password of the URL in a hit."""
    found = _URL.match(text, start, min(len(text), end + 1))
    if found is None or is_placeholder(found.group(1)):
        return
    weak = found.group(1).isdigit() and len(found.group(1)) < 6
    yield Span(found.start(1), found.end(1), "PASSWORD", "sp.url-password", 0.45 if weak else 0.92)


def jwt(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the JSON Web Token that begins in a hit."""
    found = _JWT.match(text, start)
    if found and found.end() >= end:
        yield Span(
            found.start(), found.end(), "KEY", "sp.jwt", 0.92 if found.group().count(".") == 2 else 0.6
        )


def quoted_assignment(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the quoted value that a hit assigns to a sensitive name."""
    first = max(text.rfind(quote, start, end) for quote in _QUOTED) + 1
    operators = list(_OPERATOR.finditer(text, start, first))
    inside = _QUOTED[text[first - 1]].match(text, first) if first else None
    if not operators or inside is None:
        return
    if text[inside.end() : inside.end() + 1] != text[first - 1]:
        inside = _BARE.match(text, first)  # the quote never closes on this line
    if inside is not None:
        # In `token: str = "..."` the name ends before the first operator and the last one assigns.
        name, operator = _name(text, start, operators[0].start()), operators[-1].group().strip()
        value = inside.group().rstrip()
        score = _assignment_score(name, value, operator, quoted=True)
        yield from _assigned(text, start, first, value, name, score)


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
        value = value.rstrip(
            ")]}.\\" if "(" not in value and "{" not in value and "[" not in value else ".\\"
        )
        name = _name(text, start, operator.start())
        score = _assignment_score(name, value, operator.group(), quoted=False)
        yield from _assigned(text, start, first, value, name, score)


def _assigned(text: str, start: int, first: int, value: str, name: str, score: float) -> Iterator[Span]:
    if score and not in_hash_context(text, start):
        kind = "PASSWORD" if _PASSWORD_NAME.search(name) else "KEY"
        yield Span(first, first + len(value), kind, "sp.assignment", score)


def flag(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the password that a hit gives to a command line option."""
    found = _FLAG.match(text, start, min(len(text), end + 128))
    value = found["value"] if found else ""
    if found is None or is_placeholder(value) or _CODE.match(value) or _WORDS.match(value):
        return
    if _classes(value) >= 2:
        yield Span(found.start("value"), found.end("value"), "PASSWORD", "sp.password-flag", 0.6)


def _name(text: str, start: int, end: int) -> str:
    low = start
    while low > max(0, start - 40) and (text[low - 1].isalnum() or text[low - 1] in "_-."):
        low -= 1
    return text[low:end].strip("\"'`[]() \t")


def _assignment_score(name: str, value: str, op: str, *, quoted: bool) -> float:
    if len(value) < 4 or _PUBLIC_NAME.search(name) or is_placeholder(value):
        return 0.0
    if " " in value and not (quoted and _PASSWORD_NAME.search(name) and len(value) < 24):
        return 0.0
    if _SCHEME.match(value):
        return 0.0  # the rule for URL passwords finds the place
    if _CODE.match(value) and not (quoted and entropy(value) > 3.8 and any(map(str.isdigit, value))):
        return 0.0
    if _PASSWORD_NAME.search(name):
        return _password_score(value, op, quoted=quoted)
    return _key_score(name, value, op, quoted=quoted)


def _is_identifier(value: str) -> bool:
    """Tell whether a value reads like names in camel case: long runs of letters, hardly a digit."""
    runs = _RUNS.findall(value[:200])
    return len(value) >= 4 * len(runs) and sum(map(str.isdigit, value)) <= 3


def _classes(value: str) -> int:
    return sum((
        any(map(str.islower, value)), any(map(str.isupper, value)), any(map(str.isdigit, value)),
        any(not char.isalnum() and char not in "_ " for char in value),
    ))  # fmt: skip


def _password_score(value: str, op: str, *, quoted: bool) -> float:
    if _WORDS.match(value):
        return 0.4 if quoted and " " not in value and op in "=:=>" else 0.0
    classes = _classes(value)
    if op in ("==", "(", ",", "<=", "") and classes < 3:
        return 0.45 if quoted else 0.0
    if quoted:
        return 0.8 if classes >= 2 and len(value) >= 5 else 0.55 if len(value) >= 5 else 0.35
    return 0.65 if classes >= 2 and len(value) >= 6 else 0.4


def _key_score(name: str, value: str, op: str, *, quoted: bool) -> float:
    strong = _STRONG_NAME.search(name) is not None
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    bits = entropy(value)
    if _WORDS.match(value) or _is_identifier(value):
        return 0.55 if strong and len(value) >= 20 and bits > 4.2 and " " not in value else 0.0
    if UUID.match(value):
        return 0.6 if strong else 0.45
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
    return min(score, 0.89)


def loose(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the long token that follows a sensitive word in a hit, with nothing but a blank or a tag between."""
    low = max((text.rfind(mark, start, end) for mark in " \t\n>\"'`"), default=-1) + 1
    found = _LOOSE.match(text, low) if low else None
    if found is None:
        return
    value, name = found.group().rstrip("."), _name(text, start, low)
    score = (
        0.0
        if _PUBLIC_NAME.search(name) or is_placeholder(value) or _CODE.match(value)
        else _token_score(value)
    )
    if score and not in_hash_context(text, low):
        kind = "PASSWORD" if _PASSWORD_NAME.search(name) else "KEY"
        yield Span(low, low + len(value), kind, "sp.assignment.loose", score)


def _token_score(value: str) -> float:
    bits = entropy(value)
    figures = sum(map(str.isdigit, value))
    if len(value) < 12 or figures < 2 or _is_identifier(value) or re.match(r"v?\d+(?:[.-]\d+)+", value):
        return 0.0
    if figures == len(value) or bits < 2.8:
        return 0.3
    return 0.55 if len(value) >= 16 and bits >= 3.0 else 0.4


def token(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge a long token that nothing announces."""
    low = start if start == 0 and (text[0].isalnum() or text[0] in "+/_=-") else start + 1
    found = _TOKEN.match(text, low, min(len(text), end + 300))
    if found is None or in_hash_context(text, low):
        return
    value = found.group()
    figures = sum(map(str.isdigit, value))
    if (
        figures < 2
        or figures == len(value)
        or value.count("/") > 3
        or _is_identifier(value)
        or is_placeholder(value)
    ):
        return
    bits = entropy(value)
    lead = before(text, low, 80)
    announced = _STRONG_NAME.search(lead) is not None or _PASSWORD_NAME.search(lead) is not None
    if HEX.match(value) or UUID.match(value):
        score = 0.45 if announced and bits >= 3.0 else 0.28 if bits >= 3.0 else 0.0
    elif re.match(r"[A-Za-z]+(?:[-_/][A-Za-z0-9]+)*\Z", value) and bits < 4.2:
        score = 0.0  # words joined by dashes
    else:
        score = 0.45 if announced and bits >= 3.6 else 0.3 if bits >= 4.0 else 0.0
    if score:
        yield Span(found.start(), found.end(), "KEY", "sp.token", score)
