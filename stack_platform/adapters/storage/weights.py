"""How a weight is stored: the one place that knows storage formats, and the first of three axes.

Everything else sees a dense W_OI... (see `kinds`), whatever the layer keeps. A new storage registers one function
for the type of its parameter here and nothing elsewhere; PEFT repeats merge, unmerge and forward in one class per
storage and method (69 `merge` methods in 0.21.2).
"""

import importlib
from functools import cache, singledispatch

import torch
from torch import Tensor, nn

from stack_platform.adapters.kinds import UNCALLED, Kind, kind_of
from stack_platform.errors import AdapterError

_BACKENDS = {
    "bitsandbytes": "stack_platform.adapters.storage.bitsandbytes",
    "torchao": "stack_platform.adapters.storage.torchao",
}
"""Package of a parameter's type to the module that registers it; imported when such a parameter is seen."""


@singledispatch
def dense(parameter: Tensor, _layer: nn.Module) -> Tensor:
    """Return a parameter's values in floating point; they may share memory with it.

    Raises: AdapterError for a storage that is not registered.
    """
    if parameter.is_floating_point():
        return parameter
    raise AdapterError(
        f"the weight of this {type(_layer).__name__} is {parameter.dtype}, not floating point; "
        "load the model unquantized, or with bitsandbytes or torchao"
    )


@singledispatch
def is_dense(_parameter: Tensor) -> bool:
    """Return whether a parameter stores its values as they are, so that a new weight fits it."""
    return True


def weight_of(layer: nn.Module, kind: Kind | None = None) -> Tensor:
    """Return the layer's weight as W_OI...; it may share memory with the layer.

    Raises: AdapterError for a layer of no kind, or whose storage is not registered.
    """
    kind = _kind(layer, kind)
    parameter = getattr(layer, kind.parameter)
    _load_backend(type(parameter).__mro__)
    return kind.orient(dense(parameter, layer))


def set_weight(
    layer: nn.Module, weight_OI: Tensor, kind: Kind | None = None, *, in_place: bool = False
) -> nn.Module:
    """Give the layer a new weight and return the layer that holds it.

    The old parameter is replaced, not written to: whoever keeps it, or is tied to it, keeps its bits. With `in_place`
    it is written to, which needs no memory. Beside a quantized weight a new dense layer is returned and the old one
    stays as it was.
    """
    kind = _kind(layer, kind)
    old = getattr(layer, kind.parameter)
    shape = kind.shape(layer)
    if tuple(weight_OI.shape) != shape:
        raise AdapterError(f"a weight of shape {tuple(weight_OI.shape)} does not fit one of {shape}")
    if not is_dense_layer(layer, kind):
        return _dense_layer(layer, weight_OI)
    if in_place:
        old.data.copy_(kind.orient(weight_OI))
        return layer
    # A copy: the parameter must not share memory with the caller's tensor.
    new = kind.orient(weight_OI).detach().to(old.dtype, copy=True).contiguous()
    setattr(layer, kind.parameter, nn.Parameter(new, requires_grad=old.requires_grad))
    return layer


def is_dense_layer(layer: nn.Module, kind: Kind | None = None) -> bool:
    """Return whether the layer stores its weight as it is."""
    parameter = getattr(layer, _kind(layer, kind).parameter)
    _load_backend(type(parameter).__mro__)
    return is_dense(parameter)


def is_fan_in_fan_out(kind: Kind | None) -> bool:
    """Return whether linear layers of a kind store their weight as [I, O]; PEFT's files say so."""
    return kind is not None and kind.name == "linear" and kind.orient(torch.empty(1, 2)).shape[0] == 2


def is_adaptable(layer: nn.Module) -> bool:
    """Return whether `weight_of` can read the layer."""
    kind = kind_of(layer)
    if kind is None or isinstance(layer, UNCALLED):
        return False
    parameter = getattr(layer, kind.parameter, None)
    if not isinstance(parameter, Tensor):
        return False
    _load_backend(type(parameter).__mro__)
    return parameter.is_floating_point() or dense.dispatch(type(parameter)) is not dense.dispatch(object)


def compute_dtype(layer: nn.Module, kind: Kind | None = None) -> torch.dtype:
    """Return the format the layer computes in: its weight's, or what a quantized weight turns into."""
    parameter = getattr(layer, _kind(layer, kind).parameter)
    _load_backend(type(parameter).__mro__)
    if is_dense(parameter):
        return parameter.dtype  # type: ignore[no-any-return]
    return getattr(layer, "compute_dtype", None) or torch.float32


@cache
def _load_backend(ancestors: tuple[type, ...]) -> None:
    for ancestor in ancestors:
        if (module := _BACKENDS.get(ancestor.__module__.partition(".")[0])) is not None:
            importlib.import_module(module)


def _kind(layer: nn.Module, kind: Kind | None) -> Kind:
    kind = kind or kind_of(layer)
    if kind is None:
        raise AdapterError(f"cannot read the weight of a {type(layer).__name__}; target linear layers")
    return kind


def _dense_layer(layer: nn.Module, weight_OI: Tensor) -> nn.Module:
    out_features, in_features = weight_OI.shape
    bias = layer.bias
    fresh = nn.Linear(in_features, out_features, bias is not None, device="meta")
    dtype = weight_OI.dtype
    fresh.weight = nn.Parameter(weight_OI.detach().clone(), requires_grad=False)
    if bias is not None:
        fresh.bias = nn.Parameter(bias.detach().to(dtype, copy=True), requires_grad=False)  # type: ignore[operator]
    return fresh.train(layer.training)
