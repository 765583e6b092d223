"""LoKr (Yeh et al. 2023, LyCORIS): W + s kron(W1, W2), each factor in turn of low rank where it is large.

With O = Ol Ok and I = Im In split near their square roots, Ol <= Ok and Im <= In: lokr_w1 [Ol, Im], or lokr_w1_a
[Ol, R] and lokr_w1_b [R, Im]; lokr_w2 [Ok, In, *k], or lokr_w2_a [Ok, R] and lokr_w2_b [R, In k], or, with
`use_effective_conv2d`, lokr_t2 [R, R, k, k or 1], lokr_w2_a [R, Ok], lokr_w2_b [R, In].
"""

import math

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.lycoris import LoKrConfig
from stack_platform.adapters.variants.loha import LYCORIS_KINDS, decomposes_kernel, lycoris_outputs
from stack_platform.adapters.variants.variant import (
    Adapter,
    Merged,
    Shapes,
    Site,
    Start,
    Variant,
    rounded,
    zeros,
)


def lokr_adapter(config: LoKrConfig, _path: str, r: int, alpha: float) -> Adapter:
    """Return the adapter of a configuration; s is alpha / r."""
    return Adapter("lokr", config, r, alpha, alpha / r)


def factorization(size: int, factor: int = -1) -> tuple[int, int]:
    """Return the two factors of a size that are nearest to each other, the smaller one first and at most `factor`.

    >>> factorization(128), factorization(128, 4), factorization(127)
    ((8, 16), (4, 32), (1, 127))
    """
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    limit = math.isqrt(size) if factor == -1 else min(factor, math.isqrt(size))
    small = next(n for n in range(limit, 0, -1) if size % n == 0)
    return small, size // small


def lokr_shapes(site: Site) -> Shapes:
    """Return the shapes of the factors, decomposed where R is below half their larger side."""
    (out, inputs, *kernel), r, config = site.shape, site.adapter.r, site.adapter.config
    left_out, right_out = factorization(out, config.decompose_factor)
    left_in, right_in = factorization(inputs, config.decompose_factor)
    shapes: Shapes = {}
    if config.decompose_both and r < max(left_out, left_in) / 2:
        shapes |= {"lokr_w1_a": (left_out, r), "lokr_w1_b": (r, left_in)}
    else:
        shapes["lokr_w1"] = (left_out, left_in)
    if r >= max(right_out, right_in) / 2:
        shapes["lokr_w2"] = (right_out, right_in, *kernel)
    elif decomposes_kernel(site):
        core = (r, r, *kernel, *(1,) * (2 - len(kernel)))
        shapes |= {"lokr_w2_a": (r, right_out), "lokr_w2_b": (r, right_in), "lokr_t2": core}
    else:
        shapes |= {"lokr_w2_a": (right_out, r), "lokr_w2_b": (r, right_in * math.prod(kernel))}
    return shapes


def lokr_initial(site: Site, shapes: Shapes) -> Start:
    """Draw the factors as nn.Linear draws its weight, but one that is zero, so that nothing changes."""
    way = site.adapter.config.init_weights
    zero = {True: {"lokr_w1", "lokr_w1_a"}, "lycoris": {"lokr_w2", "lokr_w2_b"}, False: set()}[way]
    tensors = zeros(site, shapes)
    for name, tensor in tensors.items():
        if name not in zero:
            rounded(site, nn.init.kaiming_uniform_(tensor, a=math.sqrt(5)))
    return Start(tensors)


def lokr_difference(site: Site) -> Tensor:
    """Return s kron(W1, W2) in the shape of W."""
    tensors = site.tensors
    left = tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    if "lokr_w2" in tensors:
        right = tensors["lokr_w2"]
    elif "lokr_t2" in tensors:
        right = torch.einsum(
            "ijkl,ip,jr->prkl", tensors["lokr_t2"], tensors["lokr_w2_a"], tensors["lokr_w2_b"]
        )
    else:
        right = tensors["lokr_w2_a"] @ tensors["lokr_w2_b"]
    kernel = (1,) * (right.dim() - 2)
    product = left.reshape(left.shape[0], 1, left.shape[1], 1, *kernel) * right[None, :, None]
    return (product * site.adapter.scaling).reshape(site.shape)


def lokr_outputs(site: Site, x: Tensor, y: Tensor) -> Tensor:
    """Return y and the update's output, thinned in training."""
    return lycoris_outputs(site, x, y, lokr_difference(site), rescale=site.adapter.config.rank_dropout_scale)


def lokr_merged(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return W + s kron(W1, W2)."""
    return weight + lokr_difference(site), bias


LOKR = Variant(LYCORIS_KINDS, lokr_shapes, lokr_initial, lokr_merged, outputs=lokr_outputs)
