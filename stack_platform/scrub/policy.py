"""What counts as sensitive: a level, thresholds of one's own, rules of one's own, and what is allowed to stay.

A policy is data, so that two people can compare theirs. As YAML:

    sensitivity: balanced            # permissive, balanced, strict or paranoid
    thresholds: {KEY: 0.7, NAME: 0.4}  # lowest score that counts, by type; a value over 1 switches a type off
    license_headers: keep            # names in license headers: keep or replace
    rules:                           # patterns of linear time: no lookaround, no backreference
      - {id: acme.ticket, type: KEY, pattern: 'ACME-[0-9]{8}', score: 0.9}
    allow:                           # each with exactly one of value, pattern, path, rule, and a reason
      - {value: 'support@acme.org', reason: published on the web site}
      - {path: 'tests/fixtures/*', reason: invented by us}
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from stack_platform.errors import ConfigError
from stack_platform.scrub.spans import TYPES

# Lowest score that counts. What a score means: docs/scrubbing.md.
LEVELS = {"permissive": 0.9, "balanced": 0.5, "strict": 0.4, "paranoid": 0.2}
_KEYS = {"sensitivity", "thresholds", "license_headers", "rules", "allow"}
_MATCHERS = ("value", "pattern", "path", "rule")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the user's organization."""

    id: str  # letters, digits, dots and dashes; tells the rule in every account
    pattern: str  # regular expression without lookaround; where it has a group, the first one is the value
    type: str = "KEY"  # one of spans.TYPES
    score: float = 0.9  # belief that a match is sensitive, 0 to 1
    name: str = ""  # for people

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{1,80}", self.id) or self.id.startswith(
            ("sp.", "betterleaks.")
        ):
            raise ConfigError(
                f"rule id {self.id!r} is taken or no name; write letters, digits, dots and dashes, such as acme.ticket"
            )
        if self.type not in TYPES:
            raise ConfigError(
                f"rule {self.id}: type {self.type!r} does not exist; write one of {', '.join(TYPES)}"
            )
        if not isinstance(self.score, int | float) or not 0 < self.score <= 1:
            raise ConfigError(f"rule {self.id}: score {self.score!r}; write a number over 0, up to 1")
        _compiled(f"rule {self.id}", self.pattern)
        if _compiled(f"rule {self.id}", self.pattern).search("") is not None:
            raise ConfigError(
                f"rule {self.id}: the pattern {self.pattern!r} matches nothing at all; make it longer"
            )


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may stay, and why."""

    kind: str  # value: the exact text; pattern: the whole text; path: the file, with * and ?; rule: an id, with *
    matcher: str
    reason: str  # for those who read the policy later

    def __post_init__(self) -> None:
        if self.kind not in _MATCHERS:
            raise ConfigError(f"an allowance is by {', '.join(_MATCHERS)}, not by {self.kind!r}")
        if not self.reason.strip():
            raise ConfigError(f"the allowance for {self.matcher!r} has no reason; say why this may stay")
        if self.kind == "pattern":
            _compiled("allowance", self.matcher)

    def allows(self, value: str, path: str, rule: str) -> bool:
        """Tell whether a finding may stay."""
        if self.kind == "value":
            return value == self.matcher
        if self.kind == "pattern":
            return _compiled("allowance", self.matcher).fullmatch(value[:1000]) is not None
        return fnmatchcase(path if self.kind == "path" else rule, self.matcher)


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts as sensitive."""

    sensitivity: str = "balanced"  # permissive, balanced, strict or paranoid: see LEVELS
    thresholds: Mapping[str, float] = field(
        default_factory=dict
    )  # type -> lowest score that counts, over the level's
    license_headers: str = "keep"  # names in license headers: keep (attribution is a duty) or replace
    rules: tuple[Rule, ...] = ()
    allow: tuple[Allowance, ...] = ()

    def __post_init__(self) -> None:
        check_level(self.sensitivity)
        for kind, threshold in self.thresholds.items():
            if kind not in TYPES:
                raise ConfigError(f"threshold of {kind!r}: no such type; write one of {', '.join(TYPES)}")
            if isinstance(threshold, bool) or not isinstance(threshold, int | float) or threshold <= 0:
                raise ConfigError(
                    f"threshold of {kind}: {threshold!r}; write a number over 0, over 1 for never"
                )
        if self.license_headers not in ("keep", "replace"):
            raise ConfigError(f"license_headers {self.license_headers!r}; write keep or replace")

    def threshold(self, kind: str) -> float:
        """Return the lowest score that counts for a type."""
        return self.thresholds.get(kind, LEVELS[self.sensitivity])

    def reason_to_keep(self, value: str, path: str, rule: str) -> str:
        """Return why a finding may stay; empty when it may not."""
        return next((entry.reason for entry in self.allow if entry.allows(value, path, rule)), "")


