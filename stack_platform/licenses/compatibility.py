"""Says whether code under some licenses may become part of a work under another license.

Method: OSADL's compatibility matrix (`compatibility.json`, 110 licenses; provenance inside) answers for pairs
of single licenses. Inbound `A OR B` is as good as its best arm, `A AND B` as bad as its worst part. Whoever
receives a work under `A OR B` may choose, and under `A AND B` must keep both: an outbound expression needs
all its licenses to fit. Of a license WITH an exception that the matrix does not list a `yes` of the bare
license holds (an exception of the policy's list only adds permissions), anything else is `unknown`.
Verdicts: `yes`, `no`, `check` (depends on how the parts are combined) and `unknown`. What the matrix does
not list is `unknown`, never `yes`, except that a license fits itself.

It is advice about combining works, not legal counsel, and no filter uses it. Known limit: the matrix is of
2024-05-21 and speaks of licenses, not of your case.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx
from stack_platform.licenses.policy import adds_permission

if TYPE_CHECKING:
    from collections.abc import Iterable

Verdict = Literal["yes", "check", "unknown", "no"]
_FROM_BEST: tuple[Verdict, ...] = ("yes", "check", "unknown", "no")
_VERDICTS: dict[str, Verdict] = {"s": "yes", "y": "yes", "n": "no", "?": "unknown", "d": "check"}

VERDICTS = pa.schema(
    [
        pa.field("inbound", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),  # yes, no, check, unknown
        pa.field("explanation", pa.string(), nullable=False),
    ]
)
"""Columns of `compatibility`."""


class _Answer(NamedTuple):
    verdict: Verdict
    explanation: str


def compatibility(outbound: str, inbound_expressions: Iterable[str]) -> pa.Table:
    """Judge whether each inbound expression fits into a work under `outbound`; one row for each, as given.

    Raises PolicyError when `outbound` is not an SPDX expression of known identifiers.

    >>> compatibility("GPL-2.0-only", ["MIT", "Apache-2.0 OR MIT", "Apache-2.0"])["verdict"].to_pylist()
    ['yes', 'yes', 'no']
    """
    if not spdx.is_known(outbound):
        raise PolicyError(
            f"outbound license {outbound!r} is no known SPDX expression; write one such as 'Apache-2.0'"
        )
    licenses = sorted({str(literal.render()) for literal in spdx.parse(outbound).get_literals()})
    remembered: dict[str, _Answer] = {}
    rows = []
    for expression in inbound_expressions:
        if expression not in remembered:
            remembered[expression] = _answer(licenses, expression)
        rows.append({"inbound": expression, **remembered[expression]._asdict()})
    return pa.Table.from_pylist(rows, schema=VERDICTS)


def _answer(licenses: list[str], expression: str) -> _Answer:
    try:
        text = spdx.normalize(expression)
    except PolicyError:
        return _Answer("unknown", "not an SPDX expression")
    if text == spdx.NONE:
        return _Answer("no", "no license: nothing is permitted")
    if text == spdx.UNKNOWN:
        return _Answer("unknown", "there are terms that nobody could name")
    answers = [_judge(name, spdx.parse(text)) for name in licenses]
    return max(answers, key=lambda answer: _FROM_BEST.index(answer.verdict))


def _judge(outbound: str, node: Any) -> _Answer:
    """Judge a tree of `license-expression` against one outbound license."""
    if node.isliteral:
        return _judge_symbol(outbound, node)
    answers = [_judge(outbound, arg) for arg in node.args]
    either = node.operator.strip().upper() == "OR"
    pick = min if either else max
    chosen = pick(answers, key=lambda answer: _FROM_BEST.index(answer.verdict))
    word = "the best arm" if either else "the worst part"
    return _Answer(chosen.verdict, f"{chosen.explanation} ({word} of {node.render()})")


def _judge_symbol(outbound: str, symbol: Any) -> _Answer:
    inbound = str(symbol.render())
    if inbound == outbound and not inbound.startswith("LicenseRef-"):
        return _Answer("yes", f"{inbound} is the outbound license")
    matrix = _matrix()
    if (found := matrix.get(outbound, {}).get(inbound)) is not None:
        return _Answer(found, f"{inbound} into {outbound}: {found} (OSADL)")
    exception = getattr(symbol, "exception_symbol", None)
    if exception is not None and adds_permission(exception.key):
        base = symbol.license_symbol.key
        if matrix.get(outbound, {}).get(base) == "yes" or base == outbound:
            return _Answer(
                "yes", f"{base} into {outbound}: yes (OSADL), and {exception.key} adds permissions"
            )
    missing = outbound if outbound not in matrix else inbound
    return _Answer("unknown", f"the matrix does not list {missing}")


@cache
def _matrix() -> dict[str, dict[str, Verdict]]:
    data = json.loads(Path(__file__).with_name("compatibility.json").read_bytes())
    names = data["licenses"]
    return {
        outbound: {inbound: _VERDICTS[letter] for inbound, letter in zip(names, letters, strict=True)}
        for outbound, letters in zip(names, data["verdicts"], strict=True)
    }
