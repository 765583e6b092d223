"""Why something is replaced, or is not: what was found, by which rule, on what evidence, at which level it counts.

An explanation never holds the value: it shows its shape (`Aa9-99`: capital, small letter, digit, sign), its length, its
entropy and its keyed digest, and its line with everything found in it masked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from stack_platform.scrub.audit import value_digest
from stack_platform.scrub.detect import candidates, find_spans, verdict_on
from stack_platform.scrub.policy import LEVELS
from stack_platform.scrub.redact import ScrubConfig
from stack_platform.scrub.shapes import entropy
from stack_platform.scrub.spans import Span, merge_spans

_MAX_LINE = 160


@dataclass(frozen=True, slots=True)
class Explanation:
    """One finding, replaced or not."""

    line: int  # counted from 1
    start: int  # code points of the text, inclusive
    end: int  # code points, exclusive
    type: str
    rule: str
    says: str  # what the rule looks for
    score: float
    threshold: float  # from which score the type counts in the policy
    outcome: str  # replaced; below the threshold; or allowed, with the reason
    counts_from: str  # the most permissive level that replaces it
    shape: str
    length: int  # code points
    entropy: float  # bits per character
    digest: str  # keyed, as in the account
    context: str  # the line, with everything found in it masked


def explain(text: str, path: str = "", config: ScrubConfig = ScrubConfig()) -> list[Explanation]:
    """Explain every finding of any score in a text, in the order of the text.

    Findings that overlap are explained one by one; scrubbing joins them.
    """
    policy = config.rules()
    found = sorted(set(candidates(text, path, policy, config.cache_dir)))
    masked = merge_spans(found)
    replaced = find_spans(text, path, policy=policy, cache_dir=config.cache_dir)
    explanations = []
    for span in found:
        value = text[span.start : span.end]
        reason = policy.reason_to_keep(value, path, span.rule)
        threshold = policy.threshold(span.type)
        outcome = "replaced" if span.score >= threshold else "below the threshold"
        if outcome != "replaced" and any(
            span.start < other.end and other.start < span.end for other in replaced
        ):
            outcome = "replaced, as another finding of the same place counts"
        levels = [name for name, lowest in LEVELS.items() if span.score >= lowest]
        explanations.append(
            Explanation(
                line=text.count("\n", 0, span.start) + 1,
                start=span.start,
                end=span.end,
                type=span.type,
                rule=span.rule,
                says=describe(span.rule),
                score=round(span.score, 2),
                threshold=threshold,
                outcome=f"allowed: {reason}" if reason and outcome == "replaced" else outcome,
                counts_from=levels[0] if levels else "no level",
                shape=shape(value),
                length=len(value),
                entropy=round(entropy(value), 2),
                digest=value_digest(value, config.key),
                context=_context(text, span, masked),
            )
        )
    return explanations


def describe(rule: str) -> str:
    """Say in words what a rule looks for."""
    verdict = verdict_on(rule)
    if verdict is not None:
        name = _native_names().get(rule, "")
        return f"{verdict.says}: {name}" if name and rule.startswith("sp.format.") else verdict.says
    return _native_names().get(rule, "rule of your policy")


def shape(value: str) -> str:
    """Return the kinds of characters of a value, runs shortened: `Aa{5}9{3}-a`."""
    kinds = (
        "9" if char.isdigit() else "A" if char.isupper() else "a" if char.isalpha() else char
        for char in value[:400]
    )
    plain = ("_" if kind.isspace() else kind for kind in kinds)
    runs = ((kind, len(list(run))) for kind, run in groupby(plain))
    return "".join(kind if count == 1 else f"{kind}{{{count}}}" for kind, count in runs)[:80]


def _context(text: str, span: Span, masked: Sequence[Span]) -> str:
    low = text.rfind("\n", 0, span.start) + 1
    high = text.find("\n", span.start)
    high = len(text) if high < 0 else high
    low, high = max(low, span.start - _MAX_LINE), min(max(high, span.end), span.end + _MAX_LINE)
    pieces = []
    for other in masked:
        if other.end > low and other.start < high:
            pieces += [text[low : other.start], f"<{other.type}>"]
            low = other.end
    return re.sub(r"\s+", " ", "".join([*pieces, text[low:high]])).strip()


@cache
def _native_names() -> dict[str, str]:
    from pathlib import Path

    import yaml
    from kingfisher_sdk import Rules

    files = [Path(__file__).with_name(name) for name in ("rules.yaml", "formats.yaml", "names.yaml")]
    ours = {
        rule["id"]: rule["name"]
        for file in files
        for rule in yaml.safe_load(file.read_text("utf-8"))["rules"]
    }
    theirs = {str(rule["id"]): str(rule["name"]) for rule in Rules(confidence="low").metadata()}
    return theirs | ours
