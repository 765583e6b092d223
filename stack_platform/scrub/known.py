"""What the engine knows of a vendor's credentials, turned around: a value of another format is probably none.

The engine's rules say which vendors issue which kind of credential, how long and of which letters. So
`MERAKI_API_KEY=…` with a value that fits no rule for Meraki, or a token that begins like one of GitHub's and does
not go on like it, is a template, a truncated sample or a typing error more often than a secret. Such a value is not
cleared, its score is lowered: the sensitivities strict and paranoid still report it. Known error: a format that a
vendor has retired or has not published counts as wrong.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import filterfalse, pairwise
from typing import NamedTuple

ROLES = ("token", "key", "secret", "password", "pat", "webhook", "id", "cookie")
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+")
# A literal that a pattern begins with, behind flags, word boundaries and opening brackets.
_LITERAL = re.compile(r"(?:\(\?[a-z]+\)|\\b|\(\?:|\()*((?:[A-Za-z0-9_-]|\\[.-]){3,})")
_KEYWORDS = re.compile(r"\(\?i[:)](?:\(\?:)*([a-z0-9|_.-]+)\)")
# Parts of the ids of rules that are no vendor's name.
_GENERIC = re.compile(
    r"(?:"
    r"access|account|address|admin|age|agent|ai|and|api|app|application|auth|authorization|base64|batch"
    r"|bearer|bedrock|bot|box|browser|ca|center|ci|cicd|client|cloud|code|com|config|connection|consumer"
    r"|context|cookie|credential|curl|custom|data|default|delivery|deploy|developer|digital|docker|early"
    r"|encryption|entra|eu|extended|feature|feed|fine|flag|full|generic|global|grained|header|id|incoming"
    r"|insert|instance|integration|io|job|join|jwt|key|kubernetes|legacy|license|live|lived|long|mail"
    r"|management|mobile|networking|notify|oauth|open|organization|origin|owner|page|pair|passphrase"
    r"|password|pat|personal|private|production|programmatic|project|proof|provisioned|public|pull|read"
    r"|redirect|redis|refresh|render|rest|root|routable|runner|sandbox|search|secret|secrets|security"
    r"|sensitive|server|service|servicebus|session|shared|short|signing|storage|string|sts|swarm|system"
    r"|team|tenant|test|tf|token|unlock|upload|uri|url|us|user|username|v1|v2|version|web|webhook|workspace"
    r"|write|yaml"
    r")\Z"
)


class Format(NamedTuple):
    """The values that one rule of the engine takes."""

    prefix: str  # the letters all of them begin with, when these identify the vendor; else empty
    body: str  # regular expression of the whole value
    any_case: bool

    def fits(self, value: str) -> bool:
        """Tell whether a value is one of them, or may be: where nobody can read the rule, everything may."""
        pattern = _compiled(self.body, self.any_case)
        return pattern is None or pattern.fullmatch(value) is not None


def refuted(lead: str, value: str) -> bool:
    """Tell whether a value breaks the format that its announcement or its own beginning promises.

    lead: the line before the value.
    """
    known = announced(lead) + tuple(
        row for row in _by_beginning().get(value[:3], ()) if value.startswith(row.prefix)
    )
    return bool(known) and not any(row.fits(value) for row in known)


def begins_known(value: str) -> bool:
    """Tell whether a value begins as the credentials of some vendor do."""
    return any(value.startswith(row.prefix) for row in _by_beginning().get(value[:3], ()))


def announced(lead: str) -> tuple[Format, ...]:
    """Return the formats of the credential that a line announces by vendor and kind."""
    words = [word.lower() for word in _WORD.findall(lead)]
    role = next((word for word in reversed(words) if word in ROLES), "key")
    joined = [first + second for first, second in pairwise(words)]
    vendors = _by_vendor()
    return tuple(row for word in (*words, *joined) for row in vendors.get((word, role), ()))


@cache
def _by_vendor() -> dict[tuple[str, str], tuple[Format, ...]]:
    found: dict[tuple[str, str], list[Format]] = {}
    for rule, pattern in _patterns():
        words = rule.split("-")
        names = {*words[:2], "".join(words[:2])}
        keywords = _KEYWORDS.match(pattern)
        names |= set(keywords[1].split("|")) if keywords else set()
        roles = {role for role in ROLES if role in words}
        if roles & {"token", "key"}:
            roles |= {"token", "key", "pat"}
        for name in filterfalse(_GENERIC.match, sorted(names)):
            for role in roles if len(name) > 3 else ():
                found.setdefault((name, role), []).append(_format(pattern))
    return {name: tuple(rows) for name, rows in found.items()}


@cache
def _by_beginning() -> dict[str, tuple[Format, ...]]:
    found: dict[str, list[Format]] = {}
    for rule, pattern in _patterns():
        match = _LITERAL.match(pattern)
        literal = match[1].replace("\\", "") if match else ""
        telling = re.search(r"[_.-]\Z", literal) or re.search(r"[a-z][A-Z]|[A-Z][a-z]|\d", literal)
        if telling and len(literal) > 2 and not rule.startswith("jwt"):
            found.setdefault(literal[:3], []).append(_format(pattern)._replace(prefix=literal))
    return {first: tuple(rows) for first, rows in found.items()}


def _format(pattern: str) -> Format:
    """Return what the first capturing group of a pattern matches, or the pattern where it has none."""
    body = next(_groups(pattern), pattern)
    body = re.sub(r"\(\?-?[ims]+\)", "", body).replace("(?i:", "(?:").replace("(?-i:", "(?:")
    for name, letters in (
        ("alnum", "A-Za-z0-9"),
        ("xdigit", "A-Fa-f0-9"),
        ("alpha", "A-Za-z"),
        ("digit", "0-9"),
    ):
        body = body.replace(f"[:{name}:]", letters)
    return Format("", body, "(?i)" in pattern)


@lru_cache(maxsize=1024)
def _compiled(body: str, any_case: bool) -> re.Pattern[str] | None:
    try:
        return re.compile(body, re.IGNORECASE if any_case else re.NOFLAG)
    except re.error:
        return None


def _groups(pattern: str) -> Iterator[str]:
    """Give the contents of the capturing groups of a pattern, outermost and leftmost first."""
    for opening in re.finditer(r"(?<!\\)\((?:\?P?<\w+>|(?!\?))", pattern):
        depth = 1
        for sign in re.finditer(r"\\.|\[(?:\\.|\[:\w+:\]|[^\]\\])+\]|[()]", pattern[opening.end() :]):
            depth += {"(": 1, ")": -1}.get(sign.group(), 0)
            if depth == 0:
                yield pattern[opening.end() : opening.end() + sign.start()]
                break


@cache
def _patterns() -> tuple[tuple[str, str], ...]:
    from kingfisher_sdk import Rules

    rules = Rules(confidence="low")
    ids = [str(rule["id"]) for rule in rules.metadata()]
    named = ((re.split(r"[./]", rule)[1], str(rules.detail(rule)["pattern"])) for rule in ids)
    return tuple(sorted(named))
