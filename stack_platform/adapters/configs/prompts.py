"""Prompt tuning, prefix tuning, P-tuning: vectors in front of the input; and X-LoRA, which mixes adapters."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from stack_platform.adapters.configs.fields import (
    PeftConfig,
    PeftType,
    assign,
    choice,
    member,
    positive,
    settle,
    whole,
)
from stack_platform.errors import ConfigError


class PromptTuningInit(StrEnum):
    """Where the vectors of prompt tuning start."""

    TEXT = "TEXT"
    SAMPLE_VOCAB = "SAMPLE_VOCAB"
    RANDOM = "RANDOM"


class PromptEncoderReparameterizationType(StrEnum):
    """What computes the vectors of P-tuning."""

    MLP = "MLP"
    LSTM = "LSTM"


@dataclass(slots=True, kw_only=True)
class PromptLearningConfig(PeftConfig):
    """The fields of the methods that learn virtual tokens; what is None is taken from the model."""

    num_virtual_tokens: int | None = None
    """Virtual tokens in front of the input; must be given."""
    token_dim: int | None = None
    """Size of the model's embeddings."""
    num_transformer_submodules: int | None = None
    """1, or 2 for encoder and decoder."""
    num_attention_heads: int | None = None
    """Key and value heads of the model."""
    num_layers: int | None = None
    """Blocks of the model."""
    modules_to_save: tuple[str, ...] | None = None
    """As in LoraConfig."""

    is_prompt_learning: ClassVar[bool] = True


@dataclass(slots=True, kw_only=True)
class PromptTuningConfig(PromptLearningConfig):
    """Prompt tuning (Lester et al. 2021): learned embeddings in front of the input's."""

    prompt_tuning_init: PromptTuningInit = PromptTuningInit.RANDOM
    """Where they start: at a text, at random tokens, or at random."""
    prompt_tuning_init_text: str | None = None
    """The text, for TEXT."""
    tokenizer_name_or_path: str | None = None
    """Its tokenizer, for TEXT."""
    tokenizer_kwargs: Mapping[str, Any] | None = None
    """Arguments of the tokenizer, for TEXT."""

    def __post_init__(self) -> None:
        settle(self, PeftType.PROMPT_TUNING)
        _settle_prompt(self)
        init = member(PromptTuningInit, "prompt_tuning_init", self.prompt_tuning_init)
        assign(self, "prompt_tuning_init", init)
        for name in ("tokenizer_name_or_path", "prompt_tuning_init_text"):
            if init is PromptTuningInit.TEXT and not getattr(self, name):
                raise ConfigError(f"prompt_tuning_init='TEXT' needs {name}; write it")
        if self.tokenizer_kwargs and init is not PromptTuningInit.TEXT:
            raise ConfigError("tokenizer_kwargs serve prompt_tuning_init='TEXT' only; leave them out")


@dataclass(slots=True, kw_only=True)
class PrefixTuningConfig(PromptLearningConfig):
    """Prefix tuning (Li and Liang 2021): learned keys and values in front of every attention's."""

    init_weights: str | None = None
    """ "zero" starts at keys and values of zero, None at random."""
    encoder_hidden_size: int | None = None
    """Hidden size of the projection."""
    prefix_projection: bool = False
    """True computes keys and values from smaller embeddings by a two-layer network."""

    def __post_init__(self) -> None:
        settle(self, PeftType.PREFIX_TUNING)
        _settle_prompt(self)
        choice("init_weights", self.init_weights, (None, "zero"))
        if self.prefix_projection and self.encoder_hidden_size is not None:
            whole("encoder_hidden_size", self.encoder_hidden_size)


@dataclass(slots=True, kw_only=True)
class PromptEncoderConfig(PromptLearningConfig):
    """P-tuning (Liu et al. 2021): learned embeddings that a small network computes."""

    encoder_reparameterization_type: PromptEncoderReparameterizationType = (
        PromptEncoderReparameterizationType.MLP
    )
    """The network."""
    encoder_hidden_size: int | None = None
    """Its hidden size; None is `token_dim`."""
    encoder_num_layers: int = 2
    """Layers of the LSTM."""
    encoder_dropout: float = 0.0
    """Dropout between the layers of the LSTM."""

    def __post_init__(self) -> None:
        settle(self, PeftType.P_TUNING)
        _settle_prompt(self)
        kind = member(
            PromptEncoderReparameterizationType,
            "encoder_reparameterization_type",
            self.encoder_reparameterization_type,
        )
        assign(self, "encoder_reparameterization_type", kind)
        whole("encoder_num_layers", self.encoder_num_layers)
        if kind is PromptEncoderReparameterizationType.MLP and (
            self.encoder_num_layers,
            self.encoder_dropout,
        ) != (2, 0):
            raise ConfigError("encoder_num_layers and encoder_dropout serve the LSTM only; leave them out")


@dataclass(slots=True, kw_only=True)
class XLoraConfig(PeftConfig):
    """X-LoRA (Buehler and Buehler 2024): a classifier mixes frozen LoRA adapters, token by token."""

    hidden_size: int | None = None
    """Size of the model's hidden states; None is taken from the model."""
    adapters: Mapping[str, str] | None = None
    """Name to folder of each adapter; must be given."""
    enable_softmax: bool = True
    """True makes the weights of one token sum to 1."""
    enable_softmax_topk: bool = False
    """True does so among the `top_k_lora` largest."""
    layerwise_scalings: bool = False
    """True gives each layer weights of its own."""
    xlora_depth: int = 1
    """Linear layers of the classifier."""
    xlora_size: int = 2048
    """Hidden size of the classifier, from depth 2."""
    xlora_dropout_p: float = 0.2
    """Dropout of the classifier, from depth 2."""
    use_trainable_adapters: bool = False
    """True trains the adapters too."""
    softmax_temperature: float = 1.0
    """Divisor of the classifier's outputs before the softmax."""
    top_k_lora: int | None = None
    """Adapters that a token may use; None is all."""
    scaling_pass_value: float = 0.0
    """Weight of every adapter while the hidden states for the classifier are computed."""
    global_scaling_weight: float = 1.0
    """Factor of all updates."""

    def __post_init__(self) -> None:
        settle(self, PeftType.XLORA)
        whole("xlora_depth", self.xlora_depth)
        whole("xlora_size", self.xlora_size)
        positive("softmax_temperature", self.softmax_temperature)
        if self.top_k_lora is not None:
            whole("top_k_lora", self.top_k_lora)
        if self.enable_softmax_topk and self.top_k_lora is None:
            raise ConfigError("enable_softmax_topk=True needs top_k_lora; write it")
        if self.adapters is not None:
            assign(self, "adapters", {str(name): str(path) for name, path in self.adapters.items()})


def _settle_prompt(config: PromptLearningConfig) -> None:
    whole("num_virtual_tokens", config.num_virtual_tokens)
    for name in ("token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers"):
        if getattr(config, name) is not None:
            whole(name, getattr(config, name))
