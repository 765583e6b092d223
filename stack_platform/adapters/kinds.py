"""What a layer computes, whatever it stores and whoever adapts it: the second of three axes.

A kind sees its weight as W_OI... (O output, I input features, then the kernel), for every layer that is linear in its
weight: a matrix product, a look-up (a product with one-hot rows), a convolution. A new kind is one registered
function that returns a `Kind`.

Shapes by kind, x to y:

    linear      W [O, I]          x [..., I]         y [..., O]      nn.Linear, transformers' Conv1D
    embedding   W [O, vocabulary] x [...] of rows    y [..., O]      nn.Embedding
    convNd      W [O, I/g, *k]    x [N, I, *space]   y [N, O, *]     nn.Conv1d, nn.Conv2d, nn.Conv3d (g groups)
    attention   W [3 E, E]        the module's       the module's    nn.MultiheadAttention's in_proj_weight
    parameter   W [O, I]          the module's       the module's    any parameter of two dimensions
    experts     W [X, O, I]       the module's       the module's    one matrix for each of X experts

The last three are never called with x: their module runs with another weight put in its place.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from stack_platform.errors import AdapterError

# nn.MultiheadAttention reads the weight of this layer and never calls it.
UNCALLED = nn.modules.linear.NonDynamicallyQuantizableLinear


def _same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of layer; every function is pure."""

    name: str
    """Key for methods that differ between kinds."""
    shape: Callable[[nn.Module], tuple[int, ...]]
    """The shape of W, without reading the weight."""
    apply: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None
    """(layer, x, W) to the layer's output for x with weight W and no bias; None: the module is never called with x."""
    mix: Callable[[Tensor, Tensor], Tensor] = functional.linear
    """(h, B) to B applied to the features of a hidden state h that `apply` returned."""
    spread: Callable[[Tensor], Tensor] = torch.Tensor.flatten
    """A vector [O] to the shape that broadcasts over y."""
    orient: Callable[[Tensor], Tensor] = _same
    """The stored weight to W, and back again."""
    parameter: str = "weight"
    """Name of the weight in its module."""

    @property
    def called(self) -> bool:
        """Whether the module is called with x."""
        return self.apply is not None


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.T


def _linear_shape(layer: Any) -> tuple[int, ...]:
    return int(layer.out_features), int(layer.in_features)


def _linear_apply(_layer: Any, x: Tensor, weight: Tensor) -> Tensor:
    return functional.linear(x, weight)


def _fan_in_shape(layer: Any) -> tuple[int, ...]:
    stored = layer.weight.shape
    return int(stored[1]), int(stored[0])


def _embedding_shape(layer: Any) -> tuple[int, ...]:
    return int(layer.embedding_dim), int(layer.num_embeddings)


def _embedding_apply(layer: Any, x: Tensor, weight: Tensor) -> Tensor:
    rows = functional.embedding(x, weight.T, layer.padding_idx)
    scale = getattr(layer, "embed_scale", None)  # some models multiply inside the layer
    return rows if scale is None else rows * torch.as_tensor(scale, dtype=rows.dtype, device=rows.device)


def _conv_shape(layer: Any) -> tuple[int, ...]:
    return tuple(layer.weight.shape)


_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def _conv_apply(layer: Any, x: Tensor, weight: Tensor) -> Tensor:
    convolution = _CONVOLUTIONS[weight.dim() - 2]
    padding = layer.padding
    if layer.padding_mode != "zeros":
        x = functional.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)  # noqa: SLF001
        padding = (0,) * (weight.dim() - 2)
    groups = layer.in_channels // weight.shape[1]
    y: Tensor = convolution(x, weight, None, layer.stride, padding, layer.dilation, groups)
    return y


def _conv_mix(hidden: Tensor, weight: Tensor) -> Tensor:
    return _CONVOLUTIONS[weight.dim() - 2](hidden, weight, groups=hidden.shape[1] // weight.shape[1])


@dataclass(frozen=True, slots=True)
class _OverChannels:
    dimensions: int

    def __call__(self, vector: Tensor) -> Tensor:
        return vector.reshape(1, -1, *[1] * self.dimensions)


LINEAR = Kind("linear", _linear_shape, _linear_apply)
FAN_IN = replace(LINEAR, shape=_fan_in_shape, orient=_transposed)
EMBEDDING = Kind("embedding", _embedding_shape, _embedding_apply, orient=_transposed)
CONVOLUTION = {
    n: Kind(f"conv{n}d", _conv_shape, _conv_apply, _conv_mix, _OverChannels(n)) for n in _CONVOLUTIONS
}


def _attention_shape(layer: Any) -> tuple[int, ...]:
    return 3 * int(layer.embed_dim), int(layer.embed_dim)


ATTENTION = Kind("attention", _attention_shape, parameter="in_proj_weight")
UNCALLED_LINEAR = Kind("attention", _linear_shape)


@singledispatch
def kind_of(_layer: nn.Module) -> Kind | None:
    """Return the kind of a layer, or None when it is of no kind that can be adapted."""
    return None


kind_of.register(nn.Linear, lambda _layer: LINEAR)
kind_of.register(UNCALLED, lambda _layer: None)
kind_of.register(Conv1D, lambda _layer: FAN_IN)
kind_of.register(nn.Embedding, lambda _layer: EMBEDDING)
kind_of.register(nn.Conv1d, lambda _layer: CONVOLUTION[1])
kind_of.register(nn.Conv2d, lambda _layer: CONVOLUTION[2])
kind_of.register(nn.Conv3d, lambda _layer: CONVOLUTION[3])


@kind_of.register
def _(layer: nn.MultiheadAttention) -> Kind | None:
    # with sizes of their own for keys and values there is no in_proj_weight
    return ATTENTION if layer.in_proj_weight is not None else None


def parameter_kind(module: nn.Module, name: str) -> Kind:
    """Return the kind of a parameter that its module uses in its own way: a matrix, or one per expert.

    transformers stores experts as [X, O, I], or as [X, I, O] where the module says `is_transposed`.
    Raises: AdapterError when the parameter has neither two nor three dimensions.
    """
    stored = getattr(module, name)
    if stored.dim() not in (2, 3):
        raise AdapterError(
            f"target_parameters: {name!r} of a {type(module).__name__} has {stored.dim()} dimensions; "
            "name a matrix or a stack of matrices"
        )
    if stored.dim() == 2:
        return Kind("parameter", _ShapeOf(name), parameter=name)
    transposed = bool(getattr(module, "is_transposed", False))
    orient = _last_two_swapped if transposed else _same
    return Kind("experts", _ShapeOf(name, transposed), orient=orient, parameter=name)


@dataclass(frozen=True, slots=True)
class _ShapeOf:
    name: str
    transposed: bool = False

    def __call__(self, layer: nn.Module) -> tuple[int, ...]:
        shape = tuple(getattr(layer, self.name).shape)
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape


def _last_two_swapped(tensor: Tensor) -> Tensor:
    return tensor.transpose(-2, -1)
