"""What an adapter would do to a model, worked out and checked before anything is changed.

A plan names the layers and their tensors, the modules and rows that train in full, the tensors that layers share, and
the biases that train along; so it knows every key and shape of the adapter's file.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.fields import PeftConfig, TaskType
from stack_platform.adapters.configs.vectors import TrainableTokensConfig
from stack_platform.adapters.defaults import TargetError
from stack_platform.adapters.inject import Slot, base_of, module_names, resolve, slots_of
from stack_platform.adapters.targets import ModuleNames, Target, matching, nearest
from stack_platform.adapters.variants.table import variant_of
from stack_platform.errors import AdapterError

PREFIX = "base_model.model."
HEADS = {
    TaskType.SEQ_CLS: ("classifier", "score"),
    TaskType.TOKEN_CLS: ("classifier", "score"),
    TaskType.QUESTION_ANS: ("qa_outputs",),
}
"""Heads that these tasks train in full, by the names that models give them."""
_EMBEDDINGS = ("embed_tokens", "lm_head")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that an adapter puts on a model."""

    config: PeftConfig
    """The configuration as it will be saved."""
    slots: tuple[Slot, ...] = ()
    """Layers to adapt."""
    saved: tuple[str, ...] = ()
    """Paths of modules to train in full."""
    tokens: tuple[Slot, ...] = ()
    """Embeddings of which some rows train beside the adapted layers."""
    tied: tuple[Slot, ...] = ()
    """Layers tied to the first of those, which use the same rows."""
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    """Frozen tensors of all layers by name."""
    biases: tuple[str, ...] = ()
    """Paths of biases of the base that train along, in the model as it is now."""
    embeddings: tuple[str, ...] = ()
    """Paths of adapted embeddings, whose weight PEFT saves too."""


def plan(model: nn.Module, config: PeftConfig) -> Plan:
    """Return what a configuration would do to a model.

    Raises: AdapterError when a pattern matches nothing, or a method does not fit a layer; the model is unchanged.
    """
    config = _with_heads(config)
    names = module_names(model, config)
    resolved, slots = resolve(model, config, names)
    saved = _saved(names, resolved)
    tokens, tied = _tokens(model, names, resolved)
    _check_tying(model, names, resolved, [*saved, *(slot.key for slot in slots)])
    for slot in tokens:
        if (path := slot.key.removesuffix(".token_adapter")) in saved:
            raise AdapterError(
                f"{path!r} is in modules_to_save and in trainable_token_indices; name it in one of both"
            )
    shared: dict[str, Tensor] = {}
    if slots and (make := variant_of(slots[0].adapter).shared) is not None:
        shared = make(resolved, [slot.kind.shape(slot.module) for slot in slots])
    if str(config.peft_type) == "TRAINABLE_TOKENS":
        tied = _tied(model, names, slots[0])
        slots = tuple(slot for slot in slots if slot.module not in [t.module for t in tied])
    return Plan(
        resolved,
        slots,
        saved,
        tokens,
        tied,
        shared,
        _biases(model, resolved, slots),
        _embeddings(resolved, slots),
    )


def saved_only(model: nn.Module, config: PeftConfig) -> Plan:
    """Return the plan of a method that changes no layer: modules to train in full, and nothing else."""
    config = _with_heads(config)
    return Plan(config, saved=_saved(module_names(model), config))


