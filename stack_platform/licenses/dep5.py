"""Reads Debian's machine-readable copyright files: `debian/copyright` and REUSE's older `.reuse/dep5`.

Method: format 1.0 (DEP-5). Paragraphs of `Field: value` lines; a `Files:` paragraph covers the paths its
patterns match, of several the last one counts. `License:` holds a short name or an expression in Debian's
words (`GPL-2+ or Expat`, `GPL-2+ with OpenSSL exception`, a comma for grouping) on its first line. Debian's
short names become SPDX identifiers; a name that stands for a text in the file alone (`custom`, `other`) is
`LicenseRef-<name>`, which no policy calls permissive unasked.
A file without a `Format:` field is free text and gives None. Linear in its size.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx
from stack_platform.licenses.globs import from_dep5
from stack_platform.licenses.reuse import Annotation, Precedence

_MAX_BYTES = 4 << 20
_MAX_PARAGRAPHS = 20_000
_NAMES = {
    "expat": "MIT",
    "x11": "X11",
    "public-domain": "LicenseRef-public-domain",
    "lgpl": "LGPL-2.0-or-later",
    "bsd": "LicenseRef-BSD",
    "bsd-2": "BSD-2-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd-4": "BSD-4-Clause",
    "freebsd": "BSD-2-Clause-FreeBSD",
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0",
    "perl": "GPL-1.0-or-later OR Artistic-1.0-Perl",
    "cc0": "CC0-1.0",
    "cc0-1": "CC0-1.0",
    "gfdl-niv-1.2": "GFDL-1.2-no-invariants-only",
    "gfdl-niv-1.3": "GFDL-1.3-no-invariants-only",
    "psf": "PSF-2.0",
    "psf-2": "PSF-2.0",
    "python": "Python-2.0",
    "ofl-1.1": "OFL-1.1",
    "boost-1.0": "BSL-1.0",
    "ntp": "NTP",
    "zlib/libpng": "Zlib",
}
_FAMILY = re.compile(
    r"(?i)^(a?gpl|lgpl|gfdl|mpl|lppl|epl|cddl|zpl|eupl|ofl|apache)-?v?(\d+)(?:\.(\d+))?(\+?)$"
)
_EXCEPTIONS = {
    "openssl": "LicenseRef-openssl-exception",
    "classpath": "Classpath-exception-2.0",
    "font": "Font-exception-2.0",
    "autoconf": "Autoconf-exception-generic",
    "bison": "Bison-exception-2.2",
    "libtool": "Libtool-exception",
    "llvm": "LLVM-exception",
    "gcc": "GCC-exception-3.1",
    "linking": "LicenseRef-linking-exception",
}
_TOKEN = re.compile(r"(?i)(\(|\)|,|(?<![^\s()])(?:and/or|and|or)(?![^\s()]))")
_WITH = re.compile(r"(?i)\s+with\s+(\S.*)$")


class _Paragraph(NamedTuple):
    files: str
    license: str
    copyright: str


def read_dep5(data: bytes, precedence: Precedence = "closest") -> tuple[Annotation, ...] | None:
    """Read the `Files:` paragraphs of a copyright file; None when it is not in the machine-readable format."""
    if len(data) > _MAX_BYTES:
        return None
    text = data.decode("utf-8", errors="replace").replace("\r\n", "\n")
    blocks = re.split(r"\n(?:[ \t]*\n)+", text.strip("\n"))[:_MAX_PARAGRAPHS]
    if not re.match(r"(?i)\s*(?:\S[^\n]*\n)*?format(?:-specification)?:", blocks[0]):
        return None
    found = []
    for block in blocks[1:]:
        paragraph = _read_paragraph(block)
        patterns = tuple(from_dep5(p) for p in re.split(r"[\s,]+", paragraph.files) if p)
        if patterns:
            lines = tuple(line.strip() for line in paragraph.copyright.splitlines() if line.strip(" ."))
            expression = dep5_expression(paragraph.license.partition("\n")[0])
            found.append(Annotation(patterns, expression, precedence, lines))
    return tuple(found)


def _read_paragraph(block: str) -> _Paragraph:
    fields = {"files": "", "license": "", "copyright": ""}
    current = ""
    for line in block.split("\n"):
        if line[:1] in (" ", "\t"):
            if current in fields:
                fields[current] += "\n" + line.strip()
            continue
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            current = name.strip().lower()
            if current in fields:
                fields[current] = value.strip()
    return _Paragraph(**fields)


def dep5_expression(text: str) -> str:
    """Translate a `License:` line to SPDX; an empty one is UNKNOWN.

    Debian's grammar: `and` binds tighter than `or`, a comma loosest: `A or B, and C` is `(A OR B) AND C`.

    >>> dep5_expression("GPL-2+ or Expat, and BSD-3-clause")
    'BSD-3-Clause AND (GPL-2.0-or-later OR MIT)'
    """
    text = text.strip()
    if not text:
        return spdx.UNKNOWN
    try:
        if spdx.is_known(text):
            return spdx.normalize(text)
        groups = re.split(r"(?i)\s*,\s*(and|or)\s+", text)
        written = f"({_translate(groups[0])})"
        for word, group in zip(groups[1::2], groups[2::2], strict=True):
            written = f"({written} {word.upper()} ({_translate(group)}))"
        return spdx.normalize(written)
    except PolicyError:
        return spdx.UNKNOWN


def _translate(text: str) -> str:
    """Put identifiers in the place of Debian's names; operators and parentheses stay where they are."""
    written = []
    for token in (part.strip() for part in _TOKEN.split(text)):
        word = token.lower()
        if word in ("", "(", ")"):
            written.append(token)
        elif word in (",", "and", "or", "and/or"):
            written.append("OR" if word in ("or", "and/or") else "AND")
        else:
            written.append(_translate_name(token))
    return " ".join(written)


def _translate_name(name: str) -> str:
    exception = ""
    if found := _WITH.search(name):
        name = name[: found.start()].strip()
        word = next((w for w in _EXCEPTIONS if w in found[1].lower()), None)
        plain = found[1].strip()
        known = _known().get(plain.lower())
        exception = known or (_EXCEPTIONS[word] if word else "LicenseRef-" + _safe(plain))
    base = _license_name(name)
    if not exception:
        return base
    return f"{base} AND {exception}" if exception.startswith("LicenseRef-") else f"{base} WITH {exception}"


def _license_name(name: str) -> str:
    lowered = name.lower()
    if (known := _NAMES.get(lowered.removesuffix(".0"))) or (known := _NAMES.get(lowered)):
        return f"({known})" if " " in known else known
    if known := _known().get(lowered):
        return known
    if family := _FAMILY.match(name):
        kind, major, minor, plus = family.groups()
        kind = kind.upper() if kind.lower() != "apache" else "Apache"
        identifier = f"{kind}-{major}.{minor or '0'}"
        if kind in ("GPL", "LGPL", "AGPL", "GFDL"):
            identifier += "-or-later" if plus else "-only"
        if (known := _known().get(identifier.lower())) is not None:
            return known
    return "LicenseRef-" + _safe(name)


@cache
def _known() -> dict[str, str]:
    return {symbol.lower(): symbol for symbol in spdx.known_symbols()}


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.\-]+", "-", name).strip("-") or "unnamed"
