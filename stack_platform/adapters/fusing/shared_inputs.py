"""Which layers read the same input, learned from their calls; their products are then taken together (see `fused`).

Query, key and value, or gate and up, are called one after another with the same tensor. Names differ between
models, so none are looked for: when a layer is called with the very tensor that the layer before it was called
with, it is noted as a follower of the first of these calls. From then on the first one computes the followers'
outputs too and keeps them until they are asked for. An output is handed out once, and only if everything it was
made from is the same: the input object and its contents, the layer's weight and adapters and their contents,
whether gradients are on, and autocast. Else it is computed anew, so what was learned wrongly costs time and
changes nothing; a follower that did not come for its output is not waited for again. At most the outputs of one
such group are kept at a time.

Nothing of this is part of the model: a copied or loaded model learns anew. What was learned changes only while
autograd saves tensors as they are: gradient checkpointing that is not reentrant demands that a forward and its
repetition save the same number of tensors. A run that checkpoints from the start therefore makes one plain forward
before it; so does one that must be repeatable bit by bit, for the gradient of the input is summed in another order
once layers go together. Outputs are the same bits in either case.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from stack_platform.adapters.fusing.fused import Compute, LowRank, Projection, lora_linear, lora_linears

if TYPE_CHECKING:
    from stack_platform.adapters.layer import AdaptedLayer

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PLAIN = (Tensor, nn.Parameter)
_top_hooks = torch._C._autograd._top_saved_tensors_default_hooks  # noqa: SLF001  (there is no public name)

ProjectionOf = Callable[[Any], Projection | None]
_Layers = WeakKeyDictionary[nn.Module, None]  # a set that remembers the order


@dataclass(slots=True)
class _Ready:
    """Outputs that were computed with those of the first layer."""

    x: Tensor
    state: tuple[Any, ...]
    first: nn.Module
    outputs: dict[nn.Module, tuple[tuple[Any, ...], Tensor]]
    """Layer to what its output was made from, and the output."""


class SharedInputs:
    """Computes linear layers with LoRA, those with the same input together; one for all layers of a model."""

    def __init__(self, compute: Compute = "base_dtype", projection_of: "ProjectionOf | None" = None) -> None:
        self.compute = compute
        self.projection_of: ProjectionOf = projection_of or lora_projection
        self._followers: WeakKeyDictionary[nn.Module, _Layers] = WeakKeyDictionary()
        self._never: WeakKeyDictionary[nn.Module, _Layers] = WeakKeyDictionary()
        self._first: tuple[ref[nn.Module], ref[Tensor], int] | None = None
        self._ready: _Ready | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedInputs, (self.compute, self.projection_of)

    def output(self, layer: nn.Module, x: Tensor, projection: Projection) -> Tensor:
        """Return the output of a layer, whose weight and adapters are `projection`, for the input x."""
        if torch.compiler.is_compiling() or not _has_versions(x, projection):
            return lora_linear(x, projection, self.compute)
        state = _state(x)
        if (y := self._take(layer, x, state, projection)) is not None:
            return y
        learning = _top_hooks(True) is None
        self._drop(learning=learning)
        candidates = [(f, self.projection_of(f)) for f in self._followers.get(layer, ())]
        followers = [(f, p) for f, p in candidates if p is not None and _has_versions(x, p)]
        if learning:
            self._learn(layer, x)
        first, *others = lora_linears(x, (projection, *(p for _, p in followers)), self.compute)
        if others:
            kept = {f: (_contents(p), y) for (f, p), y in zip(followers, others, strict=True)}
            self._ready = _Ready(x, state, layer, kept)
        return first

    def _take(
        self, layer: nn.Module, x: Tensor, state: tuple[Any, ...], projection: Projection
    ) -> Tensor | None:
        ready = self._ready
        if ready is None or ready.x is not x or ready.state != state or layer not in ready.outputs:
            return None
        contents, y = ready.outputs[layer]
        if contents != _contents(projection):
            return None
        del ready.outputs[layer]
        if not ready.outputs:
            self._ready = None
        return y

    def _drop(self, *, learning: bool) -> None:
        """Forget outputs that nobody came for, and that these layers follow."""
        ready, self._ready = self._ready, None
        if ready is None or not learning:
            return
        for layer in ready.outputs:
            self._followers[ready.first].pop(layer, None)
            self._never.setdefault(ready.first, WeakKeyDictionary())[layer] = None

    def _learn(self, layer: nn.Module, x: Tensor) -> None:
        if self._first is not None:
            first, seen, version = self._first[0](), self._first[1](), self._first[2]
            if first is not None and first is not layer and seen is x and version == x._version:  # noqa: SLF001
                if layer not in self._never.get(first, ()):
                    self._followers.setdefault(first, WeakKeyDictionary())[layer] = None
                return
        self._first = ref(layer), ref(x), x._version  # noqa: SLF001


def lora_projection(layer: "AdaptedLayer") -> Projection | None:
    """Return weight and active adapters of a layer, or None where more is to be done than to multiply.

    That is: other methods than LoRA or other layers than dense linear ones, dropout in training, rows or tokens with
    adapters of their own, hooks on the base layer, parameters that are elsewhere or in parts (FSDP).
    """
    switch, base = layer.switch, layer.base_layer
    if not switch.enabled or layer.merged_adapters or switch.rows is not None or switch.gates is not None:
        return None
    if (
        type(base) not in (nn.Linear, Conv1D)
        or "forward" in vars(base)
        or any(getattr(base, h) for h in _HOOKS)
    ):
        return None
    adapters = []
    for name in switch.active:
        if name not in layer.adapters:
            continue
        adapter = layer.weighted(name)
        tensors = layer.tensors(name)
        if adapter.variant != "lora" or len(tensors) != 2 or (adapter.dropout and base.training):
            return None
        adapters.append(LowRank(tensors["lora_A"], tensors["lora_B"], adapter.scaling))
    weight: Any = base.weight
    tensors_here = [weight, *(t for term in adapters for t in (term.A, term.B))]
    if not adapters or any(type(t) not in _PLAIN or t.dim() != 2 for t in tensors_here):
        return None
    return Projection(layer.kind.orient(weight), base.bias, tuple(adapters))  # type: ignore[arg-type]


def _state(x: Tensor) -> tuple[Any, ...]:
    device = x.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return x._version, torch.is_grad_enabled(), autocast  # noqa: SLF001


def _contents(projection: Projection) -> tuple[Any, ...]:
    """Return what changes when a tensor is replaced or written to."""
    return tuple((t.data_ptr(), t._version, t.requires_grad) for t in _tensors(projection)) + tuple(  # noqa: SLF001
        term.scaling for term in projection.adapters
    )


def _has_versions(x: Tensor, projection: Projection) -> bool:
    """Return whether writes to all tensors are counted, which they are not in inference mode."""
    return not x.is_inference() and not any(t.is_inference() for t in _tensors(projection))


def _tensors(projection: Projection) -> list[Tensor]:
    factors = [t for term in projection.adapters for t in (term.A, term.B)]
    bases = [projection.weight] if projection.bias is None else [projection.weight, projection.bias]
    return bases + factors
