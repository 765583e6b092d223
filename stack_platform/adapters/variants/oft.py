"""OFT (Qiu et al. 2023, 2025): W R', where R is a block-diagonal rotation.

Tensor oft_R [blocks or 1, b (b - 1) / 2] (an embedding's oft_embedding_R): the entries above the diagonal of a
skew-symmetric Q per block of b inputs, R = (I + Q)(I - Q)^-1, by default the first terms of its series. On an embedding
the output is rotated. With `coft` Q is bounded where it is used; PEFT 0.21.2 overwrites the parameter instead.
`module_dropout` leaves blocks unrotated in training; PEFT 0.21.2 accepts it and never applies it.
"""

import math
import warnings

import torch
from torch import Tensor

from stack_platform.adapters.configs.orthogonal import OFTConfig
from stack_platform.adapters.variants.variant import Adapter, Merged, Shapes, Site, Start, Variant, zeros


def oft_adapter(config: OFTConfig, _path: str, _r: int, _alpha: float) -> Adapter:
    """Return the adapter of a configuration."""
    return Adapter("oft", config, config.r)


def nearest_divisor(size: int, wanted: int) -> int:
    """Return the divisor of a size that is nearest to a number, the smaller of two that are as near."""
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    return min(divisors, key=lambda n: (abs(n - wanted), n))


def oft_shapes(site: Site) -> Shapes:
    """Return the shape of the generators; a block size that does not divide the inputs is changed, with a warning."""
    config = site.adapter.config
    size = _rotated_size(site)
    name, wanted = ("r", config.r) if config.r else ("oft_block_size", config.oft_block_size)
    found = nearest_divisor(size, wanted)
    if found != wanted:
        warnings.warn(f"{name}={wanted} does not divide {size}; {found} is taken here", stacklevel=2)
    blocks = found if config.r else size // found
    side = size // blocks
    return {_name(site): (1 if config.block_share else blocks, side * (side - 1) // 2)}


def oft_initial(site: Site, shapes: Shapes) -> Start:
    """Start at no rotation, or at a small random one with `init_weights=False`."""
    tensors = zeros(site, shapes)
    if not site.adapter.config.init_weights:
        tensors = {name: (torch.randn(tensor.shape) * 0.1).to(tensor) for name, tensor in tensors.items()}
    return Start(tensors)


def rotation(site: Site) -> Tensor:
    """Return R [blocks, b, b]."""
    config, generator = site.adapter.config, site.tensors[_name(site)]
    size, side = _rotated_size(site), (1 + math.isqrt(1 + 8 * generator.shape[1])) // 2
    Q = _skew(generator, side)
    if config.coft:
        Q = _bounded(Q, config.eps)
    R = _series(Q, config.num_cayley_neumann_terms) if config.use_cayley_neumann else cayley(Q)
    R = R.expand(size // side, side, side)
    if site.layer.training and config.module_dropout:
        return unrotated(R, config.module_dropout)
    return R


def unrotated(R: Tensor, share: float) -> Tensor:
    """Return R [blocks, b, b] with a share of its blocks, drawn anew, replaced by the identity."""
    blocks = R.shape[0]
    if blocks == 1:
        return R
    left = (torch.randperm(blocks) < int(share * blocks)).to(R.device)[:, None, None]
    return torch.where(left, torch.eye(R.shape[1], device=R.device, dtype=R.dtype), R)


def turned(x: Tensor, R: Tensor) -> Tensor:
    """Return x [..., size] with each block b of its last axis replaced by x_b R_b."""
    blocks = x.reshape(*x.shape[:-1], R.shape[0], R.shape[1])
    return torch.einsum("...rk,rkc->...rc", blocks, R).reshape(x.shape)


def oft_inputs(site: Site, x: Tensor) -> Tensor:
    """Return x R; an embedding's rows stay as they are."""
    if site.kind.name == "embedding":
        return x
    R = rotation(site)
    return turned(x.to(R.dtype), R).to(x.dtype)


def oft_outputs(site: Site, _x: Tensor, y: Tensor) -> Tensor:
    """Return y R on an embedding, else y."""
    if site.kind.name != "embedding":
        return y
    R = rotation(site)
    return turned(y.to(R.dtype), R)


def oft_merged(site: Site, weight: Tensor, bias: Tensor | None) -> Merged:
    """Return W R', or R' W for an embedding."""
    R = rotation(site)
    if site.kind.name == "embedding":
        return turned(weight.T, R).T, bias
    return turned(weight.flatten(1), R.transpose(1, 2)).reshape(weight.shape), bias


def _name(site: Site) -> str:
    return "oft_embedding_R" if site.kind.name == "embedding" else "oft_R"


def _rotated_size(site: Site) -> int:
    out, *rest = site.shape
    return out if site.kind.name == "embedding" else math.prod(rest)


def _skew(generator: Tensor, side: int) -> Tensor:
    rows, columns = torch.triu_indices(side, side, 1, device=generator.device)
    upper = torch.zeros(generator.shape[0], side, side, device=generator.device, dtype=generator.dtype)
    upper = upper.index_put(
        (torch.arange(len(generator), device=rows.device)[:, None], rows, columns), generator
    )
    return upper - upper.transpose(1, 2)


def _series(Q: Tensor, terms: int) -> Tensor:
    """Return I + 2 Q + 2 Q^2 + ... with the last power once, PEFT's truncation."""
    R = torch.eye(Q.shape[1], device=Q.device, dtype=Q.dtype).expand_as(Q)
    if terms == 1:
        return R
    R = R + 2 * Q
    power = Q
    for exponent in range(2, max(terms, 4) if terms > 2 else 2):
        power = power @ Q
        last = exponent == max(terms, 4) - 1
        R = R + (power if last else 2 * power)
    return R


def cayley(Q: Tensor) -> Tensor:
    """Return (I - Q)(I + Q)^-1 for each skew-symmetric Q [..., b, b]; solved in at least fp32, as LAPACK asks."""
    wide = Q.to(torch.promote_types(Q.dtype, torch.float32))
    eye = torch.eye(Q.shape[-1], device=Q.device, dtype=wide.dtype)
    rotation: Tensor = torch.linalg.solve(eye + wide, eye - wide, left=False)
    return rotation.to(Q.dtype)


def _bounded(Q: Tensor, eps: float) -> Tensor:
    """Return Q with each block's norm at most eps / sqrt(blocks); the gradient passes as if it were Q."""
    limit = eps / math.sqrt(Q.shape[0])
    norm = Q.detach().norm(dim=(1, 2), keepdim=True)
    return Q + (torch.where(norm <= limit, Q, Q * (limit / norm)) - Q).detach()


OFT = Variant(
    kinds=frozenset({"linear", "embedding", "conv1d", "conv2d", "conv3d"}),
    shapes=oft_shapes,
    initial=oft_initial,
    merged=oft_merged,
    inputs=oft_inputs,
    outputs=oft_outputs,
    by_weight=frozenset({"conv1d", "conv2d", "conv3d"}),
    parameters={"oft_R": "oft_R.*.weight", "oft_embedding_R": "oft_embedding_R.*.weight"},
)
