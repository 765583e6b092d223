r"""Name languages by how their files must start: XML vocabularies by their root element, and a few opening tags.

Only a file whose name says nothing is judged here. The roots are those of the published formats; a document type that
is not listed is plain XML.
"""

import re

_HEAD_BYTES = 3000

_PREAMBLE = re.compile(
    rb"\A\s*(?:<\?[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE[^>\[]*(?:\[[^\]]*\])?\s*>\s*)*", re.DOTALL
)
_XML = re.compile(rb"\A\s*<\?xml\b")

_ROOTS = (
    ("XSLT", rb"<(?:[\w-]+:)?(?:stylesheet|transform)\b[^>]*XSL/Transform"),
    ("SVG", rb"<(?:svg:)?svg\b"),
    ("XML Property List", rb"<plist\b"),
    ("Maven POM", rb"<project\b[^>]*maven\.apache\.org/POM|<project>\s*<(?:modelVersion|parent)>"),
    ("Ant Build System", rb"<project\b[^>]*\b(?:default|basedir)="),
    ("LabVIEW", rb"<(?:Project|Library|LVClass)\b[^>]*\bLVVersion="),
    ("JetBrains MPS", rb"<(?:model|solution|language)\b[^>]*\b(?:ref=\"r:|uuid=|namespace=|modelUID=)"),
    ("Web Ontology Language", rb"<(?:rdf:RDF|Ontology)\b.{0,2500}?2002/07/owl"),
    ("XPages", rb"<xp:view\b"),
    ("XProc", rb"<p:(?:declare-step|pipeline|library)\b"),
    ("Eagle", rb"<eagle\b"),
    ("COLLADA", rb"<COLLADA\b"),
    ("HTML", rb"<html\b"),
)
_ROOT_PATTERNS = tuple((language, re.compile(pattern, re.DOTALL)) for language, pattern in _ROOTS)
_DOCTYPES = (
    (re.compile(rb"<!DOCTYPE\s+plist\b"), "XML Property List"),
    (re.compile(rb"<!DOCTYPE\s+eagle\b"), "Eagle"),
)

_OPENINGS = (
    ("Hack", re.compile(rb"\A<\?hh\b")),
    ("Public Key", re.compile(rb"\A-----BEGIN [A-Z0-9 ]{3,40}-----\n")),
    ("SubRip Text", re.compile(rb"\A1\n\d\d:\d\d:\d\d,\d{3} -->")),
    ("WebVTT", re.compile(rb"\AWEBVTT\b")),
    ("Glyph Bitmap Distribution Format", re.compile(rb"\ASTARTFONT ")),
    ("PostScript", re.compile(rb"\A%!PS")),
    ("Git Commit", re.compile(rb"\Atree [0-9a-f]{40}\n")),
    ("Diff", re.compile(rb"\A(?:diff --git a/|Index: [^\n]+\n=+\n|--- [^\n]+\n\+\+\+ [^\n]+\n@@ )")),
    (
        "Jupyter Notebook",
        re.compile(rb"\A\{\s*\"(?:cells|metadata|nbformat)\":.{0,2900}?\"cell_type\"", re.DOTALL),
    ),
    ("iCalendar", re.compile(rb"\ABEGIN:VCALENDAR\r?\n")),
    ("vCard", re.compile(rb"\ABEGIN:VCARD\r?\n")),
    ("PHP", re.compile(rb"\A<\?php\b")),
)


def by_signature(content: bytes) -> str | None:
    """Return the language whose files start like this one, or None.

    >>> by_signature(b'<?xml version="1.0"?><plist/>'), by_signature(b"plain words")
    ('XML Property List', None)
    """
    head = content[:_HEAD_BYTES]
    for language, pattern in _OPENINGS:
        if pattern.match(head):
            return language
    if head.lstrip()[:1] != b"<":
        return None
    return _xml_vocabulary(head)


def _xml_vocabulary(head: bytes) -> str | None:
    for doctype, language in _DOCTYPES:
        if doctype.search(head):
            return language
    preamble = _PREAMBLE.match(head)
    root = head[preamble.end() :] if preamble else head
    for language, pattern in _ROOT_PATTERNS:
        if pattern.match(root):
            return language
    return "XML" if _XML.match(head) else None
