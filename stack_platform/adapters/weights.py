"""How a layer stores its weight: the one place that knows storage formats.

Everything else sees a dense matrix W_OI (O output, I input features), whatever the layer keeps. A new storage
(4-bit, 8-bit) or a new kind of layer registers here and nowhere else; PEFT repeats merge, unmerge and forward
in one class per storage and method (69 `merge` methods in 0.21.2).
"""

from functools import singledispatch

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from stack_platform.errors import AdapterError


@singledispatch
def weight_of(layer: nn.Module) -> Tensor:
    """Return the layer's weight as W_OI; it may share memory with the layer.

    Raises: AdapterError for a layer whose storage is not registered or not floating point.
    """
    raise AdapterError(f"cannot read the weight of a {type(layer).__name__}; target linear layers")


@singledispatch
def set_weight(layer: nn.Module, _weight_OI: Tensor) -> nn.Module:
    """Give the layer a new weight and return the layer that holds it, here always the same one.

    The old parameter is replaced, never written to: whoever keeps it, or is tied to it, keeps its bits. A
    storage that cannot hold the weight exactly returns a new dense layer and leaves the old one as it was.
    """
    raise AdapterError(f"cannot set the weight of a {type(layer).__name__}; target linear layers")


@singledispatch
def is_fan_in_fan_out(_layer: nn.Module) -> bool:
    """Return whether the layer stores its weight as [I, O]; PEFT's files say so."""
    return False


def is_adaptable(layer: nn.Module) -> bool:
    """Return whether `weight_of` can read the layer."""
    if weight_of.dispatch(type(layer)) is weight_of.dispatch(object) or isinstance(layer, _UNCALLED):
        return False
    return isinstance(layer.weight, Tensor) and layer.weight.is_floating_point()


# nn.MultiheadAttention reads the weight of this layer and never calls it: an adapter would do nothing.
_UNCALLED = nn.modules.linear.NonDynamicallyQuantizableLinear


@weight_of.register
def _(layer: nn.Linear) -> Tensor:
    return _floating(layer)


@weight_of.register(Conv1D)
def _(layer: nn.Module) -> Tensor:
    return _floating(layer).T


@set_weight.register
def _(layer: nn.Linear, weight_OI: Tensor) -> nn.Module:
    return _replaced(layer, weight_OI)


@set_weight.register(Conv1D)
def _(layer: nn.Module, weight_OI: Tensor) -> nn.Module:
    return _replaced(layer, weight_OI.T)


@is_fan_in_fan_out.register(Conv1D)
def _(_layer: nn.Module) -> bool:
    return True


def _floating(layer: nn.Module) -> Tensor:
    weight = layer.weight
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise AdapterError(
            f"the weight of this {type(layer).__name__} is not floating point; load the model unquantized"
        )
    return weight


def _replaced(layer: nn.Module, stored: Tensor) -> nn.Module:
    old = _floating(layer)
    if stored.shape != old.shape:
        raise AdapterError(f"a weight of shape {tuple(stored.shape)} does not fit one of {tuple(old.shape)}")
    # A copy: the parameter must not share memory with the caller's tensor.
    new = stored.detach().to(old.dtype, copy=True).contiguous()
    layer.weight = nn.Parameter(new, requires_grad=old.requires_grad)
    return layer
