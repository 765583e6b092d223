"""Verdicts on passwords where a format says that one stands here: URLs, options, SQL, connection strings, settings.

The place is sure, so the value needs little proof: anything that is no placeholder, no variable and no code.
"""

import re
from collections.abc import Iterator

from stack_platform.scrub.context import PLACEHOLDER_WORDS, before, is_placeholder
from stack_platform.scrub.shapes import WORDS, classes
from stack_platform.scrub.spans import Span

_URL = re.compile(r"://(?P<user>[^\s/:@'\"<>]{0,80}):(?P<password>[^\s/@'\"<>]{1,120})@")
_FLAG = re.compile(
    r"(?:\s--?(?:pass(?:word|wd)?|pwd?)[ =:]|mysql[^\n]{0,60} -p ?|sshpass -p ?|psexec[^\n]{0,80} -p "
    r"|redis-cli[^\n]{0,60} -a "
    r"|-pass(?:in|out) \"?pass:|net use [^\n]{0,80}/user:[^\s]{1,40} "
    r"|(?:curl|wget|http) [^\n]{0,80}(?:-u|--user|--auth|-a)[ =]?[\"']?[\w.@-]{1,40}:)"
    r"(?P<value>[^\s\"'`<>|;]{4,128})",
    re.IGNORECASE,
)
_SQL = re.compile(
    r"(?:identified (?:with [\w'\"`]{1,40} )?(?:by|as) (?:password )?"
    r"|(?:encrypted |with |set |login )password (?:=|to|for [^\s=]{1,60} ?=)? ?(?:password ?\()?)"
    r"\\?(?P<quote>['\"]?)(?P<value>[^\s'\"`;,)\\<>]{4,128})",
    re.IGNORECASE,
)
_SQL_WORDS = re.compile(
    r"(?:values?|null|by|for|with|password|required?|expire|reuse|lock|unlock|random|using|valid|as|is|not|and|or|the)\Z",
    re.IGNORECASE,
)
_SQL_STATEMENT = re.compile(r"\b(?:user|grant|alter|create|role|login)\b", re.IGNORECASE)
_CONNECTION = re.compile(
    r"(?:password|pwd|accountkey|sharedaccesskey|sharedsecret(?:value|key)?|accesskey|secret)"
    r"\s?=\s?(?P<value>[^;\"'\s&<>]{4,200})",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"login\s+\S{1,80}\s+password\s+(?P<value>[^\s\"'<>]{4,128})", re.IGNORECASE)
_ENVIRONMENT = re.compile(r"[^\s\"'`<>;|&]{5,128}")
_VARIABLE = re.compile(r"\$[A-Za-z_{(@]|%\w+%|[{@&~/]|[A-Za-z_][\w.]*\([^()]*\)?\Z|\$\(")
_SETTING = re.compile(
    r"[=:][ \t]{0,4}(?P<value>[^\s\"'`$<>{}()\[\],;]{4,128})[ \t]{0,8}(?:#[^\n]*)?(?=\r?\n|\Z)"
)


def url_password(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the password of the URL in a hit."""
    found = _URL.match(text, start, min(len(text), end + 1))
    if found is None:
        return
    if found["password"].startswith("x-oauth") and classes(found["user"]) >= 2 and len(found["user"]) >= 16:
        yield Span(found.start("user"), found.end("user"), "KEY", "sp.url-password", 0.9)
    elif not is_placeholder(found["password"]):
        short = found["password"].isdigit() and len(found["password"]) < 6
        weak = short or found["password"].lower() == found["user"].lower()  # postgres:postgres opens nothing
        yield Span(*found.span("password"), "PASSWORD", "sp.url-password", 0.45 if weak else 0.92)


def flag(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the password that a hit gives to a command line option."""
    found = _FLAG.match(text, start, min(len(text), end + 128))
    if found is None:
        return
    value = found["value"].rstrip(")]}\\")
    if (
        not is_placeholder(value)
        and not WORDS.match(value)
        and not _is_variable(value)
        and classes(value) >= 2
    ):
        low = found.start("value")
        yield Span(low, low + len(value), "PASSWORD", "sp.password-flag", 0.6)


def sql(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the password of an SQL statement in a hit."""
    found = _SQL.match(text, start, min(len(text), end + 128))
    if found is None or is_placeholder(found["value"]) or _SQL_WORDS.match(found["value"]):
        return
    if not found["quote"] and not _SQL_STATEMENT.search(before(text, start, 120)):
        return  # prose
    plain = WORDS.match(found["value"]) is not None
    score = (
        0.7
        if found["quote"] and not plain
        else 0.55
        if found["quote"] or classes(found["value"]) >= 2
        else 0.4
    )
    yield Span(*found.span("value"), "PASSWORD", "sp.password-sql", score)


def connection(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the password or key of the connection string or netrc entry in a hit."""
    for pattern in (_CONNECTION, _LOGIN):
        for found in pattern.finditer(text, start, min(len(text), end + 200)):
            value = found["value"].rstrip("\\)")
            if len(value) >= 4 and not is_placeholder(value) and not _is_variable(value):
                low = found.start("value")
                kind = "KEY" if "key" in found.group()[:20].lower() else "PASSWORD"
                score = 0.6 if not WORDS.match(value) else 0.5
                yield Span(low, low + len(value), kind, "sp.connection", score)


def setting(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the word that a line of settings gives to a password, where no program could mean a variable."""
    found = _SETTING.search(text, start, min(len(text), end + 200))
    if found is None or found.start() >= end:
        return
    value = found["value"]
    if (
        is_placeholder(value)
        or PLACEHOLDER_WORDS.match(value.lower())
        or _is_variable(value)
        or len(value) < 5
    ):
        return
    yield Span(*found.span("value"), "PASSWORD", "sp.password-setting", 0.52 if "." not in value else 0.4)


def environment(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the password that a hit assigns to an environment variable: without quotes, up to the next blank."""
    found = _ENVIRONMENT.match(text, text.find("=", start, end) + 1)
    if found is None or is_placeholder(found.group()) or _is_variable(found.group()):
        return
    plain = WORDS.match(found.group()) is not None
    # Alone on its line, a word is a value; amid a program it may be a name.
    alone = before(text, start).strip(" \t#").lower() in ("", "export", "set", "env", "arg", "-", "- name:")
    ends = text[found.end() : found.end() + 1] in ("", "\n", "\r", " ")
    score = 0.6 if classes(found.group()) >= 2 and not plain else 0.5 if alone and ends else 0.4
    yield Span(*found.span(), "PASSWORD", "sp.password-environment", score)


def _is_variable(value: str) -> bool:
    return (
        _VARIABLE.match(value) is not None
        or value.startswith(("self.", "this.", "os.", "env."))
        or (value.isupper() and value.isalpha())
    )
