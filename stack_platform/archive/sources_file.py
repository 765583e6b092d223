"""Read ``sources.yaml``: which sources the archive has, of which kind, with which settings.

1. The file holds one key, ``sources``: a list. Each entry has ``name`` (it names the lake's partition), ``kind``
   (distributions, folders, archives, git, export), perhaps ``schedule`` (five fields of cron), and the settings of
   its kind, which are the fields of the kind's configuration.
2. Paths are relative to the folder of the file. Nothing is taken from the environment.

Whatever does not fit is an error that names the file, the source and the key, and says what is allowed.
"""

import difflib
import importlib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import yaml

from stack_platform.archive.sources import Source
from stack_platform.errors import ConfigError

EXAMPLE = Path(__file__).with_name("sources.example.yaml")

_MODULES = {
    "distributions": ("stack_platform.archive.distributions", "DistributionsConfig"),
    "folders": ("stack_platform.archive.folders", "FoldersConfig"),
    "archives": ("stack_platform.archive.packages", "ArchivesConfig"),
    "git": ("stack_platform.archive.git.source", "GitConfig"),
    "export": ("stack_platform.archive.export.source", "ExportConfig"),
}
_PATHS = frozenset({"path", "paths", "repositories", "location", "contents", "origins_file"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[^/\\]+@[^/\\]+:|[^/\\@]{2,}:(?![/\\])")
_CRON_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_CRON_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")


class SourceConfig(Protocol):
    """The settings of a source."""

    def open(self) -> Source:
        """Give the source."""


@dataclass(frozen=True, slots=True)
class NamedSource:
    """One entry of the file."""

    name: str
    """names the source and its partition of the lake"""
    kind: str
    """distributions, folders, archives, git or export"""
    config: SourceConfig
    """settings of the kind"""
    schedule: str | None = None
    """when to look at it, five fields of cron; None: with all the others"""


def read_sources(path: Path) -> tuple[NamedSource, ...]:
    """Read the file, in its order.

    Raises:
        ConfigError: the file cannot be read, or says something that no source understands.

    """
    document = _load(path)
    if not isinstance(document, dict) or set(document) != {"sources"}:
        keys = sorted(map(str, document)) if isinstance(document, dict) else type(document).__name__
        raise ConfigError(f"{path}: the file must hold one key, `sources`, with a list; it holds {keys}")
    entries = document["sources"]
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: `sources` must be a list with an entry or more; see the example")
    found: dict[str, NamedSource] = {}
    for number, entry in enumerate(entries, 1):
        source = _source(path, number, entry)
        alike = re.sub(r"[.-]", "_", source.name.lower())
        if alike in found:
            raise ConfigError(
                f"{path}: source {source.name!r}: the name is that of source {found[alike].name!r}, or alike but "
                "for case and punctuation; give each its own"
            )
        found[alike] = source
    return tuple(found.values())


def write_example(path: Path) -> None:
    """Write an example to edit.

    Raises:
        ConfigError: the file exists already.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(EXAMPLE.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"{path} exists already; edit it, or move it away first") from None


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """A loader that refuses a key that comes twice, which YAML forbids and PyYAML lets pass."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} comes twice", mark)
        return typing.cast("dict[Any, Any]", super().construct_mapping(node, deep))


def _load(path: Path) -> object:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; name a file that is there") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}; save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        reason = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}{where}: this is not YAML: {reason}; correct it there") from error


