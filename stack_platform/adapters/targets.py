"""Which layers an adapter changes: names in, names out; free of torch.

A list entry matches the module whose path is the entry or ends in "." + entry; a string is a regular
expression for the whole path; "all-linear" is every linear layer but the output head. These are PEFT's
rules, with one difference: a pattern that matches nothing is an error, never a silent nothing (PEFT 0.21.2
injects happily when one of two entries is misspelled, its issue 1959). "all-linear" obeys
`layers_to_transform` here; PEFT ignores it there.

Without `target_modules` the defaults are found by names, see `defaults`.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from stack_platform.adapters.configs.fields import ALL_LINEAR
from stack_platform.adapters.defaults import TargetError, default_targets

_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ModuleNames:
    """The module paths of a model, as far as targeting needs them."""

    adaptable: tuple[str, ...]
    """Paths of the layers the method can change, in the model's order."""
    others: Mapping[str, str]
    """Path to class name of every other module."""
    linear: frozenset[str] = frozenset()
    """Those adaptable layers that are linear."""
    head: str | None = None
    """Path of the output head, which "all-linear" leaves alone."""
    embedding: str | None = None
    """Path of the input embedding."""
    narrowing: frozenset[str] = frozenset()
    """Those adaptable layers that have fewer outputs than inputs."""
    ungrouped: frozenset[str] = frozenset()
    """Those adaptable layers that are convolutions without groups."""
    parameters: tuple[str, ...] = ()
    """Paths of the parameters of all modules that are no adaptable layers."""


@dataclass(frozen=True, slots=True)
class Target:
    """One layer to adapt."""

    path: str
    """Module path inside the base model."""
    r: int
    """Rank, 0 for methods without."""
    alpha: float
    """Numerator of the scaling, 1 for methods without."""
    parameter: str = ""
    """Name of the parameter to adapt, where it is not the layer's own."""


def find_targets(names: ModuleNames, config: Any) -> tuple[Target, ...]:
    """Return the layers to adapt with their rank and alpha, in the model's order.

    Raises: TargetError when a pattern, an index or an exclusion matches nothing, when a pattern matches a
    module that cannot be adapted, or when two rank or alpha patterns disagree about one layer.
    """
    exclude = getattr(config, "exclude_modules", None)
    excluded = _excluded(names, exclude)
    parameters = _parameters(names, getattr(config, "target_parameters", None))
    paths = [] if _parameters_only(config) else [p for p in _matched(names, config) if p not in excluded]
    if not paths and not parameters:
        raise TargetError(
            f"exclude_modules={exclude!r} removes every layer that "
            f"target_modules={config.target_modules!r} selects; exclude fewer"
        )
    paths = _in_layers(paths, config)
    everything = [*paths, *parameters]
    ranks = by_pattern("rank_pattern", _pattern(config, "rank_pattern"), everything)
    alphas = by_pattern("alpha_pattern", _pattern(config, "alpha_pattern"), everything)
    r = getattr(config, "r", 0)
    alpha = getattr(config, "lora_alpha", getattr(config, "alpha", 1))
    found = [Target(p, int(ranks.get(p, r)), alphas.get(p, alpha)) for p in paths]
    for p in parameters:
        module, _, name = p.rpartition(".")
        found.append(Target(module, int(ranks.get(p, r)), alphas.get(p, alpha), name))
    return tuple(found)


def resolve_targets(names: ModuleNames, config: Any) -> tuple[str, ...] | str | None:
    """Return `target_modules` as it is written to a file: explicit, whatever shorthand was given.

    The suffixes of the default, the whole paths of "all-linear", and a list or an expression as it is.
    """
    if _parameters_only(config):
        return config.target_modules  # type: ignore[no-any-return]
    if config.target_modules is None:
        return _defaults(names, config)
    if _is_all_linear(config.target_modules):
        return tuple(sorted(target.path for target in find_targets(names, config) if not target.parameter))
    return config.target_modules  # type: ignore[no-any-return]


