"""One class per task, as PEFT has them: their `forward` names the inputs, which trainers ask for."""

from typing import Any

from torch import Tensor, nn

from stack_platform.adapters.configs.fields import PeftConfig, TaskType
from stack_platform.adapters.configs.prompts import XLoraConfig
from stack_platform.adapters.model import DEFAULT_ADAPTER, PeftModel


class PeftModelForCausalLM(PeftModel):
    """A language model with adapters."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call the language model with its adapters."""
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            labels=labels,
            **kwargs,
        )


class PeftModelForSeq2SeqLM(PeftModel):
    """An encoder-decoder with adapters."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call the encoder-decoder with its adapters."""
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            decoder_inputs_embeds=decoder_inputs_embeds,
            labels=labels,
            **kwargs,
        )


class PeftModelForSequenceClassification(PeftModelForCausalLM):
    """A classifier of texts with adapters and a head that trains in full."""


class PeftModelForTokenClassification(PeftModelForCausalLM):
    """A classifier of tokens with adapters and a head that trains in full."""


class PeftModelForQuestionAnswering(PeftModel):
    """A model that marks an answer, with adapters and a head that trains in full."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call the model with its adapters."""
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            start_positions=start_positions,
            end_positions=end_positions,
            **kwargs,
        )


class PeftModelForFeatureExtraction(PeftModel):
    """An encoder with adapters."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call the encoder with its adapters."""
        return super().forward(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs
        )


class PeftMixedModel(PeftModel):
    """A model with adapters of several methods, which any `PeftModel` may have; PEFT has a class for it."""


CLASSES: dict[TaskType, type[PeftModel]] = {
    TaskType.CAUSAL_LM: PeftModelForCausalLM,
    TaskType.FEATURE_EXTRACTION: PeftModelForFeatureExtraction,
    TaskType.QUESTION_ANS: PeftModelForQuestionAnswering,
    TaskType.SEQ_2_SEQ_LM: PeftModelForSeq2SeqLM,
    TaskType.SEQ_CLS: PeftModelForSequenceClassification,
    TaskType.TOKEN_CLS: PeftModelForTokenClassification,
}


MODEL_TYPE_TO_PEFT_MODEL_MAPPING = CLASSES
"""The same, under PEFT's name."""


def class_for(config: PeftConfig) -> type[PeftModel]:
    """Return the class of a task, or that of a method that needs its own."""
    if isinstance(config, XLoraConfig):
        from stack_platform.adapters.mixing.xlora import PeftModelForXLora

        return PeftModelForXLora
    return PeftModel if config.task_type is None else CLASSES[config.task_type]


def get_peft_model(
    model: nn.Module,
    peft_config: PeftConfig,
    adapter_name: str = DEFAULT_ADAPTER,
    mixed: bool = False,
    autocast_adapter_dtype: bool = True,
    revision: str | None = None,
    low_cpu_mem_usage: bool = False,
) -> PeftModel:
    """Freeze a model, put a new adapter on it in place, and return it ready to train.

    With `autocast_adapter_dtype` the adapter is kept in fp32 beside a half-precision model; with `low_cpu_mem_usage`
    it is on the meta device until a state dict brings values. `mixed` gives a `PeftMixedModel`, as PEFT does; adapters
    of several methods may be active together in any class.
    Raises: AdapterError when the configuration does not fit the model, which is unchanged then.
    """
    from dataclasses import replace

    if revision is not None and isinstance(peft_config, PeftConfig):
        peft_config = replace(peft_config, revision=revision)
    kind = class_for(peft_config) if isinstance(peft_config, PeftConfig) else PeftModel
    kind = PeftMixedModel if mixed else kind
    return kind(model, peft_config, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage)
