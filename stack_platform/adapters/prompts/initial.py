"""Where the virtual tokens of prompt tuning start: at random, at tokens drawn from the vocabulary, or at a text."""

import itertools
from typing import Any

import torch
from torch import Tensor

from stack_platform.adapters.configs.prompts import PromptLearningConfig, PromptTuningConfig, PromptTuningInit
from stack_platform.errors import AdapterError, ConfigError

_UNSAFE = "trust_remote_code"


def start_tokens(config: PromptLearningConfig, rows: int, vocabulary: int) -> Tensor | None:
    """Return the numbers of the tokens at whose embeddings the virtual tokens start; None for a random start.

    A text is cut off, or repeated, to the number of virtual tokens.
    Raises: AdapterError when the tokenizer cannot be read or finds no token; ConfigError for `trust_remote_code`.
    """
    if not isinstance(config, PromptTuningConfig) or config.prompt_tuning_init is PromptTuningInit.RANDOM:
        return None
    if config.prompt_tuning_init is PromptTuningInit.SAMPLE_VOCAB:
        return torch.randint(0, vocabulary, (rows,))
    ids = _tokenizer(config)(config.prompt_tuning_init_text)["input_ids"]
    if not ids:
        raise AdapterError(
            f"prompt_tuning_init_text={config.prompt_tuning_init_text!r} has no tokens; write more text"
        )
    if max(ids) >= vocabulary:
        raise AdapterError(
            f"the tokenizer {config.tokenizer_name_or_path!r} gives token {max(ids)}, the model has {vocabulary}; name "
            "the model's own tokenizer"
        )
    return torch.tensor(list(itertools.islice(itertools.cycle(ids), rows)))


def _tokenizer(config: PromptTuningConfig) -> Any:
    from transformers import AutoTokenizer

    settings = dict(config.tokenizer_kwargs or {})
    if settings.get(_UNSAFE):
        raise ConfigError(
            f"tokenizer_kwargs has {_UNSAFE}, which runs code of whoever made the folder; leave it out"
        )
    settings.pop(_UNSAFE, None)
    try:
        return AutoTokenizer.from_pretrained(config.tokenizer_name_or_path, **settings)
    except (OSError, ValueError) as error:
        short = " ".join(str(error).split())[:200]
        raise AdapterError(
            f"no tokenizer at {config.tokenizer_name_or_path!r} ({short}); name its folder"
        ) from error