def matching(field: str, patterns: Collection[str], paths: Collection[str]) -> dict[str, str]:
    """Return each path that a name matches, to that name.

    Raises: TargetError when a name matches nothing.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        hits = [path for path in paths if path == pattern or path.endswith(f".{pattern}")]
        if not hits:
            raise TargetError(f"{field}: {pattern!r} matches no module; nearest: {nearest(pattern, paths)}")
        found |= dict.fromkeys(hits, pattern)
    return found


def by_pattern(field: str, values: Mapping[str, float], paths: Collection[str]) -> dict[str, float]:
    """Return path to value, each pattern used, no path claimed with two values.

    PEFT lets the first of several matching keys win, but writes the keys sorted, so a reload may pick another.
    """
    chosen: dict[str, tuple[str, float]] = {}
    for pattern, value in values.items():
        is_match = re.compile(rf"(.*\.)?({pattern})$").match
        hits = [path for path in paths if is_match(path)]
        if not hits:
            raise TargetError(
                f"{field}: {pattern!r} matches no adapted layer; nearest: {nearest(pattern, paths)}"
            )
        for path in hits:
            other, previous = chosen.setdefault(path, (pattern, value))
            if previous != value:
                raise TargetError(
                    f"{field}: {other!r} and {pattern!r} give {path!r} two values, {previous} and {value}; "
                    "write patterns that do not overlap"
                )
    return {path: value for path, (_, value) in chosen.items()}


def nearest(pattern: str, paths: Collection[str]) -> str:
    """Name the paths whose suffix of the same length is most like the pattern."""
    depth = pattern.count(".") + 1
    suffixes = sorted({".".join(path.split(".")[-depth:]) for path in paths})
    close = difflib.get_close_matches(pattern, suffixes, n=_NAMES_SHOWN, cutoff=0.4)
    return ", ".join(map(repr, close or suffixes)) or "none; the model has no layer that can be adapted"


def _defaults(names: ModuleNames, config: Any) -> tuple[str, ...]:
    if str(config.peft_type) == "TRAINABLE_TOKENS":
        if names.embedding is None:
            raise TargetError("the model names no input embedding; set target_modules to it")
        return (names.embedding,)
    return default_targets(
        names.adaptable, str(config.peft_type), names.narrowing, names.linear, names.ungrouped
    )


def _parameters_only(config: Any) -> bool:
    return bool(getattr(config, "target_parameters", None)) and not config.target_modules


def _pattern(config: Any, name: str) -> Mapping[str, float]:
    # AdaLoRA keeps what pruning left under the name of the pattern
    return (
        {}
        if str(config.peft_type) == "ADALORA" and name == "rank_pattern"
        else getattr(config, name, None) or {}
    )


def _matched(names: ModuleNames, config: Any) -> list[str]:
    wanted = config.target_modules
    if wanted is not None and _is_all_linear(wanted):
        found = [path for path in names.adaptable if path != names.head and path in names.linear]
        if not found:
            raise TargetError("target_modules='all-linear', but the model has no layer that can be adapted")
        return found
    if wanted is None:
        wanted = _defaults(names, config)
    selected: set[str] = set()
    for pattern in (wanted,) if isinstance(wanted, str) else wanted:
        is_match = _matcher(pattern, is_regex=isinstance(wanted, str))
        hits = {path for path in names.adaptable if is_match(path)}
        misses = sorted(path for path in names.others if is_match(path))
        if misses:
            kind = names.others[misses[0]]
            raise TargetError(
                f"target_modules: {pattern!r} matches {misses[0]!r}, a {kind}, which {config.peft_type!s} cannot "
                f"adapt; name layers it can: {nearest(pattern, names.adaptable)}"
            )
        if not hits:
            raise TargetError(
                f"target_modules: {pattern!r} matches no module; nearest: {nearest(pattern, names.adaptable)}"
            )
        selected |= hits
    return [path for path in names.adaptable if path in selected]


def _parameters(names: ModuleNames, wanted: Collection[str] | None) -> list[str]:
    if not wanted:
        return []
    selected = matching("target_parameters", wanted, names.parameters)
    return [path for path in names.parameters if path in selected]


def _excluded(names: ModuleNames, exclude: str | tuple[str, ...] | None) -> set[str]:
    excluded: set[str] = set()
    for pattern in (exclude,) if isinstance(exclude, str) else exclude or ():
        is_match = _matcher(pattern, is_regex=isinstance(exclude, str))
        hits = {path for path in names.adaptable if is_match(path)}
        if not hits:
            raise TargetError(
                f"exclude_modules: {pattern!r} matches no layer; to exclude all layers of a part write a "
                f"regular expression such as '.*{re.escape(pattern)}.*'; "
                f"nearest: {nearest(pattern, names.adaptable)}"
            )
        excluded |= hits
    return excluded


def _in_layers(paths: list[str], config: Any) -> list[str]:
    chosen = getattr(config, "layers_to_transform", None)
    if chosen is None:
        return paths
    wanted = {chosen} if isinstance(chosen, int) else set(chosen)
    pattern = config.layers_pattern
    lists = (pattern,) if isinstance(pattern, str) else pattern
    container = "[^.]+" if lists is None else f"(?:{'|'.join(lists)})"
    index_of = re.compile(rf"(?:^|.*?\.){container}\.(\d+)\.")
    indices = {path: int(found[1]) for path in paths if (found := index_of.match(path))}
    if unknown := sorted(wanted - set(indices.values())):
        there = sorted(set(indices.values()))
        span = f"{there[0]} to {there[-1]}" if there else "none"
        raise TargetError(
            f"layers_to_transform: no selected layer in block {', '.join(map(str, unknown))} "
            f"(layers_pattern={pattern!r}); blocks with selected layers: {span}"
        )
    return [path for path in paths if indices.get(path) in wanted]


def _matcher(pattern: str, *, is_regex: bool) -> Callable[[str], object]:
    expression = pattern if is_regex else rf"(?:.*\.)?{re.escape(pattern)}"
    return re.compile(expression).fullmatch


def _is_all_linear(wanted: str | tuple[str, ...]) -> bool:
    return isinstance(wanted, str) and wanted.lower() == ALL_LINEAR
