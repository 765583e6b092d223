"""The adapted layer: a base layer and the adapters beside it.

One class for every storage, kind of layer and variant: it keeps the adapters, chooses which are active, and
swaps the base weight for a merged one. What a weight looks like is `weights`; what an adapter computes is
`variants`. An `if` on either in this file would be in the wrong place.

Parameters carry PEFT's names: `base_layer.weight`, `lora_A.<adapter>.weight`, `lora_B.<adapter>.weight`.

Precision: an adapter computes in its own dtype (fp32 unless asked otherwise) and the output keeps the dtype of
the base layer, as in PEFT. Under autocast the input is not cast first: the product is taken in the autocast
dtype anyway, so the cast would cost memory and change no bit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from stack_platform.adapters.variants import VARIANTS, Variant
from stack_platform.adapters.weights import set_weight, weight_of
from stack_platform.errors import AdapterError


@dataclass(frozen=True, slots=True)
class Adapter:
    """All that is known of one adapter on one layer, but for its tensors."""

    r: int
    """Rank."""
    alpha: float
    """Numerator of the scaling."""
    dropout: float = 0.0
    """Probability that an input is zeroed in training."""
    variant: str = "lora"
    """Key of `VARIANTS`."""

    @property
    def rule(self) -> Variant:
        """The functions of the variant."""
        return VARIANTS[self.variant]

    @property
    def scaling(self) -> float:
        """Factor of the update."""
        return self.rule.scaling(self.alpha, self.r)


class Factor(nn.Module):
    """One trainable tensor of one adapter; a module so that its parameter has PEFT's name."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


class AdaptedLayer(nn.Module):
    """A base layer whose output or weight the active adapters change, in the order they were activated."""

    base_layer: nn.Module

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.adapters: dict[str, Adapter] = {}
        self.active: tuple[str, ...] = ()
        self.enabled = True
        self.merged_adapters: tuple[str, ...] = ()
        # The layer and the parameter from before a merge; a list, so that neither becomes part of the model.
        self._originals: list[tuple[nn.Module, nn.Parameter]] = []

    def add(self, name: str, adapter: Adapter, tensors: Mapping[str, Tensor]) -> None:
        """Put an adapter beside the base layer; it is not active yet."""
        for tensor_name, tensor in tensors.items():
            if tensor_name not in self._modules:
                self.add_module(tensor_name, nn.ModuleDict())
            self.get_submodule(tensor_name)[name] = Factor(tensor)  # type: ignore[operator]
        self.adapters[name] = adapter

    def remove(self, name: str) -> None:
        """Take an adapter away; the layer must not be merged with it."""
        for tensor_name in self.adapters.pop(name).rule.shapes(1, 1, 1):
            del self.get_submodule(tensor_name)[name]  # type: ignore[operator]
        self.active = tuple(other for other in self.active if other != name)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the trainable tensors of an adapter by name."""
        shapes = self.adapters[name].rule.shapes(1, 1, 1)
        return {key: self._modules[key][name].weight for key in shapes}  # type: ignore[index]

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return the base layer's output, changed by each active adapter."""
        y: Tensor = self.base_layer(x, *args, **kwargs)
        if not self.enabled or self.merged_adapters:
            return y
        dtype = y.dtype
        for name in self.active:
            if (adapter := self.adapters.get(name)) is None:
                continue
            tensors = self.tensors(name)
            adapter_dtype = next(iter(tensors.values())).dtype
            inputs = x if torch.is_autocast_enabled(x.device.type) else x.to(adapter_dtype)
            inputs = dropout(inputs, adapter.dropout, self.training)
            y = adapter.rule.forward(inputs, y, tensors, adapter.scaling, self.base_layer)
        return y.to(dtype)

    @torch.no_grad()
    def merged_weight(self, names: Iterable[str]) -> Tensor:
        """Return W_OI with the named adapters in it, summed in at least fp32 and rounded once to W's dtype."""
        weight_OI = weight_of(self.base_layer)
        dtype = torch.promote_types(weight_OI.dtype, torch.float32)
        result = weight_OI.to(dtype)
        for name in names:
            adapter = self.adapters[name]
            tensors = {key: t.to(dtype) for key, t in self.tensors(name).items()}
            result = adapter.rule.merged(result, tensors, adapter.scaling)
        return result.to(weight_OI.dtype)

    def merge(self, names: Iterable[str]) -> None:
        """Replace the base weight by the merged one, keeping the original for `unmerge`."""
        if self.merged_adapters:
            raise AdapterError(
                f"already merged with {', '.join(self.merged_adapters)}; unmerge_adapter first"
            )
        here = tuple(name for name in names if name in self.adapters)
        if not here:
            return
        merged = self.merged_weight(here)
        self._originals = [(self.base_layer, self.base_layer.weight)]  # type: ignore[list-item]
        self.base_layer = set_weight(self.base_layer, merged)
        self.merged_adapters = here

    def unmerge(self) -> None:
        """Put the original parameter back, bit for bit; nothing is subtracted."""
        if not self.merged_adapters:
            return
        layer, parameter = self._originals.pop()
        current = weight_of(self.base_layer)
        if parameter.device != current.device or parameter.dtype != current.dtype:  # moved while merged
            parameter = nn.Parameter(parameter.to(current), requires_grad=parameter.requires_grad)
        layer.weight = parameter
        self.base_layer = layer
        self.merged_adapters = ()

    @property
    def weight(self) -> Tensor:
        """The base layer's parameter; model code asks a linear layer for it."""
        return self.base_layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        return self.base_layer.bias  # type: ignore[return-value]

    @property
    def in_features(self) -> int:
        """I of the base layer."""
        return int(weight_of(self.base_layer).shape[1])

    @property
    def out_features(self) -> int:
        """O of the base layer."""
        return int(weight_of(self.base_layer).shape[0])
