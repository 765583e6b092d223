"""Asks ScanCode about what the other tiers could not name; the optional extra `scancode`.

Method: `LicenseConfig(scancode=True)` makes `judge_files` ask it, only where the result holds a statement that
nobody could name (UNKNOWN). Its answer goes through the same combination and the same
restriction guard, which ScanCode itself lacks: license text plus a restriction is the plain license to it.
A permissive answer counts only where ScanCode matched word by word.
The index of ScanCode (license_db, CC-BY-4.0; code Apache-2.0) is loaded on the first call: 7 s of one core
and 1.5 GB for a process, 0.27 s for a file, so run it in few processes.

Known error: clues and introductions are dropped, and matches that cover less than half of their rule; an
answer whose words are no SPDX identifiers stays what it is (`LicenseRef-scancode-*`), never permissive.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any, NamedTuple

from stack_platform.errors import ConfigError
from stack_platform.licenses.policy import license_type

_LONGEST = 1_000_000  # bytes; ScanCode's time grows faster than the text
_SECONDS = 10.0  # for one file; what was found until then counts
_EXACT = ("1-hash", "1-spdx-id", "2-aho")  # ScanCode's matchers that allow no other words
_LEAST = 50.0  # percent of a rule that must have matched
_VAGUE = ("unknown", "warranty-disclaimer", "generic-cla", "see-license", "free-unknown")


class Statement(NamedTuple):
    """What ScanCode read: an SPDX expression, its rule, and byte offsets of whole lines."""

    expression: str
    rule: str
    start: int
    end: int


def qualify(expression: str, matcher: str) -> str:
    """Return what an answer is worth: an approximate match of a permissive text may hide other terms.

    >>> qualify("MIT", "2-aho"), qualify("MIT", "3-seq")
    ('MIT', 'MIT AND LicenseRef-unknown-terms')
    """
    if matcher in _EXACT or license_type(expression) != "permissive":
        return expression
    return f"{expression} AND LicenseRef-unknown-terms"


def load_scancode() -> Any:
    """Return ScanCode's index module; raises ConfigError when the extra is not installed."""
    try:
        return import_module("licensedcode.cache")
    except (ImportError, ValueError) as error:  # pluggy 1.7 makes plugincode raise ValueError
        raise ConfigError(
            f"ScanCode cannot be loaded ({error}); pip install 'stack-platform[scancode]', or leave out scancode = true"
        ) from error


def read_with_scancode(content: bytes, name: str) -> list[Statement]:
    """List the license statements that ScanCode finds in a content; `name` is not used.

    Raises ConfigError when the extra is not installed.
    """
    del name
    cache = load_scancode()
    if len(content) > _LONGEST:
        return []
    text = content.decode("utf-8", errors="replace")
    matches = cache.get_index().match(query_string=text, deadline=time.time() + _SECONDS)
    lines = [0]
    for line in content.split(b"\n"):
        lines.append(lines[-1] + len(line) + 1)
    found = []
    for match in matches:
        rule = match.rule
        stated = rule.license_expression or ""
        vague = any(word in stated for word in _VAGUE) or rule.is_license_intro or rule.is_license_clue
        if vague or match.score() < _LEAST:
            continue
        start = lines[min(match.start_line, len(lines) - 1) - 1]
        end = max(start, min(lines[min(match.end_line, len(lines) - 1)] - 1, len(content)))
        expression = qualify(cache.build_spdx_license_expression(stated), match.matcher)
        found.append(Statement(expression, rule.identifier, start, end))
    return found
