"""Generate behind virtual tokens: whatever the method, they are keys and values that the model has already seen.

The prompt is run through the model once and stays in the cache, so that generation sees only the tokens of the input:
lengths, stopping, penalties and the result count no virtual ones, and positions count no padding: a row generates the
same alone and in a batch padded on the left. In PEFT 0.21.2, which changes the model's `prepare_inputs_for_generation`
while it runs, padding between prompt and text moves the text away from its prompt.
"""

from typing import Any

import torch
from torch import Tensor, nn

from stack_platform.adapters.configs.prompts import PrefixTuningConfig, PromptLearningConfig
from stack_platform.adapters.prompts.encoders import SoftPrompt
from stack_platform.adapters.prompts.forward import prefix_of, prompt_rows
from stack_platform.adapters.prompts.inputs import longer_mask
from stack_platform.adapters.prompts.sizes import embeddings_of
from stack_platform.errors import AdapterError


def generate_with_prompt(
    config: PromptLearningConfig,
    encoder: SoftPrompt,
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Return what `model.generate` does for inputs behind the virtual tokens.

    Raises: AdapterError without token numbers to start from, with a cache of the caller's, or without any cache.
    """
    others = dict(zip(("inputs", "generation_config"), args, strict=False)) | kwargs
    ids = others.pop("inputs", None)
    ids = others.pop("input_ids", ids)
    if not isinstance(ids, Tensor) or ids.is_floating_point():
        raise AdapterError("give input_ids to generate behind a prompt; embeddings alone are not enough")
    if others.get("past_key_values") is not None or others.get("use_cache") is False:
        raise AdapterError(
            "a prompt generates with a cache of its own; leave past_key_values and use_cache out"
        )
    mask = others.pop("attention_mask", None)
    mask = _mask(model, ids) if mask is None else mask
    if model.config.is_encoder_decoder:  # type: ignore[union-attr]
        return _generate_decoder(config, encoder, model, ids, mask, others)
    rows = ids.shape[0] * _copies(model, others)
    if isinstance(config, PrefixTuningConfig):
        cache = prefix_of(config, encoder, model, rows)
    else:
        cache = _seen(config, encoder, model, rows)
    longer = longer_mask(mask, _length(config))
    return model.generate(ids, attention_mask=longer, past_key_values=cache, **others)  # type: ignore[operator]


def _generate_decoder(
    config: PromptLearningConfig,
    encoder: SoftPrompt,
    model: nn.Module,
    ids: Tensor,
    mask: Tensor,
    others: dict[str, Any],
) -> Any:
    if isinstance(config, PrefixTuningConfig):
        cache = prefix_of(config, encoder, model, ids.shape[0] * _copies(model, others))
        return model.generate(input_ids=ids, attention_mask=mask, past_key_values=cache, **others)  # type: ignore[operator]
    embeds = embeddings_of(model)(ids)
    put = torch.cat([prompt_rows(encoder, config, embeds, ids.shape[0]), embeds], dim=1)
    longer = longer_mask(mask, _length(config))
    return model.generate(inputs_embeds=put, attention_mask=longer, **others)  # type: ignore[operator]


@torch.no_grad()
def _seen(config: PromptLearningConfig, encoder: SoftPrompt, model: nn.Module, rows: int) -> Any:
    """Return the cache after the virtual tokens alone."""
    like = next(embeddings_of(model).parameters())
    embeds = prompt_rows(encoder, config, like, rows)
    cache = getattr(model(inputs_embeds=embeds, use_cache=True), "past_key_values", None)
    if cache is None:
        raise AdapterError(
            f"a {type(model).__name__} keeps no keys and values; it cannot generate behind a prompt"
        )
    return cache


def _copies(model: nn.Module, kwargs: dict[str, Any]) -> int:
    """Return how many sequences are kept for each row: beams, or samples."""
    settings = kwargs.get("generation_config") or model.generation_config
    counts = [
        kwargs.get(name) or getattr(settings, name, None) or 1
        for name in ("num_beams", "num_return_sequences")
    ]
    return max(int(count) for count in counts)


def _mask(model: nn.Module, ids: Tensor) -> Tensor:
    """Return the mask that transformers infers: padding is masked where no text can contain it."""
    settings: Any = model.generation_config
    pad, eos = settings.pad_token_id, settings.eos_token_id
    ends = eos if isinstance(eos, list) else [eos]
    if pad is None or pad in ends or not bool((ids == pad).any()):
        return torch.ones_like(ids)
    real: Tensor = ids != pad
    return real.long()


def _length(config: PromptLearningConfig) -> int:
    assert config.num_virtual_tokens is not None
    return config.num_virtual_tokens
