"""What is learned: the networks whose output is the virtual tokens of one adapter.

Each is called without input and returns a matrix: for prompt tuning and P-tuning one embedding per row [V S, D], for
prefix tuning the keys and values of all layers [V, L 2 H K].

    V virtual tokens     S transformer submodules, 2 for encoder and decoder     D size of the embeddings
    L layers             H heads and K size of a head, of keys and values; H K is `token_dim` of a prefix

Names and order of the parameters, and the draws that start them, are PEFT's: one seed gives both the same values. All
is in fp32, whatever the model's format.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stack_platform.adapters.configs.prompts import (
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptEncoderReparameterizationType,
    PromptLearningConfig,
)
from stack_platform.adapters.prompts.initial import start_tokens
from stack_platform.errors import AdapterError

PROMPT_KEY = "prompt_embeddings"
_PREFIX = "base_model.model."  # of every other adapter's keys


class SoftPrompt(nn.Module):
    """Virtual tokens that are parameters themselves, as in prompt tuning, and in whatever was loaded from a file."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(rows, columns)
        self.kept: list[tuple[int, int] | None] | None = (
            None  # what the model's layers keep, once it was looked at
        )

    def forward(self) -> Tensor:
        """Return all rows."""
        return self.embedding.weight


class PromptEncoder(SoftPrompt):
    """Virtual tokens that a network computes from embeddings of its own (P-tuning)."""

    def __init__(self, rows: int, columns: int, config: PromptEncoderConfig) -> None:
        super().__init__(rows, columns)
        hidden = config.encoder_hidden_size or columns
        self.lstm_head: nn.Module | None = None
        if config.encoder_reparameterization_type is PromptEncoderReparameterizationType.LSTM:
            self.lstm_head = nn.LSTM(
                columns,
                hidden,
                num_layers=config.encoder_num_layers,
                dropout=config.encoder_dropout,
                bidirectional=True,
                batch_first=True,
            )
            layers: list[nn.Module] = [
                nn.Linear(2 * hidden, 2 * hidden),
                nn.ReLU(),
                nn.Linear(2 * hidden, columns),
            ]
        else:
            layers = [nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
            layers.append(nn.Linear(hidden, columns))
        self.mlp_head = nn.Sequential(*layers)

    def forward(self) -> Tensor:
        """Compute the virtual tokens."""
        rows = self.embedding.weight
        if self.lstm_head is not None:
            rows = self.lstm_head(rows.unsqueeze(0))[0].squeeze(0)
        computed: Tensor = self.mlp_head(rows)
        return computed


class PrefixEncoder(SoftPrompt):
    """Keys and values that a network computes from smaller embeddings (prefix tuning with projection)."""

    def __init__(self, rows: int, columns: int, config: PrefixTuningConfig) -> None:
        size = config.token_dim
        assert size is not None
        super().__init__(rows, size)
        hidden = config.encoder_hidden_size or size
        first, last = nn.Linear(size, hidden), nn.Linear(hidden, columns)
        self.transform = nn.Sequential(first, nn.Tanh(), last)
        if config.init_weights == "zero":
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self) -> Tensor:
        """Compute the keys and values."""
        computed: Tensor = self.transform(self.embedding.weight)
        return computed


def prompt_shape(config: PromptLearningConfig) -> tuple[int, int]:
    """Return the shape of what the encoder of a filled-in configuration returns, and of what its file holds."""
    tokens, size = _known(config.num_virtual_tokens), _known(config.token_dim)
    if isinstance(config, PrefixTuningConfig):
        return tokens, _known(config.num_layers) * 2 * size
    return tokens * _known(config.num_transformer_submodules), size


@torch.no_grad()
def computed(encoder: SoftPrompt, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return what the encoder computes without dropout, for a file; PEFT 0.21.2 drops values in training mode.

    `parameters` are values to compute with, where its own are kept in parts.
    """
    training = encoder.training
    encoder.eval()
    try:
        values: Tensor = functional_call(encoder, dict(parameters or {}), ())
        return values
    finally:
        encoder.train(training)


def head_key(key: str) -> str:
    """Return the key of a trained head's tensor beside a prompt: PEFT's lack the step `model`.

    >>> head_key("base_model.model.score.weight")
    'base_model.score.weight'
    """
    return f"base_model.{key.removeprefix(_PREFIX)}"


def check_trainable(config: PromptLearningConfig) -> None:
    """Check that a prompt from a file can go on training.

    Raises: AdapterError where a network computed it: the file holds what it computed, not the network.
    """
    projected = isinstance(config, PrefixTuningConfig) and config.prefix_projection
    if projected or isinstance(config, PromptEncoderConfig):
        raise AdapterError(
            f"is_trainable=True: the network of this {config.peft_type} prompt is not in its file, as in PEFT; train a "
            "new one, or use prompt tuning or a prefix without projection"
        )


def build_encoder(config: PromptLearningConfig, words: nn.Module, values: Tensor | None = None) -> SoftPrompt:
    """Build the encoder of a filled-in configuration anew, or around the values of a file.

    A new one draws from torch's default generator; `words` are the model's embeddings.
    """
    rows, columns = prompt_shape(config)
    if values is not None:
        return _holding(SoftPrompt(rows, columns), values)
    if isinstance(config, PromptEncoderConfig):
        return PromptEncoder(rows, columns, config)
    if isinstance(config, PrefixTuningConfig) and config.prefix_projection:
        return PrefixEncoder(rows, columns, config)
    encoder = SoftPrompt(rows, columns)
    if isinstance(config, PrefixTuningConfig) and config.init_weights == "zero":
        nn.init.zeros_(encoder.embedding.weight)
    tokens = start_tokens(config, rows, int(words.num_embeddings))  # type: ignore[arg-type]
    if tokens is None:
        return encoder
    with torch.no_grad():
        return _holding(encoder, words(tokens.to(next(words.parameters()).device)))


def _holding(encoder: SoftPrompt, values: Tensor) -> SoftPrompt:
    with torch.no_grad():
        encoder.embedding.weight.copy_(values)
    return encoder


def _known(value: Any) -> int:
    assert value is not None, "the configuration was not filled in"
    return int(value)
