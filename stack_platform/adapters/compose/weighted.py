"""Combine adapters of one model into a plan for a new one, which is then injected like any other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.compose.combine import Combination, combine_adapters, combine_vectors
from stack_platform.adapters.compose.low_rank import LowRank
from stack_platform.adapters.compose.settings import check_combinable, combined_config
from stack_platform.adapters.configs.fields import PeftConfig
from stack_platform.adapters.configs.vectors import IA3Config
from stack_platform.adapters.plan import Plan, plan
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.layer import AdaptedLayer

Tensors = dict[str, dict[str, Tensor]]
"""Path of a layer to name to tensor."""


@torch.no_grad()
def weighted_adapter(
    model: nn.Module,
    layers: Mapping[str, "AdaptedLayer"],
    configs: Mapping[str, PeftConfig],
    weights: Sequence[float],
    combination: Combination,
    generator: torch.Generator,
) -> tuple[Plan, Tensors]:
    """Combine the adapters that `configs` names, with one weight each; IA3 adapters by their weighted sum.

    Raises: AdapterError when they cannot be combined so; nothing is changed.
    """
    if configs and all(isinstance(config, IA3Config) for config in configs.values()):
        return _weighted_vectors(model, layers, configs, weights)  # type: ignore[arg-type]
    check_combinable(configs)
    parts = {name: _parts(layers, name) for name in configs}
    combined = combine_adapters(parts, weights, combination, generator)
    config = combined_config(configs, combined)  # type: ignore[arg-type]
    return plan(model, config), {path: _named(layers[path], part) for path, part in combined.items()}


def combination_of(combination_type: str, settings: Mapping[str, Any]) -> Combination:
    """Return a combination from PEFT's argument names.

    Raises: AdapterError for a name or value that nobody knows.
    """
    try:
        return Combination(combination_type, **settings)
    except TypeError as error:
        known = ", ".join(Combination.__dataclass_fields__)
        raise AdapterError(f"add_weighted_adapter: {', '.join(settings)}: {error}; known: {known}") from error


def chosen_configs(adapters: Iterable[str], known: Mapping[str, PeftConfig]) -> dict[str, PeftConfig]:
    """Return the configurations of adapters by name.

    Raises: AdapterError for one that is not there, or twice.
    """
    names = list(adapters)
    for name in names:
        if name not in known:
            raise AdapterError(f"no adapter {name!r}; there are: {', '.join(known) or 'none'}")
        if names.count(name) > 1:
            raise AdapterError(f"adapter {name!r} is named twice; name it once, with the sum of its weights")
    return {name: known[name] for name in names}


def _parts(layers: Mapping[str, "AdaptedLayer"], name: str) -> dict[str, LowRank]:
    parts = {}
    for path, layer in layers.items():
        if name in layer.adapters:
            tensors, prefix = layer.tensors(name), _prefix(layer)
            factors = tensors[f"{prefix}A"], tensors[f"{prefix}B"]
            parts[path] = LowRank(*factors, layer.adapters[name].scaling, tensors.get("lora_bias"))
    return parts


def _named(layer: "AdaptedLayer", part: LowRank) -> dict[str, Tensor]:
    prefix = _prefix(layer)
    named = {f"{prefix}A": part.A, f"{prefix}B": part.B}
    return named if part.bias is None else named | {"lora_bias": part.bias}


def _prefix(layer: "AdaptedLayer") -> str:
    return "lora_embedding_" if layer.kind.name == "embedding" else "lora_"


def _weighted_vectors(
    model: nn.Module,
    layers: Mapping[str, "AdaptedLayer"],
    configs: Mapping[str, IA3Config],
    weights: Sequence[float],
) -> tuple[Plan, Tensors]:
    vectors = {
        name: {path: layer.tensors(name)["ia3_l"] for path, layer in layers.items() if name in layer.adapters}
        for name in configs
    }
    combined = combine_vectors(vectors, weights)
    first, *others = configs.values()
    fields = ("target_modules", "feedforward_modules", "exclude_modules", "modules_to_save")
    if any(getattr(first, name) != getattr(other, name) for other in others for name in fields):
        raise AdapterError("the IA3 adapters have other targets; combine adapters of the same modules")
    config = replace(first, modules_to_save=None)
    return plan(model, config), {path: {"ia3_l": vector} for path, vector in combined.items()}
