"""Judges a license expression: permissive, non_permissive, unknown or no_license.

Method: `policy.json` names the permissive identifiers (its `provenance` says on whose word; see
`derive_policy.py`), and the expression's tree decides: OR = any permissive arm, AND = all, WITH = judged
as a pair. An exception that adds permissions leaves a permissive license permissive and never makes
another one permissive (GPL WITH Classpath stays non-permissive). A symbol that nobody knows is never
permissive. The Stack v2 flattened expressions into lists, so its `MIT OR GPL-2.0` was non-permissive.

Known error: the policy speaks about identifiers, not about patents, trademarks or laws; on the labels of
1,442 development cases it agrees with every `permissive` mark except JSON's, which we deny on purpose.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx

LicenseType = Literal["permissive", "no_license", "non_permissive", "unknown"]
LICENSE_TYPES: tuple[LicenseType, ...] = ("permissive", "no_license", "non_permissive", "unknown")

_FILE = Path(__file__).with_name("policy.json")
_BYTES = _FILE.read_bytes()
_NAME = json.loads(_BYTES)["name"]

POLICY_VERSION: str = f"{_NAME}@{hashlib.sha256(_BYTES).hexdigest()[:16]}"
"""Name of the policy and digest of `policy.json`."""


class _Policy(NamedTuple):
    permissive: frozenset[str]
    non_permissive: frozenset[str]
    exceptions: frozenset[str]


@cache
def _policy() -> _Policy:
    data = json.loads(_BYTES)
    return _Policy(*(frozenset(data[k]) for k in ("permissive", "non_permissive", "exceptions")))


@lru_cache(maxsize=4096)
def license_type(expression: str) -> LicenseType:
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
        return _judge(spdx.parse(text))
    except (PolicyError, RecursionError):
        return "unknown"


def permissive_arm(expression: str) -> str | None:
    """Return the part of an expression that makes it permissive, or None when nothing does.

    Of several permissive arms of an OR the shortest is chosen, the first in the alphabet among equals.

    >>> permissive_arm("(MIT OR GPL-2.0-only) AND Zlib")
    'MIT AND Zlib'
    """
    if license_type(expression) != "permissive":
        return None
    return spdx.normalize(_arm(spdx.parse(expression)))


def _judge(node: Any) -> LicenseType:
    """Judge a tree of `license-expression`; a symbol inside a tree is never `no_license`."""
    if node.isliteral:
        return _judge_symbol(node)
    verdicts = {_judge(arg) for arg in node.args}
    order: tuple[LicenseType, ...] = ("permissive", "unknown", "non_permissive")
    if node.operator.strip().upper() != "OR":
        order = order[::-1]
    return next(verdict for verdict in order if verdict in verdicts)


def _judge_symbol(symbol: Any) -> LicenseType:
    policy = _policy()
    with_exception = getattr(symbol, "exception_symbol", None)
    key = symbol.license_symbol.key if with_exception is not None else symbol.key
    base = key.removesuffix("+")
    if base not in policy.permissive:
        return "non_permissive" if base in policy.non_permissive else "unknown"
    if with_exception is not None and with_exception.key not in policy.exceptions:
        return "unknown"
    return "permissive"


def _arm(node: Any) -> str:
    if node.isliteral:
        return str(node.render())
    if node.operator.strip().upper() == "OR":
        arms = [_arm(arg) for arg in node.args if _judge(arg) == "permissive"]
        return min(arms, key=lambda arm: (arm.count(" "), arm))
    return " AND ".join(f"({_arm(arg)})" for arg in node.args)
