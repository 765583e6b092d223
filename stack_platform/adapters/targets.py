"""Which layers an adapter changes: names in, names out; free of torch.

A list entry matches the module whose path is the entry or ends in "." + entry; a string is a regular
expression for the whole path; "all-linear" is every adaptable layer but the output head. These are PEFT's
rules, with one difference: a pattern that matches nothing is an error, never a silent nothing (PEFT 0.21.2
injects happily when one of two entries is misspelled, its issue 1959). "all-linear" obeys
`layers_to_transform` here; PEFT ignores it there.

Without `target_modules` the query and value projections are found by their names in repeated blocks, or the
fused projection where there is one. Measured against PEFT's table of architectures in
`tests/adapters/test_targets.py`.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from stack_platform.adapters.config import ALL_LINEAR, LoraConfig
from stack_platform.errors import AdapterError

_FUSED = re.compile(r"c_attn|w?_?qkv(_proj|_lin)?|query_key_value|attn_qkv", re.IGNORECASE)
_QUERY = re.compile(r"w?q(uery)?(_proj|_lin)?", re.IGNORECASE)
_VALUE = re.compile(r"w?v(alue)?(_proj|_lin)?", re.IGNORECASE)
_IN_BLOCK = re.compile(r"(^|\.)\d+\.")
_NAMES_SHOWN = 3


class TargetError(AdapterError):
    """A pattern of the configuration matches no layer, or matches what cannot be adapted."""


@dataclass(frozen=True, slots=True)
class ModuleNames:
    """The module paths of a model, as far as targeting needs them."""

    adaptable: tuple[str, ...]
    """Paths of the layers an adapter can change, in the model's order."""
    others: Mapping[str, str]
    """Path to class name of every other module."""
    head: str | None = None
    """Path of the output head, which "all-linear" leaves alone."""


@dataclass(frozen=True, slots=True)
class Target:
    """One layer to adapt."""

    path: str
    """Module path inside the base model."""
    r: int
    """Rank."""
    alpha: float
    """Numerator of the scaling."""


def find_targets(names: ModuleNames, config: LoraConfig) -> tuple[Target, ...]:
    """Return the layers to adapt with their rank and alpha, in the model's order.

    Raises: TargetError when a pattern, an index or an exclusion matches nothing, when a pattern matches a
    module that cannot be adapted, or when two rank or alpha patterns disagree about one layer.
    """
    excluded = _excluded(names, config.exclude_modules)
    paths = [p for p in _matched(names, config) if p not in excluded]
    if not paths:
        raise TargetError(
            f"exclude_modules={config.exclude_modules!r} removes every layer that "
            f"target_modules={config.target_modules!r} selects; exclude fewer"
        )
    paths = _in_layers(paths, config)
    ranks = _by_pattern("rank_pattern", config.rank_pattern, paths)
    alphas = _by_pattern("alpha_pattern", config.alpha_pattern, paths)
    return tuple(Target(p, int(ranks.get(p, config.r)), alphas.get(p, config.lora_alpha)) for p in paths)


def resolve_targets(names: ModuleNames, config: LoraConfig) -> tuple[str, ...] | str:
    """Return `target_modules` as it is written to a file: explicit, whatever shorthand was given.

    The suffixes of the default, the whole paths of "all-linear", and a list or an expression as it is.
    """
    if config.target_modules is None:
        return default_targets(names.adaptable)
    if _is_all_linear(config.target_modules):
        return tuple(sorted(target.path for target in find_targets(names, config)))
    return config.target_modules


def default_targets(adaptable: Sequence[str]) -> tuple[str, ...]:
    """Return the last names of the attention inputs to adapt: the fused one, or query and value.

    Raises: TargetError when no layer in a repeated block has such a name.

    >>> default_targets(["layers.0.attn.q_proj", "layers.0.attn.k_proj", "layers.0.attn.v_proj", "head"])
    ('q_proj', 'v_proj')
    """
    last = [path.rpartition(".")[2] for path in adaptable if _IN_BLOCK.search(path)]
    fused = {name for name in last if _FUSED.fullmatch(name)}
    query = {name for name in last if _QUERY.fullmatch(name)}
    value = {name for name in last if _VALUE.fullmatch(name)}
    found = query | value if query and value else fused
    if not found:
        seen = ", ".join(sorted({path.rpartition(".")[2] for path in adaptable})) or "none"
        raise TargetError(f"no query and value projection found; set target_modules to some of: {seen}")
    return tuple(sorted(found))


