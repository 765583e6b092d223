"""Many adapters of one linear layer as two matrices, for batches whose rows have adapters of their own.

With adapters of ranks r1, r2, ... one product with all A under one another [R, I] gives every adapter's hidden values
for every row, R = r1 + r2 + ...; a matrix of shares [N, R] keeps those of the row's own adapters, weighted; one product
with all B under one another [R, O] adds them up. Two products in place of two for each adapter; nothing is gathered,
ranks may differ, and a row may have several adapters.

Products with other rows' adapters are wasted, so the rows are cut into chunks that compute only with the ranks between
the first and the last one they need. A chunk has costs of its own too, which weigh more in small layers and for few
tokens. CPU times with adapters in multiples of the base layers'; eight rows, six adapters of ranks 4 to 32:

                                  bf16                          fp32
    tokens a row              1      8      32     128      1      8      32     128
    block of SmolLM2-135M, seven layers
      chunks as here          1.8    1.6    1.4    1.2      1.4    1.2    1.1    1.1
      one product             1.8    1.6    1.4    1.3      1.4    1.3    1.3    1.3
    layer of 4096 x 4096
      chunks as here          1.2    1.1    1.06   1.02     1.04   1.05   1.01   1.00
      one product             1.3    1.1    1.09   1.07     1.03   1.07   1.03   1.04

One product for layers that read the same x (query, key, value; gate, up) was tried: it saves a hundredth of a prompt's
time and makes results depend on the calls before, so each layer computes its own.

Both matrices are kept in the format of the layer's output until an adapter changes.

N rows, T tokens of a row, I inputs, O outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from stack_platform.adapters.compose.low_rank import LowRank

_address, _version = Tensor.data_ptr, attrgetter("_version")
_KEPT = 4  # stacks for one layer: batches of so many sets of adapters may alternate
# What a chunk costs beside its products, in multiply-adds of the format; measured as above.
_HALF_CHUNK = 2e7
_CPU_CHUNK = {torch.float32: 1e6, torch.float64: 5e5}
_DEVICE_CHUNK = 2e9  # launches; not measured


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


def chunks_of(shares: Tensor, tokens: int, size: int) -> tuple[Chunk, ...]:
    """Cut a batch with shares [N, R] and `tokens` tokens a row into chunks; rows without a share are in none.

    `size` is I + O. A row joins the chunk before it where the products wasted cost less than a chunk of its own.
    """
    cpu = shares.device.type == "cpu"
    own = (_CPU_CHUNK.get(shares.dtype, _HALF_CHUNK) if cpu else _DEVICE_CHUNK) / (size * max(tokens, 1))
    used = shares != 0
    firsts = used.int().argmax(dim=1).tolist()
    lasts = (shares.shape[1] - used.flip(1).int().argmax(dim=1)).tolist()
    pieces: list[tuple[int, int, int, int]] = []  # rows from and to, ranks from and to
    for row, needed in enumerate(used.any(dim=1).tolist()):
        if not needed:
            continue
        low, high = firsts[row], lasts[row]
        if pieces:
            start, end, first, last = pieces[-1]
            ranks = min(first, low), max(last, high)
            apart = (end - start) * (last - first) + (high - low) + own
            if (row + 1 - start) * (ranks[1] - ranks[0]) <= apart:
                pieces[-1] = (start, row + 1, *ranks)
                continue
        pieces.append((row, row + 1, low, high))
    return tuple(_chunk(shares, tokens, *piece) for piece in pieces)


def _chunk(shares: Tensor, tokens: int, start: int, end: int, first: int, last: int) -> Chunk:
    own = shares[start:end, first:last]
    return Chunk(
        slice(start * tokens, end * tokens) if end - start < len(shares) else None,
        slice(first, last) if last - first < shares.shape[1] else None,
        None if bool((own == 1).all()) else own.repeat_interleave(tokens, dim=0),
    )


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

    names: tuple[str, ...]
    """The adapters in it."""
    stacked: Stack
    adapters: tuple[Any, ...]
    """All that is known of each adapter that was asked for but its tensors; None for those that the layer lacks."""
    tensors: tuple[Tensor, ...]
    addresses: tuple[int, ...]
    versions: tuple[int, ...]

    def holds(self, adapters: tuple[Any, ...]) -> bool:
        """Return whether nothing has changed since."""
        return (
            adapters == self.adapters
            and tuple(map(_address, self.tensors)) == self.addresses
            and tuple(map(_version, self.tensors)) == self.versions
        )


@dataclass(slots=True)
class Stacks:
    """The last stacks of one layer.

    A change of an adapter is seen by its tensors' addresses and versions. Fused optimizers change values and leave the
    version, so the layer also forgets its stacks in every training step, see `forget_in_training`. What remains unseen
    is an assignment into `.data` in place.
    """

    kept: dict[tuple[str, ...], Kept] = field(default_factory=dict)
    """By the adapters that were asked for; to be cleared when an adapter comes or goes."""

    def forget_in_training(self) -> None:
        """Forget all stacks where gradients are wanted: a step of the optimizer follows."""
        if self.kept and torch.is_grad_enabled():
            self.kept.clear()

    def find(self, asked: tuple[str, ...], adapters: tuple[Any, ...]) -> Kept | None:
        """Return the stack of adapters, unless one of them has changed or gradients are wanted."""
        found = self.kept.get(asked)
        if found is None or torch.is_grad_enabled() or not found.holds(adapters):
            return None
        return found

    def make(
        self,
        asked: tuple[str, ...],
        adapters: tuple[Any, ...],
        parts: Mapping[str, LowRank],
        dtype: torch.dtype,
    ) -> Kept:
        """Stack adapters anew, and keep the stack unless gradients are wanted, or are there for a step to come."""
        tensors = tuple(tensor for part in parts.values() for tensor in (part.A, part.B))
        keeps = not torch.is_grad_enabled() and all(t.grad is None and not t.is_inference() for t in tensors)
        versions = tuple(map(_version, tensors)) if keeps else ()
        stacked = stack(list(parts.values()), dtype)
        made = Kept(tuple(parts), stacked, adapters, tensors, tuple(map(_address, tensors)), versions)
        if keeps:
            self.kept.pop(asked, None)
            self.kept[asked] = made
        while len(self.kept) > _KEPT:
            del self.kept[next(iter(self.kept))]
        return made
