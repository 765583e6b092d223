r"""Name the language of a file, from its name and its bytes.

Linguist's chain: editor modeline, whole file name, `#!` line, extension, XML declaration, manual-page suffix, content
rules, classifier. Each step answers with languages; one answer ends the chain, several narrow the next steps.
Where a name is known the classifier settles the rest among the languages that are left; without a telling name the
text is judged by `content`. Nothing is guessed for an extension of data (`.log`, `.dat`) or one that many programs
share.

Figures are in docs/languages.md. Known error: content alone is right about five times in six where the language has
training files; dialects and texts of a few lines are guesses.
"""

import codecs
import re
from collections.abc import Callable

from stack_platform.languages import catalog, heuristics
from stack_platform.languages.classifier import Classifier, classifier
from stack_platform.languages.content import by_content
from stack_platform.languages.encoding import wide_codec
from stack_platform.languages.popularity import most_popular
from stack_platform.languages.signatures import by_signature

_EDGE_BYTES = 4096
"""How much of each end is searched for a modeline; five lines of code are shorter."""
_EDGE_LINES = 5

_EMACS = re.compile(
    rb"-\*-[ \t]*(?:[^\n]{0,200}?\bmode[ \t]*:[ \t]*)?([^\s:;*]{1,40})[ \t]*(?:;[^\n]{0,400}?)?-\*-",
    re.IGNORECASE,
)
_VIM = re.compile(
    rb"(?:^|[ \t])(?:vim?|ex)(?:[<=>]?\d{1,4})?:"
    rb"[ \t]*[^\n]{0,200}?\b(?:ft|filetype|syntax)[ \t]*=[ \t]*([\w.+#-]{1,40})",
    re.MULTILINE,
)
_EXEC = re.compile(rb"^[ \t]*exec[ \t]+(?:[\w./-]*/)?([\w.+-]+)[^\n]{0,100}\$0[^\n]{0,100}\$@", re.MULTILINE)
_ENV_ASSIGNMENT = re.compile(r"\w+=\S*")
_VERSION = re.compile(r"[-.]?\d+(?:\.\d+)*$")
_MANUAL = re.compile(r"\.(?:[1-9][a-z_]*|0p|n|man|mdoc)(?:\.in)?$", re.IGNORECASE)
_XML = re.compile(rb"\A\s{0,80}(?:[^\n]{0,400}\n)?[^\n]{0,80}<\?xml version=")

Candidates = tuple[str, ...]

DATA_EXTENSIONS = frozenset(
    {
        "bak",
        "bin",
        "cache",
        "dat",
        "data",
        "db",
        "dump",
        "err",
        "hex",
        "idx",
        "log",
        "out",
        "raw",
        "rec",
        "tmp",
        "lock",
    }
)
"""Extensions of what programs write for themselves; content is not asked for a language."""


def detect_language(name: str, content: bytes) -> str | None:
    """Return linguist's name of the language, or None for empty and binary files and where nothing tells.

    `name` may be a path; only its last part counts. Text in UTF-16 or UTF-32 with a byte order mark is text.
    """
    return language_by(classifier, name, content)


def language_by(judge: Callable[[], Classifier], name: str, content: bytes) -> str | None:
    """Return what `detect_language` does, with another classifier, which is called for only where it is needed."""
    text, candidates = _narrow(name, content)
    if len(candidates) == 1:
        return candidates[0]
    base = _base(name)
    if not text or _is_generic(base):
        return None
    if candidates:
        return judge().best(text, candidates) or most_popular(candidates)
    if _is_data_name(base):
        return by_signature(text)
    return by_content(judge, text)


def named_language(name: str, content: bytes) -> str | None:
    """Return the language that the name and rules settle without a classifier, or None."""
    _, candidates = _narrow(name, content)
    return candidates[0] if len(candidates) == 1 else None


def _narrow(name: str, content: bytes) -> tuple[bytes, Candidates]:
    """Return the text (empty for binary files) and the languages that the chain before the classifier leaves."""
    base = _base(name)
    text = _as_utf8(content)
    candidates: Candidates = ()
    if not text or b"\0" in text:
        return b"", candidates
    for strategy in (_by_modeline, _by_filename, _by_shebang, _by_extension, _by_xml, _by_manual, _by_rules):
        found = strategy(base, text, candidates)
        if len(found) == 1:
            return text, found
        candidates = found or candidates
    return text, candidates


