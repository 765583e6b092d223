"""Cuts source code down to the comments that speak of licenses.

Method: when every license keyword of a range lies in a comment (block comments, runs of line comments,
docstrings), the comments with keywords are read without the rest. So the header that thousands of files of a
project share is the same text in each of them, and is judged once (`detect`); comments close by are looked
at apart, for words that restrict or name a license.

Known error: the syntax is a union over languages, not that of the file's own: a `#` or `;` at the start of a line
is a comment everywhere, and a comment mark inside a string begins one. Either way only code that holds no
keyword is blanked.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import NamedTuple

from stack_platform.licenses.restrictions import merge, within

_COMMENT = re.compile(
    rb"/\*.*?(?:\*/|\Z)|<!--.*?(?:-->|\Z)|\(\*.*?(?:\*\)|\Z)|\{-.*?(?:-\}|\Z)"
    rb"|\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)"
    rb"|^[ \t]*(?:#(?!(?:include|define|if|ifdef|ifndef|endif|else|elif|undef|pragma|import|error)\b)"
    rb"|//|--|;|%|!|\*|\"|'|\.\.|dnl\b|rem\b|@rem\b|c\b)[^\n]*",
    re.DOTALL | re.MULTILINE,
)
_NEAR = 420  # bytes; as far as the restriction guard reads around a statement
_BLANKED = bytes(c if c == ord("\n") else ord(" ") for c in range(256))


class Header(NamedTuple):
    """The first comment of a range that holds keywords, and the other comments close by, byte for byte."""

    speaking: bytes
    around: bytes
    start: int  # of the comment that speaks
    end: int
    more: bool  # other comments hold keywords, too


def split_comments(lowered: bytes, hits: list[int]) -> Header | None:
    r"""Blank what is no comment when all `hits`, in order, lie in comments; None when some lie in code.

    >>> split_comments(b"# license: mit\nx = 1\n", [2])
    Header(speaking=b'# license: mit\n     \n', around=b'              \n     \n', start=0, end=14, more=False)
    """
    spans: list[tuple[int, int]] = []
    last = b""  # the first sign of the comment before; a docstring below a header of `#` is another comment
    for match in _COMMENT.finditer(lowered):
        start, end = match.span()
        sign = match.group().lstrip()[:1]
        if sign == last and not lowered[spans[-1][1] : start].strip():
            start = spans.pop()[0]
        spans.append((start, end))
        last = sign
    speaking = [span for span in spans if bisect_left(hits, span[0]) < bisect_left(hits, span[1])]
    if not speaking or not all(within(hit, speaking) for hit in hits):
        return None
    near = merge(speaking, _NEAR)
    first = speaking[0]
    around = [span for span in spans if within(span[0], near) and span != first]
    return Header(_keep(lowered, [first]), _keep(lowered, around), *first, more=len(speaking) > 1)


def _keep(lowered: bytes, spans: list[tuple[int, int]]) -> bytes:
    pieces = []
    done = 0
    for start, end in spans:
        pieces += [lowered[done:start].translate(_BLANKED), lowered[start:end]]
        done = end
    return b"".join([*pieces, lowered[done:].translate(_BLANKED)])
