"""The list of languages: names, types, extensions, file names, interpreters and aliases.

The facts are GitHub linguist's (MIT), read once from `catalog.json` (see `derive_catalog.py`), which says at the top
from which package and version they come. Names are linguist's and are the platform's partition keys. Extensions are
compared in lower case, like linguist does; file names are compared exactly; aliases and interpreters in lower case.
"""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from stack_platform.errors import ConfigError

_CATALOG_FILE = Path(__file__).with_name("catalog.json")


@dataclass(frozen=True, slots=True)
class Language:
    """One language as linguist describes it."""

    name: str
    """Linguist's name, the partition key ("C++", "Jupyter Notebook")."""
    type: str
    """"programming", "data", "markup" or "prose", linguist's four kinds."""
    group: str
    """The language it is counted under ("TSX" under "TypeScript"); its own name when it stands alone."""
    language_id: int
    """Linguist's number, stable when the name changes."""
    extensions: tuple[str, ...] = ()
    """With the dot, some with several (".blade.php"), the usual one first."""
    filenames: tuple[str, ...] = ()
    """Whole names ("Makefile")."""
    interpreters: tuple[str, ...] = ()
    """Programs that a `#!` line may name ("python3")."""
    aliases: tuple[str, ...] = ()
    """Other names, as written in editors and code fences ("py")."""


Index = MappingProxyType[str, tuple[str, ...]]
"""A key as files write it -> names of the languages that claim it, sorted."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """All languages, and what points to them."""

    languages: MappingProxyType[str, Language]
    """Name -> language, sorted by name."""
    by_extension: Index
    """Lower-case extension with its dot."""
    by_filename: Index
    """Whole file name, case kept."""
    by_interpreter: Index
    """Interpreter in lower case."""
    by_alias: Index
    """Alias or name in lower case, and the same with `-` for spaces."""


def _index(pairs: Iterable[tuple[str, str]]) -> Index:
    found: dict[str, set[str]] = {}
    for key, name in pairs:
        found.setdefault(key, set()).add(name)
    return MappingProxyType({key: tuple(sorted(names)) for key, names in found.items()})


def _aliases(language: Language) -> set[str]:
    names = {language.name.lower(), *(alias.lower() for alias in language.aliases)}
    return names | {name.replace(" ", "-") for name in names}


@cache
def catalog() -> Catalog:
    """Return the catalog, read on the first call."""
    entries = json.loads(_CATALOG_FILE.read_text(encoding="utf-8"))["languages"]
    languages = [
        Language(
            name=entry["name"],
            type=entry["type"],
            group=entry.get("group", entry["name"]),
            language_id=entry["language_id"],
            extensions=tuple(entry.get("extensions", ())),
            filenames=tuple(entry.get("filenames", ())),
            interpreters=tuple(entry.get("interpreters", ())),
            aliases=tuple(entry.get("aliases", ())),
        )
        for entry in entries
    ]
    return Catalog(
        languages=MappingProxyType({language.name: language for language in languages}),
        by_extension=_index((key.lower(), each.name) for each in languages for key in each.extensions),
        by_filename=_index((key, each.name) for each in languages for key in each.filenames),
        by_interpreter=_index((key.lower(), each.name) for each in languages for key in each.interpreters),
        by_alias=_index((key, each.name) for each in languages for key in _aliases(each)),
    )


def language_names() -> tuple[str, ...]:
    """Return every language's name, sorted by code point: the partition keys."""
    return tuple(catalog().languages)


@cache
def prose_languages() -> tuple[str, ...]:
    """Return the languages that linguist calls prose: plain text and the markup that people write texts in, sorted."""
    return tuple(each.name for each in catalog().languages.values() if each.type == "prose")


def find(name: str) -> Language:
    """Return the language with exactly this name.

    Raises:
        ConfigError: no language has the name; the message offers the nearest ones.

    """
    known = catalog()
    if name in known.languages:
        return known.languages[name]
    nearest = _nearest(name, known)
    advice = (
        f"did you mean {' or '.join(map(repr, nearest))}?"
        if nearest
        else "write a name as linguist spells it, for example 'Python'"
    )
    raise ConfigError(f"language {name!r} is not in the catalog; {advice}")


def _nearest(name: str, known: Catalog) -> list[str]:
    exact = known.by_alias.get(name.strip().lower())
    if exact:
        return list(exact)
    close = difflib.get_close_matches(name.strip().lower(), known.by_alias, n=3, cutoff=0.6)
    return list(dict.fromkeys(owner for alias in close for owner in known.by_alias[alias]))[:3]


def extensions_of(name: str) -> tuple[str, ...]:
    """Return the lower-case extensions that a file name ends with, longest first.

    >>> extensions_of("view.blade.php")
    ('.blade.php', '.php')
    """
    lower = name.lower()
    dots = [at for at, character in enumerate(lower) if character == "."]
    return tuple(lower[at:] for at in dots)


def by_extension(name: str) -> tuple[str, ...]:
    """Return the languages that claim the longest known extension of a file name."""
    known = catalog().by_extension
    for extension in extensions_of(name):
        if extension in known:
            return known[extension]
    return ()


def by_filename(name: str) -> tuple[str, ...]:
    """Return the languages that claim a whole file name (without folders)."""
    return catalog().by_filename.get(name, ())


def by_interpreter(interpreter: str) -> tuple[str, ...]:
    """Return the languages that a `#!` line with this program may start."""
    return catalog().by_interpreter.get(interpreter.lower(), ())


def by_alias(alias: str) -> tuple[str, ...]:
    """Return the languages known under a name or alias, in any case."""
    return catalog().by_alias.get(alias.strip().lower(), ())
