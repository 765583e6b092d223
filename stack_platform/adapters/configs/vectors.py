"""IA3, VeRA and trainable tokens: methods that learn a few vectors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from stack_platform.adapters.configs.fields import PeftConfig, PeftType, assign, choice, settle, whole
from stack_platform.errors import ConfigError


@dataclass(slots=True, kw_only=True)
class IA3Config(PeftConfig):
    """(IA)3 (Liu et al. 2022): outputs, or inputs of feed-forward layers, are scaled one by one."""

    target_modules: str | tuple[str, ...] | None = None
    """As in LoraConfig; None takes key, value and the last feed-forward projection."""
    exclude_modules: str | tuple[str, ...] | None = None
    """As in LoraConfig."""
    feedforward_modules: str | tuple[str, ...] | None = None
    """Those targets whose input is scaled, not their output."""
    fan_in_fan_out: bool = False
    """True where weights are stored [in, out]. Found from the layer; kept for PEFT's readers."""
    modules_to_save: tuple[str, ...] | None = None
    """As in LoraConfig."""
    init_ia3_weights: bool = True
    """True starts at ones; False at random, for tests."""

    prefix: ClassVar[str] = "ia3_"

    def __post_init__(self) -> None:
        settle(self, PeftType.IA3)
        choice("init_ia3_weights", self.init_ia3_weights, (True, False))
        forward, targets = self.feedforward_modules, self.target_modules
        if (
            isinstance(forward, tuple)
            and isinstance(targets, tuple)
            and (extra := set(forward) - set(targets))
        ):
            raise ConfigError(
                f"feedforward_modules: {sorted(extra)} are no target_modules; add them there too"
            )


@dataclass(slots=True, kw_only=True)
class VeraConfig(PeftConfig):
    """VeRA (Kopiczko et al. 2024): random A and B shared by all layers, and two learned vectors per layer."""

    r: int = 256
    """Rank of the shared matrices."""
    target_modules: str | tuple[str, ...] | None = None
    """As in LoraConfig."""
    projection_prng_key: int = 0
    """Seed of the shared matrices; the same for all adapters of a model."""
    save_projection: bool = True
    """True saves the shared matrices; False draws them again from the seed on load."""
    vera_dropout: float = 0.0
    """Probability that an input is zeroed in training."""
    d_initial: float = 0.1
    """First value of the inner vector."""
    fan_in_fan_out: bool = False
    """True where weights are stored [in, out]. Found from the layer; kept for PEFT's readers."""
    bias: str = "none"
    """Which biases of the base train with the adapter: "none", "all", "vera_only"."""
    modules_to_save: tuple[str, ...] | None = None
    """As in LoraConfig."""
    init_weights: bool = True
    """True starts at no change; False at random, for tests."""
    layers_to_transform: int | tuple[int, ...] | None = None
    """As in LoraConfig."""
    layers_pattern: str | tuple[str, ...] | None = None
    """As in LoraConfig."""

    prefix: ClassVar[str] = "vera_lambda_"

    def __post_init__(self) -> None:
        settle(self, PeftType.VERA)
        whole("r", self.r)
        whole("projection_prng_key", self.projection_prng_key, 0)
        choice("bias", self.bias, ("none", "all", "vera_only"))
        choice("init_weights", self.init_weights, (True, False))


@dataclass(slots=True, kw_only=True)
class TrainableTokensConfig(PeftConfig):
    """Train some rows of the embedding in full, as for new tokens."""

    token_indices: tuple[int, ...] = ()
    """Rows to train."""
    target_modules: str | tuple[str, ...] | None = None
    """Embeddings to train; None takes the input embedding."""
    init_weights: bool = True
    """True starts at the rows as they are; False at random, for tests."""

    prefix: ClassVar[str] = "trainable_tokens_"

    def __post_init__(self) -> None:
        settle(self, PeftType.TRAINABLE_TOKENS)
        choice("init_weights", self.init_weights, (True, False))
        given: object = self.token_indices
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ConfigError(f"token_indices={given!r}; write a list of token numbers")
        rows = tuple(given)
        for row in rows:
            whole("token_indices", row, 0)
        if len(set(rows)) != len(rows):
            raise ConfigError(f"token_indices={list(rows)} names a token twice; name each once")
        assign(self, "token_indices", rows)
