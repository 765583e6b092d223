r"""Tell blocks of `Header-Name: value` lines (RFC 822 fields) from code, and name the formats that are made of them.

Mail, package metadata, manifests and caches of all programs begin with such a block, and may hold anything after the
blank line that ends it. The fields say which format it is only where they are that format's own (`From:`, `Subject:`,
…); a block of other fields is no language, whatever follows. Only a file whose name says nothing is judged here.

Known error: YAML whose first keys are written like field names and all have a value is taken for such a block.
"""

import re

_CONSIDERED_BYTES = 16_384
MIN_FIELDS = 2
"""Fields that make a block; one line with a colon is in many languages."""

_FIELD = rb"[A-Z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*"
_BLOCK = re.compile(
    rb"\A\s*((?:"
    + _FIELD
    + rb":[ \t]*(?!\{|\[[^\]\n]*\]\n|[|>][-+]?\n)\S[^\n]*\n(?:[ \t]+[^\s-][^\n]*\n)*){2,})(?:[ \t]*\n|\Z)"
)
_NAME = re.compile(rb"^(" + _FIELD + rb"):", re.MULTILINE)

_SIGNS = (
    ("E-mail", 2, {b"From", b"To", b"Cc", b"Subject", b"Date", b"Message-ID", b"Message-Id", b"Received"}),
    ("E-mail", 2, {b"Return-Path", b"Delivered-To", b"Received", b"MIME-Version", b"From", b"Subject"}),
    ("JAR Manifest", 1, {b"Manifest-Version"}),
    (
        "Robots Exclusion Rules",
        2,
        {b"User-Agent", b"User-agent", b"Disallow", b"Allow", b"Sitemap", b"Crawl-delay"},
    ),
    ("pkg-config", 2, {b"Libs", b"Cflags", b"Requires", b"Description"}),
    (
        "Debian Package Control File",
        3,
        {b"Source", b"Package", b"Maintainer", b"Architecture", b"Standards-Version", b"Build-Depends"},
    ),
)
"""Language, how many of its own fields have to be there, and these; the first that holds."""

_PATCH = re.compile(rb"^(?:diff --git |--- [^\n]+\n\+\+\+ )", re.MULTILINE)
_SPEC_SECTION = re.compile(rb"^%(?:description|prep|build|install|files|changelog)\b", re.MULTILINE)


def is_field_block(content: bytes) -> bool:
    r"""Tell whether a text begins with two or more fields that a blank line or its end follows.

    >>> is_field_block(b"Name: x\nVersion: 1.0\n"), is_field_block(b"if x:\n    y = 1\n")
    (True, False)
    """
    return _block(content) is not None


def by_fields(content: bytes) -> str | None:
    r"""Return the language whose own fields a block of fields holds, or None.

    >>> by_fields(b"From: a@example.org\nSubject: hello\n\ntext\n"), by_fields(b"Name: x\nVersion: 1.0\n")
    ('E-mail', None)
    """
    block = _block(content)
    if block is None:
        return None
    if _SPEC_SECTION.search(content):
        return "RPM Spec"
    if _PATCH.search(content):
        return "Diff"
    names = set(_NAME.findall(block))
    return next((language for language, count, own in _SIGNS if len(names & own) >= count), None)


def _block(content: bytes) -> bytes | None:
    text = content[:_CONSIDERED_BYTES].replace(b"\r\n", b"\n")
    if len(content) > _CONSIDERED_BYTES:
        text = text[: text.rfind(b"\n")]
    found = _BLOCK.match(text + b"\n")
    return found[1] if found else None
