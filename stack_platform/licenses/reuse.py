"""Reads REUSE.toml: which paths below it are under which license, and by whom.

Method: specification 3.3 of reuse.software. Each `[[annotations]]` table has `path` (a pattern or a list),
`SPDX-License-Identifier` and `SPDX-FileCopyrightText` (a text or a list; several licenses add up) and
`precedence`: `closest` (default: what the file says comes first), `aggregate` (both hold) or `override`. Of
several tables that match a path the last one counts. A file that cannot be read gives no annotations; a
license that cannot be named gives UNKNOWN, so that nothing permissive is inherited past it.
"""

from __future__ import annotations

import tomllib
from typing import Any, Literal, NamedTuple

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx
from stack_platform.licenses.globs import from_reuse

Precedence = Literal["closest", "aggregate", "override"]
PRECEDENCES: tuple[Precedence, ...] = ("closest", "aggregate", "override")
_MAX_BYTES = 4 << 20


class Annotation(NamedTuple):
    """What a file says about paths below its folder: patterns of `globs`, an expression, copyright lines."""

    patterns: tuple[str, ...]
    expression: str  # SPDX, UNKNOWN, or NONE when only copyright lines are given
    precedence: Precedence = "closest"
    copyrights: tuple[str, ...] = ()


def read_reuse_toml(data: bytes) -> tuple[Annotation, ...]:
    """Read the annotations of a REUSE.toml, in their order; nothing when it is broken."""
    if len(data) > _MAX_BYTES:
        return ()
    try:
        tables = tomllib.loads(data.decode("utf-8", errors="replace")).get("annotations", ())
    except (ValueError, RecursionError):
        return ()
    if not isinstance(tables, list):
        return ()
    return tuple(a for table in tables if isinstance(table, dict) and (a := _read_table(table)) is not None)


def _read_table(table: dict[str, Any]) -> Annotation | None:
    patterns = _texts(table.get("path"))
    if not patterns:
        return None
    precedence: Precedence = next((p for p in PRECEDENCES if p == table.get("precedence")), "closest")
    identifiers = _texts(table.get("SPDX-License-Identifier"))
    return Annotation(
        tuple(from_reuse(p) for p in patterns),
        combine_names(identifiers),
        precedence,
        tuple(_texts(table.get("SPDX-FileCopyrightText"))),
    )


def combine_names(names: list[str]) -> str:
    """AND the expressions an author wrote; one that is none makes an UNKNOWN part."""
    try:
        return spdx.combine(name if spdx.is_known(name) else spdx.UNKNOWN for name in names)
    except PolicyError:
        return spdx.UNKNOWN


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, str) and v.strip()]
