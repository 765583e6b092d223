"""What PEFT's layers say of themselves and can be told, one layer at a time.

All layers of a model look at one switch. A layer that is told something for itself gets a switch of its own, until the
model's `set_adapter` brings all together again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.variants.table import variant_of
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.kinds import Kind
    from stack_platform.adapters.layer import Switch
    from stack_platform.adapters.mixing.stacking import Stacks
    from stack_platform.adapters.variants.variant import Adapter, Site

_ADDS = ("adalora", "loha", "lokr", "lora", "vera")
"""Variants whose merged weight is W plus something that does not depend on W."""


class Switched(nn.Module):
    """What looks at a switch: a layer, or the model."""

    switch: "Switch"

    @property
    def active_adapters(self) -> list[str]:
        """Names of the adapters that change the output, in the order in which they do."""
        return list(self.switch.active)

    @property
    def active_adapter(self) -> str | list[str]:
        """The same, and the name alone where it is one."""
        return self.switch.one_or_all


class LayerVerbs(Switched):
    """The part of an adapted layer that scripts written for PEFT's layers call."""

    adapters: "dict[str, Adapter]"
    merged_adapters: tuple[str, ...]
    kind: "Kind"
    stacks: "Stacks"

    @property
    def disable_adapters(self) -> bool:
        """Whether the base model's outputs are computed."""
        return not self.switch.enabled

    @property
    def merged(self) -> bool:
        """Whether adapters are in the base weight."""
        return bool(self.merged_adapters)

    @property
    def r(self) -> Mapping[str, int]:
        """Rank of each adapter."""
        return MappingProxyType({name: adapter.r for name, adapter in self.adapters.items()})

    @property
    def lora_alpha(self) -> Mapping[str, float]:
        """Numerator of each adapter's scaling."""
        return MappingProxyType({name: adapter.alpha for name, adapter in self.adapters.items()})

    @property
    def scaling(self) -> Mapping[str, float]:
        """Factor of each adapter's update; `set_scale` and `scale_layer` change it."""
        return MappingProxyType({name: adapter.scaling for name, adapter in self.adapters.items()})

    def get_base_layer(self) -> nn.Module:
        """Return the layer without adapters."""
        layer: nn.Module = self.owner()[0]  # type: ignore[operator]
        return layer

    def set_adapter(self, adapter_names: str | Sequence[str], inference_mode: bool = False) -> None:
        """Make adapters the active ones on this layer alone, and there the only trainable ones.

        The layer has a switch of its own from then on; adapters for each row of a batch pass it by.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._own_switch().active = tuple(names)
        for name in self.adapters:
            trains = name in names and not inference_mode
            for tensor in self._site(name).tensors.values():
                if isinstance(tensor, nn.Parameter):
                    tensor.requires_grad_(trains)

    def enable_adapters(self, enabled: bool) -> None:
        """Let the active adapters change this layer's output, or not."""
        if not enabled:
            self.unmerge()  # type: ignore[operator]
        self._own_switch().enabled = enabled
        self.use_original(not enabled)  # type: ignore[operator]

    def set_scale(self, adapter: str, scale: float) -> None:
        """Set an adapter's scaling to a multiple of what rank and alpha say; nothing where the layer lacks it."""
        if adapter in self.adapters:
            self._rescale(adapter, scale * _initial_scaling(self.adapters[adapter]))

    def scale_layer(self, scale: float) -> None:
        """Multiply the scaling of the active adapters."""
        for name in self.switch.active:
            if name in self.adapters:
                self._rescale(name, scale * self.adapters[name].scaling)

    def unscale_layer(self, scale: float | None = None) -> None:
        """Divide the scaling of the active adapters, or set it to what rank and alpha say."""
        for name in self.switch.active:
            if name in self.adapters:
                now = self.adapters[name]
                self._rescale(name, _initial_scaling(now) if scale is None else now.scaling / scale)

    def set_scalings(self, scalings: Mapping[str, float]) -> None:
        """Set the scaling of adapters; those that are no longer there are passed over."""
        for name, scaling in scalings.items():
            if name in self.adapters:
                self._rescale(name, scaling)

    @torch.no_grad()
    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return what merging an adapter adds to the stored weight.

        Raises: AdapterError for a method that does not add, but multiplies or replaces.
        """
        site = self._site(adapter)
        if site.adapter.variant not in _ADDS:
            raise AdapterError(f"{site.adapter.variant} adds nothing that is apart from the weight; merge it")
        own = next(iter(site.tensors.values()))
        zero = torch.zeros(site.shape, dtype=own.dtype, device=own.device)
        return self.kind.orient(variant_of(site.adapter).merged(site, zero, None)[0])

    def _site(self, name: str) -> "Site":
        site: Site = self.site(name)  # type: ignore[operator]
        return site

    def _own_switch(self) -> Any:
        if not self.switch.own:
            self.switch.apart = True
            self.switch = replace(self.switch, own=True)
        return self.switch

    def _rescale(self, name: str, scaling: float) -> None:
        self.adapters[name] = replace(self.adapters[name], scaling=scaling)
        self.stacks.kept.clear()


def _initial_scaling(adapter: "Adapter") -> float:
    if not adapter.r:
        return 1.0
    root = getattr(adapter.config, "use_rslora", False)
    return adapter.alpha / (math.sqrt(adapter.r) if root else adapter.r)
