"""What an adapter computes: each variant as four pure functions, in one table.

A variant says how large its tensors are, how alpha and rank make a scale, what it adds to an output, and what
weight has the same effect. It knows neither how the base weight is stored (`weights`) nor how adapters come
and go (`layer`). To add one, write its functions and name it in `VARIANTS`.

Shapes: x [..., I], y [..., O], W_OI, lora_A [R, I], lora_B [O, R] (R rank, I input, O output features).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.functional import linear

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to change a layer; every field is a pure function."""

    shapes: Callable[[int, int, int], dict[str, tuple[int, ...]]]
    """(O, I, R) to the shape of each tensor by name."""
    scaling: Callable[[float, int], float]
    """(alpha, R) to the factor of the update."""
    forward: Callable[[Tensor, Tensor, Tensors, float, nn.Module], Tensor]
    """(x, y, tensors, scale, base layer) to the new y; the layer is for variants that need W_OI."""
    merged: Callable[[Tensor, Tensors, float], Tensor]
    """(W_OI, tensors, scale) to the W_OI with the same effect."""


def low_rank_shapes(out_features: int, in_features: int, r: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of A [R, I] and B [O, R]."""
    return {"lora_A": (r, in_features), "lora_B": (out_features, r)}


def lora_scaling(alpha: float, r: int) -> float:
    """Return alpha / r (Hu et al. 2021)."""
    return alpha / r


def rslora_scaling(alpha: float, r: int) -> float:
    """Return alpha / sqrt(r), which keeps the update's size as the rank grows (Kalajdzievski 2023)."""
    return alpha / math.sqrt(r)


def lora_forward(x: Tensor, y: Tensor, tensors: Tensors, scale: float, _base: nn.Module) -> Tensor:
    """Return y + scale * B A x, in the order that never forms the [O, I] product."""
    return y + linear(linear(x, tensors["lora_A"]), tensors["lora_B"]) * scale


def lora_merged(weight_OI: Tensor, tensors: Tensors, scale: float) -> Tensor:
    """Return W + scale * B A."""
    return weight_OI + (tensors["lora_B"] @ tensors["lora_A"]) * scale


LORA = Variant(low_rank_shapes, lora_scaling, lora_forward, lora_merged)
RSLORA = replace(LORA, scaling=rslora_scaling)

VARIANTS: dict[str, Variant] = {"lora": LORA, "rslora": RSLORA}
