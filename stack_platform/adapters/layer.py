"""The adapted layer: a base layer and the adapters beside it.

One class for every storage, kind of layer and variant: it keeps the adapters, lets the active ones wrap the base
layer, and swaps the base weight for a merged one. What a weight looks like is `weights`; what the layer computes is
`kinds`; what an adapter computes is `variants`. An `if` on any of them in this file would be in the wrong place.

Parameters carry PEFT's names: `base_layer.weight`, `lora_A.<adapter>.weight`, `hada_w1_a.<adapter>`.

Precision: an adapter computes in its own dtype (fp32 unless asked otherwise) and the output keeps the dtype of the
base layer, as in PEFT.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stack_platform.adapters.fusing.shared_inputs import SharedInputs, lora_projection
from stack_platform.adapters.kinds import UNCALLED, UNCALLED_LINEAR, Kind, kind_of
from stack_platform.adapters.layer_verbs import LayerVerbs
from stack_platform.adapters.mixing.routing import Rows, gated, routed
from stack_platform.adapters.mixing.stacking import Stacks
from stack_platform.adapters.storage.weights import compute_dtype, is_dense_layer, set_weight, weight_of
from stack_platform.adapters.variants.table import variant_of
from stack_platform.adapters.variants.variant import Adapter, Site
from stack_platform.errors import AdapterError


@dataclass(slots=True)
class Switch:
    """Which adapters act now; one for all layers of a model, so that switching visits no layer."""

    active: tuple[str, ...] = ()
    """Names in the order in which they wrap the base layer."""
    weights: dict[str, float] = field(default_factory=dict)
    """What adapters' updates are multiplied by; 1 for those that are not here."""
    enabled: bool = True
    """False: the base model's outputs."""
    rows: Rows | None = None
    """One adapter for each row of the batch, instead of the active ones."""
    gates: Mapping[str, Tensor] | None = None
    """Factor of each adapter's update for each token [batch, tokens], or [batch, tokens, layers]."""
    fused: SharedInputs | None = None
    """Computes LoRA on dense linear layers as one operation; None: by PEFT's sequence of operations."""

    own: bool = False
    """Of one layer alone, which was told something for itself."""
    apart: bool = False
    """Whether layers that looked at this switch have one of their own now."""

    @property
    def one_or_all(self) -> str | list[str]:
        """The name of the active adapter, or the names where they are not one."""
        return self.active[0] if len(self.active) == 1 else list(self.active)


class Factor(nn.Module):
    """Trainable tensors of one adapter; a module so that its parameters have PEFT's names."""


