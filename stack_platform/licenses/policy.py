"""Judges a license expression: permissive, non_permissive, unknown or no_license.

Method: `policy.json` names the permissive identifiers (its `provenance` says on whose word; see
`derive_policy.py`), and the expression's tree decides: OR = any permissive arm, AND = all, WITH = judged
as a pair. An exception that adds permissions leaves a permissive license permissive and never makes
another one permissive (GPL WITH Classpath stays non-permissive). A symbol that nobody knows is never
permissive. The Stack v2 flattened expressions into lists, so its `MIT OR GPL-2.0` was non-permissive.

A user's own policy is a `LicenseConfig`, or a file of one (`read_policy`): identifiers and pairs to allow and
to deny on top of `policy.json`. `policy_version` names the data and the user's changes; it is part of the
fingerprint of the license stage, and stands in each file's `license_evidence` and in each decision.

Known error: the policy speaks about identifiers, not about patents, trademarks or laws; on the labels of
1,442 development cases it agrees with every `permissive` mark except JSON's, which we deny on purpose.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from stack_platform.errors import ConfigError, PolicyError, SchemaError
from stack_platform.licenses import spdx
from stack_platform.manifests import digest_of

LicenseType = Literal["permissive", "no_license", "non_permissive", "unknown"]
LICENSE_TYPES: tuple[LicenseType, ...] = ("permissive", "no_license", "non_permissive", "unknown")

_FILE = Path(__file__).with_name("policy.json")
_BYTES = _FILE.read_bytes()
_NAME = json.loads(_BYTES)["name"]

POLICY_VERSION: str = f"{_NAME}@{hashlib.sha256(_BYTES).hexdigest()[:16]}"
"""Name of the policy and digest of `policy.json`."""


@dataclass(frozen=True, slots=True)
class LicenseConfig:
    """Which license types stay in the data set, and what the user judges otherwise than `policy.json`."""

    keep: tuple[str, ...] = ("permissive",)
    """Types that stay; The Stack v2 released ("permissive", "no_license")."""

    allow: tuple[str, ...] = ()
    """Identifiers, or pairs such as "GPL-2.0-only WITH Classpath-exception-2.0", that are permissive here."""

    deny: tuple[str, ...] = ()
    """Identifiers or pairs that are not permissive here."""

    scancode: bool = False
    """Whether ScanCode is asked about statements that no tier could name; needs the extra `scancode`."""

    def __post_init__(self) -> None:
        wrong = (
            [t for t in self.keep if t not in LICENSE_TYPES] if isinstance(self.keep, tuple) else [self.keep]
        )
        if wrong or not self.keep:
            allowed = ", ".join(LICENSE_TYPES)
            raise ConfigError(
                f"keep={self.keep!r}: {wrong or 'nothing'} is no license type; choose from {allowed}"
            )
        if not isinstance(self.scancode, bool):
            raise ConfigError(f"scancode={self.scancode!r} is neither true nor false; write scancode = true")
        allow, deny = _read_symbols("allow", self.allow), _read_symbols("deny", self.deny)
        if both := sorted(set(allow) & set(deny)):
            raise ConfigError(f"{', '.join(both)}: both allowed and denied; take it out of one of the lists")
        object.__setattr__(self, "allow", allow)
        object.__setattr__(self, "deny", deny)


def _read_symbols(field: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Normalize a list of identifiers and pairs; sorted, each once."""
    found = set()
    for value in values if isinstance(values, tuple) else (values,):
        advice = f"{field} takes a list of identifiers such as 'MIT' or 'Apache-2.0 WITH LLVM-exception'"
        try:
            single = isinstance(value, str) and spdx.is_known(value) and spdx.parse(value).isliteral
        except PolicyError:
            single = False
        if not single:
            raise ConfigError(f"{field}={value!r} is no single SPDX identifier; {advice}")
        found.add(spdx.normalize(value))
    return tuple(sorted(found))


def read_policy(path: Path) -> LicenseConfig:
    """Read a user's policy: TOML or JSON with the lists `keep`, `allow` and `deny`, and `scancode` (true, false).

    Raises ConfigError when the file cannot be read or says something else.
    """
    try:
        text = path.read_text("utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}; write TOML such as: allow = ['MPL-2.0']") from error
    fields = data.items() if isinstance(data, dict) else [("something that is no table", None)]
    wrong = sorted(
        name
        for name, value in fields
        if name not in ("keep", "allow", "deny", "scancode")
        or isinstance(value, list) == (name == "scancode")
    )
    if wrong:
        raise ConfigError(
            f"{path}: {', '.join(wrong)}; a policy has the lists keep, allow and deny, and scancode"
        )
    lists = {name: tuple(value) for name, value in data.items() if name != "scancode"}
    return LicenseConfig(**lists, scancode=data.get("scancode", False))


