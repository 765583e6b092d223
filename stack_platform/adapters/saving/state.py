"""An adapter's tensors as a flat mapping in the layout of its file, under PEFT's names."""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.lora import AdaLoraConfig
from stack_platform.adapters.functional import adapters_of, is_bare, unwrapped
from stack_platform.adapters.plan import PREFIX
from stack_platform.adapters.prompts.encoders import PROMPT_KEY, SoftPrompt
from stack_platform.adapters.saving.embeddings import (
    check_embeddings,
    embedding_keys,
    load_embeddings,
    with_embeddings,
)
from stack_platform.adapters.saving.files import check_tensors, read_file
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.lifecycle import AdaptedModel


class LoadResult(NamedTuple):
    """What did not find its counterpart: always nothing, for that is an error here; PEFT's callers look at it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def get_peft_model_state_dict(
    model: nn.Module,
    state_dict: Mapping[str, Tensor] | None = None,
    adapter_name: str = "default",
    unwrap_compiled: bool = False,
    save_embedding_layers: str | bool = "auto",
) -> dict[str, Tensor]:
    """Return an adapter's tensors by key, with the values of `state_dict`, the whole model's, where it is given.

    The classifier of X-LoRA goes by the name "default". `save_embedding_layers` is that of `save_pretrained`.
    """
    del unwrap_compiled  # a compiled model always is
    inner = unwrapped(model)
    with _whole(model) as copies:
        found = _tensors(model, adapter_name, state_dict)
        plan = adapters_of(model).plans.get(adapter_name)
        if plan is not None and not is_bare(inner) and adapter_name not in inner.prompt_encoder:
            base, value = inner.get_base_model(), gathered(inner, state_dict)
            found = with_embeddings(base, plan, found, save_embedding_layers, value)
        return {key: tensor.detach().clone() if copies else tensor.detach() for key, tensor in found.items()}


def set_peft_model_state_dict(
    model: nn.Module,
    peft_model_state_dict: Mapping[str, Tensor],
    adapter_name: str = "default",
    ignore_mismatched_sizes: bool = False,
    low_cpu_mem_usage: bool = False,
) -> LoadResult:
    """Give an adapter the values of such a mapping, in place.

    Tensors on the meta device are replaced by new ones, beside their layer's weight; `low_cpu_mem_usage` is accepted
    for PEFT's callers. A prompt that a network computes becomes the values themselves, which train from then on; make
    the optimizer afterwards. (PEFT 0.21.2 gives them to the network as its input.) With `ignore_mismatched_sizes` a
    tensor of another shape is left as it is, with a warning.
    Raises: AdapterError when it does not hold exactly the adapter's tensors, or the adapter is merged; nothing is
    changed then.
    """
    del low_cpu_mem_usage  # what is on the meta device shows without being told
    with _whole(model):
        return _set(model, peft_model_state_dict, adapter_name, ignore_mismatched_sizes)


def _set(
    model: nn.Module,
    peft_model_state_dict: Mapping[str, Tensor],
    adapter_name: str,
    ignore_mismatched_sizes: bool,
) -> LoadResult:
    index = adapters_of(model)
    own = _tensors(model, adapter_name)
    if adapter_name in index.merged_adapters:
        raise AdapterError(f"adapter {adapter_name!r} is merged; call unmerge_adapter first")
    given = dict(peft_model_state_dict)
    if is_bare(unwrapped(model)):
        given = {key.removeprefix(PREFIX): tensor for key, tensor in given.items()}
    if ignore_mismatched_sizes:
        given = _fitting(given, own)
    given, words = _without_embeddings(index, adapter_name, given, own)
    check_tensors("the state dict", given, {key: tuple(tensor.shape) for key, tensor in own.items()})
    if words:
        load_embeddings(index.model, index.plans[adapter_name], words)
    encoders: Any = getattr(unwrapped(model), "prompt_encoder", {})
    if adapter_name in encoders:
        _settle_prompt(encoders, adapter_name, given[PROMPT_KEY])
        own = _tensors(model, adapter_name)
    _assign(model, {key: tensor for key, tensor in own.items() if tensor.is_meta}, given)
    with torch.no_grad():
        for key, tensor in own.items():
            if not tensor.is_meta:
                tensor.copy_(given[key])
    _spread_pruned(
        index, adapter_name, {key if key.startswith(PREFIX) else PREFIX + key: t for key, t in own.items()}
    )
    return LoadResult([], [])


def load_peft_weights(model_id: str | Path, device: str | None = None, **hub: Any) -> dict[str, Tensor]:
    """Read the tensors of a saved adapter by key, onto a device; what `set_peft_model_state_dict` takes.

    Raises: AdapterError when the file is absent or damaged.
    """
    return {key: tensor.to(device or "cpu") for key, tensor in read_file(model_id, **hub).items()}


def gathered(model: nn.Module, state_dict: Mapping[str, Tensor] | None) -> Callable[[Tensor], Tensor]:
    """Return a function from a model's tensor to its value in `state_dict`, which has the names of `state_dict()`.

    Raises: AdapterError, when it is called, for a tensor that is not there.
    """
    if state_dict is None:
        return lambda tensor: tensor
    named = [*model.named_parameters(), *model.named_buffers()]
    names = {id(t): name.replace("_fsdp_wrapped_module.", "") for name, t in named}

    def value(tensor: Tensor) -> Tensor:
        name = names.get(id(tensor))
        if name is not None and name not in state_dict:
            raise AdapterError(
                f"state_dict lacks {name!r}; give the whole model's, gathered from all processes"
            )
        return tensor if name is None else state_dict[name]

    return value


@contextmanager
def _whole(model: nn.Module) -> Iterator[bool]:
    """Put the parts of a model together that FSDP of version 1 took apart, and say whether they were apart."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None or not isinstance(model, fsdp.FullyShardedDataParallel):
        yield False
        return
    with fsdp.FullyShardedDataParallel.summon_full_params(model):
        yield True


