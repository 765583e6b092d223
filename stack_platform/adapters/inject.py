"""Walk a model once and put adapters on the layers a configuration names.

All checks come before the first change: when `resolve` or `shapes_of` raises, the model is as it was.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.fields import PeftConfig
from stack_platform.adapters.configs.lora import moves_base
from stack_platform.adapters.configs.vectors import IA3Config
from stack_platform.adapters.defaults import feedforward_outputs
from stack_platform.adapters.kinds import ATTENTION, UNCALLED_LINEAR, Kind, kind_of, parameter_kind
from stack_platform.adapters.layer import AdaptedLayer, Switch
from stack_platform.adapters.saved import SavedModule, TokenAdapter
from stack_platform.adapters.storage.weights import compute_dtype, is_adaptable, is_fan_in_fan_out
from stack_platform.adapters.targets import ModuleNames, Target, find_targets, resolve_targets
from stack_platform.adapters.variants.table import METHODS, VARIANTS, adapter_of, variant_of
from stack_platform.adapters.variants.variant import Adapter, Shapes, Site, Start
from stack_platform.errors import AdapterError

AdapterTensors = Mapping[str, Mapping[str, Tensor]]
"""Module path to tensor name to tensor."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How the tensors of a new adapter are kept; beside a base weight on the meta device they always are there."""

    full_precision: bool = True
    """In at least fp32, or in the format of the base weight."""
    on_meta: bool = False
    """Without memory and values, where no file gives them; they are assigned later."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One adapter on one layer, before it is made."""

    key: str
    """Path of the adapted layer once all of them are there, as files have it."""
    module: nn.Module
    """The base layer."""
    kind: Kind
    """What it computes."""
    adapter: Adapter
    """What will be put on it."""
    shapes: Shapes
    """The shape of each tensor by name."""
    parent: str
    """Path of the module to wrap, in the model as it is now."""


def module_names(model: nn.Module, config: PeftConfig | None = None) -> ModuleNames:
    """List the layers of a model that a method can change, adapted ones included, and its other modules."""
    kinds = _kinds(config)
    adaptable: list[str] = []
    linear, narrowing, ungrouped, parameters = set(), set(), set(), []
    others: dict[str, str] = {}
    head_base, embedding_base = base_of(_output_head(model)), base_of(_input_embedding(model))
    head = embedding = None
    for path, module in _walk(model):
        base = base_of(module)
        head = path if base is head_base else head
        embedding = path if base is embedding_base else embedding
        kind = kind_of(base)
        if kind is not None and kind.name in kinds and is_adaptable(base):
            adaptable.append(path)
            if kind.name == "linear":
                linear.add(path)
                out, inputs = kind.shape(base)
                narrowing |= {path} if out < inputs else set()
            elif kind.name.startswith("conv") and base.groups == 1:
                ungrouped.add(path)
        elif path:
            others[path] = type(base).__name__
        own = base._parameters.items()  # noqa: SLF001
        parameters += [f"{path}.{name}" for name, p in own if p is not None and p.dim() > 1]
    return ModuleNames(
        tuple(adaptable),
        others,
        frozenset(linear),
        head,
        embedding,
        frozenset(narrowing),
        frozenset(ungrouped),
        tuple(parameters),
    )


def resolve(
    model: nn.Module, config: PeftConfig, names: ModuleNames | None = None
) -> tuple[PeftConfig, tuple[Slot, ...]]:
    """Return the configuration as it will be saved, and what it puts where; `names` are the model's, where known.

    Raises: AdapterError when a pattern matches nothing or a method does not fit a layer.
    """
    names = names or module_names(model, config)
    targets = find_targets(names, config)
    changes: dict[str, Any] = {"target_modules": resolve_targets(names, config)}
    if isinstance(config, IA3Config) and config.target_modules is None and config.feedforward_modules is None:
        changes["feedforward_modules"] = feedforward_outputs(names.adaptable, names.narrowing) or None
    if hasattr(config, "fan_in_fan_out"):
        modules = _Modules(model)
        kinds = [kind_of(base_of(modules[target.path])) for target in targets]
        different = {id(kind): kind for kind in kinds}.values()
        changes["fan_in_fan_out"] = bool(different) and all(is_fan_in_fan_out(kind) for kind in different)
    resolved = replace(config, **changes)
    return resolved, tuple(slots_of(model, resolved, targets))


