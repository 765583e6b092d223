"""Many adapters of one linear layer as two matrices, for batches whose rows have adapters of their own.

With adapters of ranks r1, r2, ... one product with all A under one another [R, I] gives every adapter's hidden values
for every row, R = r1 + r2 + ...; a matrix of shares [N, R] keeps those of the row's own adapters, weighted; one product
with all B under one another [R, O] adds them up. Two products in place of two for each adapter; nothing is gathered,
ranks may differ, and a row may have several adapters.

Products with other rows' adapters are wasted, so the rows are cut into chunks that compute only with the ranks between
the first and the last one they need. Small products are slow in their own way; a chunk has about as many tokens as the
format makes worth while. Times of the seven layers of a block of SmolLM2-135M on a CPU, in multiples of the base
layers'; eight rows, six adapters of ranks 4 to 32:

    tokens a row              1      8      32     128         1      8      32     128
    bf16: chunks as here      2.3    1.6    1.4    1.3   fp32: 1.3    1.1    1.1    1.1
          one product         2.3    1.6    1.4    1.4         1.3    1.2    1.3    1.3
          PEFT's loop         4.7    2.5    2.0    1.8         2.2    1.4    1.2    1.2

Both matrices are kept in the format of the layer's output until an adapter changes.

N rows, T tokens of a row, I inputs, O outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import linear

from stack_platform.adapters.compose.low_rank import LowRank

_KEPT = 4  # stacks for one layer: batches of so many sets of adapters may alternate
_CPU_TOKENS = {torch.float32: 16, torch.float64: 16}  # in a chunk; measured as above
_HALF_TOKENS = 256
_DEVICE_TOKENS = 4096  # elsewhere a launch costs more than a wasted product; not measured


@dataclass(frozen=True, slots=True)
class Stack:
    """Adapters of one layer, one after the other."""

    A: Tensor
    """[R, I]."""
    B: Tensor
    """[R, O], scalings included."""
    ranks: tuple[int, ...]
    """r1, r2, ..."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a batch and the ranks that they need."""

    tokens: slice | None
    """Of the N T tokens of the batch; None is all."""
    ranks: slice | None
    """Of the R ranks of the stack; None is all."""
    shares: Tensor | None
    """Share of each rank in each token [tokens, ranks]; None where all are 1."""


def stack(parts: Sequence[LowRank], dtype: torch.dtype) -> Stack:
    """Stack adapters in a format; scalings are multiplied in before rounding to it."""
    A = torch.cat([part.A for part in parts]).to(dtype)
    B = torch.cat([part.B.T * part.scaling for part in parts]).to(dtype)
    return Stack(A, B, tuple(part.rank for part in parts))


def spread(shares: Tensor, ranks: Sequence[int]) -> Tensor:
    """Return shares [N, adapters] as [N, R]: an adapter's share for each of its hidden values."""
    return shares.repeat_interleave(torch.tensor(ranks, device=shares.device), dim=1)


