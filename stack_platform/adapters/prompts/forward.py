"""Call a model with virtual tokens in front of its input.

    prompt tuning, P-tuning    their embeddings stand before the input's; masks and labels grow with them, so logits are
                               [N, V + T, ...]; of an encoder and decoder, the encoder's input
    prefix tuning              their keys and values are in the cache; logits stay [N, T, ...]

N rows, T tokens, V virtual tokens.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.fields import TaskType
from stack_platform.adapters.configs.prompts import PrefixTuningConfig, PromptLearningConfig
from stack_platform.adapters.prompts.encoders import SoftPrompt
from stack_platform.adapters.prompts.inputs import (
    check_padding,
    longer_labels,
    longer_mask,
    moved,
    rows_of,
)
from stack_platform.adapters.prompts.prefix import checkpointed, prefix_cache
from stack_platform.adapters.prompts.sizes import embeddings_of, kept_shapes
from stack_platform.errors import AdapterError

_LABEL_PER_TOKEN = (TaskType.CAUSAL_LM, TaskType.TOKEN_CLS)


def forward_with_prompt(
    config: PromptLearningConfig,
    encoder: SoftPrompt,
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    call: Callable[..., Any] | None = None,
) -> Any:
    """Return the model's outputs for inputs behind the virtual tokens; `call` runs it, where more belongs to a run.

    Raises: AdapterError for inputs that cannot stand behind them, or a model that takes no prefix.
    """
    named = dict(zip(inspect.signature(model.forward).parameters, args, strict=False)) | dict(kwargs)
    if isinstance(config, PrefixTuningConfig):
        put = _behind_prefix(config, encoder, model, named)
        with checkpointed(model, put["past_key_values"]):
            return (call or model)(**put)
    return (call or model)(**_behind_embeddings(config, encoder, model, named))


def prompt_rows(encoder: SoftPrompt, config: PromptLearningConfig, like: Tensor, rows: int) -> Tensor:
    """Return the embeddings of the virtual tokens for each row [N, V, D], in a tensor's format.

    With an encoder and a decoder the matrix has rows for both, as in PEFT, and the encoder takes the first half.
    """
    prompt: Tensor = encoder()[: config.num_virtual_tokens]
    return prompt.to(like).expand(rows, -1, -1)


def prefix_of(config: PromptLearningConfig, encoder: SoftPrompt, model: nn.Module, rows: int) -> Any:
    """Return the cache of a prefix; the first call looks at what the model's layers keep."""
    if encoder.kept is None:
        encoder.kept = kept_shapes(model)
    return prefix_cache(encoder(), config, model, rows, encoder.kept)


def _behind_embeddings(
    config: PromptLearningConfig, encoder: SoftPrompt, model: nn.Module, named: dict[str, Any]
) -> dict[str, Any]:
    tokens = config.num_virtual_tokens
    assert tokens is not None
    ids, embeds = named.pop("input_ids", None), named.pop("inputs_embeds", None)
    rows = rows_of(ids, embeds)
    put = moved(named, tokens, whole=True)
    mask = put["attention_mask"] = longer_mask(named.get("attention_mask"), tokens)
    check_padding(model, mask)
    if (labels := named.get("labels")) is not None and config.task_type in (None, *_LABEL_PER_TOKEN):
        put["labels"] = longer_labels(labels, tokens)
    for name in ("start_positions", "end_positions"):
        if named.get(name) is not None:
            put[name] = named[name] + tokens
    if embeds is None:
        embeds = embeddings_of(model)(ids)
    put["inputs_embeds"] = torch.cat([prompt_rows(encoder, config, embeds, rows), embeds], dim=1)
    return put


def _behind_prefix(
    config: PromptLearningConfig, encoder: SoftPrompt, model: nn.Module, named: dict[str, Any]
) -> dict[str, Any]:
    tokens = config.num_virtual_tokens
    assert tokens is not None
    if named.get("past_key_values") is not None:
        raise AdapterError("past_key_values are the prefix's; call generate, or leave them out")
    rows = rows_of(named.get("input_ids"), named.get("inputs_embeds"))
    seq2seq = model.config.is_encoder_decoder  # type: ignore[union-attr]
    put = named if seq2seq else moved(named, tokens, whole=False)
    name = "decoder_attention_mask" if seq2seq else "attention_mask"
    put[name] = longer_mask(named.get(name), tokens)
    put["past_key_values"] = prefix_of(config, encoder, model, rows)
    return put