def _base(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _is_data_name(base: str) -> bool:
    """Tell whether the name ends in what programs write for themselves: never guessed."""
    return base.lower().rsplit(".", 1)[-1] in DATA_EXTENSIONS if "." in base else False


def _as_utf8(content: bytes) -> bytes:
    if content.startswith(codecs.BOM_UTF8):
        return content[len(codecs.BOM_UTF8) :]
    mark = wide_codec(content)
    if mark is None:
        return content
    return (
        content[: 2 * heuristics.CONSIDERED_BYTES].decode(mark, errors="replace").encode("utf-8", "replace")
    )


def _narrowed(found: Candidates, candidates: Candidates) -> Candidates:
    return tuple(language for language in found if language in candidates) if candidates else found


def _is_generic(base: str) -> bool:
    extensions = catalog.extensions_of(base)
    return bool(extensions) and extensions[-1] in heuristics.GENERIC


def _by_modeline(_base: str, content: bytes, _candidates: Candidates) -> Candidates:
    head, tail = content[:_EDGE_BYTES], content[-_EDGE_BYTES:]
    for edge in (head, tail) if len(content) > _EDGE_BYTES else (content,):
        if b"-*-" in edge or b"vi:" in edge or b"vim" in edge or b"ex:" in edge:
            break
    else:
        return ()
    head = b"\n".join(head.split(b"\n", _EDGE_LINES)[:_EDGE_LINES])
    if b"UseVimball" in head:
        return ()
    tail = b"\n".join(tail.rsplit(b"\n", _EDGE_LINES)[-_EDGE_LINES:])
    for edge in (head, tail):
        for pattern in (_EMACS, _VIM):
            said = pattern.search(edge)
            if said is not None:
                return catalog.by_alias(said[1].decode("ascii", "replace"))
    return ()


def _by_filename(base: str, _content: bytes, candidates: Candidates) -> Candidates:
    return _narrowed(catalog.by_filename(base), candidates)


def _by_shebang(_base: str, content: bytes, candidates: Candidates) -> Candidates:
    if not content.startswith(b"#!"):
        return ()
    interpreter = _interpreter(content)
    return _narrowed(catalog.by_interpreter(interpreter), candidates) if interpreter else ()


def _interpreter(content: bytes) -> str | None:
    lines = content[:_EDGE_BYTES].split(b"\n", _EDGE_LINES)[:_EDGE_LINES]
    words = lines[0][2:].decode("ascii", "replace").split()
    if not words:
        return None
    program, *arguments = words
    program = program.rsplit("/", 1)[-1]
    if program == "env":
        named = [
            each for each in arguments if not each.startswith("-") and not _ENV_ASSIGNMENT.fullmatch(each)
        ]
        if not named:
            return None
        program = named[0].rsplit("/", 1)[-1]
    if program == "osascript" and "-l" in arguments:  # the option names another language
        return None
    if program in {"sh", "bash"}:
        handed_on = _EXEC.search(b"\n".join(lines[1:]))
        program = handed_on[1].decode("ascii", "replace") if handed_on else program
    return program if catalog.by_interpreter(program) else _VERSION.sub("", program)


def _by_extension(base: str, _content: bytes, candidates: Candidates) -> Candidates:
    return () if _is_generic(base) else _narrowed(catalog.by_extension(base), candidates)


def _by_xml(base: str, content: bytes, candidates: Candidates) -> Candidates:
    if candidates or not _XML.match(content):
        return ()
    return ("XML",) if "." in base else (by_signature(content) or "XML",)


def _by_manual(base: str, _content: bytes, candidates: Candidates) -> Candidates:
    return ("Roff", "Roff Manpage") if not candidates and _MANUAL.search(base) else ()


def _by_rules(base: str, content: bytes, candidates: Candidates) -> Candidates:
    found = heuristics.by_rules(base, content, candidates)
    return (found,) if found else ()
