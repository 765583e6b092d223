"""What a text is made of, asked of tree-sitter: where its comments and strings are, and whether it parses.

Grammars are Python packages of their own, one per language, loaded when the first file of their language comes. A
file without a grammar, or over a megabyte, gets the answer None, and those who ask know what to do without.
"""

import importlib
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

MAX_LENGTH = 1_000_000  # bytes; a tree takes about 10 times the text
# Grammar -> package and function; file extensions.
_GRAMMARS = {
    "bash": ("tree_sitter_bash", "language", "sh bash zsh"),
    "c": ("tree_sitter_c", "language", "c h"),
    "c#": ("tree_sitter_c_sharp", "language", "cs"),
    "c++": ("tree_sitter_cpp", "language", "cc cpp cxx hpp hh hxx"),
    "css": ("tree_sitter_css", "language", "css"),
    "go": ("tree_sitter_go", "language", "go"),
    "html": ("tree_sitter_html", "language", "html htm"),
    "java": ("tree_sitter_java", "language", "java"),
    "javascript": ("tree_sitter_javascript", "language", "js jsx mjs cjs"),
    "json": ("tree_sitter_json", "language", "json"),
    "kotlin": ("tree_sitter_kotlin", "language", "kt kts"),
    "lua": ("tree_sitter_lua", "language", "lua"),
    "php": ("tree_sitter_php", "language_php", "php"),
    "python": ("tree_sitter_python", "language", "py pyi"),
    "ruby": ("tree_sitter_ruby", "language", "rb rake gemspec"),
    "rust": ("tree_sitter_rust", "language", "rs"),
    "scala": ("tree_sitter_scala", "language", "scala sbt"),
    "swift": ("tree_sitter_swift", "language", "swift"),
    "toml": ("tree_sitter_toml", "language", "toml"),
    "tsx": ("tree_sitter_typescript", "language_tsx", "tsx"),
    "typescript": ("tree_sitter_typescript", "language_typescript", "ts mts cts"),
    "yaml": ("tree_sitter_yaml", "language", "yaml yml"),
}
_BY_EXTENSION = {ext: name for name, (_, _, exts) in _GRAMMARS.items() for ext in exts.split()}
_LITERALS = ("string", "scalar", "char", "heredoc", "template", "text")


class Region(NamedTuple):
    """A stretch of comment or literal."""

    start: int  # code points, inclusive
    end: int  # code points, exclusive
    kind: str  # comment, string or text


def grammar_of(path: str) -> str | None:
    """Return the grammar for a path, by its extension, where its package is installed."""
    name = _BY_EXTENSION.get(PurePosixPath(path).suffix[1:].lower())
    return name if name and _parser(name) is not None else None


def parses(text: str, path: str) -> bool | None:
    """Tell whether a text is free of syntax errors; None where nobody can tell."""
    tree = _tree(text, path)
    return None if tree is None else not tree.root_node.has_error


def regions(text: str, path: str) -> list[Region] | None:
    """Return the comments and literals of a text, sorted and disjoint; None where nobody can tell."""
    data = text.encode("utf-8", "surrogatepass")
    tree = _tree(text, path)
    if tree is None:
        return None
    found: list[tuple[int, int, str]] = []
    waiting = [tree.root_node]
    while waiting:
        node = waiting.pop()
        kind = _kind(node.type)
        if kind:
            found.append((node.start_byte, node.end_byte, kind))
        else:
            waiting.extend(reversed(node.children))
    if data.isascii():
        return [Region(*row) for row in found]
    points = _points(data, sorted({place for row in found for place in row[:2]}))
    return [Region(points[start], points[end], kind) for start, end, kind in found]


def _points(data: bytes, places: list[int]) -> dict[int, int]:
    """Count the code points before each of some sorted places, in one pass."""
    counted: dict[int, int] = {}
    last = total = 0
    for place in places:
        total += len(data[last:place].decode("utf-8", "surrogatepass"))
        counted[place] = total
        last = place
    return counted


@lru_cache(maxsize=4096)
def _kind(node_type: str) -> str:
    if "comment" in node_type:
        return "comment"
    return "string" if any(word in node_type for word in _LITERALS) else ""


def _tree(text: str, path: str) -> Any:
    name = grammar_of(path)
    data = text.encode("utf-8", "surrogatepass")
    return _parser(name).parse(data) if name and len(data) <= MAX_LENGTH else None


@cache
def _parser(name: str) -> Any:
    package, function, _ = _GRAMMARS[name]
    try:
        from tree_sitter import Language, Parser

        return Parser(Language(getattr(importlib.import_module(package), function)()))
    except ImportError:
        return None
