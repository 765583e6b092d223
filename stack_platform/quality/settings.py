"""Read settings from YAML or JSON files and say exactly which key holds what nobody can use."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from stack_platform.errors import ConfigError


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a file whose top is a mapping; JSON is read as the YAML it is.

    Raises ConfigError where the file is missing, is no YAML, or holds something else.
    """
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); write the path of a YAML or JSON file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is neither YAML nor JSON: {error}") from error
    return mapping(value, str(path))


def mapping(value: Any, key: str) -> dict[str, Any]:
    """Check that a value is a mapping with names for keys."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{key} is {value!r}; write a mapping of names to values")
    return dict(value)


def only_known(value: Mapping[str, Any], known: Collection[str], key: str) -> None:
    """Check that a mapping has no other keys than the known ones."""
    for name in value:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{key}.{name} is not a setting{hint} (allowed: {', '.join(sorted(known))})")


def text(value: Any, key: str) -> str:
    """Check that a value is text and not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{key} is {value!r}; write a text")
    return value


def texts(value: Any, key: str) -> tuple[str, ...]:
    """Check that a value is a list of texts; one text is a list of one."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{key} is {value!r}; write a list of texts")
    return tuple(text(item, f"{key}[{index}]") for index, item in enumerate(value))


def number(value: Any, key: str, least: float = 0.0, most: float = float("inf")) -> float:
    """Check that a value is a number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        bounds = f"of at least {least:g}" if most == float("inf") else f"from {least:g} to {most:g}"
        raise ConfigError(f"{key} is {value!r}; write a number {bounds}")
    return value


def whole(value: Any, key: str, least: int = 0) -> int:
    """Check that a value is a whole number of at least `least`; `1e9` is one."""
    checked = number(value, key, least)
    if checked != int(checked):
        raise ConfigError(f"{key} is {value!r}; write a whole number")
    return int(checked)


def flag(value: Any, key: str) -> bool:
    """Check that a value is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is {value!r}; write true or false")
    return value
