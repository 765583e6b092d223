"""Arithmetic on task tensors: weighted sums, pruning by magnitude or at random, election of signs.

TIES (Yadav et al. 2023): prune each tensor to its largest entries, elect a sign per entry, average the entries of
that sign. DARE (Yu et al. 2024): keep each entry with probability `density` and divide by it.

The order of the operations, and so every bit of a result, is PEFT 0.21.2's. Two properties of it are not the
papers': signs are elected before the weights are applied, so a negative weight subtracts an adapter's entries but
casts no vote of its own; and the average divides by the number of entries left, not by their weights.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Prune = Callable[[Tensor], Tensor]

MAJORITY_SIGNS = ("total", "frequency")


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum; the weights are rounded to fp32 first, as the tensors usually are."""
    return _weighted(torch.stack(list(tensors)), weights).sum(dim=0)


def keep_largest(tensor: Tensor, density: float) -> Tensor:
    """Return a tensor whose `int(density * size)` entries of the largest magnitude are kept, the others zero."""
    if density == 1:
        return tensor
    kept = torch.topk(tensor.abs().flatten(), k=int(density * tensor.numel())).indices
    mask = torch.zeros_like(tensor).flatten()
    mask[kept] = 1
    return tensor * mask.reshape(tensor.shape)


def keep_random(tensor: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Return a tensor whose entries are kept with probability `density` and divided by it.

    The mask is drawn where the generator is, so one seed gives one mask whatever the tensor's device.
    """
    if density == 1:
        return tensor
    chances = torch.full(tensor.shape, density, dtype=tensor.dtype, device=generator.device)
    mask = torch.bernoulli(chances, generator=generator).to(tensor.device)
    return tensor * mask / density


def elected(tensors: Sequence[Tensor], weights: Sequence[float], majority_sign_method: str) -> Tensor:
    """Return the weighted mean, entry by entry, of the tensors that have the elected sign.

    The sign is that of the sum ("total") or of the sum of signs ("frequency"); a tie elects plus.
    """
    stacked = torch.stack(list(tensors))
    signs = stacked.sign()
    votes = (stacked if majority_sign_method == "total" else signs).sum(dim=0)
    chosen = signs == torch.where(votes >= 0, 1, -1)
    count = chosen.sum(dim=0)
    return (_weighted(stacked, weights) * chosen).sum(dim=0) / count.clamp(min=1.0)


def _weighted(stacked: Tensor, weights: Sequence[float]) -> Tensor:
    factors = torch.tensor(
        list(weights), device=stacked.device
    )  # a vector's dtype counts: fp16 times it is fp32
    return stacked * factors.reshape(-1, *[1] * (stacked.dim() - 1))
