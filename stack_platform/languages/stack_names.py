"""Translate between our names of languages and those of The Stack v2.

The Stack v2 was made in 2023 with go-enry, whose names are linguist's of that time. `RENAMED` holds what linguist has
renamed since, `SPLIT` the languages that it has since taken out of another one; every other name is the same in both.
A language that linguist added later has no name there and keeps ours.
"""

from types import MappingProxyType

from stack_platform.languages.catalog import find

RENAMED = MappingProxyType(
    {
        "Coq": "Rocq Prover",
        "Mathematica": "Wolfram Language",
        "SaltStack": "Salt",
        "Vim Script": "Vim script",
        "robots.txt": "Robots Exclusion Rules",
    }
)
"""Name in The Stack v2 -> our name."""

SPLIT = MappingProxyType({"Cairo Zero": "Cairo"})
"""Our name of a language that The Stack v2 counts under another one -> that one."""

_OLD_NAMES = {ours: theirs for theirs, ours in RENAMED.items()}


def from_stack_v2(name: str) -> str:
    """Return our name of a language of The Stack v2.

    Raises:
        ConfigError: neither list has the name; the message offers the nearest ones.

    >>> from_stack_v2("Coq"), from_stack_v2("Python")
    ('Rocq Prover', 'Python')
    """
    return find(RENAMED.get(name, name)).name


def to_stack_v2(name: str) -> str:
    """Return the name under which The Stack v2 counts one of our languages.

    Raises:
        ConfigError: no language has the name; the message offers the nearest ones.

    >>> to_stack_v2("Rocq Prover"), to_stack_v2("Cairo Zero")
    ('Coq', 'Cairo')
    """
    ours = find(name).name
    return SPLIT.get(ours, _OLD_NAMES.get(ours, ours))
