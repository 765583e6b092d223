"""How much a detector finds, and how much of what it finds is right: recall and precision on labeled texts.

A labeled span is found when any hit overlaps it, and covered when at least 90 % of its characters are inside hits.
Precision is hits on spans by all hits that are labeled: on spans, on stretches labeled harmless, and in texts in which
nothing may be touched. Hits anywhere else are nobody's knowledge and do not count.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stack_platform.scrub.spans import Span

SECRETS = ("KEY", "PASSWORD", "PRIVATE_KEY")
_COVERED = 0.9


@dataclass(slots=True)
class Tally:
    """Counts of one detector on labeled texts, by type."""

    labeled: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)  # hits on labeled spans, by the type of the hit
    wrong: Counter[str] = field(default_factory=Counter)  # hits on what is harmless, by the type of the hit
    harmless_texts: int = 0
    touched_texts: int = 0  # harmless texts with any hit

    def recall(self, kinds: Sequence[str]) -> float:
        """Return the found share of the spans of some types."""
        return _share(sum(self.found[kind] for kind in kinds), sum(self.labeled[kind] for kind in kinds))

    def coverage(self, kinds: Sequence[str]) -> float:
        """Return the covered share of the spans of some types."""
        return _share(sum(self.covered[kind] for kind in kinds), sum(self.labeled[kind] for kind in kinds))

    def precision(self, kinds: Sequence[str] | None = None) -> float:
        """Return the right share of the labeled hits, of some types or of all."""
        kinds = sorted(set(self.right) | set(self.wrong)) if kinds is None else kinds
        right, wrong = (sum(counts[kind] for kind in kinds) for counts in (self.right, self.wrong))
        return _share(right, right + wrong)

    def touched(self) -> float:
        """Return the share of the harmless texts with any hit."""
        return _share(self.touched_texts, self.harmless_texts)


def tally(cases: Iterable[Mapping[str, Any]], find: Callable[[str, str], Sequence[Span]]) -> Tally:
    """Count what a detector finds.

    cases: mappings with text, path, spans (type, start, end in code points), negatives (start, end) and
    hard_negative (nothing in the text may be touched). find: text and path -> hits.
    """
    counts = Tally()
    for case in cases:
        hits = find(case["text"], case["path"] or "")
        spans = case["spans"] or []
        for span in spans:
            _count_span(counts, span, hits)
        if case["hard_negative"]:
            counts.harmless_texts += 1
            counts.touched_texts += bool(hits)
        for hit in hits:
            if any(_overlap(hit, span) for span in spans):
                counts.right[hit.type] += 1
            elif case["hard_negative"] or any(_overlap(hit, other) for other in case["negatives"] or []):
                counts.wrong[hit.type] += 1
    return counts


def _count_span(counts: Tally, span: Mapping[str, Any], hits: Sequence[Span]) -> None:
    kind = span["type"]
    on_it = [hit for hit in hits if _overlap(hit, span)]
    inside = sum(min(hit.end, span["end"]) - max(hit.start, span["start"]) for hit in on_it)
    counts.labeled[kind] += 1
    counts.found[kind] += bool(on_it)
    counts.covered[kind] += inside >= _COVERED * (span["end"] - span["start"])


def _overlap(hit: Span, labeled: Mapping[str, Any]) -> bool:
    return bool(hit.start < labeled["end"] and labeled["start"] < hit.end)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
