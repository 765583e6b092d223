r"""Name the language of a text that no name tells.

The forms that a whole text can have come first (`signatures`, `fields`, `layouts`, sentences); then the classifier
chooses among all languages, and rules tell its answer from languages that come close. The answer is None where none is
certain, and sooner so for a language that few people write: among all files of the world a rare language is a far less
likely guess than among the samples that the certainty was measured on.

Known error: short texts, dialects, and formats that no language of the catalog stands for.
"""

import re
from collections.abc import Callable

from stack_platform.languages import heuristics
from stack_platform.languages.catalog import prose_languages
from stack_platform.languages.classifier import Classifier
from stack_platform.languages.fields import by_fields, is_field_block
from stack_platform.languages.layouts import by_layout
from stack_platform.languages.popularity import BY_POPULARITY
from stack_platform.languages.prose import has_markup, is_prose, is_recorded, is_sentences
from stack_platform.languages.signatures import by_signature

MIN_CERTAINTY = 0.025
"""Cosine under which a text has no language: there, most answers are wrong."""
MIN_CERTAINTY_OF_RARE = 0.03
"""The same for a language that is not popular and that another comes near to: there, most are wrong."""
LEAD_OF_RARE = 1.15
"""Times the second best score from which no other comes near."""

CERTAIN = 0.08
"""Cosine from which a short text, one with control characters, or one that reads like prose is named all the same."""
MIN_TEXT_BYTES = 32
"""Shorter texts (white space at the ends left out) are named only where no other language comes near."""
LEAD_OF_SHORT = 1.5
"""Times the second best score that the best one of a short text has to be."""

_RIVALS = 5
_RIVAL_BYTES = 16 * 1024
_RIVAL_SHARE = 0.5
"""Languages whose score is at least this part of the best one are told apart by the rules of a shared extension."""

_CONSIDERED_BYTES = 4096
_CONTROL = re.compile(rb"[\x01-\x06\x0e-\x1a\x7f]")
"""Bytes that source code does not hold (bell, backspace, escape and white space may stand in it)."""

_NO_CODE = (b"#!", b"%PDF-")
"""How scripts of programs that run no known language start, and documents that may hold no NUL."""

_POPULAR = frozenset(BY_POPULARITY)


def by_content(judge: Callable[[], Classifier], text: bytes) -> str | None:
    """Return the language of a text in UTF-8 or an encoding that holds ASCII, or None where nothing is certain.

    `judge` gives the classifier; it is called for only where forms do not tell.
    """
    signed = by_signature(text)
    if signed:
        return signed
    if text.startswith(_NO_CODE):
        return None
    if is_field_block(text):
        return by_fields(text)
    layouts = by_layout(text)
    if layouts:
        return layouts[0] if len(layouts) == 1 else judge().best(text, layouts) or layouts[0]
    if is_sentences(text):
        return judge().best(text, _marked_up()) if has_markup(text) else "Text"
    return _best(judge(), text)


def _marked_up() -> set[str]:
    """Return the languages in which sentences are marked up."""
    return {*prose_languages(), "HTML", "Roff", "Roff Manpage", "TeX"} - {"Text"}


def _best(judge: Classifier, text: bytes) -> str | None:
    """Return the language with the best score, the one that the rules prefer among its rivals, or None."""
    ranking = judge.ranking(text, _RIVALS)
    if not ranking:
        return None
    score = ranking[0][1]
    if score < CERTAIN and len(text.strip()) >= MIN_TEXT_BYTES and is_prose(text):
        return "Text"
    if not _is_certain(ranking, text):
        return None
    rivals = [language for language, each in ranking if each >= _RIVAL_SHARE * score]
    start = text[:_RIVAL_BYTES]
    return heuristics.between(rivals, start) or heuristics.dialect(rivals[0], start)


def _is_certain(ranking: list[tuple[str, float]], text: bytes) -> bool:
    """Tell whether the best score is large enough for what the text and the language are."""
    language, score = ranking[0]
    second = ranking[1][1] if len(ranking) > 1 else 0.0
    rare = language not in _POPULAR
    is_short = len(text.strip()) < MIN_TEXT_BYTES
    if score < MIN_CERTAINTY or (rare and score < MIN_CERTAINTY_OF_RARE and score < LEAD_OF_RARE * second):
        return False
    if is_short and (score < CERTAIN or score < LEAD_OF_SHORT * second):
        return False
    odd = _CONTROL.search(text[:_CONSIDERED_BYTES]) is not None
    return score >= CERTAIN or not (odd or is_recorded(text))