def chunks_of(shares: Tensor, tokens: int) -> tuple[Chunk, ...]:
    """Cut a batch with shares [N, R] and `tokens` tokens a row into chunks; rows without a share are in none."""
    worth = _HALF_TOKENS if shares.device.type == "cpu" else _DEVICE_TOKENS
    worth = _CPU_TOKENS.get(shares.dtype, worth) if shares.device.type == "cpu" else worth
    rows = max(1, -(-worth // max(tokens, 1)))
    chunks = []
    for start in range(0, len(shares), rows):
        own = shares[start : start + rows]
        needed = own.any(dim=0).nonzero().flatten()
        if not len(needed):
            continue
        ranks = slice(int(needed[0]), int(needed[-1]) + 1)
        own = own[:, ranks]
        each = None if bool((own == 1).all()) else own.repeat_interleave(tokens, dim=0)
        whole = slice(start * tokens, (start + rows) * tokens) if rows < len(shares) else None
        chunks.append(Chunk(whole, ranks if own.shape[1] < shares.shape[1] else None, each))
    return tuple(chunks)


def routed_update(x: Tensor, shares: Tensor, stacked: Stack) -> Tensor:
    """Return what the adapters add to the output for x [N, ..., I], by shares [N, R], in one product each.

    Shapes: the result is [N, ..., O], in the stack's format. Differentiable.
    """
    own = shares.reshape(shares.shape[0], *[1] * (x.dim() - 2), shares.shape[1])
    return linear(linear(x.to(stacked.A.dtype), stacked.A) * own, stacked.B.T)


def add_routed_update(y: Tensor, x: Tensor, chunks: Sequence[Chunk], stacked: Stack) -> Tensor:
    """Add to an output [N, ..., O] what the adapters add for x [N, ..., I], in place, chunk by chunk.

    y is contiguous and in the stack's format; without gradients.
    """
    flat_x, flat_y = x.reshape(-1, x.shape[-1]).to(y.dtype), y.view(-1, y.shape[-1])
    for chunk in chunks:
        own_x, own_y = (
            (flat_x, flat_y) if chunk.tokens is None else (flat_x[chunk.tokens], flat_y[chunk.tokens])
        )
        A, B = (
            (stacked.A, stacked.B)
            if chunk.ranks is None
            else (stacked.A[chunk.ranks], stacked.B[chunk.ranks])
        )
        hidden = linear(own_x, A)
        if chunk.shares is not None:
            hidden.mul_(chunk.shares)
        own_y.addmm_(hidden, B)
    return y


@dataclass(frozen=True, slots=True)
class Kept:
    """A stack and what it was made of."""

    stacked: Stack
    tensors: tuple[Tensor, ...]
    marks: tuple[tuple[int, int], ...]
    scalings: tuple[float, ...]

    def holds(self, scalings: tuple[float, ...]) -> bool:
        """Return whether nothing has changed since."""
        return scalings == self.scalings and all(
            (tensor.data_ptr(), _version(tensor)) == mark
            for tensor, mark in zip(self.tensors, self.marks, strict=True)
        )


@dataclass(slots=True)
class Stacks:
    """The last stacks of one layer.

    A change of an adapter is seen by its tensors' addresses and versions. Fused optimizers change values and leave the
    version, so the layer also forgets its stacks in every training step, see `forget_in_training`. What remains unseen
    is an assignment into `.data` in place.
    """

    kept: dict[tuple[tuple[str, ...], torch.dtype], Kept] = field(default_factory=dict)
    """By adapters and format; to be cleared when an adapter comes or goes."""

    def forget_in_training(self) -> None:
        """Forget all stacks where gradients are wanted: a step of the optimizer follows."""
        if self.kept and torch.is_grad_enabled():
            self.kept.clear()

    def find(self, scalings: Mapping[str, float], dtype: torch.dtype) -> Stack | None:
        """Return the stack of adapters, name to scaling, unless one of them has changed or gradients are wanted."""
        found = self.kept.get((tuple(scalings), dtype))
        if found is None or torch.is_grad_enabled() or not found.holds(tuple(scalings.values())):
            return None
        return found.stacked

    def make(self, parts: Mapping[str, LowRank], dtype: torch.dtype) -> Stack:
        """Stack adapters anew, and keep the stack unless gradients are wanted, or are there for a step to come."""
        stacked = stack(list(parts.values()), dtype)
        tensors = tuple(tensor for part in parts.values() for tensor in (part.A, part.B))
        if torch.is_grad_enabled() or any(t.grad is not None or t.is_inference() for t in tensors):
            return stacked
        marks = tuple((tensor.data_ptr(), _version(tensor)) for tensor in tensors)
        self.kept.pop((tuple(parts), dtype), None)
        self.kept[tuple(parts), dtype] = Kept(
            stacked, tensors, marks, tuple(p.scaling for p in parts.values())
        )
        while len(self.kept) > _KEPT:
            del self.kept[next(iter(self.kept))]
        return stacked


def _version(tensor: Tensor) -> int:
    return tensor._version  # noqa: SLF001