def slots_of(model: nn.Module, config: PeftConfig, targets: tuple[Target, ...]) -> Iterator[Slot]:
    """Return what a configuration puts where; attention gets one slot more, for its output projection."""
    modules = _Modules(model)
    whole = {target.path for target in targets if not target.parameter}
    count: dict[str, int] = {}
    for target in targets:
        if target.parameter:
            count[target.path] = count.get(target.path, 0) + 1
    for target in targets:
        if not target.path:  # what stands around it would contain itself
            raise AdapterError(
                f"{target.parameter or 'the layer'} belongs to the model itself, which no layer can be put around; put "
                "the model into an nn.Module of its own first"
            )
        module = modules[target.path]
        base = base_of(module)
        adapter = adapter_of(config, target.path, target.r, target.alpha)
        if target.parameter:
            if target.path in whole or (isinstance(module, AdaptedLayer) and module.kind.called):
                raise AdapterError(
                    f"target_parameters: {target.path}.{target.parameter} belongs to a layer that is adapted itself; "
                    "leave it out of target_modules"
                )
            count[target.path] -= 1
            key = target.path + ".base_layer" * count[target.path]
            yield _slot(key, target.path, base, parameter_kind(base, target.parameter), adapter)
            continue
        kind = kind_of(base)
        assert kind is not None
        if kind is ATTENTION:
            projection = base_of(base.out_proj)
            inner = "base_layer.out_proj" if isinstance(module, AdaptedLayer) else "out_proj"
            yield _slot(
                f"{target.path}.base_layer.out_proj",
                f"{target.path}.{inner}",
                projection,
                UNCALLED_LINEAR,
                adapter,
            )
        yield _slot(target.path, target.path, base, kind, adapter)


def inject(
    model: nn.Module,
    name: str,
    slots: tuple[Slot, ...],
    switch: Switch,
    tensors: AdapterTensors | None = None,
    placement: Placement = Placement(),
    *,
    shared: Mapping[str, nn.Module] | None = None,
) -> dict[str, AdaptedLayer]:
    """Put the adapter `name` on its layers, frozen, and return these by key.

    The tensors are those given (read from a file) or drawn by the configuration's initialization from torch's
    default generator.
    """
    injected: dict[str, AdaptedLayer] = {}
    modules = _Modules(model)
    with _uncollected():
        for slot in slots:
            layer = _adapted(modules, slot, switch)
            site = Site(slot.adapter, layer.base_layer if slot.kind.called else slot.module, slot.kind)
            given = None if tensors is None else tensors[slot.key]
            first, residual = _first(slot, site, given, placement)
            if residual is not None:
                layer.keep_residual(name, residual)
            frozen = {key: nn.Parameter(t, requires_grad=False) for key, t in first.items()}
            layer.add(name, slot.adapter, frozen, shared)
            injected[slot.key] = layer
    return injected


def restore(model: nn.Module, layers: Mapping[str, AdaptedLayer]) -> None:
    """Put the base layers back in the place of adapted ones, the innermost first."""
    for path in sorted(layers, key=lambda p: -p.count(".")):
        layer = layers[path]
        parent_path, _, child = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        if isinstance(parent, TokenAdapter):
            grandparent, _, child = parent_path.rpartition(".")
            setattr(model.get_submodule(grandparent), child, layer.base_layer)
        else:
            setattr(parent, child, layer.base_layer)


def base_of(module: nn.Module | None) -> Any:
    """Return the module without what adapters put around it."""
    while isinstance(module, AdaptedLayer | SavedModule | TokenAdapter):
        module = (
            module.original_module if isinstance(module, SavedModule | TokenAdapter) else module.base_layer
        )
    return module


def _slot(key: str, parent: str, base: nn.Module, kind: Kind, adapter: Adapter) -> Slot:
    variant = variant_of(adapter)
    if kind.name not in variant.kinds:
        raise AdapterError(
            f"{adapter.variant} cannot change {key!r}, a {type(base).__name__}; it can change: "
            f"{', '.join(sorted(variant.kinds))}"
        )
    return Slot(key, base, kind, adapter, variant.shapes(Site(adapter, base, kind)), parent)