def _source(path: Path, number: int, entry: object) -> NamedSource:
    """Make one entry's source."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: entry {number} is {entry!r}; write `- name: …` and its settings below")
    settings = {str(key): value for key, value in entry.items()}
    name = settings.pop("name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{path}: entry {number}: name is {name!r}; write up to 100 letters, digits and -_. that start with a "
            "letter or digit, in quotes where it is a number"
        )
    where = f"{path}: source {name!r}"
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in _MODULES:
        raise ConfigError(f"{where}: kind is {kind!r}; {_hint(str(kind), _MODULES)}")
    schedule = settings.pop("schedule", None)
    if schedule is not None:
        _check_schedule(where, schedule)
    module, class_name = _MODULES[kind]
    config_class = getattr(importlib.import_module(module), class_name)
    values = _values(where, config_class, settings, path.resolve().parent)
    try:
        return NamedSource(name, kind, config_class(**values), schedule)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _values(where: str, config_class: Any, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Check the settings against the fields of a configuration, and make lists tuples and paths absolute."""
    hints = typing.get_type_hints(config_class)
    known = {field.name: hints[field.name] for field in fields(config_class)}
    for key in settings:
        if key not in known:
            raise ConfigError(f"{where}: there is no setting {key!r}; {_hint(key, ['schedule', *known])}")
    for field in fields(config_class):
        if field.default is MISSING and field.default_factory is MISSING and field.name not in settings:
            raise ConfigError(
                f"{where}: the setting {field.name!r} is missing; write {_spell(known[field.name])}"
            )
    values = {}
    for key, value in settings.items():
        converted = tuple(value) if isinstance(value, list) else value
        if not any(_fits(converted, allowed) for allowed in _alternatives(known[key])):
            raise ConfigError(f"{where}: {key} is {value!r}; write {_spell(known[key])}")
        holds_paths = key in _PATHS or isinstance(converted, dict)
        values[key] = _located(where, key, converted, folder) if holds_paths else converted
    return values


def _located(where: str, key: str, value: Any, folder: Path) -> Any:
    """Make paths absolute, and leave URLs alone; of a mapping, the keys are what the paths are."""
    if isinstance(value, dict):
        return {_located(where, key, name, folder): text for name, text in value.items()}
    if isinstance(value, tuple):
        return tuple(_located(where, key, item, folder) for item in value)
    if not isinstance(value, str) or _REMOTE.match(value):
        return value
    if value.startswith("~"):
        raise ConfigError(
            f"{where}: {key} is {value!r}; write the path in full, for ~ stands for nothing here"
        )
    return str(folder / value)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _fits(value: object, allowed: Any) -> bool:
    origin = typing.get_origin(allowed)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, str) for item in value)
    if origin is not None:
        return isinstance(value, dict) and all(_fits(text, str) for item in value.items() for text in item)
    if allowed is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    return isinstance(value, allowed) and isinstance(value, bool) == (allowed is bool)


def _spell(hint: Any) -> str:
    names = {
        str: "a text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        type(None): "null",
    }
    lists = {tuple: "a list of texts, as [one, two]", Mapping: "texts by name, as {one: two}"}
    return " or ".join(names.get(each) or lists[typing.get_origin(each)] for each in _alternatives(hint))


def _hint(value: str, allowed: Iterable[str]) -> str:
    names = list(allowed)
    close = difflib.get_close_matches(value, names, n=1)
    meant = f"did you mean {close[0]!r}? It" if close else "it"
    return f"{meant} takes {', '.join(names)}"


def _check_schedule(where: str, schedule: object) -> None:
    parts = schedule.split() if isinstance(schedule, str) else []
    if len(parts) != len(_CRON_FIELDS):
        raise ConfigError(
            f"{where}: schedule is {schedule!r}; write five fields of cron in quotes, as '0 3 * * *' for 3 at night"
        )
    for part, (unit, low, high, names) in zip(parts, _CRON_FIELDS, strict=True):
        for item in part.lower().split(","):
            match = _CRON_PART.fullmatch(item)
            ends = () if match is None else (_number(end, low, names) for end in match.groups()[:2] if end)
            if match is None or match[3] == "0" or not all(low <= end <= high for end in ends):
                raise ConfigError(
                    f"{where}: schedule {schedule!r} has {item!r} as the {unit}; write *, a number from {low} to "
                    f"{high}, a range such as {low}-{high}, or a step such as */5"
                )


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    return int(text) if text.isdecimal() else -1
