"""Cuts source code down to the comments that speak of licenses.

Method: when every license keyword of a range lies in a comment (block comments, runs of line comments,
docstrings), the code around them is blanked; comments close by stay. So the header that thousands of files
of a project share is the same text in each of them, and is judged once (`detect`).

Known error: the syntax is a union over languages, not that of the file's own: a `#` or `;` at the start of a line
is a comment everywhere, and a comment mark inside a string begins one. Either way only code that holds no
keyword is blanked.
"""

from __future__ import annotations

import re

from stack_platform.licenses.restrictions import merge, within

_COMMENT = re.compile(
    rb"/\*.*?(?:\*/|\Z)|<!--.*?(?:-->|\Z)|\(\*.*?(?:\*\)|\Z)|\{-.*?(?:-\}|\Z)"
    rb"|\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)"
    rb"|^[ \t]*(?:#(?!(?:include|define|if|ifdef|ifndef|endif|else|elif|undef|pragma|import|error)\b)"
    rb"|//|--|;|%|!|\*|\"|'|\.\.|dnl\b|rem\b|@rem\b|c\b)[^\n]*",
    re.DOTALL | re.MULTILINE,
)
_NEAR = 420  # bytes; as far as the restriction guard reads around a statement
_WORD = re.compile(rb"[^\n]+")


def keep_comments(lowered: bytes, hits: list[int]) -> bytes:
    r"""Blank what is no comment, byte for byte, when all `hits` lie in comments; else return the same bytes.

    >>> keep_comments(b"# license: mit\nx = 1\n", [2])
    b'# license: mit\n     \n'
    """
    spans: list[tuple[int, int]] = []
    for match in _COMMENT.finditer(lowered):
        start, end = match.span()
        if spans and not lowered[spans[-1][1] : start].strip():
            start = spans.pop()[0]
        spans.append((start, end))
    speaking = [span for span in spans if any(span[0] <= hit < span[1] for hit in hits)]
    if not speaking or not all(within(hit, speaking) for hit in hits):
        return lowered
    near = merge(speaking, _NEAR)
    spans = [span for span in spans if within(span[0], near)]
    pieces = []
    done = 0
    for start, end in spans:
        pieces += [_WORD.sub(_blank, lowered[done:start]), lowered[start:end]]
        done = end
    return b"".join([*pieces, _WORD.sub(_blank, lowered[done:])])


def _blank(match: re.Match[bytes]) -> bytes:
    return b" " * len(match.group())