def _matched(names: ModuleNames, config: LoraConfig) -> list[str]:
    wanted = config.target_modules
    if wanted is not None and _is_all_linear(wanted):
        found = [path for path in names.adaptable if path != names.head]
        if not found:
            raise TargetError("target_modules='all-linear', but the model has no layer that can be adapted")
        return found
    if wanted is None:
        wanted = default_targets(names.adaptable)
    selected: set[str] = set()
    for pattern in (wanted,) if isinstance(wanted, str) else wanted:
        is_match = _matcher(pattern, is_regex=isinstance(wanted, str))
        hits = {path for path in names.adaptable if is_match(path)}
        misses = sorted(path for path in names.others if is_match(path))
        if misses:
            kind = names.others[misses[0]]
            raise TargetError(
                f"target_modules: {pattern!r} matches {misses[0]!r}, a {kind}, which cannot be adapted; "
                f"name floating-point linear layers: {_nearest(pattern, names.adaptable)}"
            )
        if not hits:
            raise TargetError(
                f"target_modules: {pattern!r} matches no module; nearest: {_nearest(pattern, names.adaptable)}"
            )
        selected |= hits
    return [path for path in names.adaptable if path in selected]


def _excluded(names: ModuleNames, exclude: str | tuple[str, ...] | None) -> set[str]:
    excluded: set[str] = set()
    for pattern in (exclude,) if isinstance(exclude, str) else exclude or ():
        is_match = _matcher(pattern, is_regex=isinstance(exclude, str))
        hits = {path for path in names.adaptable if is_match(path)}
        if not hits:
            raise TargetError(
                f"exclude_modules: {pattern!r} matches no layer; to exclude all layers of a part write a "
                f"regular expression such as '.*{re.escape(pattern)}.*'; "
                f"nearest: {_nearest(pattern, names.adaptable)}"
            )
        excluded |= hits
    return excluded


def _in_layers(paths: list[str], config: LoraConfig) -> list[str]:
    if config.layers_to_transform is None:
        return paths
    chosen = config.layers_to_transform
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


def _by_pattern(field: str, values: Mapping[str, float], paths: Collection[str]) -> dict[str, float]:
    """Return path to value, each pattern used, no path claimed with two values.

    PEFT lets the first of several matching keys win, but writes the keys sorted, so a reload may pick another.
    """
    chosen: dict[str, tuple[str, float]] = {}
    for pattern, value in values.items():
        is_match = re.compile(rf"(.*\.)?({pattern})$").match
        hits = [path for path in paths if is_match(path)]
        if not hits:
            raise TargetError(
                f"{field}: {pattern!r} matches no adapted layer; nearest: {_nearest(pattern, paths)}"
            )
        for path in hits:
            other, previous = chosen.setdefault(path, (pattern, value))
            if previous != value:
                raise TargetError(
                    f"{field}: {other!r} and {pattern!r} give {path!r} two values, {previous} and {value}; "
                    "write patterns that do not overlap"
                )
    return {path: value for path, (_, value) in chosen.items()}


def _matcher(pattern: str, *, is_regex: bool) -> Callable[[str], object]:
    expression = pattern if is_regex else rf"(?:.*\.)?{re.escape(pattern)}"
    return re.compile(expression).fullmatch


def _is_all_linear(wanted: str | tuple[str, ...]) -> bool:
    return isinstance(wanted, str) and wanted.lower() == ALL_LINEAR


def _nearest(pattern: str, paths: Collection[str]) -> str:
    """Name the paths whose suffix of the same length is most like the pattern."""
    depth = pattern.count(".") + 1
    suffixes = sorted({".".join(path.split(".")[-depth:]) for path in paths})
    close = difflib.get_close_matches(pattern, suffixes, n=_NAMES_SHOWN, cutoff=0.4)
    return ", ".join(map(repr, close or suffixes)) or "none; the model has no layer that can be adapted"
