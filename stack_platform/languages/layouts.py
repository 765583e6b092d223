r"""Name the languages that a text can be in when all of it has one layout: data and settings, whose words say nothing.

JSON is what a JSON parser reads, JSON with Comments what it reads once comments and trailing commas are gone, TOML
what a TOML parser reads; sections of settings, lists of checksums, of environment variables and of values between
commas are told by the form of every line. Only a file whose name says nothing is judged here; where several languages
are left, the classifier chooses.

Known error: what has the layout of a format without being it (`[a]` alone is JSON, and also INI).
"""

import json
import re
import tomllib

MAX_BYTES = 512 * 1024
"""Of longer texts only the lines of this start are judged; parsing them costs more than the rest of the detection."""

Candidates = tuple[str, ...]

_HEAD_BYTES = 4096
"""Bytes in which the first line is looked for."""

_JSON_STARTS = (b"{", b"[")
_STRING = r'"(?:\\.|[^"\\\n])*"'
_COMMENT = re.compile(rf"({_STRING})|//[^\n]*|/\*(?:.*?\*/|.*\Z)", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])")

_DIGEST = (
    rb"(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{56}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128})"
)
_CHECKSUM = re.compile(
    rb"(?:" + _DIGEST + rb"(?:[ \t]+\*?[^\s=:{(][^\n]*)?|[0-9a-fA-F]{8}[ \t]+\*?[\w./-]+\.\w+|"
    rb"[A-Z][A-Z0-9-]{2,11} ?\([^\n]+\) ?= ?" + _DIGEST + rb")"
)
_VARIABLE = re.compile(rb"[A-Z_][A-Z0-9_]*=(?![^\n]*(?:\$\(|`|\\$))[^\n]*")
_MIN_ROWS = 3
_MIN_COMMAS = 2
_MAX_ODD_ROWS = 0.02
"""Share of rows that may hold a sign of code: brackets stand in names as well."""
_CODE = re.compile(rb"[{}()\[\];=<>\\]|[^,],$")
_NAMED_DIGEST = re.compile(rb"\b(?:md5|sha\d{1,3}|blake2[bs])=[\w+/-]{16,}={0,2}")
_SECTION = re.compile(rb"\[[^\[\]{}(),;]{1,80}\]")
_SETTING = re.compile(rb"[\w.*/@%:-][\w .*/@%:\"'-]{0,60}?[ \t]*(?:[=:][^\n]*|)")
_SETTINGS = (
    "INI",
    "TOML",
    "Git Config",
    "EditorConfig",
    "desktop",
    "Inno Setup",
    "Godot Resource",
    "Altium Designer",
)


def by_layout(content: bytes) -> Candidates:
    """Return the languages that have the layout of all of the text; several where it does not settle one.

    >>> by_layout(b'{"a": 1}'), by_layout(b'{"a": 1} // x'), by_layout(b"plain words")
    (('JSON',), ('JSON with Comments',), ())
    """
    text = content.strip()
    if len(text) > MAX_BYTES:
        text = text[: text.rfind(b"\n", 0, MAX_BYTES) + 1]
    elif text.startswith(_JSON_STARTS):
        found = _json(text)
        if found:
            return (found,)
    if not _may_have_layout(text[:_HEAD_BYTES]):
        return ()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if all(_CHECKSUM.fullmatch(line) for line in lines):
        return ("Checksums",)
    said = [line for line in lines if not line.startswith((b"#", b";"))]
    if not said:
        return ()
    if _is_table(lines):
        return ("CSV",)
    if all(_VARIABLE.fullmatch(line) for line in said):
        return ("Dotenv",)
    return _settings(text, said)


def _may_have_layout(head: bytes) -> bool:
    """Tell whether the first line, or the first that is no comment, has a form that all lines may have."""
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    said = next((line for line in lines if not line.startswith((b"#", b";"))), None)
    if said is None:
        return bool(lines)
    return bool(
        lines[0].count(b",") >= _MIN_COMMAS
        or _CHECKSUM.fullmatch(lines[0])
        or _VARIABLE.fullmatch(said)
        or _SECTION.fullmatch(said)
    )


def _is_table(lines: list[bytes]) -> bool:
    """Tell whether three lines or more have the same number of commas, two or more, and hardly any looks like code."""
    return (
        len(lines) >= _MIN_ROWS
        and lines[0].count(b",") >= _MIN_COMMAS
        and len({line.count(b",") for line in lines}) == 1
        and sum(_CODE.search(_NAMED_DIGEST.sub(b"", line)) is not None for line in lines)
        <= _MAX_ODD_ROWS * len(lines)
    )


def _json(text: bytes) -> str | None:
    try:
        source = text.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if _parses(source):
        return "JSON"
    bare = _TRAILING_COMMA.sub(_string_only, _COMMENT.sub(_string_only, source))
    return "JSON with Comments" if bare != source and _parses(bare) else None


def _string_only(match: re.Match[str]) -> str:
    return match[1] or ""


def _parses(source: str) -> bool:
    try:
        return isinstance(json.loads(source), dict | list)
    except (ValueError, RecursionError):
        return False


def _settings(text: bytes, said: list[bytes]) -> Candidates:
    """Return the languages of sections with settings; TOML is certain where its parser reads quoted values."""
    if not any(_SECTION.fullmatch(line) for line in said[:1]):
        return ()
    if b'"' in text and _is_toml(text):
        return ("TOML",)
    if all(_SECTION.match(line) or _SETTING.fullmatch(line) for line in said) and any(
        b"=" in line for line in said
    ):
        return _SETTINGS
    return ()


def _is_toml(text: bytes) -> bool:
    try:
        tomllib.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return True
