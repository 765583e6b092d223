"""Walk a model once and put adapters on the layers a configuration names.

All checks come before the first change: when `inject` raises, the model is as it was.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from stack_platform.adapters.config import LoraConfig
from stack_platform.adapters.initial import INITIALS
from stack_platform.adapters.layer import AdaptedLayer, Adapter
from stack_platform.adapters.targets import ModuleNames, Target, find_targets, resolve_targets
from stack_platform.adapters.weights import is_adaptable, is_fan_in_fan_out, weight_of
from stack_platform.errors import AdapterError

AdapterTensors = Mapping[str, Mapping[str, Tensor]]
"""Module path to tensor name to tensor."""


def module_names(model: nn.Module) -> ModuleNames:
    """List the layers of a model that an adapter can change, adapted ones included, and its other modules."""
    adaptable: list[str] = []
    others: dict[str, str] = {}
    inside: str | None = None
    head_module = _output_head(model)
    head: str | None = None
    for path, module in model.named_modules():
        if module is head_module:
            head = path
        if inside is not None and path.startswith(inside):
            continue
        if isinstance(module, AdaptedLayer):
            inside = f"{path}."
            adaptable.append(path)
        elif is_adaptable(module):
            adaptable.append(path)
        elif path:
            others[path] = type(module).__name__
    return ModuleNames(tuple(adaptable), others, head)


def resolve(model: nn.Module, config: LoraConfig) -> tuple[LoraConfig, tuple[Target, ...]]:
    """Return the configuration as it will be saved, and the layers it names.

    Raises: AdapterError when a pattern matches nothing or the initialization is unknown.
    """
    if config.init_lora_weights not in INITIALS:
        known = ", ".join(repr(name) for name in INITIALS)
        raise AdapterError(f"init_lora_weights={config.init_lora_weights!r} is not known; known: {known}")
    names = module_names(model)
    targets = find_targets(names, config)
    layers = [_base(model.get_submodule(target.path)) for target in targets]
    resolved = replace(
        config,
        target_modules=resolve_targets(names, config),
        fan_in_fan_out=all(is_fan_in_fan_out(layer) for layer in layers),
    )
    return resolved, targets


def adapter_shapes(
    model: nn.Module, config: LoraConfig, targets: tuple[Target, ...]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shape of every tensor of an adapter: module path to tensor name to shape."""
    shapes = {}
    for target in targets:
        out_features, in_features = weight_of(_base(model.get_submodule(target.path))).shape
        rule = _adapter(target, config).rule
        shapes[target.path] = rule.shapes(out_features, in_features, target.r)
    return shapes


def inject(
    model: nn.Module,
    config: LoraConfig,
    name: str,
    targets: tuple[Target, ...],
    tensors: AdapterTensors | None = None,
    *,
    full_precision: bool = True,
) -> dict[str, AdaptedLayer]:
    """Put the adapter `name` on the target layers and return these by path; it is not active yet.

    The tensors are those given (read from a file) or drawn by the configuration's initialization from torch's
    default generator. They are kept in at least fp32, or in the base weight's dtype without `full_precision`.
    """
    initial = INITIALS[config.init_lora_weights]
    shapes = adapter_shapes(model, config, targets)
    injected: dict[str, AdaptedLayer] = {}
    for target in targets:
        layer = model.get_submodule(target.path)
        weight_OI = weight_of(_base(layer))
        first = tensors[target.path] if tensors else initial(weight_OI, shapes[target.path], None)
        dtype = torch.promote_types(weight_OI.dtype, torch.float32) if full_precision else weight_OI.dtype
        own = {key: t.detach().to(weight_OI.device, dtype, copy=True) for key, t in first.items()}
        if not isinstance(layer, AdaptedLayer):
            layer = _wrap(model, target.path, layer)
        layer.add(name, _adapter(target, config), own)
        injected[target.path] = layer
    return injected


def restore(model: nn.Module, path: str, layer: AdaptedLayer) -> None:
    """Put the base layer back in the place of its adapted layer."""
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, layer.base_layer)


def _wrap(model: nn.Module, path: str, layer: nn.Module) -> AdaptedLayer:
    parent, _, child = path.rpartition(".")
    adapted = AdaptedLayer(layer).train(layer.training)
    setattr(model.get_submodule(parent), child, adapted)
    return adapted


def _adapter(target: Target, config: LoraConfig) -> Adapter:
    variant = "rslora" if config.use_rslora else "lora"
    return Adapter(target.r, target.alpha, config.lora_dropout, variant)


def _base(layer: nn.Module) -> nn.Module:
    return layer.base_layer if isinstance(layer, AdaptedLayer) else layer


def _output_head(model: nn.Module) -> nn.Module | None:
    find = getattr(model, "get_output_embeddings", None)
    head: nn.Module | None = find() if callable(find) else None
    return head