def _first(
    slot: Slot, site: Site, given: Mapping[str, Tensor] | None, placement: Placement
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return an adapter's first tensors, and the weight that its start leaves to the base."""
    weight = getattr(slot.module, slot.kind.parameter)
    dtype = own = compute_dtype(slot.module, slot.kind)
    if placement.full_precision:
        dtype = torch.promote_types(own, torch.float32)
    empty = weight.is_meta or (placement.on_meta and given is None)
    start = Start({})
    if moves_base(slot.adapter.config) or (given is None and not empty):
        start = variant_of(slot.adapter).initial(site, slot.shapes)
    if empty:
        tensors = {key: torch.empty(shape, dtype=dtype, device="meta") for key, shape in slot.shapes.items()}
    elif given is None:
        tensors = {key: t.detach().to(weight.device, dtype).contiguous() for key, t in start.tensors.items()}
    else:
        tensors = {
            key: t.detach().to(weight.device, dtype, copy=True).contiguous() for key, t in given.items()
        }
    return tensors, start.weight


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold Python's garbage collector: thousands of modules are made inside, and none of them is garbage."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Modules:
    """The modules of a model by path; each parent is looked up once for all of its children."""

    def __init__(self, model: nn.Module) -> None:
        self._found: dict[str, Any] = {"": model}

    def __getitem__(self, path: str) -> Any:
        found = self._found.get(path)
        if found is None:
            parent, _, child = path.rpartition(".")
            found = self._found[path] = getattr(self[parent], child)
        return found

    def __setitem__(self, path: str, module: nn.Module) -> None:
        parent, _, child = path.rpartition(".")
        setattr(self[parent], child, module)
        self._found[path] = module


def _adapted(modules: _Modules, slot: Slot, switch: Switch) -> AdaptedLayer:
    """Return the layer around a slot's module, a new one where there is none yet."""
    module = found = modules[slot.parent]
    while isinstance(found, AdaptedLayer):
        if found.kind.parameter == slot.kind.parameter:
            return found
        found = found.base_layer
    if isinstance(module, SavedModule | TokenAdapter):
        raise AdapterError(
            f"{slot.parent!r} trains in full already; leave it out of modules_to_save or token indices"
        )
    adapted = AdaptedLayer(module, slot.kind, switch)
    adapted.training = module.training
    modules[slot.parent] = adapted
    return adapted


def _walk(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Return the modules of a model as if nothing were adapted, adapted ones in the place of their base."""
    seen: set[nn.Module] = set()
    ahead = [("", model)]
    while ahead:
        path, module = ahead.pop()
        if module in seen:
            continue
        seen.add(module)
        yield path, module
        adapted = isinstance(module, AdaptedLayer)
        if isinstance(module, SavedModule | TokenAdapter):
            continue
        if isinstance(module, AdaptedLayer) and module.kind.called:
            continue
        prefix = f"{path}." if path else ""
        for name, child in reversed(module._modules.items()):  # noqa: SLF001
            if child is not None and (name == "base_layer" or not adapted):
                ahead.append((prefix + name, child))


def _kinds(config: PeftConfig | None) -> frozenset[str]:
    if config is None or str(config.peft_type) not in METHODS:
        return frozenset({"linear"})
    if str(config.peft_type) == "LORA" and getattr(config, "use_dora", False):
        return VARIANTS["dora"].kinds
    name = {"ADALORA": "adalora", "IA3": "ia3_outputs", "TRAINABLE_TOKENS": "tokens"}.get(
        str(config.peft_type)
    )
    return VARIANTS[name or str(config.peft_type).lower()].kinds


def _output_head(model: nn.Module) -> nn.Module | None:
    find = getattr(model, "get_output_embeddings", None)
    head: nn.Module | None = find() if callable(find) else None
    return head


def _input_embedding(model: nn.Module) -> nn.Module | None:
    find = getattr(model, "get_input_embeddings", None)
    if not callable(find):
        return None
    try:
        embedding: nn.Module | None = find()
    except NotImplementedError:
        return None
    return embedding
