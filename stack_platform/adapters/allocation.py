"""AdaLoRA's pruning (Zhang et al. 2023): which singular values each layer keeps, decided while training.

Every value has a score: its own smoothed sensitivity times uncertainty, plus the means over its row of A and column of
B. After `tinit` steps the number of values left falls with a cubic schedule from all to `target_r` per layer; every
`deltaT` steps the lowest are set to zero, and `tfinal` steps before the end for good. As in PEFT, call
`model.base_model.update_and_allocate(step)` between `backward` and `zero_grad`, after the optimizer's step.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stack_platform.adapters.configs.lora import AdaLoraConfig
from stack_platform.errors import AdapterError

if TYPE_CHECKING:
    from stack_platform.adapters.lifecycle import AdaptedModel


class RankAllocator:
    """The smoothed sensitivity and uncertainty of every entry of one adapter."""

    def __init__(self, model: "AdaptedModel", name: str) -> None:
        config = model.peft_config[name]
        if not isinstance(config, AdaLoraConfig):
            raise AdapterError(f"adapter {name!r} is {config.peft_type}; only AdaLoRA allocates ranks")
        self.model, self.name = model, name
        self.paths = [slot.key for slot in model.plans[name].slots]
        self.sensitivity: dict[tuple[str, str], Tensor] = {}
        self.uncertainty: dict[tuple[str, str], Tensor] = {}

    @property
    def config(self) -> AdaLoraConfig:
        """The adapter's configuration, with the pattern of ranks found so far."""
        config = self.model.peft_config[self.name]
        assert isinstance(config, AdaLoraConfig)
        return config

    def step(self, number: int) -> None:
        """Take the gradients of step `number` into account, and prune where the schedule says so."""
        config, total = self.config, int(self.config.total_step or 0)
        final = total - config.tfinal
        if number > final:
            self._mask(config.rank_pattern or {})
            return
        if number < final:
            self._observe()
        if number == final or self._prunes(number):
            self._keep(self._pattern(self.budget(number)))
        if number == final:
            self.sensitivity.clear()
            self.uncertainty.clear()

    def budget(self, number: int) -> int:
        """Return how many singular values all layers together keep at a step."""
        config, total = self.config, int(self.config.total_step or 0)
        start = sum(self._tensor(path, "lora_E").shape[0] for path in self.paths)
        target = config.target_r * len(self.paths)
        if number <= config.tinit:
            return start
        if number > total - config.tfinal:
            return target
        left = 1 - (number - config.tinit) / (total - config.tfinal - config.tinit)
        return int((start - target) * left**3 + target)

    def _prunes(self, number: int) -> bool:
        return number > self.config.tinit and number % self.config.deltaT == 0

    def _tensor(self, path: str, name: str) -> Tensor:
        return self.model.layers[path].tensors(self.name)[name]

    @torch.no_grad()
    def _observe(self) -> None:
        for path in self.paths:
            for name, tensor in self.model.layers[path].tensors(self.name).items():
                if tensor.grad is None:
                    raise AdapterError(f"{path}.{name} has no gradient; call this before zero_grad")
                now, key = (tensor * tensor.grad).abs(), (path, name)
                smooth = self.sensitivity.get(key, torch.zeros_like(now))
                doubt = self.uncertainty.get(key, torch.zeros_like(now))
                smooth = self.config.beta1 * smooth + (1 - self.config.beta1) * now
                self.sensitivity[key] = smooth
                self.uncertainty[key] = (
                    self.config.beta2 * doubt + (1 - self.config.beta2) * (now - smooth).abs()
                )

    def _pattern(self, budget: int) -> dict[str, list[bool]]:
        scores = {path: self._scores(path) for path in self.paths}
        every = torch.cat(list(scores.values()))
        dropped = len(every) - budget
        if dropped <= 0:
            return {f"{path}.lora_E": [True] * len(score) for path, score in scores.items()}
        threshold = torch.kthvalue(every, dropped).values
        return {f"{path}.lora_E": (score > threshold).tolist() for path, score in scores.items()}

    def _scores(self, path: str) -> Tensor:
        parts = {
            name: self.sensitivity[path, name] * self.uncertainty[path, name]
            for name in ("lora_A", "lora_E", "lora_B")
        }
        return parts["lora_E"].flatten() + (parts["lora_A"].mean(dim=1) + parts["lora_B"].mean(dim=0))

    def _keep(self, pattern: Mapping[str, list[bool]]) -> None:
        self._mask(pattern)
        self.model.reconfigure(self.name, replace(self.config, rank_pattern=dict(pattern)))

    @torch.no_grad()
    def _mask(self, pattern: Mapping[str, list[bool]]) -> None:
        for path in self.paths:
            values, kept = self._tensor(path, "lora_E"), torch.tensor(pattern[f"{path}.lora_E"])
            if len(kept) == len(values):  # a loaded adapter has only the values that were kept
                values.masked_fill_(~kept.to(values.device).unsqueeze(1), 0.0)


def orthogonality(model: "AdaptedModel", name: str) -> Tensor:
    """Return how far A and B are from orthogonal: the mean Frobenius norm of A A' - I and B' B - I."""
    products: list[Tensor] = []
    for slot in model.plans[name].slots:
        tensors = model.layers[slot.key].tensors(name)
        products += [tensors["lora_A"] @ tensors["lora_A"].T, tensors["lora_B"].T @ tensors["lora_B"]]
    return torch.stack([torch.linalg.norm(p - torch.eye(len(p)).to(p)) for p in products]).mean()


def with_penalty(model: "AdaptedModel", output: Any) -> Any:
    """Add AdaLoRA's penalty to the loss of an output, where one is active and there is a loss."""
    loss = getattr(output, "loss", None)
    for name in model.switch.active if isinstance(loss, Tensor) and model.switch.enabled else ():
        config = model.peft_config[name]
        if isinstance(config, AdaLoraConfig) and config.orth_reg_weight:
            output.loss = output.loss + config.orth_reg_weight * orthogonality(model, name)
    return output


def kept_rows(config: AdaLoraConfig, path: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what of a layer's tensors a file holds: the singular values that pruning has left."""
    kept = (config.rank_pattern or {}).get(f"{path}.lora_E")
    if kept is None or len(kept) != len(tensors["lora_E"]):
        return dict(tensors)
    index = torch.tensor(kept, device=tensors["lora_E"].device)
    return {name: t[:, index] if name == "lora_B" else t[index] for name, t in tensors.items()}
