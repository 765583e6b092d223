"""Find personal data and secrets in a text: one native pass, then a verdict in Python on every hit.

The native pass (scanner.py, rules.yaml, formats.yaml) reads all bytes; a verdict reads a bounded window around its
hit, so time is linear in the text. A verdict is a score; a policy says from which score a span counts, so what a lower
sensitivity finds a higher one finds too. Surrogates of earlier scrubbing are skipped. What each level finds and costs,
measured: docs/scrubbing.md. Known errors: passwords in prose, secrets without digits and without a telling name.

A later detector is one more function in VERDICTS, or one more source of spans before the merge, as ner.py is.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from stack_platform.scrub import addresses, assignments, keys, names, numbers, passwords, tokens
from stack_platform.scrub.context import is_placeholder
from stack_platform.scrub.kinds import wanted_families
from stack_platform.scrub.policy import Policy
from stack_platform.scrub.scanner import Hit, Pack, native_hits
from stack_platform.scrub.spans import Span, merge_spans
from stack_platform.scrub.surrogates import is_surrogate


class Verdict(NamedTuple):
    """How hits of a trigger are judged."""

    family: str  # see kinds.wanted_families
    judge: Callable[[str, int, int], Iterator[Span]]
    says: str  # for people, in `explain`


# Rule id of the native rules, or the id up to its last dot -> the verdict on its hits.
VERDICTS: dict[str, Verdict] = {
    "sp.email": Verdict("EMAIL", addresses.email, "e-mail address"),
    "sp.ip.v4": Verdict("IP_ADDRESS", addresses.ipv4, "IPv4 address"),
    "sp.ip.v6": Verdict("IP_ADDRESS", addresses.ipv6, "IPv6 address"),
    "sp.card": Verdict("CREDIT_CARD", numbers.card, "payment card: issuer range and Luhn check digit"),
    "sp.iban": Verdict("IBAN", numbers.iban, "bank account: length of the country and check digits"),
    "sp.phone": Verdict(
        "PHONE", numbers.phone, "phone number that its country's plan knows, or that is announced"
    ),
    "sp.private-key": Verdict("PRIVATE_KEY", keys.private_key, "private key block with key material"),
    "sp.wireguard": Verdict("PRIVATE_KEY", keys.wireguard, "WireGuard key"),
    "sp.url-password": Verdict("url", passwords.url_password, "password in a URL"),
    "sp.password-flag": Verdict("assignment", passwords.flag, "password given to a command line option"),
    "sp.password-sql": Verdict("assignment", passwords.sql, "password in an SQL statement"),
    "sp.password-setting": Verdict("setting", passwords.setting, "password in a line of settings"),
    "sp.password-environment": Verdict(
        "assignment", passwords.environment, "password in an environment variable"
    ),
    "sp.connection": Verdict(
        "assignment", passwords.connection, "password or key in a connection string or netrc"
    ),
    "sp.assignment": Verdict("assignment", assignments.bare_assignment, "value assigned to a sensitive name"),
    "sp.assignment.quoted": Verdict(
        "assignment", assignments.quoted_assignment, "value assigned to a sensitive name"
    ),
    "sp.assignment.loose": Verdict("assignment", tokens.loose, "random token after a sensitive word"),
    "sp.jwt": Verdict("KEY", tokens.jwt, "JSON Web Token"),
    "sp.format": Verdict("format", tokens.vendor_format, "credential in the format of its vendor"),
    "sp.service": Verdict("assignment", tokens.service, "random token beside the name of a service"),
    "sp.prefixed": Verdict("token", tokens.prefixed, "random token behind a prefix, as vendors make them"),
    "sp.token": Verdict("token", tokens.token, "long random token that nothing announces"),
    "sp.name": Verdict("NAME", names.person, "name of a person in a comment"),
    "sp.username": Verdict("NAME", names.username, "name of an account"),
}
_LOW_CONFIDENCE_BELOW = 0.46  # the best score of the verdict on any long token, see tokens.token
_MAX_INSIDE = (
    4  # hits of a rule that are judged inside of one of its spans; `key=a/key=a/…` has no end of them
)
_ENGINE_SCORES = {"high": 0.93, "medium": 0.7, "low": 0.45}
_ENGINE_DUPLICATES = frozenset({"betterleaks.generic-credential-uri", "betterleaks.jwt"})  # ours judge these
_CONTINUATION = bytes(range(0x80, 0xC0))


def find_spans(
    text: str,
    path: str = "",
    sensitivity: str = "balanced",
    *,
    policy: Policy | None = None,
    cache_dir: str | None = None,
) -> list[Span]:
    """Return the disjoint spans of personal data and secrets in a text, sorted.

    text: decoded source text. path: its path in the repository; its name decides which rules make sense.
    sensitivity: permissive, balanced, strict or paranoid; a policy says it itself, and more. cache_dir: see
    `scanner.Pack`. Raises ConfigError for another sensitivity, or a rule of the policy that does not compile.
    """
    policy = policy or Policy(sensitivity)
    spans = [
        span
        for span in candidates(text, path, policy, cache_dir)
        if span.score >= policy.threshold(span.type)
    ]
    kept = [span for span in spans if not policy.reason_to_keep(text[span.start : span.end], path, span.rule)]
    return merge_spans(kept)


def candidates(text: str, path: str, policy: Policy, cache_dir: str | None = None) -> list[Span]:
    """Return what the verdicts found at any score, overlapping, without surrogates."""
    data = text.encode("utf-8", "surrogatepass")
    lowest = min(policy.threshold("KEY"), policy.threshold("PASSWORD"))
    confidence = "low" if lowest < _LOW_CONFIDENCE_BELOW else "medium"
    custom = tuple((rule.id, rule.pattern) for rule in policy.rules)
    wants_names = min(policy.threshold("NAME"), policy.threshold("USERNAME")) < names.BEST_SCORE
    hits = native_hits(data, Pack(confidence, wants_names, custom, cache_dir))
    if not hits:
        return []
    found = list(_judged(text, _in_code_points(data, hits), path, policy))
    if any(span.type in names.TYPES for span in found):
        found = names.in_prose_only(found, text, path, keep_license_headers=policy.license_headers == "keep")
    return list(_without_surrogates(text, found))


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


def _judged(text: str, hits: Sequence[Hit], path: str, policy: Policy) -> Iterator[Span]:
    families = wanted_families(path)
    custom = {rule.id: rule for rule in policy.rules}
    deep: dict[str, tuple[int, int]] = {}  # rule -> where its last span ends, and how many hits began inside
    for start, end, rule, confidence in hits:
        verdict = verdict_on(rule)
        if verdict:
            last, inside = deep.get(rule, (0, 0))
            if verdict.family not in families or (start < last and inside >= _MAX_INSIDE):
                continue
            exact = verdict.family in ("format", "NAME")  # here the trigger says more than the verdict
            for span in verdict.judge(text, start, end):
                yield replace(span, rule=rule) if exact else span
                last = max(last, span.end)
            deep[rule] = (last, inside + 1 if start < last else 0)
        elif rule in custom:
            yield Span(start, end, custom[rule].type, rule, custom[rule].score)
        elif "KEY" in families and not _ours_to_judge(rule, text[start:end]):
            goes_on = text[end : end + 1] == "_"  # no credential: a longer word that begins like one
            yield Span(
                start, end, _kind(rule), rule, min(0.45 if goes_on else 1.0, _ENGINE_SCORES[confidence])
            )


def verdict_on(rule: str) -> Verdict | None:
    """Return the verdict on the hits of a native rule of ours: that of its id, or of the id before a dot."""
    while rule.startswith("sp."):
        if rule in VERDICTS:
            return VERDICTS[rule]
        rule = rule.rpartition(".")[0]
    return None


def _kind(rule: str) -> str:
    return "PRIVATE_KEY" if rule.endswith("private-key") else "PASSWORD" if "password" in rule else "KEY"


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
