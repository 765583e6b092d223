"""Carry out a plan: put an adapter's layers, module copies, rows, shared tensors and biases on a model.

Nothing is read from the base weights that are on the meta device, and nothing is written to them: what stands beside
such a weight has its shape and no memory, until a state dict is assigned.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from stack_platform.adapters.inject import AdapterTensors, Placement, Slot, base_of, inject
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.adapters.plan import PREFIX, Plan, bias_key
from stack_platform.adapters.saved import SavedModule, Shared, TokenAdapter
from stack_platform.adapters.saving.embeddings import load_embeddings

if TYPE_CHECKING:
    from stack_platform.adapters.lifecycle import AdaptedModel


def carry_out(
    owner: "AdaptedModel",
    name: str,
    found: Plan,
    tensors: AdapterTensors | None,
    rest: Mapping[str, Tensor],
    placement: Placement,
) -> dict[str, AdaptedLayer]:
    """Put an adapter on the model of `owner`, frozen, and return its layers by key.

    `tensors` and `rest` are the tensors of a file, by slot and by key; without them the adapter starts anew.
    """
    shared = _share(owner, name, found, rest)
    for path in found.embeddings:  # a file may bring the embedding it was trained with
        if (weight := rest.get(f"{PREFIX}{path}.base_layer.weight")) is not None:
            base_of(owner.model.get_submodule(path)).weight.data.copy_(weight)
    load_embeddings(owner.model, found, rest)
    added = inject(owner.model, name, found.slots, owner.switch, tensors, placement, shared=shared)
    added |= _add_tokens(owner, name, found, tensors, placement)
    for path in found.saved:
        owner.saved[path] = _save_module(owner, name, path, rest)
    for path in found.biases:
        if (bias := rest.get(bias_key(path, found))) is not None:
            bias_of(owner.model, path).data.copy_(bias)
    return added


def bias_of(model: nn.Module, path: str) -> Tensor:
    """Return a bias of the base, found again behind what was put around its module."""
    module, _, name = path.rpartition(".")
    bias: Tensor = getattr(base_of(model.get_submodule(module)), name)
    return bias


def put_at(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path."""
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _add_tokens(
    owner: "AdaptedModel", name: str, found: Plan, tensors: AdapterTensors | None, placement: Placement
) -> dict[str, AdaptedLayer]:
    model = owner.model
    for slot in (*found.tokens, *found.tied):
        if slot.key.endswith(".token_adapter"):
            path = slot.key.removesuffix(".token_adapter")
            if not isinstance(model.get_submodule(path), TokenAdapter):
                put_at(model, path, TokenAdapter(model.get_submodule(path)))
    slots = tuple(replace(slot, parent=slot.key) for slot in found.tokens)
    added = inject(model, name, slots, owner.switch, tensors, placement)
    for slot in found.tied:
        first = model.get_submodule((found.tokens or found.slots)[0].key)
        assert isinstance(first, AdaptedLayer)
        added[slot.key] = _tie(owner, name, slot, first)
    return added


def _tie(owner: "AdaptedModel", name: str, slot: Slot, first: AdaptedLayer) -> AdaptedLayer:
    """Let a tied layer use the rows that the first one trains."""
    layer = owner.model.get_submodule(slot.key)
    if not isinstance(layer, AdaptedLayer):
        layer = AdaptedLayer(layer, slot.kind, owner.switch).train(layer.training)
        put_at(owner.model, slot.key, layer)
    layer.add(name, slot.adapter, first.tensors(name))
    return layer


def _save_module(owner: "AdaptedModel", name: str, path: str, rest: Mapping[str, Tensor]) -> SavedModule:
    module = owner.model.get_submodule(path)
    if not isinstance(module, SavedModule):
        module = SavedModule(module, owner.switch).train(module.training)
        put_at(owner.model, path, module)
    module.add(name)
    copy = module.modules_to_save[name].requires_grad_(requires_grad=False)
    prefix = f"{PREFIX}{path}."
    state = {key.removeprefix(prefix): tensor for key, tensor in rest.items() if key.startswith(prefix)}
    if state and not any(parameter.is_meta for parameter in copy.parameters()):
        copy.load_state_dict(state)
    return module


def _share(owner: "AdaptedModel", name: str, found: Plan, rest: Mapping[str, Tensor]) -> dict[str, nn.Module]:
    holders: dict[str, nn.Module] = {}
    if not found.shared:
        return holders
    like = next(iter(owner.model.parameters()))
    persistent: bool = found.config.save_projection  # type: ignore[attr-defined]
    for key, drawn in found.shared.items():
        holder = owner._modules.get(key)  # noqa: SLF001
        if not isinstance(holder, Shared):
            holder = Shared()
            owner.add_module(key, holder)
        tensor = rest.get(f"base_model.{key}", drawn)
        stays = like.is_meta and not persistent  # no state dict would bring it
        holder.add(name, tensor if stays else tensor.to(like.device), persistent=persistent)
        holders[key] = holder
    return holders
