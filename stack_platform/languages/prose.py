r"""Tell prose and recorded data from code by their signs and lines, where no name tells.

Sentences are told by their function words ("of", "the", "und") and by lines that hold nothing that only code or markup
holds; licenses and notices are sentences, also behind the same comment sign on every line. Prose in general is words
and little else: nearly all bytes are letters, blanks and the signs of sentences, words stand several in a row, are
written as a dictionary writes them, and lines do not end like statements; bytes above 127 are letters here. Data is
what programs record: lines that start with a time or an address, columns of numbers, encoded bytes, and one thing over
and over.

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

# fmt: off
_FUNCTION_WORDS = frozenset(
    b"the of and to a in is that it for or be as with by on this not are any you your from at an but if may all which "
    b"will was has have no can do we our they their its such without only when must these those than who he she i der "
    b"die und das nicht ist le la les et des est el los que de en".split()
)
# fmt: on
_MIN_FUNCTION_WORDS = 0.25
"""Share of the words of sentences that are function words; in licenses it is .3 and more, in code under .1."""
_GLANCED_BYTES = 1000
_GLANCED_LINES = 8
_COMMON_WORDS = tuple(
    b" " + word + b" " for word in b"the of and to is in der die und das les de la el los que".split()
)
_BYTES_PER_COMMON_WORD = 250
"""A text with fewer of these words at its start is not read further; sentences have one in fifty bytes."""
_MIN_WORDS = 12
_MIN_WORDS_PER_LINE = 4.5
_MIN_SENTENCE_LINES = 0.85
"""Share of lines that could be of a sentence."""
_RULER = re.compile(rb"[ \t]*([-=*_~+#])\1{2,}[ \t]*")
_COMMENT = re.compile(rb"[ \t]*(#+|//|;+|--|\*|%+|!|dnl|rem|REM)(?=\s|$)")
_SENTENCE_LINE = re.compile(
    rb"""[ \t]*(?:[-*+][ \t]+|\#{1,6}[ \t]+|\(?(?:\d{1,2}|[a-zA-Z]{1,3})[.)][ \t]+)?["'`(<*_\[]*[A-Za-z0-9\x80-\xff]"""
    rb"""(?:[A-Za-z0-9\x80-\xff \t,.'"()/:!?*_`&-]|;[ \t]|<[^\s<>]{3,100}>|\[[\w .:-]{1,80}\]|[@\#+%$](?=\w))*[;,.]?"""
)
_STATEMENT = re.compile(
    rb"\w\(\S|[\w)]\.[a-z]\w*\(|[{}]$|^\s*(?:\S+[ \t]+){0,3}\S+;$"
    rb"|^\s*\w+ *=|\w_\w|\w::\w|^\s*\w+:\s*\S{0,9}$|->|\b[a-z]+[A-Z]"
)
_MARKUP = re.compile(
    rb"^(?:\#{1,6}[ \t]+\S|[*+-][ \t]+\[|\[[^\]\n]{1,80}\]:|```|~~~|\.\.[ \t]+[\w|_\[]|={1,6}[ \t]?\w|[.\\][A-Za-z]"
    rb"|h[1-6]\.[ ])|\]\(|``\w[^`\n]{0,80}``|\*\*\w[^*\n]{0,80}\*\*|</[a-z]+\d?>",
    re.MULTILINE,
)

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
    if len(_SIGN.findall(text)) > _MAX_SIGNS * len(text):
        return False
    if len(_NOT_PROSE.findall(text)) > 2 * _MAX_SIGNS * len(text):
        return False
    words = _WORD.findall(text)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if len(words) < _MIN_DISTINCT or len(set(words)) < _MIN_DISTINCT:
        return False
    plain = sum(_PLAIN_WORD.fullmatch(word) is not None for word in words)
    letters = sum(map(len, words)) + len(_DIGIT.findall(text))
    ended = sum(_STATEMENT_END.search(line) is not None for line in lines)
    blanks = sum(text.count(blank) for blank in (b" ", b"\n", b"\r", b"\t"))
    return (
        plain >= _MIN_PLAIN * len(words)
        and letters >= _MIN_LETTERS * (len(text) - blanks)
        and ended <= _MAX_STATEMENTS * len(lines)
    )


def is_sentences(content: bytes) -> bool:
    r"""Tell whether a text is sentences in English, German, French or Spanish, by its first 6,000 bytes.

    >>> is_sentences(b"The river rose in the night,\nand nobody in the village could sleep until it fell.")
    True
    """
    start = content[:_GLANCED_BYTES].lower()
    if sum(map(start.count, _COMMON_WORDS)) * _BYTES_PER_COMMON_WORD < len(start):
        return False
    text = content[:_CONSIDERED_BYTES]
    if len(content) > _CONSIDERED_BYTES:
        text = text[: text.rfind(b"\n") + 1] or text
    lines = _without_comment_signs([line for line in text.splitlines() if line.strip()])
    if _fit(lines[-_GLANCED_LINES:]) < 0.5:
        return False
    words = [word.lower() for word in _WORD.findall(b"\n".join(lines))]
    told = sum(word in _FUNCTION_WORDS for word in words)
    if len(set(words)) < _MIN_WORDS or told < _MIN_FUNCTION_WORDS * len(words):
        return False
    return _fit(lines) >= _MIN_SENTENCE_LINES and len(words) >= _MIN_WORDS_PER_LINE * len(lines)


def _fit(lines: list[bytes]) -> float:
    """Return the share of lines that could be of a sentence, rulers left out."""
    said = [line.rstrip() for line in lines if not _RULER.fullmatch(line)]
    fit = sum(_SENTENCE_LINE.fullmatch(line) is not None and not _STATEMENT.search(line) for line in said)
    return fit / max(1, len(said))


def has_markup(content: bytes) -> bool:
    r"""Tell whether a text of sentences holds headings, links, fences or directives of a markup language.

    >>> has_markup(b"# Notes\n\nThe river rose."), has_markup(b"The river rose.")
    (True, False)
    """
    lines = [line for line in content[:_CONSIDERED_BYTES].splitlines() if line.strip()]
    return _MARKUP.search(b"\n".join(_without_comment_signs(lines))) is not None


def _without_comment_signs(lines: list[bytes]) -> list[bytes]:
    """Return what stands after the comment sign where all lines begin with the same one."""
    signs = [_COMMENT.match(line) for line in lines]
    if len({sign and sign[1] for sign in signs}) != 1 or not signs or signs[0] is None:
        return lines
    rest = [line[sign.end() :] for line, sign in zip(lines, signs, strict=True) if sign is not None]
    return [line for line in rest if line.strip()]


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
