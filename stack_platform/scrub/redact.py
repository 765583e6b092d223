"""Rewrite a text so that no span is left, deterministically, idempotently, and so that code still parses.

`scrub_text` renders the spans, looks again, and grows the set until the rendered text is clean. So
scrub(scrub(x)) == scrub(x) holds by construction and not by luck: what is returned has no span, hence the second
scrub returns it as it is. One look again is enough for 99 % of the texts that change, because surrogates prove
themselves to the detector; one that its surroundings spoil is drawn anew, then blanked.

A text that parsed before parses after: tree-sitter is asked about texts that change, and where the surrogates or
tokens break the syntax, letters are masked instead.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stack_platform.errors import ConfigError
from stack_platform.scrub.detect import find_spans
from stack_platform.scrub.ner import NerConfig, recognize
from stack_platform.scrub.policy import Policy, check_level
from stack_platform.scrub.spans import Span, merge_spans
from stack_platform.scrub.surrogates import is_surrogate, surrogate
from stack_platform.scrub.syntax import parses

MODES = ("surrogate", "token", "mask")
SCOPES = ("file", "repository", "release")
# Public on purpose: surrogates of the default key are reproducible by anyone, who can therefore also test a guess.
DEFAULT_KEY = b"stack-platform default scrub key, public"
# The names The Stack's own scrubbing gives, and ours for what it does not know.
_TOKENS = {"CREDIT_CARD": "CARD"}
_SOFTLY_AFTER = (
    3  # draws of a surrogate before letters and digits are blanked, and two rounds later the signs
)
_GROW_AFTER = 8  # rounds before spans grow to whole lines
_GIVE_UP_AFTER = 16  # rounds before the whole text is blanked
_STRUCTURE = frozenset("\r\n\t \\\"'`")


@dataclass(frozen=True, slots=True)
class ScrubConfig:
    """How to scrub."""

    sensitivity: str = "balanced"  # permissive, balanced, strict or paranoid; a policy's own wins
    mode: str = "surrogate"  # surrogate: realistic stand-ins; token: <EMAIL>, <KEY>, …; mask: asterisks
    key: bytes = DEFAULT_KEY  # secret of the surrogates and digests; set your own, keep it out of the release
    scope: str = "release"  # where equal secrets get equal surrogates: file, repository or release
    cache_dir: str | None = None  # folder of compiled rules, None for the engine's own; never changes results
    policy: Policy | None = None  # thresholds, rules and allowances of one's own; None: the level alone
    check_syntax: bool = True  # mask instead, where a replacement would break the syntax
    ner: NerConfig | None = None  # model that finds names in prose; None: none

    def __post_init__(self) -> None:
        check_level(self.sensitivity)
        for name, value, known in (("mode", self.mode, MODES), ("scope", self.scope, SCOPES)):
            if value not in known:
                raise ConfigError(f"scrub {name} {value!r} does not exist; write one of {', '.join(known)}")
        if not isinstance(self.key, bytes) or not self.key:
            raise ConfigError(
                "the scrub key must be non-empty bytes; leave it out to use the public default key"
            )

    def rules(self) -> Policy:
        """Return the policy in force."""
        return self.policy or Policy(self.sensitivity)


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """A text without its secrets."""

    text: str
    spans: tuple[Span, ...] = ()  # what was replaced, in code points of the text before
    replacements: tuple[str, ...] = ()  # the new text of each span
    masked: bool = False  # whether letters were masked because the replacements broke the syntax


def scrub_text(
    text: str, path: str = "", config: ScrubConfig = ScrubConfig(), *, within: str = ""
) -> Scrubbed:
    """Replace every secret and personal datum of a text; scrubbing the result again changes nothing.

    text: decoded source text. path: its path in the repository. within: the file or repository that surrogates are
    consistent in, when the configured scope is one of these. The result is equal for equal arguments.
    """
    found = _find(text, path, config)
    if not found:
        return Scrubbed(text)
    within = "" if config.scope == "release" else within or path
    scrubbed = _rewrite(text, path, config, found, within)
    if config.check_syntax and parses(text, path) and parses(scrubbed.text, path) is False:
        return _rewrite(text, path, config, found, None)
    return scrubbed


def _rewrite(text: str, path: str, config: ScrubConfig, found: list[Span], within: str | None) -> Scrubbed:
    """Render the spans until nothing is found; `within` None masks letters in place of any other replacement."""
    attempts: dict[tuple[int, int], int] = {}
    for round_ in range(_GIVE_UP_AFTER):
        replacements = [_replacement(text, span, config, attempts, within) for span in found]
        scrubbed = "".join(_pieces(text, found, replacements))
        left = _find(scrubbed, path, config)
        if not left:
            return Scrubbed(scrubbed, tuple(found), tuple(replacements), within is None)
        returned = [_original(span, found, replacements) for span in left]
        if round_ >= _GROW_AFTER:
            returned = [_whole_lines(span, text) for span in returned]
        for span in found:
            # A surrogate that looks sensitive in its surroundings is drawn anew and keeps its type.
            if any(_inside(again, (span,)) for again in returned):
                attempts[span.start, span.end] = attempts.get((span.start, span.end), 0) + 1
        found = merge_spans([*found, *(span for span in returned if not _inside(span, found))])
    everything = Span(0, len(text), found[0].type, "sp.everything", 1.0)
    return Scrubbed(_blank(text), (everything,), (_blank(text),), masked=True)


def _find(text: str, path: str, config: ScrubConfig) -> list[Span]:
    policy = config.rules()
    spans = find_spans(text, path, policy=policy, cache_dir=config.cache_dir)
    if config.ner is None:
        return spans
    read = (
        span
        for span in recognize(text, config.ner)
        if span.score >= min(policy.threshold(span.type), config.ner.threshold)
        and not is_surrogate(span.type, text[span.start : span.end])
        and not policy.reason_to_keep(text[span.start : span.end], path, span.rule)
    )
    return merge_spans([*spans, *read])


def _replacement(
    text: str, span: Span, config: ScrubConfig, attempts: dict[tuple[int, int], int], within: str | None
) -> str:
    value = text[span.start : span.end]
    attempt = attempts.get((span.start, span.end), 0)
    softly = 0 if within is None else _SOFTLY_AFTER
    if attempt >= softly + 2:
        return _blank(value)
    if within is None or attempt >= softly:
        return _softly_blank(value)
    if config.mode == "token":
        return f"<{_TOKENS.get(span.type, span.type)}>"
    if config.mode == "mask":
        return "".join(char if char in "\r\n" else "*" for char in value)
    return surrogate(span.type, value, config.key, within, attempt)


def _softly_blank(value: str) -> str:
    return "".join("0" if char.isdigit() else "x" if char.isalpha() else char for char in value)


def _blank(value: str) -> str:
    return "".join(char if char in _STRUCTURE else "x" for char in value)


def _pieces(text: str, spans: Iterable[Span], replacements: Iterable[str]) -> Iterator[str]:
    last = 0
    for span, replacement in zip(spans, replacements, strict=True):
        yield text[last : span.start]
        yield replacement
        last = span.end
    yield text[last:]


def _original(span: Span, spans: list[Span], replacements: list[str]) -> Span:
    """Return a span of the scrubbed text in the places of the text before, grown over what it touches."""
    start, end = span.start, span.end
    shift = 0  # scrubbed place minus original place, behind the spans seen so far
    first: int | None = None
    last: int | None = None
    for old, replacement in zip(spans, replacements, strict=True):
        low = old.start + shift
        high = low + len(replacement)
        if low >= end:
            break
        if high <= start:
            shift += len(replacement) - (old.end - old.start)
            continue
        first = (old.start if start >= low else start - shift) if first is None else first
        shift += len(replacement) - (old.end - old.start)
        last = old.end if end <= high else end - shift
    first = start - shift if first is None else first
    last = end - shift if last is None or last < first else last
    return Span(first, last, span.type, span.rule, span.score)


def _inside(span: Span, spans: Iterable[Span]) -> bool:
    return any(other.start <= span.start and span.end <= other.end for other in spans)


def _whole_lines(span: Span, text: str) -> Span:
    start = text.rfind("\n", 0, span.start) + 1
    end = text.find("\n", span.end)
    return Span(start, len(text) if end < 0 else end, span.type, span.rule, span.score)