class AdaptedLayer(LayerVerbs):
    """A base layer whose inputs, outputs or weight the active adapters change, in the order they were activated."""

    base_layer: nn.Module
    number: int
    _places: dict[str, dict[str, tuple[nn.Module, str]]]
    _shared: dict[str, dict[str, nn.Module]]
    _originals: list[tuple[nn.Module, nn.Parameter, nn.Parameter | None]]
    _residuals: list[tuple[str, nn.Parameter]]
    _hidden: list[nn.Parameter]

    def __init__(self, base_layer: nn.Module, kind: Kind | None = None, switch: Switch | None = None) -> None:
        super().__init__()
        found = kind or (UNCALLED_LINEAR if isinstance(base_layer, UNCALLED) else kind_of(base_layer))
        if found is None:
            raise AdapterError(f"a {type(base_layer).__name__} cannot be adapted; target linear layers")
        self._modules["base_layer"] = base_layer
        # Into __dict__ at once: nn.Module looks at each attribute for parameters and modules, which these are not.
        self.__dict__ |= {
            "kind": found,
            "switch": switch or Switch(),
            "adapters": {},
            "merged_adapters": (),
            "stacks": Stacks(),
            "number": 0,  # position among the adapted layers, for gates that differ by layer
            # Where each tensor is: a module and an attribute. Neither these nor the originals are part of the model.
            "_places": {},
            "_shared": {},
            "_originals": [],
            "_residuals": [],
            "_hidden": [],  # what is left of the weight, while the original computes
        }

    # Adapters ---------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        adapter: Adapter,
        tensors: Mapping[str, Tensor],
        shared: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Put an adapter beside the base layer; it is not active yet.

        `shared` maps more tensors to modules that hold them as a buffer of the adapter's name.
        """
        variant = variant_of(adapter)
        self._places[name] = {}
        for tensor_name, tensor in tensors.items():
            parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
            where = variant.parameter(tensor_name, name)
            self._places[name][tensor_name] = _put(self, where.split("."), parameter)
        self._shared[name] = dict(shared or {})
        self.adapters[name] = adapter
        self.stacks.kept.clear()

    def remove(self, name: str) -> None:
        """Take an adapter away; the layer must not be merged with it.

        Raises: AdapterError when a later adapter started from the weight that this one left.
        """
        self.stacks.kept.clear()
        self._restore_residual(name)
        variant = variant_of(self.adapters.pop(name))
        for stem in {variant.parameter(key, name).partition(".")[0] for key in self._places.pop(name)}:
            holder: Any = self._modules[stem]
            del holder[name]
            if not len(holder):
                del self._modules[stem]
        self._shared.pop(name, None)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the trainable tensors of an adapter by name."""
        found = {}
        for key, (module, attribute) in self._places[name].items():
            parameter = module._parameters.get(attribute)  # noqa: SLF001 - ten times as fast as an attribute
            found[key] = getattr(module, attribute) if parameter is None else parameter
        return found

    def weighted(self, name: str, weight: float | None = None) -> Adapter:
        """Return an adapter with its scaling times a weight, by default the one it was activated with."""
        adapter = self.adapters[name]
        weight = self.switch.weights.get(name, 1.0) if weight is None else weight
        return adapter if weight == 1 else replace(adapter, scaling=adapter.scaling * weight)

    def site(self, name: str, weight: float | None = None) -> Site:
        """Return what an adapter's functions may read here; `weight` is that of `weighted`."""
        tensors = self.tensors(name)
        tensors |= {key: holder.get_buffer(name) for key, holder in self._shared[name].items()}
        return Site(self.weighted(name, weight), self.base_layer, self.kind, tensors)

    # Computing --------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the base layer's output, changed by each active adapter."""
        switch = self.switch
        self.stacks.forget_in_training()
        if switch.enabled and not self.merged_adapters:
            if switch.rows is not None:
                return routed(self, switch.rows, args, kwargs)
            names = [name for name in switch.active if name in self.adapters]
            if names and switch.gates is not None:
                return gated(self, names, switch.gates, args, kwargs)
            plain = names and len(args) == 1 and not kwargs
            if plain and (fused := switch.fused) and (projection := lora_projection(self)):
                return fused.output(self, args[0], projection)
            if names:
                return self.run([self.site(name) for name in names], args, kwargs)
        return self.base_layer(*args, **kwargs)

    def run(self, sites: list[Site], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the base layer's output, changed by some adapters, the first one innermost."""
        variants = [variant_of(site.adapter) for site in sites]
        if not self.kind.called or any(self.kind.name in variant.by_weight for variant in variants):
            return self._run_merged(sites, args, kwargs)
        x, *rest = args
        seen = [x]
        for variant, site in zip(reversed(variants), reversed(sites), strict=True):
            seen.append(variant.inputs(site, seen[-1]) if variant.inputs else seen[-1])
        y = self.base_layer(seen.pop(), *rest, **kwargs)
        dtype = y.dtype
        for variant, site in zip(variants, sites, strict=True):
            x = seen.pop()
            y = variant.outputs(site, x, y) if variant.outputs else y
        return y.to(dtype)

    def _run_merged(self, sites: list[Site], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        owner, prefix = self.owner()
        weight, bias = self._fold(sites)
        replaced = {prefix + self.kind.parameter: self.kind.orient(weight)}
        if bias is not None and bias is not getattr(owner, "bias", None):
            replaced[f"{prefix}bias"] = bias
        return functional_call(self.base_layer, replaced, args, dict(kwargs))

    def _fold(self, sites: list[Site]) -> tuple[Tensor, Tensor | None]:
        """Return W and the bias with some adapters in them, in the layer's formats, with gradients."""
        owner, _ = self.owner()
        own = weight_of(owner, self.kind)
        dtype = torch.promote_types(own.dtype, torch.float32)
        weight = own.to(dtype)
        plain: Tensor | None = getattr(owner, "bias", None) if self.kind.called else None
        bias = plain
        for site in sites:
            tensors = {key: t.to(dtype) for key, t in site.tensors.items()}
            wide = Site(site.adapter, owner, site.kind, tensors)
            weight, bias = variant_of(site.adapter).merged(wide, weight, bias)
        narrow = compute_dtype(owner, self.kind)
        return weight.to(narrow), bias if bias is None or bias is plain else bias.to(plain.dtype)  # type: ignore[union-attr]

    def owner(self) -> tuple[nn.Module, str]:
        """Return the module that has the weight, and the path to it from the base layer.

        They differ where several parameters of one module are adapted: each has a layer around the last one's.
        """
        owner, prefix = self.base_layer, ""
        while isinstance(owner, AdaptedLayer):
            owner, prefix = owner.base_layer, f"{prefix}base_layer."
        return owner, prefix

    # Merging ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def merged_weight(self, names: Iterable[str]) -> tuple[Tensor, Tensor | None]:
        """Return W and the bias with the named adapters in them, summed in at least fp32 and rounded once."""
        training = self.base_layer.training
        self.base_layer.train(mode=False)  # no dropout in a merge
        try:
            return self._fold([self.site(name) for name in names])
        finally:
            self.base_layer.train(training)

    def merge(self, safe_merge: bool = False, adapter_names: Iterable[str] | None = None) -> None:
        """Replace the base weight by the merged one, keeping the original for `unmerge`.

        By default the active adapters are merged; what is merged already stays so.
        Raises: AdapterError with `safe_merge` when the merged weight is not finite; nothing is changed then.
        """
        names = [*self.merged_adapters, *(self.switch.active if adapter_names is None else adapter_names)]
        here = tuple(dict.fromkeys(name for name in names if name in self.adapters))
        if here == self.merged_adapters:
            return
        before = self.merged_adapters
        self.unmerge()
        weight, bias = self.merged_weight(here)
        if safe_merge and not weight.isfinite().all():
            self.merge(adapter_names=before)
            raise AdapterError(f"merging {', '.join(here)} gives values that are not finite; check for NaN")
        owner, _ = self.owner()
        old = getattr(owner, "bias", None) if self.kind.called else None
        self._originals = [(owner, getattr(owner, self.kind.parameter), old)]
        self.put(weight, bias)
        self.merged_adapters = here

    def put(self, weight: Tensor, bias: Tensor | None, *, in_place: bool = False) -> None:
        """Give the base layer a new weight and bias; beside a quantized weight it becomes a dense layer."""
        owner, _ = self.owner()
        holder = set_weight(owner, weight, self.kind, in_place=in_place)
        if bias is not None and self.kind.called:
            old = holder.bias
            if bias is not old:
                fresh = nn.Parameter(bias.detach().to(old), requires_grad=old.requires_grad)  # type: ignore[arg-type]
                holder.bias = fresh
        if holder is not owner:
            self.base_layer = holder

    def unmerge(self) -> None:
        """Put the original parameters back, bit for bit; nothing is subtracted."""
        if not self.merged_adapters:
            return
        layer, parameter, bias = self._originals.pop()
        owner, _ = self.owner()
        current = getattr(owner, self.kind.parameter)
        if is_dense_layer(layer, self.kind):
            parameter = _like(parameter, current)
            bias = None if bias is None else _like(bias, owner.bias)  # type: ignore[arg-type]
        setattr(layer, self.kind.parameter, parameter)
        if bias is not None:
            layer.bias = bias
        if owner is self.base_layer:
            self.base_layer = layer
        self.merged_adapters = ()

    # Weights that an initialization changed ---------------------------------------------------------------

    def keep_residual(self, name: str, weight: Tensor) -> None:
        """Give the base the weight that an adapter's start left to it, and keep the original."""
        self._residuals.append((name, getattr(self.base_layer, self.kind.parameter)))
        set_weight(self.base_layer, weight, self.kind)

    def use_original(self, original: bool) -> None:
        """Compute with the weight from before any adapter's start, or with what is left of it."""
        if not self._residuals or original == bool(self._hidden):
            return
        current = getattr(self.base_layer, self.kind.parameter)
        if original:
            self._hidden = [current]
            parameter = self._residuals[0][1]
        else:
            parameter = self._hidden.pop()
        setattr(self.base_layer, self.kind.parameter, _like(parameter, current))

    def restore_base(self) -> None:
        """Give the base back the weight it had before any adapter; the layer must not be merged."""
        for name in [other for other, _ in reversed(self._residuals)]:
            self._restore_residual(name)

    def _restore_residual(self, name: str) -> None:
        names = [other for other, _ in self._residuals]
        if name not in names:
            return
        if names[-1] != name:
            raise AdapterError(
                f"adapter {names[-1]!r} started from the weight that {name!r} left; delete {names[-1]!r} first"
            )
        self.use_original(False)
        _, parameter = self._residuals.pop()
        current = getattr(self.base_layer, self.kind.parameter)
        setattr(self.base_layer, self.kind.parameter, _like(parameter, current))

    # Answering for the base layer -------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("base_layer", "kind"):  # not initialized yet; looking further would never end
                raise
        if name == self.kind.parameter and not self.kind.called and self._acting():
            return self.kind.orient(self._fold([self.site(n) for n in self._acting()])[0])
        if name == "in_features":
            return self.kind.shape(self.base_layer)[1]
        if name == "out_features":
            return self.kind.shape(self.base_layer)[0]
        return getattr(self.base_layer, name)

    def _acting(self) -> list[str]:
        if not self.switch.enabled or self.merged_adapters:
            return []
        return [name for name in self.switch.active if name in self.adapters]


def _put(layer: AdaptedLayer, path: list[str], parameter: nn.Parameter) -> tuple[nn.Module, str]:
    """Register a parameter at <stem>.<adapter> or <stem>.<adapter>.<attribute>; return where it is."""
    # Into the dictionaries at once, not by setattr: a layer answers for the one inside it, which may have a module of
    # that name, and nn.Module's checks would cost more than the adapter.
    stem, adapter, *attribute = path
    holder: Any = layer._modules.get(stem)  # noqa: SLF001
    if holder is None:
        holder = layer._modules[stem] = nn.ModuleDict() if attribute else nn.ParameterDict()  # noqa: SLF001
    fits = isinstance(holder, nn.ModuleDict if attribute else nn.ParameterDict)
    if not fits:
        raise AdapterError(f"two methods on one layer both call a tensor {stem!r}; use one of them")
    if not attribute:
        holder[adapter] = parameter
        return holder, adapter
    factor: Any = holder._modules.get(adapter)  # noqa: SLF001
    if factor is None:
        factor = holder._modules[adapter] = Factor()  # noqa: SLF001
    factor._parameters[attribute[0]] = parameter  # noqa: SLF001
    return factor, attribute[0]


def _like(parameter: nn.Parameter, current: Tensor) -> nn.Parameter:
    """Return a parameter where its layer is now, and in its format."""
    if parameter.device == current.device and parameter.dtype == current.dtype:
        return parameter
    return nn.Parameter(parameter.to(current), requires_grad=parameter.requires_grad)
