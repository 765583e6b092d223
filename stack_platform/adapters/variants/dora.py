"""DoRA (Liu et al. 2024): each row of W + s B A is brought to a learned norm.

Tensor beside LoRA's: lora_magnitude_vector [O], or [1, O, 1...] for a convolution; it starts at the norms of W. As in
the paper (section 4.3) the norm is a constant to the gradient.
"""

import torch
from torch import Tensor

from stack_platform.adapters.initial import lora_start
from stack_platform.adapters.variants.lora import (
    PARAMETERS,
    difference,
    dropped,
    factors,
    lora_shapes,
    update,
)
from stack_platform.adapters.variants.variant import Merged, Shapes, Site, Start, Variant

MAGNITUDE = "lora_magnitude_vector"


def dora_shapes(site: Site) -> Shapes:
    """Return the shapes of A, B and the magnitudes."""
    out, *rest = site.shape
    norms = (1, out, *(1,) * (len(rest) - 1)) if site.kind.name.startswith("conv") else (out,)
    return {**lora_shapes(site), MAGNITUDE: norms}


def dora_initial(site: Site, shapes: Shapes) -> Start:
    """Start as LoRA does, with the norms of W + s B A, so that nothing changes."""
    start = lora_start(site, {name: shape for name, shape in shapes.items() if name != MAGNITUDE})
    weight = site.weight() if start.weight is None else start.weight
    begun = Site(site.adapter, site.layer, site.kind, start.tensors)
    norms = _norm(begun, weight.to(next(iter(start.tensors.values())).dtype))
    return Start({**start.tensors, MAGNITUDE: norms.reshape(shapes[MAGNITUDE])}, start.weight)


def dora_outputs(site: Site, x: Tensor, y: Tensor) -> Tensor:
    """Return m / n times (W + s B A) x, plus the bias."""
    x = to_input = dropped(site, x)
    weight = site.weight().to(factors(site)[0].dtype)
    factor = site.kind.spread(site.tensors[MAGNITUDE].flatten() / _norm(site, weight))
    if site.adapter.dropout and site.layer.training:
        plain = site.apply(to_input, weight)  # the base sees the same zeros
    else:
        bias = site.bias()
        plain = y if bias is None else y - site.kind.spread(bias)
    return y + (factor - 1) * plain + factor * update(site, x)


def dora_merged(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return m / n times (W + s B A)."""
    base = site.weight().to(weight.dtype)
    factor = site.tensors[MAGNITUDE].flatten() / _norm(site, base)
    return factor.reshape(-1, *[1] * (weight.dim() - 1)) * (weight + difference(site)), bias


def _norm(site: Site, weight: Tensor) -> Tensor:
    """Return the norm of each row of W + s B A, without gradient."""
    with torch.no_grad():
        norms: Tensor = torch.linalg.vector_norm((weight + difference(site)).flatten(1), dim=1)
        return norms


DORA = Variant(
    kinds=frozenset({"linear", "embedding", "conv1d", "conv2d", "conv3d"}),
    shapes=dora_shapes,
    initial=dora_initial,
    merged=dora_merged,
    outputs=dora_outputs,
    parameters={**PARAMETERS, MAGNITUDE: f"{MAGNITUDE}.*.weight"},
    keys={MAGNITUDE: MAGNITUDE},
)
