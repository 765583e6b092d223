"""Finds license texts and notices by the rule table `rules.json`.

Method: a rule is a row of phrases in normalized tokens with bounded gaps between them, where names stand.
Its small language: `[n]` at most n tokens in between, `[*]` any number, `{a|b|}` alternatives, `<name>` a
macro of the table. A rule matches when all its phrases follow each other within their gaps; what it
matched is hidden from later rules, and rules stand in the table from special to general, so BSD-3-Clause
is never found as BSD-2-Clause. Short permissive texts are spelled out to their last sentence: a text with
a sentence more or less in the middle is a variant that the rule refuses. Cost: `rules_in` leaves the few
rows whose words all occur in the text, then plain substring search, linear in the text for each row; no
backtracking.

The names that the SPDX list gives its licenses come from the fingerprint index; the table's own win.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_platform.licenses.fingerprints import index
from stack_platform.licenses.tokens import as_phrase, find_all
from stack_platform.licenses.word_index import WordIndex

if TYPE_CHECKING:
    from stack_platform.licenses.tokens import Tokens

_FILE = Path(__file__).with_name("rules.json")
_GAP = re.compile(r"\[(\d+|\*)\]")
_CHOICE = re.compile(r"\{([^{}]*)\}")
_MACRO = re.compile(r"<([a-z0-9-]+)>")
_ANY = 1_000_000  # tokens; `[*]`
_EMPTY = " "  # the spelling of an empty alternative
_TOKEN_CHARS = 14  # characters; a window of n tokens is searched as n * 14 characters


class Match(NamedTuple):
    """A statement found in a text; `start` and `end` are positions in `Tokens.text`."""

    expression: str
    rule: str
    tier: str
    start: int
    end: int


class Segment(NamedTuple):
    """A phrase of a rule: the gap before it in tokens, and its spellings."""

    gap: int
    spellings: tuple[str, ...]


class Rule(NamedTuple):
    """A row of phrases.

    `whole`: all between the first and the last phrase counts as explained, and the last phrase is its last
    occurrence; only for licenses that are not permissive, because a restriction could hide in between.
    `own`: phrases that look like restrictions and belong to this text.
    """

    name: str
    expression: str
    segments: tuple[Segment, ...]
    whole: bool
    own: tuple[str, ...]


class Restriction(NamedTuple):
    """A phrase of restriction and where it counts in source code.

    Scope `anywhere`: in every part of a text; `near`: near a license statement; `sentence`: there, and
    when the same sentence speaks of the license.
    """

    name: str
    phrase: str
    scope: str


class RuleTable(NamedTuple):
    """The parsed `rules.json`."""

    texts: tuple[Rule, ...]
    notices: tuple[Rule, ...]
    names: dict[str, str]
    field_names: dict[str, str]
    pointers: tuple[str, ...]
    neutral: tuple[str, ...]
    restrictions: tuple[Restriction, ...]
    grants: tuple[str, ...]
    weak_grants: tuple[str, ...]


def read_segments(text: str, macros: dict[str, str]) -> tuple[Segment, ...]:
    """Parse the rule language into segments.

    >>> read_segments("neither the name of [9] {nor|or} its", {})[1]
    Segment(gap=9, spellings=(' nor its ', ' or its '))
    """
    while found := _MACRO.search(text):
        text = text[: found.start()] + macros[found.group(1)] + text[found.end() :]
    pieces = _GAP.split(text)
    segments = []
    gap = 0
    for i, piece in enumerate(pieces):
        if i % 2:
            gap = _ANY if piece == "*" else int(piece)
            continue
        for part in _split_long(piece):
            choices = [c.split("|") if j % 2 else [c] for j, c in enumerate(_CHOICE.split(part))]
            spellings = tuple(as_phrase(" ".join(words)) for words in product(*choices))
            if part.strip():
                segments.append(Segment(gap, spellings))
                gap = 0
    return tuple(segments)


def _split_long(piece: str) -> list[str]:
    """Cut a piece before each of its choices, so that choices multiply as little as possible."""
    return [part for part in re.split(r"(?=\{)", piece) if part.strip()]


@cache
def table() -> RuleTable:
    """Load `rules.json`, once."""
    data = json.loads(_FILE.read_text(encoding="utf-8"))
    macros = data["macros"]
    return RuleTable(
        texts=tuple(_read_rule(row, macros) for row in data["texts"]),
        notices=tuple(
            _read_rule(
                {"id": f"notice-{row['expression']}-{i}", "expression": row["expression"], "text": text},
                macros,
            )
            for row in data["notices"]
            for i, text in enumerate(row["phrases"])
        ),
        names=_identifiers()
        | {f" {name} ": key for name, key in index().names.items()}
        | _read_names(data["names"]),
        field_names=_read_names(data["names"]) | _read_names(data["field_names"]),
        pointers=tuple(as_phrase(text) for text in data["pointers"]),
        neutral=tuple(as_phrase(text) for text in data["neutral"]),
        restrictions=tuple(
            Restriction(row["id"], as_phrase(text), row["scope"])
            for row in data["restrictions"]
            for text in row["phrases"]
        ),
        grants=tuple(as_phrase(text) for text in data["grants"]),
        weak_grants=tuple(as_phrase(text) for text in data["weak_grants"]),
    )


@lru_cache(maxsize=1)
def rules_in(tokens: Tokens) -> RuleTable:
    """Return the table without the rows that need a word which the text lacks; none of those can match.

    `field_names` stays whole: it is for the fields of package metadata. All tiers ask for the same tokens
    one after the other, so the last answer is remembered; it depends on `Tokens.text` only, which is fixed.
    """
    rows, index = _rows()
    kept: dict[str, list[Any]] = {field: [] for field in RuleTable._fields if field != "field_names"}
    for i in index.candidates(tokens.words):
        field, row = rows[i]
        kept[field].append(row)
    names = dict(kept.pop("names"))
    narrow: dict[str, Any] = {field: tuple(found) for field, found in kept.items()}
    return RuleTable(names=names, field_names=table().field_names, **narrow)


@cache
def _rows() -> tuple[list[tuple[str, Any]], WordIndex]:
    """List every row of the table with its field, and the index of the words they need."""
    rows: list[tuple[str, Any]] = []
    needs: list[frozenset[str]] = []
    for field, values in table()._asdict().items():
        if field == "field_names":
            continue
        for row in values.items() if isinstance(values, dict) else values:
            rows.append((field, row))
            needs.append(_needed(row))
    return rows, WordIndex(needs)


def _needed(row: Any) -> frozenset[str]:
    """Return the words without which a row of the table cannot match."""
    if isinstance(row, Rule):
        shared = (
            frozenset.intersection(*(frozenset(spelling.split()) for spelling in segment.spellings))
            for segment in row.segments
        )
        return frozenset().union(*shared)
    phrase = row.phrase if isinstance(row, Restriction) else row if isinstance(row, str) else row[0]
    return frozenset(phrase.split())


def _identifiers() -> dict[str, str]:
    """Read identifiers of the SPDX list as names ("licensed under MIT-CMU"); those of one word are too common.

    A name that begins with "c" begins with a comment leader of Fortran.
    """
    phrases = {as_phrase(key): key for key in index().names.values()}
    return {phrase: key for phrase, key in phrases.items() if phrase.count(" ") > 2 and phrase[1:3] != "c "}


def _read_names(names: dict[str, list[str]]) -> dict[str, str]:
    return {as_phrase(name): key for key, spellings in names.items() for name in spellings}


def _read_rule(row: dict[str, Any], macros: dict[str, str]) -> Rule:
    segments = read_segments(row["text"], macros)
    own = tuple(as_phrase(text) for text in row.get("own", ()))
    return Rule(row["id"], row["expression"], segments, bool(row.get("whole")), own)


def match_texts(tokens: Tokens) -> list[Match]:
    """Find full license texts, special rules first, and hide them from `tokens.rest`."""
    return _match_all(tokens, rules_in(tokens).texts, "text")


def match_notices(tokens: Tokens) -> list[Match]:
    """Find notices such as the Apache header, and hide them from `tokens.rest`."""
    return _match_all(tokens, rules_in(tokens).notices, "notice")


def _match_all(tokens: Tokens, rules: tuple[Rule, ...], tier: str) -> list[Match]:
    found = []
    for rule in rules:
        start = 0
        hidden: list[tuple[int, int]] = []
        while (pieces := _match_rule(tokens.rest, rule, start)) is not None:
            begin, end = pieces[0][0], pieces[-1][1]
            if rule.whole:
                last = max(
                    tokens.rest.rfind(spelling) + len(spelling) - 1
                    for spelling in rule.segments[-1].spellings
                )
                pieces = [(begin, end := max(end, last))]
            hidden += pieces
            hidden += [
                (at, at + len(own) - 1) for own in rule.own for at in find_all(tokens.rest, own, begin, end)
            ]
            found.append(Match(rule.expression, rule.name, tier, begin, end))
            start = max(end - 1, begin + 1)
        if hidden:
            tokens.hide(hidden)
    return found


def _match_rule(text: str, rule: Rule, start: int) -> list[tuple[int, int]] | None:
    """Return the positions of the segments of the first match at or after `start`."""
    first, *rest = rule.segments
    at = start
    while True:
        hits = [(i, len(s)) for s in first.spellings if (i := text.find(s, at)) >= 0]
        if not hits:
            return None
        begin, length = min(hits)
        pieces = [(begin, begin + length - 1)]
        for segment in rest:
            piece = _find_within(text, segment, pieces[-1][1])
            if piece is None and segment.gap == _ANY:
                return None  # what is nowhere after here is nowhere after a later start
            if piece is None:
                break
            pieces.append(piece)
        else:
            return pieces
        at = begin + 1


def _find_within(text: str, segment: Segment, at: int) -> tuple[int, int] | None:
    """Find the first spelling that starts at most `gap` tokens after position `at`.

    An empty alternative matches where no other one does.
    """
    best: tuple[int, int] | None = None
    for spelling in segment.spellings:
        stop = len(text) if segment.gap == _ANY else at + segment.gap * _TOKEN_CHARS + len(spelling)
        i = -1 if spelling == _EMPTY else text.find(spelling, at, stop)
        if i >= 0 and text.count(" ", at, i) <= segment.gap and (best is None or i < best[0]):
            best = (i, i + len(spelling) - 1)
    return (at, at) if best is None and _EMPTY in segment.spellings else best
