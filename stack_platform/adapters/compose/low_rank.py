"""The update of one adapter at one layer, s B A, and what can be said of it without its layer.

Shapes: A [R, I, *k], B [O, R, 1...]; the update is [O, I, *k]. A linear layer has no k, a convolution its kernel. An
embedding is a linear layer whose input features are the rows of its vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stack_platform.errors import AdapterError


@dataclass(frozen=True, slots=True)
class LowRank:
    """The factors of one update."""

    A: Tensor
    """[R, I, *k]."""
    B: Tensor
    """[O, R, 1...]."""
    scaling: float = 1.0
    """Factor s of the update."""
    bias: Tensor | None = None
    """[O], added by B and scaled like the rest; None is none."""

    @property
    def rank(self) -> int:
        """R."""
        return int(self.A.shape[0])

    @property
    def grouped(self) -> bool:
        """Whether this belongs to a convolution whose groups share the rank, which no product of matrices is."""
        return int(self.B.shape[1]) != self.rank


def update(part: LowRank) -> Tensor:
    """Return s B A as a matrix [O, I * prod(k)], computed in at least fp32.

    Raises: AdapterError for a convolution with groups.
    """
    if part.grouped:
        raise AdapterError(
            f"B of shape {list(part.B.shape)} beside a rank of {part.rank} belongs to a convolution with groups, whose "
            "update is no product B A; combine such layers with 'linear'"
        )
    dtype = torch.promote_types(part.A.dtype, torch.float32)
    return part.B.flatten(1).to(dtype) @ part.A.flatten(1).to(dtype) * part.scaling


def concatenated(parts: Sequence[LowRank], weights: Sequence[float]) -> LowRank:
    """Return the adapter whose update is the weighted sum of these updates; its rank is the sum of theirs.

    Weights and scalings go into A.
    """
    for part in parts:
        if part.grouped:
            update(part)  # raises
    A = torch.cat([part.A * weight * part.scaling for part, weight in zip(parts, weights, strict=True)])
    B = torch.cat([part.B for part in parts], dim=1)
    return LowRank(A, B, bias=summed_bias(parts, weights))


def summed_bias(parts: Sequence[LowRank], weights: Sequence[float]) -> Tensor | None:
    """Return the weighted sum of the biases, scalings included; None when there is none."""
    terms = [p.bias * (w * p.scaling) for p, w in zip(parts, weights, strict=True) if p.bias is not None]
    return torch.stack(terms).sum(dim=0) if terms else None


def padded(part: LowRank, rank: int) -> LowRank:
    """Return the same update with zeros up to this rank."""
    missing = rank - part.rank
    if missing == 0:
        return part
    rows = part.A.new_zeros(missing, *part.A.shape[1:])
    columns = part.B.new_zeros(part.B.shape[0], missing, *part.B.shape[2:])
    return replace(part, A=torch.cat([part.A, rows]), B=torch.cat([part.B, columns], dim=1))
