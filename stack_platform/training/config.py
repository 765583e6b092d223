"""What a training run is told; free of torch, so that assets and the command line may build one.

The defaults are a run of about a minute on two CPU cores with bf16: 45 steps of 512 tokens on a model of 135 M
parameters. Measured on SmolLM2-135M, rank 16 on all linear layers, source of SymPy, held-out loss in nats per
token from 2.337: to 1.997 after 60 steps (30 720 tokens of 33 files; 1.116 to 0.954 bits per byte). The learning
rate was chosen on 40 steps of 1024 tokens: 5e-4 gives 2.075, 1e-3 2.024, 2e-3 1.987, 3e-3 1.981.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from stack_platform.errors import ConfigError

PrecisionName = Literal["auto", "fp32", "bf16"]
DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Sizes, schedule and precision of one training run.

    Raises: ConfigError when a value makes no sense; the message says what to write instead.
    """

    steps: int = 45
    """Updates of the adapter."""
    batch_size: int = 2
    """Blocks in one forward pass."""
    accumulation: int = 1
    """Forward passes whose gradients are averaged into one update."""
    block_size: int = 256
    """Tokens in one block; the first has no prediction."""
    learning_rate: float = 2e-3
    """Peak step size of AdamW, reached after the warmup."""
    warmup_steps: int = 5
    """Updates over which the learning rate rises linearly from zero; a cosine brings it down after them."""
    final_rate: float = 0.1
    """Learning rate after the last update, as a share of `learning_rate`."""
    weight_decay: float = 0.0
    """AdamW's decay; zero, as usual for adapters (Hu et al. 2021 leave B at zero in the beginning)."""
    max_grad_norm: float = 1.0
    """Norm to which longer gradients are cut."""
    precision: PrecisionName = "auto"
    """auto: bf16 where the processor multiplies it natively, else fp32. Adapter weights are fp32 either way."""
    device: DeviceName = "auto"
    """auto: CUDA where there is some, else the CPU."""
    gradient_checkpointing: bool = False
    """Compute activations a second time in the backward pass instead of keeping them."""
    chunk_tokens: int = 256
    """Tokens whose logits exist at one time: this times the vocabulary numbers. The fastest on a CPU; see `loss`."""
    held_out_share: float = 0.05
    """Share of the files kept out of training, to measure the loss on."""
    eval_blocks: int = 32
    """Blocks of held-out text that are measured, at most."""
    seed: int = 0
    """Seed of the adapter's start, of dropout and of the order of the blocks."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "chunk_tokens", "eval_blocks"):
            _whole(name, getattr(self, name), 1)
        _whole("block_size", self.block_size, 2)
        _whole("seed", self.seed, 0)
        _whole("warmup_steps", self.warmup_steps, 0)
        if self.warmup_steps >= self.steps and self.warmup_steps:
            raise ConfigError(
                f"warmup_steps {self.warmup_steps} leaves none of the {self.steps} steps at the full rate; "
                f"write at most {self.steps - 1}, or more steps"
            )
        _positive("learning_rate", self.learning_rate, "such as 1e-3")
        _positive("max_grad_norm", self.max_grad_norm, "such as 1.0")
        if not 0 <= self.final_rate <= 1:
            raise ConfigError(f"final_rate {self.final_rate} is not a share; write a number from 0 to 1")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ConfigError(f"weight_decay {self.weight_decay} is negative or no number; write 0 or more")
        if not 0 < self.held_out_share < 1:
            raise ConfigError(
                f"held_out_share {self.held_out_share} leaves nothing to train on or nothing to measure; "
                "write a share between 0 and 1, such as 0.05 for 5 %"
            )
        _one_of("precision", self.precision, get_args(PrecisionName))
        _one_of("device", self.device, get_args(DeviceName))

    @property
    def blocks_needed(self) -> int:
        """Blocks that all steps together read."""
        return self.steps * self.batch_size * self.accumulation


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} {value!r} makes no sense; write a whole number, {least} or more")


def _positive(name: str, value: float, example: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} {value!r} is not a positive number; write one {example}")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            f"{name} {value!r} does not exist; write {', '.join(choices[:-1])} or {choices[-1]}"
        )
