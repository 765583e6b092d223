"""SPDX license expressions: parse, normalize, combine.

Method: the algebra (parse, simplify, render) is the package `license-expression`; this module gives it
the SPDX symbols, adds the deprecated `X-with-Y-exception` identifiers, and keeps every `LicenseRef-*`
as its author spelled it. SPDX specification 3.0.1, annex B. Two words stand outside the algebra:
`NONE` (no license statement) and `UNKNOWN` (a statement nobody could name).

Cost: building the symbol table takes 35 ms and happens once, on the first call; an expression is parsed
in 0.05 ms and remembered. Known limit: expressions above 2,000 characters are refused, not parsed.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from stack_platform.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterable

NONE = "NONE"  # no license statement at all
UNKNOWN = "UNKNOWN"  # there is a statement, but nobody could name it

_MAX_CHARS = 2000  # longer "expressions" in the wild are whole license texts
_WITH = {
    "GPL-2.0-with-autoconf-exception": "GPL-2.0-only WITH Autoconf-exception-2.0",
    "GPL-2.0-with-bison-exception": "GPL-2.0-only WITH Bison-exception-2.2",
    "GPL-2.0-with-classpath-exception": "GPL-2.0-only WITH Classpath-exception-2.0",
    "GPL-2.0-with-font-exception": "GPL-2.0-only WITH Font-exception-2.0",
    "GPL-2.0-with-GCC-exception": "GPL-2.0-only WITH GCC-exception-2.0",
    "GPL-3.0-with-autoconf-exception": "GPL-3.0-only WITH Autoconf-exception-3.0",
    "GPL-3.0-with-bison-exception": "GPL-3.0-only WITH Bison-exception-2.2",
    "GPL-3.0-with-GCC-exception": "GPL-3.0-only WITH GCC-exception-3.1",
    "eCos-2.0": "GPL-2.0-or-later WITH eCos-exception-2.0",
    "wxWindows": "LGPL-2.0-or-later WITH WxWindows-exception-3.1",
}


@cache
def licensing() -> Any:
    """Return the `Licensing` of all SPDX symbols, built once."""
    from license_expression import LicenseSymbol, Licensing, get_license_index

    symbols = []
    for entry in get_license_index():
        key = entry.get("spdx_license_key")
        if not key or key.startswith("LicenseRef-"):
            continue
        others = entry.get("other_spdx_license_keys") or ()
        aliases = tuple(k for k in others if k and not k.startswith("LicenseRef-"))
        symbols.append(LicenseSymbol(key, aliases=aliases, is_exception=entry["is_exception"]))
    return Licensing(symbols)


@cache
def known_symbols() -> frozenset[str]:
    """Return every SPDX license and exception identifier."""
    return frozenset(licensing().known_symbols)


@lru_cache(maxsize=4096)
def parse(expression: str) -> Any:
    """Parse an SPDX expression into the simplified tree of `license-expression`.

    Raises PolicyError when the text is not an SPDX expression.
    """
    from license_expression import ExpressionError, ExpressionParseError

    text = expression.strip()
    advice = "write an SPDX expression, such as 'MIT' or 'Apache-2.0 OR GPL-2.0-or-later'"
    if not text or len(text) > _MAX_CHARS:
        raise PolicyError(f"license expression of {len(text)} characters: {text[:60]!r}; {advice}")
    try:
        tree = licensing().parse(text)
        for old in {symbol.key for symbol in tree.symbols if getattr(symbol, "key", "") in _WITH}:
            replacement = licensing().parse(_WITH[old])
            tree = tree.subs({licensing().parse(old): replacement})
        return tree.simplify()
    except (
        ExpressionError,
        ExpressionParseError,
        RecursionError,
        AssertionError,
        AttributeError,
        IndexError,
        TypeError,
        ValueError,
    ) as error:  # the package raises all of these on malformed text
        raise PolicyError(f"{text[:200]!r} is not a license expression; {advice}") from error


@lru_cache(maxsize=4096)
def normalize(expression: str) -> str:
    """Return the canonical text of an expression: current identifiers, known case, sorted operands.

    `NONE` and `UNKNOWN` stay as they are; `NOASSERTION` is `UNKNOWN`.

    Raises PolicyError when the text is not an SPDX expression.

    >>> normalize("gpl-2.0+ or mit")
    'GPL-2.0-or-later OR MIT'
    """
    word = expression.strip().upper()
    if word in (NONE, UNKNOWN):
        return word
    if word == "NOASSERTION":
        return UNKNOWN
    return str(parse(expression).render())


def is_known(expression: str) -> bool:
    """Say whether the text is an SPDX expression and each of its symbols is SPDX's or a `LicenseRef-*`."""
    try:
        found = symbols(expression)
    except PolicyError:
        return False
    return bool(found) and all(
        s.removesuffix("+") in known_symbols()
        or s.startswith(("LicenseRef-", "DocumentRef-", "AdditionRef-"))
        for s in found
    )


def symbols(expression: str) -> tuple[str, ...]:
    """List the license and exception identifiers of an expression, sorted, without repeats.

    `NONE` and `UNKNOWN` have none. Raises PolicyError when the text is not an SPDX expression.
    """
    if normalize(expression) in (NONE, UNKNOWN):
        return ()
    return tuple(sorted(set(licensing().license_keys(parse(expression), unique=True))))


def combine(expressions: Iterable[str], operator: str = "AND") -> str:
    """Join expressions with `AND` (default) or `OR` into one canonical expression.

    `NONE` adds nothing. `UNKNOWN` beside something known becomes `LicenseRef-unknown-terms`, so that
    what is known stays visible and the whole can never be permissive by silence (with `OR` it is an arm
    like any other). No expressions at all give `NONE`.
    """
    parts = sorted({normalize(e) for e in expressions} - {NONE})
    if not parts:
        return NONE
    if parts == [UNKNOWN]:
        return UNKNOWN
    named = ["LicenseRef-unknown-terms" if p == UNKNOWN else p for p in parts]
    return normalize(f" {operator} ".join(f"({p})" for p in named))
