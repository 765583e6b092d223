"""Linear layers with LoRA as one differentiable operation: y = x W^T + b + sum over adapters of s (x A^T) B^T.

Written as separate operations, as PEFT writes it, each adapter costs a scaled copy of the output and a sum in both
directions, and each layer that reads x adds its own gradient to x's. Here the products accumulate into the output
that is there already; several layers with the same x (query, key and value; gate and up) take one product for the
gradients of all their A, and one gradient of x. Their outputs are bit by bit those of each layer alone. Kept for the
backward pass are x, which the gradient of A needs in any case, and x A^T; scaled and narrowed copies of A and B are
made again.

The format of the adapter's products is a choice:

    adapter_dtype   that of A and B, as PEFT computes by default; x is widened for the product and not kept so
    base_dtype      that of the base layer's output, as under autocast; A, B and their gradients keep their own format

Under autocast both mean autocast's format. Under torch.compile, where fusing is the compiler's part, and in a second
derivative, the plain formula is used. Without gradients nothing is kept.

Sums differ from the plain formula's by rounding alone: s is multiplied into B, and adapters are summed before y.
Measured by `benchmarks/adapters_step.py`.

Shapes: x [..., I], N rows of x, W [O, I], A [r, I], B [O, r]; R is the sum of r over adapters and layers.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

Compute = Literal["adapter_dtype", "base_dtype"]


class LowRank(NamedTuple):
    """What one adapter adds to W: s B A."""

    A: Tensor
    """[r, I]."""
    B: Tensor
    """[O, r]."""
    scaling: float
    """s."""


@dataclass(frozen=True, slots=True)
class Projection:
    """One linear layer and its adapters."""

    weight: Tensor
    """W [O, I], any strides."""
    bias: Tensor | None
    """b [O]."""
    adapters: tuple[LowRank, ...]
    """At least one."""


def lora_linear(x: Tensor, projection: Projection, compute: Compute = "base_dtype") -> Tensor:
    """Return y of one layer, in the format of x W^T."""
    return lora_linears(x, (projection,), compute)[0]


def lora_linears(
    x: Tensor, projections: Sequence[Projection], compute: Compute = "base_dtype"
) -> tuple[Tensor, ...]:
    """Return y of several layers that read the same x, each in the format of x W^T."""
    formats = _formats(x, projections, compute)
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():  # noqa: SLF001
        return _plain(x, projections, formats)
    terms = [term for p in projections for term in p.adapters]
    layout = tuple(tuple(term.scaling for term in p.adapters) for p in projections)
    bases = [tensor for p in projections for tensor in (p.weight, p.bias)]
    tensors = (*bases, *(term.A for term in terms), *(term.B for term in terms))
    if torch.is_grad_enabled():
        return tuple(_LoraLinears.apply(x, layout, formats, *tensors))  # type: ignore[no-untyped-call]
    return tuple(_forward(x, projections, formats)[1])


class _Formats(NamedTuple):
    """Formats of the products, fixed in the forward pass."""

    base: torch.dtype | None
    """Of x W^T under autocast; None: as x and W are."""
    adapter: torch.dtype
    """Of x A^T and of its product with B."""


def _formats(x: Tensor, projections: Sequence[Projection], compute: Compute) -> _Formats:
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype is not torch.float64:
        narrow = torch.get_autocast_dtype(device)
        return _Formats(narrow, narrow)
    if compute == "base_dtype":
        return _Formats(None, projections[0].weight.dtype)
    return _Formats(None, projections[0].adapters[0].A.dtype)


def _plain(x: Tensor, projections: Sequence[Projection], formats: _Formats) -> tuple[Tensor, ...]:
    """Return the outputs by the formula as it is written."""
    ys = []
    with _without_autocast(x):
        for p in projections:
            y = linear(_to(x, formats.base), _to(p.weight, formats.base), _to(p.bias, formats.base))
            total = y
            for A, B, scaling in p.adapters:
                hidden = linear(x.to(formats.adapter), A.to(formats.adapter))
                total = total + linear(hidden, B.to(formats.adapter)) * scaling
            ys.append(total.to(y.dtype))
    return tuple(ys)


def _forward(
    x: Tensor, projections: Sequence[Projection], formats: _Formats
) -> tuple[list[Tensor], list[Tensor]]:
    """Return x A^T of each layer's adapters [N, r], and the outputs."""
    hiddens, ys = [], []
    with _without_autocast(x):
        x_NI = _rows(x).to(formats.adapter)
        for p in projections:
            y = linear(_to(x, formats.base), _to(p.weight, formats.base), _to(p.bias, formats.base))
            hiddens.append(x_NI @ _stacked([p], formats.adapter).T)
            _add_product(_rows(y), hiddens[-1], _scaled(p, formats.adapter).T)
            ys.append(y)
    return hiddens, ys


