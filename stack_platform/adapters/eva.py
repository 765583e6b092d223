"""EVA (Paischer et al. 2024): A starts as the main directions of what a layer reads, ranks go where they explain most.

The directions are exact: mean and covariance of the inputs are summed over all batches, and decomposed once.
PEFT 0.21.2 updates a truncated decomposition batch by batch until it hardly turns. The price is I^2 numbers for each
distinct input of width I; layers that read the same tensor (query, key and value) share one.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.lora import EvaConfig, LoraConfig
from stack_platform.adapters.inject import Placement
from stack_platform.adapters.plan import plan
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.layer import AdaptedLayer
    from stack_platform.adapters.model import PeftModel

Forward = Callable[[nn.Module, Any], Any]
"""(model, batch) to whatever; called for its effect on hooks."""


@dataclass(slots=True)
class _Moments:
    """Sums over the inputs of one or several layers."""

    count: int
    first: Tensor
    second: Tensor

    def add(self, x: Tensor) -> None:
        self.count += x.shape[0]
        self.first += x.sum(dim=0)
        self.second += x.T @ x

    def directions(self) -> tuple[Tensor, Tensor]:
        """Return the main directions [I, I], the largest variance first, and these variances as shares of their sum."""
        mean = self.first / self.count
        covariance = self.second / self.count - torch.outer(mean, mean)
        variances, vectors = torch.linalg.eigh(covariance)
        variances = variances.flip(0).clamp(min=0)
        return vectors.T.flip(0), variances


def initialize_lora_eva_weights(
    peft_model: "PeftModel",
    dataloader: Iterable[Any],
    adapter_name: str = "default",
    forward_fn: Forward | None = None,
) -> None:
    """Set A of an adapter with `init_lora_weights="eva"` from data, and its ranks by what they explain.

    `dataloader` gives batches that the model takes as keyword arguments; `forward_fn` calls it otherwise. Call this
    before the optimizer is made: the adapter's tensors are new. Ranks, from 1 to `rho` times `r`, sum to what they did.
    Raises: AdapterError for another initialization, no data, a model on the meta device, or a layer that is not linear.
    """
    base = peft_model.base_model
    config = base.peft_config.get(adapter_name)
    if not isinstance(config, LoraConfig) or config.init_lora_weights != "eva" or config.eva_config is None:
        raise AdapterError(f"adapter {adapter_name!r} has not init_lora_weights='eva'; make it with this")
    layers = {path: layer for path, layer in base.layers.items() if adapter_name in layer.adapters}
    if any(getattr(layer.owner()[0], layer.kind.parameter).is_meta for layer in layers.values()):
        raise AdapterError(
            "init_lora_weights='eva' runs the model, but the model is on the meta device; load it first"
        )
    moments = _gather(peft_model, layers, dataloader, config.eva_config, forward_fn or _by_keywords)
    found = _directions(moments)
    ranks = distribute_ranks({path: share for path, (_, share) in found.items()}, config)
    alpha = {path: config.lora_alpha * rank / config.r for path, rank in ranks.items() if rank != config.r}
    changed = replace(
        config,
        rank_pattern={re.escape(path): rank for path, rank in ranks.items() if rank != config.r},
        alpha_pattern={re.escape(path): a for path, a in alpha.items()}
        if config.eva_config.adjust_scaling_factors
        else config.alpha_pattern,
    )
    was_active, trains = (
        base.active_adapters,
        any(p.requires_grad for p in base.adapter_parameters(adapter_name)),
    )
    full = next(iter(base.adapter_parameters(adapter_name))).dtype == torch.float32
    base.delete_adapter(adapter_name)
    base.add_adapter(adapter_name, plan(peft_model.get_base_model(), changed), placement=Placement(full))
    with torch.no_grad():
        for path, (vectors, variances) in found.items():
            A = base.layers[path].tensors(adapter_name)["lora_A"]
            scale = variances[: len(A), None].sqrt().clamp(min=1e-12) if config.eva_config.whiten else 1.0
            A.copy_(vectors[: len(A)] / scale)
    peft_model.set_adapter(was_active, inference_mode=not trains)


def distribute_ranks(variances: Mapping[str, Tensor], config: LoraConfig) -> dict[str, int]:
    """Return the rank of each layer: the directions that explain the largest share of their layer's variance win.

    No layer gets less than 1 or more than `rho` times `r`; the sum stays what it was.
    """
    assert config.eva_config is not None
    longest = math.floor(config.r * config.eva_config.rho)
    shares = []
    for path, values in variances.items():
        part = (values / values.sum().clamp(min=1e-30))[:longest].tolist()
        shares += [(share, path) for share in part[1:]]
    ranks = dict.fromkeys(variances, 1)
    for _, path in sorted(shares, key=lambda item: (-item[0], item[1]))[: (config.r - 1) * len(ranks)]:
        ranks[path] += 1
    return ranks


def _directions(moments: Mapping[str, _Moments]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each layer's directions and variances; layers that read the same share one decomposition."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for sums in moments.values():
        if id(sums) not in found:
            found[id(sums)] = sums.directions()
    return {path: found[id(sums)] for path, sums in moments.items()}


def _gather(
    model: "PeftModel",
    layers: Mapping[str, "AdaptedLayer"],
    batches: Iterable[Any],
    config: EvaConfig,
    forward: Forward,
) -> dict[str, _Moments]:
    moments: dict[str, _Moments] = {}
    seen: dict[int, tuple[Tensor, _Moments]] = {}
    kept: list[Tensor | None] = [None]

    def hook(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def observe(_layer: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0]
            if id(x) in seen and (path not in moments or moments[path] is seen[id(x)][1]):
                moments[path] = seen[id(x)][1]  # counted already, for a layer that reads the same
                return
            width = x.shape[-1]
            rows = x.reshape(-1, width) if kept[0] is None else x[kept[0].to(x.device)]
            zero = torch.zeros(width, dtype=torch.float64, device=x.device)
            sums = moments.setdefault(path, _Moments(0, zero, torch.outer(zero, zero)))
            sums.add(rows.to(torch.float64))
            seen[id(x)] = (x, sums)

        return observe

    for path, layer in layers.items():
        if layer.kind.name != "linear":
            raise AdapterError(f"init_lora_weights='eva' works on linear layers, not on {path!r}; exclude it")
    handles = [layer.register_forward_pre_hook(hook(path)) for path, layer in layers.items()]
    training = model.training
    try:
        with torch.no_grad(), model.disable_adapter():
            model.eval()
            for batch in batches:
                seen.clear()
                kept[0] = _mask(batch, config)
                forward(model, batch)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    if missing := sorted(layers.keys() - moments.keys()):
        raise AdapterError(
            f"the data never reached {missing[0]!r} ({len(missing)} of {len(layers)}); give batches that do"
        )
    return moments


def _mask(batch: Any, config: EvaConfig) -> Tensor | None:
    """Return which positions [batch, tokens] count: those with a loss, or those that are no padding."""
    if not isinstance(batch, Mapping):
        return None
    labels, attended = batch.get("labels"), batch.get("attention_mask")
    if config.use_label_mask and isinstance(labels, Tensor) and labels.dim() == 2:
        return labels != config.label_mask_value
    return attended.bool() if isinstance(attended, Tensor) else None


def _by_keywords(model: nn.Module, batch: Any) -> Any:
    return model(**batch) if isinstance(batch, Mapping) else model(batch)
