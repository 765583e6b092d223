"""Put another adapter's values into the tensors of one that is there: a compiled model need not be compiled again.

Shapes and scalings of the layers stay what they are: a smaller rank is padded with zeros, and the ratio of the two
scalings goes into B. So nothing that a compiled graph guards changes. What is saved afterwards is the same update in
the old adapter's rank and alpha.
"""

import math
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from stack_platform.adapters.configs.lora import LoraConfig
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.adapters.prepare import prepare
from stack_platform.adapters.saving.files import read_config
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.model import PeftModel

_SAME = ("use_dora", "lora_bias", "bias", "modules_to_save", "target_parameters", "trainable_token_indices")


def hotswap_adapter(
    model: "PeftModel", model_name_or_path: str | Path, adapter_name: str = "default", **hub: Any
) -> None:
    """Replace the values of a LoRA adapter by those of a saved one, in place.

    Layers that the saved adapter leaves alone are set to no change.
    Raises: AdapterError when the saved adapter adapts more layers, has a larger rank, or is of another make; nothing is
    changed then.
    """
    inner = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    base = inner.base_model
    if adapter_name not in base.plans:
        raise AdapterError(f"no adapter {adapter_name!r}; there are: {', '.join(base.plans) or 'none'}")
    if adapter_name in base.merged_adapters:
        raise AdapterError(f"adapter {adapter_name!r} is merged; call unmerge_adapter first")
    config = replace(read_config(model_name_or_path, **hub), inference_mode=True)
    _check_alike(base.peft_config[adapter_name], config)
    new = prepare(inner.get_base_model(), adapter_name, config, model_name_or_path, hub)
    slots = {slot.key: slot for slot in new.plan.slots}
    layers = {path: layer for path, layer in base.layers.items() if adapter_name in layer.adapters}
    if extra := sorted(slots.keys() - layers.keys()):
        raise AdapterError(
            f"{model_name_or_path} adapts {len(extra)} layers that {adapter_name!r} does not ({extra[0]}, ...); "
            "start from the adapter with the most layers"
        )
    assert new.tensors is not None
    values: list[tuple[Tensor, Tensor]] = []
    for path, layer in layers.items():
        saved = new.tensors.get(path, {})
        factor = slots[path].adapter.scaling / layer.adapters[adapter_name].scaling if path in slots else 1.0
        for name, tensor in layer.tensors(adapter_name).items():
            given = saved.get(name, torch.zeros(0)).to(tensor)
            given = given * factor if name in ("lora_B", "lora_embedding_B", "lora_bias") else given
            values.append(
                (
                    tensor,
                    _padded(f"{path}.{name}", given, tensor) if name in saved else torch.zeros_like(tensor),
                )
            )
    with torch.no_grad():
        for tensor, value in values:
            tensor.copy_(value)


def prepare_model_for_compiled_hotswap(
    model: "PeftModel",
    *,
    target_rank: int | None = None,
    config: object = None,
    check_compiled: Literal["error", "warn", "ignore"] = "error",
) -> None:
    """Pad the LoRA tensors of a model to the largest rank that will be swapped in; call it before `torch.compile`.

    Padding changes no output: the update of the new ranks is zero. Without `target_rank` every rank stays. `config` is
    accepted for PEFT's callers: the model knows its configurations. `check_compiled` is about a model that is compiled
    already and would be compiled again.
    Raises: AdapterError when an adapter has a larger rank, or the model is compiled already.
    """
    del config
    if check_compiled not in ("error", "warn", "ignore"):
        raise AdapterError(f"check_compiled={check_compiled!r}; write 'error', 'warn' or 'ignore'")
    if hasattr(model, "_orig_mod") and check_compiled == "error":
        raise AdapterError("the model is compiled; prepare it before torch.compile")
    if hasattr(model, "_orig_mod") and check_compiled == "warn":
        warnings.warn("the model is compiled; it will be compiled again", stacklevel=2)
    if target_rank is None:
        return
    layers = [layer for layer in model.modules() if isinstance(layer, AdaptedLayer)]
    for layer in layers:
        for name, adapter in layer.adapters.items():
            if adapter.r > target_rank:
                raise AdapterError(
                    f"adapter {name!r} has rank {adapter.r}; write a target_rank from {adapter.r}"
                )
            grouped = int(getattr(layer.base_layer, "groups", 1)) > 1
            if adapter.variant not in ("lora", "dora") or not layer.kind.called or grouped:
                raise AdapterError(
                    f"adapter {name!r} is no LoRA on a layer that is called; only these are hot-swapped"
                )
    for name, config in model.peft_config.items():
        if isinstance(config, LoraConfig):
            _pad_adapter(model, name, config, target_rank)


def _pad_adapter(model: "PeftModel", name: str, config: LoraConfig, rank: int) -> None:
    """Widen one adapter, and say in its configuration what it is now: one rank, and alphas that keep every scaling."""
    alphas = {}
    for path, layer in model.base_model.layers.items():
        if (adapter := layer.adapters.get(name)) is None:
            continue
        for key, tensor in layer.tensors(name).items():
            if key.endswith(("_A", "_B")):
                shape = list(tensor.shape)
                shape[0 if key.endswith("_A") else 1] = rank
                tensor.data = _padded(f"{path}.{key}", tensor.detach(), tensor.new_zeros(shape))
        alphas[path] = adapter.scaling * (math.sqrt(rank) if config.use_rslora else rank)
        layer.adapters[name] = replace(adapter, r=rank, alpha=alphas[path])
    usual = next(iter(alphas.values()))
    pattern = {re.escape(path): alpha for path, alpha in alphas.items() if alpha != usual}
    changed = replace(config, r=rank, lora_alpha=usual, rank_pattern={}, alpha_pattern=pattern)
    model.base_model.reconfigure(name, changed)


def _check_alike(old: Any, new: Any) -> None:
    if not isinstance(old, LoraConfig) or type(old) is not type(new):
        raise AdapterError(
            f"only LoRA is swapped for LoRA, not {old.peft_type} for {new.peft_type}; load it beside it"
        )
    for name in _SAME:
        if getattr(old, name) != getattr(new, name):
            raise AdapterError(
                f"{name} is {getattr(old, name)!r} here and {getattr(new, name)!r} there; load it beside it"
            )


def _padded(name: str, given: Tensor, like: Tensor) -> Tensor:
    if given.dim() != like.dim() or any(a > b for a, b in zip(given.shape, like.shape, strict=True)):
        raise AdapterError(
            f"{name} has shape {list(given.shape)}, here it is {list(like.shape)}; call "
            "prepare_model_for_compiled_hotswap with the largest rank first"
        )
    whole = torch.zeros_like(like)
    whole[tuple(slice(size) for size in given.shape)] = given
    return whole