def policy_version(config: LicenseConfig = LicenseConfig()) -> str:
    """Name the policy that judges: `policy.json`, a digest of the user's changes and ScanCode, if any."""
    changes = f"+{digest_of([config.allow, config.deny])[:16]}" if config.allow or config.deny else ""
    return f"{POLICY_VERSION}{changes}{'+scancode' if config.scancode else ''}"


class _Policy(NamedTuple):
    permissive: frozenset[str]
    non_permissive: frozenset[str]
    exceptions: frozenset[str]


@cache
def _policy() -> _Policy:
    data = json.loads(_BYTES)
    return _Policy(*(frozenset(data[k]) for k in ("permissive", "non_permissive", "exceptions")))


@lru_cache(maxsize=4096)
def license_type(expression: str, config: LicenseConfig = LicenseConfig()) -> LicenseType:
    """Say what an SPDX expression allows; what cannot be parsed is `unknown`.

    >>> license_type("MIT OR GPL-2.0-only"), license_type("MIT AND GPL-2.0-only"), license_type("NONE")
    ('permissive', 'non_permissive', 'no_license')
    """
    try:
        text = spdx.normalize(expression)
        if text == spdx.NONE:
            return "no_license"
        if text == spdx.UNKNOWN:
            return "unknown"
        return _judge(spdx.parse(text), config)
    except PolicyError:
        return "unknown"


def adds_permission(exception: str) -> bool:
    """Say whether an exception's identifier is one that only adds permissions to its license."""
    return exception in _policy().exceptions


def reason_to_drop(license_type: str, config: LicenseConfig = LicenseConfig()) -> str | None:
    """Return why a file of this license type leaves the data set, or None when it stays.

    Raises ConfigError for a word that is no license type.
    """
    if license_type not in LICENSE_TYPES:
        raise ConfigError(f"{license_type!r} is no license type; choose from {', '.join(LICENSE_TYPES)}")
    return None if license_type in config.keep else f"license_{license_type}"


def disallowed(files: pa.Table, config: LicenseConfig = LicenseConfig()) -> pa.Table:
    """Return the rows whose expression, judged again, is of a type that the policy does not keep.

    Columns in: license_expression and any others. Columns out: the same, `license_type` as judged now.
    Raises SchemaError without the expressions.
    """
    if "license_expression" not in files.column_names:
        raise SchemaError(f"files lack the column license_expression; they have {files.column_names}")
    types = [license_type(e or spdx.UNKNOWN, config) for e in files["license_expression"].to_pylist()]
    judged = files.drop_columns(["license_type"]) if "license_type" in files.column_names else files
    judged = judged.append_column("license_type", pa.array(types, pa.string()))
    return judged.filter(pa.array([kind not in config.keep for kind in types], pa.bool_()))


@lru_cache(maxsize=4096)
def permissive_arm(expression: str, config: LicenseConfig = LicenseConfig()) -> str | None:
    """Return the part of an expression that makes it permissive, or None when nothing does.

    Of several permissive arms of an OR the shortest is chosen, the first in the alphabet among equals.

    >>> permissive_arm("(MIT OR GPL-2.0-only) AND Zlib")
    'MIT AND Zlib'
    """
    if license_type(expression, config) != "permissive":
        return None
    return spdx.normalize(_arm(spdx.parse(expression), config))


def _judge(node: Any, config: LicenseConfig) -> LicenseType:
    """Judge a tree of `license-expression`; a symbol inside a tree is never `no_license`."""
    if node.isliteral:
        return _judge_symbol(node, config)
    verdicts = {_judge(arg, config) for arg in node.args}
    order: tuple[LicenseType, ...] = ("permissive", "unknown", "non_permissive")
    if node.operator.strip().upper() != "OR":
        order = order[::-1]
    return next(verdict for verdict in order if verdict in verdicts)


def _judge_symbol(symbol: Any, config: LicenseConfig) -> LicenseType:
    policy = _policy()
    with_exception = getattr(symbol, "exception_symbol", None)
    key = symbol.license_symbol.key if with_exception is not None else symbol.key
    names = {str(symbol.render()), key, key.removesuffix("+")}
    if names & set(config.deny):
        return "non_permissive"
    if str(symbol.render()) in config.allow:
        return "permissive"
    base = key.removesuffix("+")
    if base not in policy.permissive and not names & set(config.allow):
        return "non_permissive" if base in policy.non_permissive else "unknown"
    if with_exception is not None and with_exception.key not in policy.exceptions:
        return "unknown"
    return "permissive"


def _arm(node: Any, config: LicenseConfig) -> str:
    if node.isliteral:
        return str(node.render())
    if node.operator.strip().upper() == "OR":
        arms = [_arm(arg, config) for arg in node.args if _judge(arg, config) == "permissive"]
        return min(arms, key=lambda arm: (arm.count(" "), arm))
    return " AND ".join(f"({_arm(arg, config)})" for arg in node.args)