def _tensors(
    model: nn.Module, name: str, state_dict: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return an adapter's tensors by key; those of a model that keeps its class have no prefix."""
    inner = unwrapped(model)
    if not is_bare(inner):
        found: dict[str, Tensor] = inner.adapter_tensors(name, state_dict)
        return found
    index, value = adapters_of(inner), gathered(inner, state_dict)
    if name not in index.peft_config:
        raise AdapterError(f"no adapter {name!r}; there are: {', '.join(index.peft_config) or 'none'}")
    return {key.removeprefix(PREFIX): value(tensor) for key, tensor in index.adapter_tensors(name).items()}


def _assign(model: nn.Module, empty: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Put values in the place of tensors on the meta device, wherever these are used."""
    if not empty:
        return
    homes: dict[int, torch.device] = {}
    for layer in adapters_of(model).layers.values():
        weight = getattr(layer.owner()[0], layer.kind.parameter)
        tensors = [tensor for name in layer.adapters for tensor in layer.tensors(name).values()]
        homes |= {id(tensor): weight.device for tensor in tensors if not weight.is_meta}
    made = {
        id(old): given[key].detach().to(homes.get(id(old), given[key].device), old.dtype, copy=True)
        for key, old in empty.items()
    }
    parameters: dict[int, nn.Parameter] = {}
    for module in unwrapped(model).modules():
        for name, old in module._parameters.items():  # noqa: SLF001
            if id(old) in made:
                fresh = parameters.setdefault(
                    id(old), nn.Parameter(made[id(old)], requires_grad=old.requires_grad)
                )
                module._parameters[name] = fresh  # noqa: SLF001
        for name, old in module._buffers.items():  # noqa: SLF001
            module._buffers[name] = made.get(id(old), old)  # noqa: SLF001


def _without_embeddings(
    adapted: "AdaptedModel", name: str, given: dict[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what is the adapter's, and embeddings of the base that came with it."""
    plan, extra = adapted.plans.get(name), given.keys() - own.keys()
    if plan is None or not extra:
        return given, {}
    words = {key: given[key] for key in embedding_keys(adapted.model, plan.saved) if key in extra}
    check_embeddings(adapted.model, plan, words)
    return {key: tensor for key, tensor in given.items() if key not in words}, words


def _fitting(given: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mapping with the own value of each tensor whose shape is another."""
    other = [key for key, tensor in own.items() if key in given and given[key].shape != tensor.shape]
    if other:
        warnings.warn(
            f"{len(other)} tensors have another shape in the state dict and stay as they are: {', '.join(other)}",
            stacklevel=3,
        )
    return given | {key: own[key].detach().clone() for key in other}


def _settle_prompt(encoders: Any, name: str, values: Tensor) -> None:
    """Put plain virtual tokens in the place of a network that computes them."""
    encoder = encoders[name]
    if type(encoder) is SoftPrompt:
        return
    like = next(encoder.parameters())
    plain = SoftPrompt(*values.shape).to(like.device, like.dtype).train(encoder.training)
    encoders[name] = plain.requires_grad_(like.requires_grad)


def _spread_pruned(adapted: "AdaptedModel", name: str, values: Mapping[str, Tensor]) -> None:
    """Give AdaLoRA's layers the singular values that pruning has left: `values` are copies of those."""
    plan = adapted.plans.get(name)
    if plan is None or not isinstance(plan.config, AdaLoraConfig):
        return
    for slot in plan.slots:
        kept = (plan.config.rank_pattern or {}).get(f"{slot.key}.lora_E")
        tensors = adapted.layers[slot.key].tensors(name)
        if kept is None or len(kept) != len(tensors["lora_E"]):
            continue
        index = torch.tensor(kept, device=tensors["lora_E"].device)
        with torch.no_grad():
            for part, tensor in tensors.items():
                new = values[f"base_model.model.{slot.key}.{part}"]
                (tensor.T if part == "lora_B" else tensor)[index] = new.T if part == "lora_B" else new
