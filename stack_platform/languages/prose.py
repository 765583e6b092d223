r"""Tell prose and recorded data from code by their signs and lines, where no name tells.

Prose is words and little else: nearly all bytes are letters, blanks and the signs of sentences, words stand several in
a row, are written as a dictionary writes them, and lines do not end like statements. Data is what programs record:
lines that start with a time or an address, columns of numbers, encoded bytes, and one thing over and over.
Other languages than those in Latin letters count as well: bytes above 127 are letters here.

Known error: a language that reads like English (Gherkin, Inform 7) is prose where its files have no signs of their own.
"""

import re

_CONSIDERED_BYTES = 6000

_WORD = re.compile(rb"[A-Za-z\x80-\xff]+(?:['\xe2\x80\x99-]+[A-Za-z\x80-\xff]+)*")
_PLAIN_WORD = re.compile(rb"[A-Z\x80-\xff]?[a-z\x80-\xff'-]+|[A-Z]{1,5}")
_DIGIT = re.compile(rb"\d")
_TELEPHONE = re.compile(rb"\+(?=\d)")
_SIGN = re.compile(rb"[^\w\s,.;:!?'\"()\x80-\xff-]")
_NOT_PROSE = re.compile(rb"[{}<>=\[\]\\|$@#%^*+_~`&]|\w\(|[.:]\w|\w[:.]{2}\w|^[ \t]+\S", re.MULTILINE)
_STATEMENT_END = re.compile(rb"[;{}=\\([]$")
_MAX_SIGNS = 0.01
"""Signs that sentences lack, by byte."""
_MIN_PLAIN = 0.93
"""Share of words that are written as in a dictionary."""
_MIN_LETTERS = 0.75
"""Share of bytes in words and numbers; with blanks and commas prose has over nine in ten."""
_MAX_STATEMENTS = 0.05
"""Share of lines that end like a statement."""

_RECORD = re.compile(
    rb"\s*[\[(<]?(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{2,4}|\d\d:\d\d:\d\d|\d{1,3}(?:\.\d{1,3}){3}\b"
    rb"|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*[ ,]+\d)"
)
_MIN_RECORDS = 0.8
"""Share of lines that start with a time or an address."""
_NUMERIC = re.compile(rb"[-+.,;:\t 0-9eE\"'/|]+")
_ENCODED = re.compile(rb"[A-Za-z0-9+/_=-]{24,}")
_MIN_DISTINCT = 4
"""Different words and signs under which a text says one thing over and over."""
_TOKEN = re.compile(rb"\w+|[^\w\s]")


def is_prose(content: bytes) -> bool:
    """Tell whether a text is sentences or words, by its first 6,000 bytes.

    >>> is_prose(b"The river rose in the night, and nobody slept."), is_prose(b"return the_value;")
    (True, False)
    """
    text = _TELEPHONE.sub(b"", content[:_CONSIDERED_BYTES])
    words = _WORD.findall(text)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if len(words) < _MIN_DISTINCT or len(set(words)) < _MIN_DISTINCT:
        return False
    plain = sum(_PLAIN_WORD.fullmatch(word) is not None for word in words)
    letters = sum(map(len, words)) + len(_DIGIT.findall(text))
    ended = sum(_STATEMENT_END.search(line) is not None for line in lines)
    blanks = sum(text.count(blank) for blank in (b" ", b"\n", b"\r", b"\t"))
    return (
        len(_SIGN.findall(text)) <= _MAX_SIGNS * len(text)
        and len(_NOT_PROSE.findall(text)) <= 2 * _MAX_SIGNS * len(text)
        and plain >= _MIN_PLAIN * len(words)
        and letters >= _MIN_LETTERS * (len(text) - blanks)
        and ended <= _MAX_STATEMENTS * len(lines)
    )


def is_recorded(content: bytes) -> bool:
    """Tell whether a text is what a program wrote down: records, numbers, encoded bytes, or repetitions.

    >>> is_recorded(b"2020-01-02 10:00:00 started"), is_recorded(b"a = b + c * 2")
    (True, False)
    """
    text = content[:_CONSIDERED_BYTES]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(set(_TOKEN.findall(text))) < _MIN_DISTINCT:
        return True
    for form in (_NUMERIC.fullmatch, _ENCODED.fullmatch, _RECORD.match):
        if sum(form(line) is not None for line in lines) >= _MIN_RECORDS * len(lines):
            return True
    return False
