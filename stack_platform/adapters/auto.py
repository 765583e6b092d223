"""Load a base model and its adapter by the adapter's folder alone, under PEFT's names."""

from pathlib import Path
from typing import Any, ClassVar

from stack_platform.adapters.configs.fields import TaskType
from stack_platform.adapters.files import read_config
from stack_platform.adapters.model import DEFAULT_ADAPTER, PeftModel
from stack_platform.errors import AdapterError

_AUTO_CLASSES = {
    TaskType.CAUSAL_LM: "AutoModelForCausalLM",
    TaskType.FEATURE_EXTRACTION: "AutoModel",
    TaskType.QUESTION_ANS: "AutoModelForQuestionAnswering",
    TaskType.SEQ_2_SEQ_LM: "AutoModelForSeq2SeqLM",
    TaskType.SEQ_CLS: "AutoModelForSequenceClassification",
    TaskType.TOKEN_CLS: "AutoModelForTokenClassification",
}


class AutoPeftModel:
    """A base model and its adapter, found by the adapter's configuration."""

    task: ClassVar[TaskType | None] = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        adapter_name: str = DEFAULT_ADAPTER,
        is_trainable: bool = False,
        revision: str | None = None,
        **model_arguments: Any,
    ) -> PeftModel:
        """Load the base model that an adapter names, with transformers' own arguments, and put the adapter on it.

        Raises: AdapterError when the adapter names no base model or another task.
        """
        import transformers

        config = read_config(pretrained_model_name_or_path, revision=revision)
        task = cls.task or config.task_type
        if config.task_type is not None and task is not config.task_type:
            raise AdapterError(
                f"the adapter is for {config.task_type}, not for {task}; load it with AutoPeftModel"
            )
        if config.base_model_name_or_path is None:
            raise AdapterError(
                f"the adapter in {str(pretrained_model_name_or_path)!r} does not name its base model; load the base "
                "model yourself and call PeftModel.from_pretrained"
            )
        if task is not None:
            kind = getattr(transformers, _AUTO_CLASSES[task])
        elif config.auto_mapping is not None:
            kind = getattr(transformers, config.auto_mapping["base_model_class"], None)
        else:
            kind = None
        if kind is None:
            raise AdapterError(
                "the adapter names neither its task nor a class of transformers; load the base yourself"
            )
        model = kind.from_pretrained(
            config.base_model_name_or_path, revision=config.revision, **model_arguments
        )
        return PeftModel.from_pretrained(
            model, pretrained_model_name_or_path, adapter_name, is_trainable, revision=revision
        )


class AutoPeftModelForCausalLM(AutoPeftModel):
    """A language model and its adapter."""

    task = TaskType.CAUSAL_LM


class AutoPeftModelForSeq2SeqLM(AutoPeftModel):
    """An encoder-decoder and its adapter."""

    task = TaskType.SEQ_2_SEQ_LM


class AutoPeftModelForSequenceClassification(AutoPeftModel):
    """A classifier of texts and its adapter."""

    task = TaskType.SEQ_CLS


class AutoPeftModelForTokenClassification(AutoPeftModel):
    """A classifier of tokens and its adapter."""

    task = TaskType.TOKEN_CLS


class AutoPeftModelForQuestionAnswering(AutoPeftModel):
    """A model that marks answers and its adapter."""

    task = TaskType.QUESTION_ANS


class AutoPeftModelForFeatureExtraction(AutoPeftModel):
    """An encoder and its adapter."""

    task = TaskType.FEATURE_EXTRACTION