def check_level(sensitivity: str) -> None:
    """Refuse a level that does not exist."""
    if sensitivity not in LEVELS:
        raise ConfigError(f"sensitivity {sensitivity!r} does not exist; write one of {', '.join(LEVELS)}")


def read_policy(path: Path) -> Policy:
    """Read a policy from YAML. Raises ConfigError with what is wrong and what to write instead."""
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the scrub policy {path} cannot be read: {error}") from error
    content = _mapping(loaded if loaded is not None else {}, str(path))
    unknown = sorted(set(content) - _KEYS)
    if unknown:
        raise ConfigError(
            f"{path}: {', '.join(map(repr, unknown))} is no setting; write {', '.join(sorted(_KEYS))}"
        )
    rules = tuple(
        _rule(_mapping(row, f"{path}: rule")) for row in _sequence(content.get("rules"), f"{path}: rules")
    )
    twice = sorted({rule.id for rule in rules if sum(other.id == rule.id for other in rules) > 1})
    if twice:
        raise ConfigError(f"{path}: two rules are called {twice[0]!r}; give each its own id")
    rows = _sequence(content.get("allow"), f"{path}: allow")
    allow = tuple(_allowance(_mapping(row, f"{path}: allowance")) for row in rows)
    return Policy(
        str(content.get("sensitivity", "balanced")),
        _mapping(content.get("thresholds") or {}, f"{path}: thresholds"),
        str(content.get("license_headers", "keep")),
        rules,
        allow,
    )


def _rule(row: Mapping[str, Any]) -> Rule:
    unknown = sorted(set(row) - {"id", "pattern", "type", "score", "name"})
    if unknown or not {"id", "pattern"} <= set(row):
        raise ConfigError(
            f"rule {row.get('id', row)!r}: write id, pattern and, if you like, type, score, name"
        )
    texts = {name: str(row[name]) for name in ("id", "pattern", "type", "name") if name in row}
    return Rule(score=row.get("score", 0.9), **texts)


def _allowance(row: Mapping[str, Any]) -> Allowance:
    kinds = [kind for kind in _MATCHERS if kind in row]
    if len(kinds) != 1 or set(row) - {*kinds, "reason"}:
        raise ConfigError(
            f"allowance {dict(row)!r}: write exactly one of {', '.join(_MATCHERS)}, and a reason"
        )
    return Allowance(kinds[0], str(row[kinds[0]]), str(row.get("reason") or ""))


def _mapping(content: Any, place: str) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{place}: {content!r} stands where settings are expected; write name: value")
    return dict(content)


def _sequence(content: Any, place: str) -> list[Any]:
    if content is not None and not isinstance(content, list):
        raise ConfigError(
            f"{place}: {content!r} stands where a list is expected; begin each entry with a dash"
        )
    return content or []


@lru_cache(maxsize=1024)
def _compiled(place: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{place}: {pattern!r} is no regular expression: {error}") from error