class _LoraLinears(torch.autograd.Function):
    """The operation, for autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        layout: tuple[tuple[float, ...], ...],
        formats: _Formats,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        hiddens, ys = _forward(x, _projections(layout, tensors), formats)
        ctx.layout, ctx.formats = layout, formats
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *hiddens, *tensors)
        return tuple(ys)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        hiddens, tensors = tensors[: len(ctx.layout)], tensors[len(ctx.layout) :]
        if all(gradient is None for gradient in gradients):
            return (None,) * len(ctx.needs_input_grad)
        projections, needed = _projections(ctx.layout, tensors), ctx.needs_input_grad
        with _without_autocast(x):
            if torch.is_grad_enabled():  # create_graph: the gradients are differentiated again
                outputs = _plain(x, projections, ctx.formats)
                found = _gradients_of_plain(outputs, gradients, (x, *tensors), (needed[0], *needed[3:]))
            else:
                d_hidden_NR = _gradient_of_hidden(projections, gradients, hiddens)
                d_x = _gradient_of_x(projections, gradients, d_hidden_NR, x) if needed[0] else None
                d_A = _gradients_of_a(projections, d_hidden_NR, x)
                d_bases, d_B = _gradients_by_layer(projections, gradients, hiddens, x, needed[3:])
                found = (d_x, *d_bases, *d_A, *d_B)
        return found[0], None, None, *found[1:]


def _gradient_of_hidden(
    projections: list[Projection], gradients: Sequence[Tensor | None], hiddens: list[Tensor]
) -> Tensor:
    """Return the gradients of every x A^T beside one another [N, R]."""
    d_hidden_NR = hiddens[0].new_zeros(hiddens[0].shape[0], sum(hidden.shape[1] for hidden in hiddens))
    columns = torch.split(d_hidden_NR, [hidden.shape[1] for hidden in hiddens], dim=1)
    for p, d_y, d_hidden in zip(projections, gradients, columns, strict=True):
        if d_y is not None:
            d_hidden.copy_(_rows(d_y).to(d_hidden.dtype) @ _scaled(p, d_hidden.dtype))
    return d_hidden_NR


def _gradient_of_x(
    projections: list[Projection], gradients: Sequence[Tensor | None], d_hidden_NR: Tensor, x: Tensor
) -> Tensor:
    d_x: Tensor | None = None
    for p, d_y in zip(projections, gradients, strict=True):
        if d_y is not None:
            weight = p.weight.to(d_y.dtype)
            d_x = _rows(d_y) @ weight if d_x is None else d_x.addmm_(_rows(d_y), weight)
    assert d_x is not None
    _add_product(d_x, d_hidden_NR, _stacked(projections, d_hidden_NR.dtype))
    return d_x.to(x.dtype).view(x.shape)


def _gradients_of_a(projections: list[Projection], d_hidden_NR: Tensor, x: Tensor) -> list[Tensor]:
    """Return the gradient of every A; one product costs little more than one A's."""
    matrices = [term.A for p in projections for term in p.adapters]
    d_A_RI = d_hidden_NR.T @ _rows(x).to(d_hidden_NR.dtype)
    parts = torch.split(d_A_RI, [A.shape[0] for A in matrices])
    return [part.to(A.dtype) for part, A in zip(parts, matrices, strict=True)]


def _gradients_by_layer(
    projections: list[Projection],
    gradients: Sequence[Tensor | None],
    hiddens: list[Tensor],
    x: Tensor,
    needed: Sequence[bool],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return the gradients of each W and b, and of each B."""
    d_bases: list[Tensor | None] = []
    d_B: list[Tensor | None] = []
    for p, d_y, hidden in zip(projections, gradients, hiddens, strict=True):
        if d_y is None:
            d_bases += [None, None]
            d_B += [None] * len(p.adapters)
            continue
        d_y_NO = _rows(d_y)
        weight_needed, bias_needed = needed[len(d_bases) : len(d_bases) + 2]
        d_bases.append((d_y_NO.T @ _rows(x).to(d_y.dtype)).to(p.weight.dtype) if weight_needed else None)
        d_bases.append(d_y_NO.sum(0).to(p.bias.dtype) if bias_needed and p.bias is not None else None)
        d_B_OR = d_y_NO.to(hidden.dtype).T @ hidden
        parts = torch.split(d_B_OR, [term.B.shape[1] for term in p.adapters], dim=1)
        d_B += [
            part.to(B.dtype, memory_format=torch.contiguous_format, copy=True).mul_(scaling)
            for part, (_A, B, scaling) in zip(parts, p.adapters, strict=True)
        ]
    return d_bases, d_B


def _gradients_of_plain(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients with their own graph; nothing for inputs that need none."""
    pairs = [(y, d_y) for y, d_y in zip(outputs, gradients, strict=True) if d_y is not None]
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need and tensor is not None]
    ys, d_ys = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(ys, wanted, d_ys, create_graph=True, allow_unused=True))
    return tuple(
        next(found) if need and tensor is not None else None
        for tensor, need in zip(inputs, needed, strict=True)
    )


def _projections(layout: tuple[tuple[float, ...], ...], tensors: Sequence[Any]) -> list[Projection]:
    """Return the projections whose tensors were laid out in a row: each W and b, each A, each B."""
    n_bases, n_terms = 2 * len(layout), sum(map(len, layout))
    bases, As, Bs = (
        iter(tensors[s])
        for s in (slice(n_bases), slice(n_bases, n_bases + n_terms), slice(n_bases + n_terms, None))
    )
    return [
        Projection(next(bases), next(bases), tuple(LowRank(next(As), next(Bs), s) for s in scalings))
        for scalings in layout
    ]


def _stacked(projections: Sequence[Projection], dtype: torch.dtype) -> Tensor:
    """Return every A under one another [R, I]."""
    matrices = [term.A.to(dtype) for p in projections for term in p.adapters]
    return matrices[0] if len(matrices) == 1 else torch.cat(matrices)


def _scaled(projection: Projection, dtype: torch.dtype) -> Tensor:
    """Return each s B of one layer beside one another [O, r], multiplied before it is narrowed."""
    matrices = [(B * scaling).to(dtype) for _A, B, scaling in projection.adapters]
    return matrices[0] if len(matrices) == 1 else torch.cat(matrices, dim=1)


def _add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to the target, rounded once, without a copy of the target."""
    if target.dtype is left.dtype:
        target.addmm_(left, right)
    else:
        target.add_(left @ right)


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def _to(tensor: Any, dtype: torch.dtype | None) -> Any:
    return tensor if dtype is None or tensor is None else tensor.to(dtype)


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Keep autocast from choosing formats again; they were fixed in the forward pass."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
