"""Compiled measure of what a reader of an HTML page sees; import this module inside functions, numba is heavy.

One pass after the tokenizer of the HTML standard, cut down to what decides about visibility: tags (with quoted
attribute values), comments, declarations, and the contents of `script` and `style` are invisible; everything else is
text, where a run of ASCII white space counts as one character, none at either end, and a character reference
(`&name;`, `&#9;`) as one. This is BeautifulSoup's `get_text` without script and style, as BigCode's filter takes it,
but for white space, which a browser does not show either.

Known error: text hidden by style sheets counts as visible, text written by scripts does not; a reference that names
no character, or two, counts as one.
"""

import numpy as np

from stack_platform.quality.kernels import Bytes, Index, compiled

_LOWER = np.uint8(32)
_BANG, _DASH, _SLASH, _QUERY, _SEMICOLON, _HASH = (np.uint8(ord(c)) for c in "!-/?;#")
_OPEN, _CLOSE, _AMPERSAND, _QUOTE, _APOSTROPHE, _EQUALS = (np.uint8(ord(c)) for c in "<>&\"'=")
_SCRIPT = np.frombuffer(b"script", np.uint8)
_STYLE = np.frombuffer(b"style", np.uint8)
_LONGEST_REFERENCE = 33  # "&CounterClockwiseContourIntegral;"


@compiled
def count_visible(data: Bytes, starts: Index, stops: Index) -> Index:
    """Count the visible characters of each text; (n,)."""
    visible = np.zeros(starts.size, np.int64)
    for row in range(starts.size):
        visible[row] = _count_one(data[starts[row] : stops[row]])
    return visible


@compiled
def _count_one(text: Bytes) -> int:
    size, position, seen, gap = text.size, 0, 0, False
    while position < size:
        byte = text[position]
        if byte == _OPEN:
            after = _skip_markup(text, position)
            if after > position:
                position = after
                continue
        elif byte == np.uint8(32) or (np.uint8(9) <= byte <= np.uint8(13)):
            gap = True
            position += 1
            continue
        elif byte >= 0x80 and (byte & np.uint8(0xC0)) == 0x80:
            position += 1  # the rest of a character that was counted
            continue
        seen += 2 if gap and seen else 1
        gap = False
        position = _skip_reference(text, position) if byte == _AMPERSAND else position + 1
    return seen


@compiled
def _is_letter(byte: np.uint8) -> bool:
    lower = byte | _LOWER
    return bool(np.uint8(97) <= lower <= np.uint8(122))


@compiled
def _skip_reference(text: Bytes, position: int) -> int:
    end = position + 1
    last = min(text.size, position + _LONGEST_REFERENCE)
    while end < last:
        byte = text[end]
        if byte == _SEMICOLON and end > position + 1:
            return end + 1
        digit = np.uint8(48) <= byte <= np.uint8(57)
        if not (digit or _is_letter(byte) or (byte == _HASH and end == position + 1)):
            break
        end += 1
    return position + 1


@compiled
def _skip_markup(text: Bytes, position: int) -> int:
    """Return where the markup at `<` ends, or `position` where the sign is text."""
    size = text.size
    if position + 1 >= size:
        return position
    byte = text[position + 1]
    if byte == _BANG and position + 3 < size and text[position + 2] == _DASH and text[position + 3] == _DASH:
        return _skip_comment(text, position + 4)
    if byte in (_BANG, _QUERY):
        return _skip_to_close(text, position + 2)
    if byte == _SLASH:
        if position + 2 >= size:
            return position
        if not _is_letter(text[position + 2]):
            return _skip_to_close(text, position + 2)
        return _skip_tag(text, position + 2)
    if not _is_letter(byte):
        return position
    after = _skip_tag(text, position + 1)
    if _is_name(text, position + 1, _SCRIPT):
        return _skip_raw(text, after, _SCRIPT)
    if _is_name(text, position + 1, _STYLE):
        return _skip_raw(text, after, _STYLE)
    return after


@compiled
def _skip_to_close(text: Bytes, position: int) -> int:
    while position < text.size and text[position] != _CLOSE:
        position += 1
    return min(position + 1, text.size)


@compiled
def _skip_comment(text: Bytes, position: int) -> int:
    """Skip to behind `-->`; a comment may be `<!-->`, and one without an end runs to the end of the text."""
    position -= 2
    while position + 2 < text.size:
        if text[position] == _DASH and text[position + 1] == _DASH and text[position + 2] == _CLOSE:
            return position + 3
        position += 1
    return text.size


@compiled
def _skip_tag(text: Bytes, position: int) -> int:
    """Skip to behind the `>` of a tag; a sign inside quotes behind `=` is a part of a value."""
    last = np.uint8(0)  # last byte that is no white space
    while position < text.size:
        byte = text[position]
        if byte == _CLOSE:
            return position + 1
        if byte in (_QUOTE, _APOSTROPHE) and last == _EQUALS:
            position += 1
            while position < text.size and text[position] != byte:
                position += 1
        if byte > np.uint8(32):
            last = byte
        position += 1
    return text.size


@compiled
def _is_name(text: Bytes, position: int, name: Bytes) -> bool:
    if position + name.size >= text.size:
        return False
    for offset in range(name.size):
        if text[position + offset] | _LOWER != name[offset]:
            return False
    after = text[position + name.size]
    return bool(after <= np.uint8(32) or after in (_SLASH, _CLOSE))


@compiled
def _skip_raw(text: Bytes, position: int, name: Bytes) -> int:
    while position + 2 < text.size:
        if text[position] == _OPEN and text[position + 1] == _SLASH and _is_name(text, position + 2, name):
            return _skip_tag(text, position + 2)
        position += 1
    return text.size
