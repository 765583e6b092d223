"""Adapters on a model that keeps its class, under the names of `peft.functional`.

`inject_adapter_in_model` changes a model in place and returns it; parameters and keys are named by their own paths,
without `base_model.model.`. The model then has `peft_config`, and everything else is reached by `adapters_of(model)`:
the same index that a `PeftModel` has, with its verbs, as `add_weighted_adapter`, `merge_adapter` and `unload`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.inject import Placement, module_names
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.adapters.lifecycle import AdaptedModel
from stack_platform.adapters.plan import PREFIX
from stack_platform.adapters.prepare import prepare
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.configs.fields import PeftConfig
    from stack_platform.adapters.mixing.active import Choice

_INDEX = "_adapter_index"  # beside the model's modules, not among them: the model must not contain itself


def inject_adapter_in_model(
    peft_config: "PeftConfig",
    model: nn.Module,
    adapter_name: str = "default",
    low_cpu_mem_usage: bool = False,
    state_dict: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Put a new adapter on a model in place and return the model, which keeps its class; the adapter is active.

    The first one freezes the model. With `low_cpu_mem_usage` its tensors are on the meta device until
    `set_peft_model_state_dict` brings values. With `state_dict` the adapter goes where that has tensors, whatever
    `target_modules` says; the values are not read.
    Raises: AdapterError when the configuration does not fit the model, which is unchanged then.
    """
    index = _index(model)
    if index is None and any(isinstance(module, AdaptedLayer) for module in model.modules()):
        raise AdapterError("the model belongs to a PeftModel; use its add_adapter, or call unload first")
    if index is not None and adapter_name in index.peft_config:
        raise AdapterError(
            f"adapter {adapter_name!r} is there already; delete_adapter it, or choose another name"
        )
    if state_dict is not None:
        peft_config = replace(peft_config, target_modules=_targets(model, peft_config, state_dict))  # type: ignore[call-arg]
    new = prepare(model, adapter_name, peft_config, None, None)
    if new.prompt is not None or new.plan.shared:
        raise AdapterError(
            f"peft_type={str(peft_config.peft_type)!r} keeps tensors outside of the layers; use get_peft_model"
        )
    if index is None:
        index = AdaptedModel(model)
        vars(model)[_INDEX] = index
        model.peft_config = index.peft_config  # type: ignore[assignment]
    index.add_adapter(adapter_name, new.plan, placement=Placement(on_meta=low_cpu_mem_usage))
    index.set_requires_grad(adapter_name, not new.config.inference_mode)  # others train as they did
    index.switch.active = (adapter_name,)
    return model


def adapters_of(model: nn.Module) -> AdaptedModel:
    """Return the index of the adapters that a model carries: a PeftModel's, or that of a model with injected ones.

    Raises: AdapterError when it carries none.
    """
    index = _index(model)
    if index is None:
        raise AdapterError(
            f"a {type(model).__name__} without adapters; call get_peft_model or inject_adapter_in_model first"
        )
    return index


def unwrapped(model: nn.Module) -> Any:
    """Return a model without what torch put around it: compile, data parallelism, FSDP of version 1."""
    while True:
        inner = vars(model).get("_orig_mod", model._modules.get("_orig_mod"))  # noqa: SLF001
        if inner is None and type(model).__module__.startswith(("torch.nn.parallel.", "torch.distributed.")):
            inner = model.module
        if inner is None:
            return model
        model = inner


def is_bare(model: nn.Module) -> bool:
    """Return whether adapters were injected into a model that keeps its class."""
    return _INDEX in vars(model)


def set_adapter(model: nn.Module, adapter_name: "Choice", inference_mode: bool = False) -> None:
    """Make one adapter, or several, the active ones, and the only trainable ones unless `inference_mode`."""
    adapters_of(model).set_adapter(adapter_name, inference_mode)


def set_requires_grad(
    model: nn.Module, adapter_names: str | Sequence[str], requires_grad: bool = True
) -> None:
    """Let adapters train or not, whether they are active or not."""
    adapters_of(model).set_requires_grad(adapter_names, requires_grad)


def delete_adapter(model: nn.Module, adapter_name: str) -> None:
    """Take an adapter out of every layer; layers left without adapters become base layers again.

    Raises: AdapterError when there is no such adapter, or it is merged.
    """
    index = adapters_of(model)
    if adapter_name not in index.peft_config:
        raise AdapterError(
            f"no adapter {adapter_name!r}; there are: {', '.join(index.peft_config) or 'none'}"
        )
    index.delete_adapter(adapter_name)


def cast_adapter_dtype(model: nn.Module, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
    """Keep an adapter in fp32 where it is in half precision; without `autocast_adapter_dtype` do nothing."""
    if autocast_adapter_dtype:
        for parameter in adapters_of(model).adapter_parameters(adapter_name):
            if parameter.dtype in (torch.float16, torch.bfloat16):
                parameter.data = parameter.data.float()


@contextmanager
def rescale_adapter_scale(model: nn.Module, multiplier: float) -> Iterator[None]:
    """Multiply the scaling of every adapter inside the `with` block.

    Raises: AdapterError when the model carries no adapters.
    """
    layers = list(adapters_of(model).layers.values())
    before = [dict(layer.scaling) for layer in layers]
    for layer, scalings in zip(layers, before, strict=True):
        layer.set_scalings({name: scaling * multiplier for name, scaling in scalings.items()})
    try:
        yield
    finally:
        for layer, scalings in zip(layers, before, strict=True):
            layer.set_scalings(scalings)


def _index(model: nn.Module) -> AdaptedModel | None:
    inner = unwrapped(model)
    found = inner if isinstance(inner, AdaptedModel) else inner._modules.get("base_model")  # noqa: SLF001
    return found if isinstance(found, AdaptedModel) else vars(inner).get(_INDEX)


def _targets(model: nn.Module, config: "PeftConfig", state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the paths of the layers that a state dict has tensors for."""
    start = f".{config.prefix}"
    paths = {
        key.replace("_orig_mod.", "").removeprefix(PREFIX).rsplit(start, 1)[0]
        for key in state
        if start in key
    }
    if unknown := sorted(paths - set(module_names(model, config).adaptable)):
        raise AdapterError(
            f"state_dict has tensors for {unknown[0]!r}, which is no layer that can be adapted"
        )
    if not paths:
        raise AdapterError(
            f"state_dict has no tensor named {start[1:]}...; give what get_peft_model_state_dict returns"
        )
    return tuple(sorted(paths))
