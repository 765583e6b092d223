"""What a variant is: the third of three axes, beside storage (`weights`) and kind of layer (`kinds`).

A variant wraps a layer f into x -> outputs(x, f(inputs(x))), and says which weight has the same effect. Several active
adapters wrap one another in the order they were activated, and merge in the same order, so that the merged weight
always has the effect of the forward. (PEFT 0.21.2 rotates inputs in one order and merges in the other when two OFT
adapters are active.)

Letters in shapes: O output and I input features, R rank, k kernel, g groups, X experts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.kinds import Kind
from stack_platform.adapters.storage.weights import weight_of

Tensors = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Adapter:
    """All that is known of one adapter on one layer, but for its tensors."""

    variant: str
    """Key of `table.VARIANTS`."""
    config: Any = None
    """The configuration it was made from, for what only the variant knows."""
    r: int = 0
    """Rank."""
    alpha: float = 1.0
    """Numerator of the scaling."""
    scaling: float = 1.0
    """Factor of the update."""
    dropout: float = 0.0
    """Probability that an input is zeroed in training."""


@dataclass(frozen=True, slots=True)
class Site:
    """One adapter at one layer: all that a variant's functions may read."""

    adapter: Adapter
    """The adapter."""
    layer: nn.Module
    """The base layer, unmerged; `training` says which dropouts act."""
    kind: Kind
    """What the layer computes."""
    tensors: Tensors = field(default_factory=dict)
    """The adapter's tensors by name, shared ones included; empty before they are made."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of W."""
        return self.kind.shape(self.layer)

    def weight(self) -> Tensor:
        """Return W in floating point."""
        return weight_of(self.layer, self.kind)

    def bias(self) -> Tensor | None:
        """Return the layer's bias."""
        bias: Tensor | None = getattr(self.layer, "bias", None)
        return bias

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the layer's output for x with another weight and no bias."""
        assert self.kind.apply is not None
        return self.kind.apply(self.layer, x, weight)


@dataclass(frozen=True, slots=True)
class Start:
    """Where an adapter starts."""

    tensors: dict[str, Tensor]
    """First values by name."""
    weight: Tensor | None = None
    """The W that the base layer keeps, where the start moved part of it into the adapter."""


Hook = Callable[[Site, Tensor], Tensor]
Merged = tuple[Tensor, Tensor | None]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to change a layer; every function is pure."""

    kinds: frozenset[str]
    """Names of the kinds it can change."""
    shapes: Callable[[Site], Shapes]
    """The shape of each tensor by name."""
    initial: Callable[[Site, Shapes], Start]
    """The first values, drawn from torch's default generator."""
    merged: Callable[[Site, Tensor, Tensor | None], Merged]
    """(site, W, bias) to the weight and bias with the same effect."""
    inputs: Hook | None = None
    """(site, x) to what the base layer is called with, in x's format."""
    outputs: Callable[[Site, Tensor, Tensor], Tensor] | None = None
    """(site, x, y) to the new y; y may be in a wider format than the layer's, and is narrowed at the end."""
    by_weight: frozenset[str] = frozenset()
    """Kinds on which there is no cheaper way than to run the layer with the merged weight."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Tensor name to parameter name, `*` for the adapter, where it is not `<name>.*`."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Tensor name to key in the file, where that is not the parameter name without `*`."""
    shared: Callable[[Any, list[tuple[int, ...]]], dict[str, Tensor]] | None = None
    """(configuration, shapes of all W) to frozen tensors that all layers of an adapter share."""

    def parameter(self, tensor: str, adapter: str) -> str:
        """Return the name of a tensor's parameter inside the adapted layer."""
        return self.parameters.get(tensor, f"{tensor}.*").replace("*", adapter)

    def key(self, tensor: str) -> str:
        """Return the key of a tensor in the file, after the layer's path."""
        return self.keys.get(tensor) or self.parameters.get(tensor, tensor).replace(".*", "")


def to_adapter(x: Tensor, tensor: Tensor) -> Tensor:
    """Return x in an adapter's format.

    Under autocast x stays as it is: the product is taken in autocast's format anyway, so the cast would cost memory
    and change no bit. Indices stay what they are.
    """
    if not x.is_floating_point() or torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(tensor.dtype)


def rounded(site: Site, tensor: Tensor) -> Tensor:
    """Round to a base weight of half precision, in place, as PEFT does with what it draws."""
    stored = getattr(site.layer, site.kind.parameter).dtype
    return tensor.copy_(tensor.to(stored)) if stored in (torch.bfloat16, torch.float16) else tensor


def zeros(site: Site, shapes: Shapes) -> dict[str, Tensor]:
    """Return zeros of these shapes in fp32, where the layer is."""
    device = getattr(site.layer, site.kind.parameter).device
    return {name: torch.zeros(shape, device=device) for name, shape in shapes.items()}