def file_shapes(model: nn.Module, found: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the adapter's file by key."""
    shapes: dict[str, tuple[int, ...]] = {}
    for slot in (*found.slots, *found.tokens, *doubled(found)):
        variant = variant_of(slot.adapter)
        shapes |= {f"{PREFIX}{slot.key}.{variant.key(name)}": shape for name, shape in slot.shapes.items()}
    for path in found.saved:
        state = base_of(model.get_submodule(path)).state_dict()
        shapes |= {f"{PREFIX}{path}.{key}": tuple(tensor.shape) for key, tensor in state.items()}
    if getattr(found.config, "save_projection", True):
        shapes |= {f"base_model.{name}": tuple(tensor.shape) for name, tensor in found.shared.items()}
    for path in found.biases:
        shapes[bias_key(path, found)] = tuple(model.get_parameter(path).shape)
    return shapes


def doubled(found: Plan) -> tuple[Slot, ...]:
    """Return the tied layers whose rows PEFT writes a second time: those of trainable tokens as a method of its own."""
    return tuple(slot for slot in found.tied if not slot.key.endswith(".token_adapter"))


def bias_key(path: str, found: Plan) -> str:
    """Return the key of a base bias in the file: adapted layers have it one module deeper."""
    module, _, name = path.rpartition(".")
    deeper = any(slot.key == module and ".base_layer" not in path for slot in found.slots)
    return f"{PREFIX}{module}.{'base_layer.' if deeper else ''}{name}"


def sorted_tensors(
    found: Plan, flat: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return a file's tensors by slot and name, and the rest by key."""
    rest = dict(flat)
    named: dict[str, dict[str, Tensor]] = {}
    for slot in (*found.slots, *found.tokens, *doubled(found)):
        variant = variant_of(slot.adapter)
        named[slot.key] = {name: rest.pop(f"{PREFIX}{slot.key}.{variant.key(name)}") for name in slot.shapes}
    return named, rest


def _with_heads(config: PeftConfig) -> PeftConfig:
    heads = HEADS.get(config.task_type) if config.task_type else None
    if heads is None or not hasattr(config, "modules_to_save"):
        return config
    given = config.modules_to_save or ()
    return replace(config, modules_to_save=(*given, *(head for head in heads if head not in given)))  # type: ignore[call-arg]


def _saved(names: ModuleNames, config: Any) -> tuple[str, ...]:
    wanted = getattr(config, "modules_to_save", None) or ()
    paths = [*names.adaptable, *names.others]
    heads = HEADS.get(config.task_type, ()) if config.task_type else ()
    known = [name for name in wanted if name not in heads or any(_ends(path, name) for path in paths)]
    if heads and not any(name in heads for name in known):
        raise TargetError(
            f"task_type={config.task_type.value!r} trains a head called {' or '.join(heads)}, which the model lacks; "
            f"nearest: {nearest(heads[0], paths)}"
        )
    found = matching("modules_to_save", known, paths)
    targets = getattr(config, "target_modules", None)
    adapted = targets if isinstance(targets, tuple) else ()
    for path, name in found.items():
        if any(_ends(path, target) for target in adapted):
            raise AdapterError(
                f"{name!r} is in target_modules and in modules_to_save; name it in one of both"
            )
    return tuple(found)


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _tokens(model: nn.Module, names: ModuleNames, config: Any) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
    wanted = getattr(config, "trainable_token_indices", None)
    if wanted is None:
        return (), ()
    if not isinstance(wanted, Mapping):
        if names.embedding is None:
            raise TargetError(
                "trainable_token_indices: the model names no input embedding; write {name: indices}"
            )
        wanted = {names.embedding: wanted}
    slots: list[Slot] = []
    paths = [*names.adaptable, *names.others]
    for name, rows in wanted.items():
        settings = TrainableTokensConfig(token_indices=rows)
        for path in matching("trainable_token_indices", [name], paths):
            slots += slots_of(model, settings, (Target(path, 0, 1),))
    found = [replace(slot, key=f"{slot.key}.token_adapter") for slot in slots]
    tied = _tied(model, names, found[0])
    twice = [slot for slot in found[1:] if slot.module in [t.module for t in tied]]
    if any(slot.adapter.config.token_indices != found[0].adapter.config.token_indices for slot in twice):
        if config.ensure_weight_tying:
            raise AdapterError(
                f"ensure_weight_tying=True, but trainable_token_indices names other rows for {twice[0].parent!r} "
                f"than for {found[0].parent!r}; name the same"
            )
        return tuple(found), ()  # rows of their own: the two are no longer tied
    return tuple(slot for slot in found if slot not in twice), tied


def _check_tying(model: nn.Module, names: ModuleNames, config: Any, covered: Sequence[str]) -> None:
    """Refuse what `ensure_weight_tying` asks for where this release does not do it."""
    if not getattr(config, "ensure_weight_tying", False):
        return
    embedding, head = (
        None if path is None else base_of(model.get_submodule(path)) for path in (names.embedding, names.head)
    )
    if head is None or getattr(head, "weight", None) is not getattr(embedding, "weight", None):
        warnings.warn(
            "ensure_weight_tying=True, but the model does not tie its weights; it changes nothing",
            stacklevel=2,
        )
    elif path := next((path for path in (names.embedding, names.head) if path in covered), None):
        raise AdapterError(
            f"ensure_weight_tying=True keeps rows of trainable_token_indices tied, not all of {path!r}; leave it out: "
            "embedding and head then train apart"
        )


def _tied(model: nn.Module, names: ModuleNames, first: Slot) -> tuple[Slot, ...]:
    """Return the output head as a slot, where it is tied to the first slot's embedding."""
    head = None if names.head is None else base_of(model.get_submodule(names.head))
    if (
        head is None
        or head is first.module
        or getattr(head, "weight", None) is not getattr(first.module, "weight", 0)
    ):
        return ()
    (slot,) = slots_of(model, first.adapter.config, (Target(str(names.head), 0, 1),))
    return (
        replace(slot, key=f"{slot.key}.token_adapter" if first.key.endswith(".token_adapter") else slot.key),
    )


def _biases(model: nn.Module, config: Any, slots: tuple[Slot, ...]) -> tuple[str, ...]:
    wanted = getattr(config, "bias", "none")
    if wanted == "none":
        return ()
    if wanted == "all":
        found = [
            name for name, _ in model.named_parameters() if name.endswith(".bias") and ".lora_B." not in name
        ]
    else:
        owners = {id(slot.module) for slot in slots}
        modules = [(path, module) for path, module in model.named_modules() if id(module) in owners]
        found = [
            f"{path}.bias"
            for path, module in modules
            if isinstance(getattr(module, "bias", None), torch.Tensor)
        ]
    if not found:
        raise AdapterError(f"bias={wanted!r}, but no layer it names has a bias; leave it out")
    return tuple(found)


def _embeddings(config: Any, slots: tuple[Slot, ...]) -> tuple[str, ...]:
    if (
        str(config.peft_type) == "TRAINABLE_TOKENS"
        or getattr(config, "trainable_token_indices", None) is not None
    ):
        return ()
    return tuple(slot.key for slot in slots if slot.key.rpartition(".")[2] in _EMBEDDINGS)
