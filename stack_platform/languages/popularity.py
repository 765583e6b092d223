"""Choose among languages that a file could be in when its content did not decide.

The list is the project's own order of how much code of a language public repositories hold, most first. It is the
last resort and it is deterministic; a trained classifier takes its place here without a change to the caller.
"""

from collections.abc import Collection

# fmt: off
BY_POPULARITY = (
    "JavaScript", "Python", "Java", "TypeScript", "C", "C++", "C#", "PHP", "Go", "Ruby", "HTML", "CSS",
    "Markdown", "JSON", "YAML", "XML", "Shell", "SQL", "Rust", "Kotlin", "Swift", "Scala", "Perl", "Lua", "R",
    "MATLAB", "Objective-C", "Haskell", "Dart", "Elixir", "Clojure", "Erlang", "OCaml", "F#", "Julia",
    "Groovy", "PowerShell", "Verilog", "Fortran", "Pascal", "Prolog", "Scheme", "TeX", "Assembly", "INI",
    "Text", "TSX", "SCSS", "Less", "Makefile", "Dockerfile", "GLSL", "HLSL", "GDScript", "Smalltalk", "D",
    "Nix", "Zig", "Solidity", "Roff", "Puppet",
)
# fmt: on
"""Most popular first. A language that is not here stands behind all that are."""

_RANK = {language: rank for rank, language in enumerate(BY_POPULARITY)}


def most_popular(candidates: Collection[str]) -> str:
    """Return the candidate that stands first in the list, or first by name where none is in it."""
    return min(candidates, key=lambda language: (_RANK.get(language, len(_RANK)), language))
