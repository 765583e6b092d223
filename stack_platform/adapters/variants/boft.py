"""BOFT (Liu et al. 2023): diag(s) W M', where M is a product of N sparse rotations.

Tensors: boft_R [N, D, b, b] for D blocks of b inputs, boft_s [O, 1] ([1, O] for a convolution). Factor i permutes the
inputs, turns each block by the Cayley transform of its skew-symmetric part, and permutes back; with N = 1 there is no
permutation. (PEFT 0.21.2 does N = 1 only, unless it can compile its CUDA kernel: it says so in a warning and goes on.)
"""

import math
from functools import cache

import torch
from torch import Tensor

from stack_platform.adapters.configs.orthogonal import BOFTConfig
from stack_platform.adapters.variants.oft import cayley, turned, unrotated
from stack_platform.adapters.variants.variant import Adapter, Merged, Shapes, Site, Start, Variant, zeros
from stack_platform.errors import AdapterError

KINDS = frozenset({"linear", "conv1d", "conv2d"})


def boft_adapter(config: BOFTConfig, _path: str, _r: int, _alpha: float) -> Adapter:
    """Return the adapter of a configuration."""
    return Adapter("boft", config, dropout=config.boft_dropout)


def boft_shapes(site: Site) -> Shapes:
    """Return the shapes of rotations and scales.

    Raises: AdapterError where the blocks do not fit the inputs, or not into the butterfly.
    """
    out, *rest = site.shape
    config, size = site.adapter.config, math.prod(rest)
    factors = config.boft_n_butterfly_factor
    given = config.boft_block_size or config.boft_block_num
    name = "boft_block_size" if config.boft_block_size else "boft_block_num"
    if size % given:
        raise AdapterError(
            f"{name}={given} does not divide the {size} inputs of a layer; write a divisor of {size}"
        )
    side = given if config.boft_block_size else size // given
    if factors > 1 and (side % 2 or (size // side) % 2 ** (factors - 1)):
        raise AdapterError(
            f"boft_n_butterfly_factor={factors} needs an even block size and a number of blocks that "
            f"{2 ** (factors - 1)} divides, not {size // side} blocks of {side}; write another {name}, or 1"
        )
    scales = (1, out) if len(rest) > 1 else (out, 1)
    return {"boft_R": (factors, size // side, side, side), "boft_s": scales}


def boft_initial(site: Site, shapes: Shapes) -> Start:
    """Start at no rotation and scales of 1; with `init_weights=False` a little beside both."""
    tensors = zeros(site, shapes)
    noise = 0.0 if site.adapter.config.init_weights else 0.1
    if noise:
        tensors = {name: (torch.randn(tensor.shape) * noise).to(tensor) for name, tensor in tensors.items()}
    return Start({"boft_R": tensors["boft_R"], "boft_s": tensors["boft_s"] + 1})


@cache
def butterfly(size: int, blocks: int, half: int) -> tuple[int, ...]:
    """Return the order that puts, in each of some blocks, the even runs of `half` entries before the odd ones.

    >>> butterfly(8, 2, 1)
    (0, 2, 1, 3, 4, 6, 5, 7)
    """
    runs = torch.arange(size).reshape(blocks, -1, 2, half)
    return tuple(runs.transpose(1, 2).reshape(size).tolist())


def boft_turned(site: Site, x: Tensor, *, back: bool = False) -> Tensor:
    """Return x M, or x M' with `back`, for x [..., inputs]."""
    R = site.tensors["boft_R"]
    factors, blocks, side, _ = R.shape
    skew = 0.5 * (R - R.transpose(2, 3))
    turns = list(cayley(skew))
    if site.layer.training and site.adapter.dropout:
        chosen = int(torch.randint(0, factors, (1,)))
        turns[chosen] = unrotated(turns[chosen], site.adapter.dropout)
    # M is the last factor times ... times the first: x meets the last one first
    for index in range(factors) if back else reversed(range(factors)):
        turn = turns[index].transpose(1, 2) if back else turns[index]
        if factors == 1:
            x = turned(x, turn)
            continue
        order = torch.tensor(butterfly(x.shape[-1], blocks // 2**index, side // 2), device=x.device)
        x = turned(x[..., order.argsort()], turn)[..., order]
    return x


def boft_inputs(site: Site, x: Tensor) -> Tensor:
    """Return x M."""
    return boft_turned(site, x.to(site.tensors["boft_R"].dtype)).to(x.dtype)


def boft_outputs(site: Site, _x: Tensor, y: Tensor) -> Tensor:
    """Return y with its rows scaled, but not the bias."""
    factor, bias = site.kind.spread(site.tensors["boft_s"]), site.bias()
    if bias is None:
        return y * factor
    return (y - site.kind.spread(bias)) * factor + site.kind.spread(bias)


def boft_merged(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return diag(s) W M'."""
    rotated = boft_turned(site, weight.flatten(1), back=True) * site.tensors["boft_s"].reshape(-1, 1)
    return rotated.reshape(weight.shape), bias


BOFT = Variant(
    kinds=KINDS,
    shapes=boft_shapes,
    initial=boft_initial,
    merged=boft_merged,
    inputs=boft_inputs,
    outputs=boft_outputs,
    by_weight=KINDS - {"linear"},
)
