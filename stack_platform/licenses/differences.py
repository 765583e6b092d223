"""Decides which words may differ between a document and a license text that is nearly the same.

Method: a short permissive text may differ by words that change nothing ("the", "program" for "software"), a
long one by a sixtieth of such words, a text that is not permissive by an eighth or a twenty-fifth. Never may a
permissive text differ by a word that grants, forbids or sets a condition. Free are copyright lines, and other
names where a text names somebody ("provided by ... as is").

The lists are ours: function words, what licenses call their subject, and the words of rights and conditions.
Known error: a text in which a right is taken away without a weighty word is found when it is long.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from stack_platform.licenses.fingerprints import index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stack_platform.licenses.fingerprints import Rule

_HARMLESS = (
    "the a an of this that these those such its s c and b d e f g h i ii iii iv v vi vii viii ix x 1 2 3 4 5 6 7 8 9"
    " 10 11 12 o"
)
_BENIGN = (
    "software program programs library code package file files materials work works product module source document"
    " author authors holder holders contributor contributors copyright owners company inc ltd corporation is are"
    " his her their it shall will be www http https org com html txt name names project script application"
    " documentation tool system you they font fonts acknowledgement acknowledgment following all any in to on by"
    " as at warranties warranty liability damage damages notices notice disclaimer copies and or regents university"
)
_WEIGHTY = (
    "not no non never only solely must may except unless without prohibited forbidden prohibit commercial"
    " noncommercial commercially personal academic research educational evaluation military nuclear weapons fee charge"
    " free paid pay sell sold distribute redistribute distributed sublicense modify modified copy use used rights"
    " permission granted grant royalty employees train training advertising patent internal private however exclude"
    " excluding permit permitted allow allowed require required provided competing restriction restricted evil good"
)
_TELLING = (
    "0 1 2 3 4 5 later any only lesser library affero exception general newer both either v1 v2 v3 20 21 lgpl gpl"
    " agpl"
)
_BEFORE_NAME = "by shall of neither will names name contributors"
_AFTER_NAME = "as be nor may and or disclaims disclaim make makes assumes assume shall"
_COPYRIGHT = "copyright c portions"
_NO_NAME = (
    "not no non never only solely except exception exceptions unless prohibited forbidden commercial noncommercial"
    " commercially military evaluation employees academic restricted restriction must may"
)
"""Words that stand in no name of a holder; where a permissive text leaves room for one, they are differences."""
_NAME = 16  # words of a name
_SHORT = 400  # words; a permissive rule this short may differ by harmless words only
_TOO_SHORT = 14  # words; such a rule must be there word by word


class Limits(NamedTuple):
    """How many words may differ, which (any when `only` is None), and which not even where a name stands."""

    budget: int
    only: frozenset[int] | None
    barred: frozenset[int]

    def forbid(self, words: list[int]) -> bool:
        """Say whether one of the words must not differ."""
        return self.only is not None and not self.only.issuperset(words)


class WordSets(NamedTuple):
    """The word lists as numbers of the index."""

    rights: int
    harmless: frozenset[int]
    benign: frozenset[int]
    light: frozenset[int]  # harmless or benign
    weighty: frozenset[int]
    telling: frozenset[int]
    before: frozenset[int]
    after: frozenset[int]
    copyright: frozenset[int]
    no_name: frozenset[int]


@cache
def word_sets() -> WordSets:
    """Return the word lists, numbered once."""
    number = index().number_of
    lists = (_HARMLESS, _BENIGN, _WEIGHTY, _TELLING, _BEFORE_NAME, _AFTER_NAME, _COPYRIGHT, _NO_NAME)
    sets = [frozenset(map(number, words.split())) - {0} for words in lists]
    harmless, benign, *others = sets
    return WordSets(number("rights"), harmless, benign, harmless | benign, *others)


def limits_of(rule: Rule) -> Limits:
    """Return what ends an alignment early; `judge` decides about what remains."""
    sets = word_sets()
    size = len(rule.forward.data) // 2
    if not rule.permissive:
        return Limits(max(3, size // 6), None, frozenset())
    return Limits(max(2, size // 10), sets.light, sets.no_name)


def is_copyright(extra: list[int]) -> bool:
    """Say whether words are a copyright line, read in either direction, that says nothing else."""
    sets = word_sets()
    ends = extra[0] in sets.copyright or extra[-1] in sets.copyright
    return ends and not any(word in sets.weighty and word != sets.rights for word in extra)


def is_name(words: Sequence[int], d: int, size: int, lost: list[int]) -> bool:
    """Say whether a difference is another name where a text names somebody: 'provided by ... as is'."""
    sets = word_sets()
    if d == 0 or d + size >= len(words) or size > _NAME or len(lost) > _NAME:
        return False
    before, after = words[d - 1], words[d + size]
    if not (
        (before in sets.before and after in sets.after) or (after in sets.before and before in sets.after)
    ):
        return False
    return sets.weighty.isdisjoint(words[d : d + size]) and sets.weighty.isdisjoint(lost)


def judge(rule: Rule, matched: int, deleted: list[int], inserted: list[int]) -> float | None:
    """Return how well a rule explains the document, or None when it differs too much."""
    sets = word_sets()
    differing = deleted + inserted
    heavy = [word for word in differing if word not in sets.harmless]
    size = len(rule.forward.data) // 2 - len(rule.forward.optional)
    score = matched - 4.0 * len(heavy) - 0.5 * (len(differing) - len(heavy))
    if not differing:
        return float(matched)
    if size < _TOO_SHORT or matched < size // 2:
        return None
    if rule.kind == "notice" and any(word in sets.telling for word in differing):
        return None
    if rule.permissive:
        few = max(1, size // 25) if size < _SHORT else size // 60
        allowed = len(heavy) <= few and sets.benign.issuperset(heavy)
        return score if allowed and len(differing) <= max(2, size // 10) else None
    return score if len(heavy) <= size // (8 if size >= _SHORT else 25) else None
