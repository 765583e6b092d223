"""Find personal data and secrets in a text: one native pass, then a verdict in Python on every hit.

The native pass (scanner.py, rules.yaml) reads all bytes; a verdict reads a bounded window around its hit, so time
is linear in the text. A verdict is a score; a sensitivity is the score from which a span counts,
so what a lower sensitivity finds a higher one finds too. Surrogates of earlier scrubbing are skipped.
Measured on the 5,208 development texts the thresholds were set with, so held-out numbers are lower: recall .59, .85,
.86, .91 and precision .99, .96, .96, .93 from permissive to paranoid; 66 MB/s of CPU time on source code (strict and
paranoid 20 MB/s). Not found: secrets that only a vendor's name announces, passwords in prose, names of people.

A later detector (names, a model, a second engine) is one more function in VERDICTS or one more source of
spans before the merge.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from stack_platform.errors import ConfigError
from stack_platform.scrub import addresses, keys, numbers, secrets
from stack_platform.scrub.context import is_placeholder, wanted_families
from stack_platform.scrub.scanner import Hit, native_hits
from stack_platform.scrub.spans import Span, merge_spans
from stack_platform.scrub.surrogates import is_surrogate

# Lowest score that counts, and the confidence of the native rules that are asked.
SENSITIVITIES = {
    "permissive": (0.9, "medium"),
    "balanced": (0.5, "medium"),
    "strict": (0.4, "low"),
    "paranoid": (0.2, "low"),
}

Verdict = Callable[[str, int, int], Iterator[Span]]
# Rule id of rules.yaml -> family (see context.wanted_families) and the function that judges its hits.
VERDICTS: dict[str, tuple[str, Verdict]] = {
    "sp.email": ("EMAIL", addresses.email),
    "sp.ip.v4": ("IP_ADDRESS", addresses.ipv4),
    "sp.ip.v6": ("IP_ADDRESS", addresses.ipv6),
    "sp.ip.v6.short": ("IP_ADDRESS", addresses.ipv6),
    "sp.card": ("CREDIT_CARD", numbers.card),
    "sp.iban": ("IBAN", numbers.iban),
    "sp.phone.international": ("PHONE", numbers.phone),
    "sp.phone.layout": ("PHONE", numbers.phone),
    "sp.phone.word": ("PHONE", numbers.phone),
    "sp.private-key": ("PRIVATE_KEY", keys.private_key),
    "sp.url-password": ("url", secrets.url_password),
    "sp.jwt": ("KEY", secrets.jwt),
    "sp.assignment.quoted": ("assignment", secrets.quoted_assignment),
    "sp.assignment.bare": ("assignment", secrets.bare_assignment),
    "sp.assignment.loose": ("assignment", secrets.loose),
    "sp.password-flag": ("assignment", secrets.flag),
    "sp.token": ("token", secrets.token),
}
_ENGINE_SCORES = {"high": 0.93, "medium": 0.7, "low": 0.45}
_ENGINE_DUPLICATES = frozenset({"betterleaks.generic-credential-uri", "betterleaks.jwt"})  # ours judge these
_CONTINUATION = bytes(range(0x80, 0xC0))


def find_spans(
    text: str, path: str = "", sensitivity: str = "balanced", *, cache_dir: str | None = None
) -> list[Span]:
    """Return the disjoint spans of personal data and secrets in a text, sorted.

    text: decoded source text. path: its path in the repository; its name decides which rules make sense.
    sensitivity: permissive, balanced, strict or paranoid. cache_dir: see `scanner.native_hits`.
    Raises ConfigError for another sensitivity.
    """
    if sensitivity not in SENSITIVITIES:
        names = ", ".join(SENSITIVITIES)
        raise ConfigError(f"sensitivity {sensitivity!r} does not exist; write one of {names}")
    threshold, confidence = SENSITIVITIES[sensitivity]
    data = text.encode("utf-8", "surrogatepass")
    hits = native_hits(data, confidence, cache_dir)
    if not hits:
        return []
    spans = _judged(text, _in_code_points(data, hits), wanted_families(path))
    return merge_spans(span for span in _without_surrogates(text, spans) if span.score >= threshold)


def _without_surrogates(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """Drop surrogates and what lies inside one: a rule may take a part of it for something else."""
    ours: list[tuple[int, int]] = []
    others: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if is_surrogate(span.type, text[span.start : span.end]):
            ours.append((span.start, span.end))
        else:
            others.append(span)
    place, shield = 0, -1
    for span in others:
        while place < len(ours) and ours[place][0] <= span.start:
            shield = max(shield, ours[place][1])
            place += 1
        if span.end > shield:
            yield span


def _judged(text: str, hits: Sequence[Hit], families: frozenset[str]) -> Iterator[Span]:
    for start, end, rule, confidence in hits:
        if rule in VERDICTS:
            family, verdict = VERDICTS[rule]
            if family in families:
                yield from verdict(text, start, end)
        elif "KEY" in families and not _ours_to_judge(rule, text[start:end]):
            kind = (
                "PRIVATE_KEY" if rule.endswith("private-key") else "PASSWORD" if "password" in rule else "KEY"
            )
            yield Span(start, end, kind, rule, _ENGINE_SCORES[confidence])


def _ours_to_judge(rule: str, value: str) -> bool:
    """Tell whether a finding of the engine is dropped: ours finds the exact place, or there is nothing."""
    return rule in _ENGINE_DUPLICATES or ("://" in value and "@" in value) or is_placeholder(value)


def _in_code_points(data: bytes, hits: Sequence[Hit]) -> Sequence[Hit]:
    """Return sorted hits with places counted in code points instead of bytes."""
    if data.isascii():
        return hits
    places = sorted({place for hit in hits for place in hit[:2]})
    counted: dict[int, int] = {}
    last = total = 0
    for place in places:
        # A code point is a byte that does not continue another one.
        total += len(data[last:place].translate(None, _CONTINUATION))
        counted[place] = total
        last = place
    return [hit._replace(start=counted[hit.start], end=counted[hit.end]) for hit in hits]
