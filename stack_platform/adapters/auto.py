"""Load a base model and its adapter by the adapter's folder alone, under PEFT's names."""

from pathlib import Path
from typing import Any, ClassVar

from stack_platform.adapters.configs.fields import CONFIG_NAME, PeftConfig, TaskType
from stack_platform.adapters.model import DEFAULT_ADAPTER, PeftModel
from stack_platform.adapters.saving.files import read_config
from stack_platform.adapters.saving.hub import local_folder
from stack_platform.errors import AdapterError

_AUTO_CLASSES = {
    TaskType.CAUSAL_LM: "AutoModelForCausalLM",
    TaskType.FEATURE_EXTRACTION: "AutoModel",
    TaskType.QUESTION_ANS: "AutoModelForQuestionAnswering",
    TaskType.SEQ_2_SEQ_LM: "AutoModelForSeq2SeqLM",
    TaskType.SEQ_CLS: "AutoModelForSequenceClassification",
    TaskType.TOKEN_CLS: "AutoModelForTokenClassification",
}
_HUB = ("token", "cache_dir", "local_files_only", "force_download")
_TOKENIZER = (CONFIG_NAME, "*token*.json", "vocab*", "merges.txt", "*.model")


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
        **arguments: Any,
    ) -> PeftModel:
        """Load the base model that an adapter names, with transformers' own arguments, and put the adapter on it.

        `subfolder` and `revision` are the adapter's; `token`, `cache_dir`, `local_files_only` and `force_download`
        serve both. Where the adapter brings a tokenizer of more tokens, the embeddings grow first.
        Raises: AdapterError when the adapter names no base model or another task.
        """
        hub = {name: arguments[name] for name in _HUB if name in arguments} | {"revision": revision}
        hub["subfolder"] = arguments.pop("subfolder", None)
        config = read_config(pretrained_model_name_or_path, **hub)
        kind = cls._base_class(config)
        if config.base_model_name_or_path is None:
            raise AdapterError(
                f"the adapter in {str(pretrained_model_name_or_path)!r} does not name its base model; load the base "
                "model yourself and call PeftModel.from_pretrained"
            )
        model = kind.from_pretrained(config.base_model_name_or_path, revision=config.revision, **arguments)
        _make_room(model, local_folder(pretrained_model_name_or_path, **hub, names=_TOKENIZER))
        return PeftModel.from_pretrained(
            model, pretrained_model_name_or_path, adapter_name, is_trainable, **hub
        )

    @classmethod
    def _base_class(cls, config: PeftConfig) -> Any:
        """Return the class of transformers that loads the base model."""
        import transformers

        task = cls.task or config.task_type
        if config.task_type is not None and task is not config.task_type:
            raise AdapterError(
                f"the adapter is for {config.task_type}, not for {task}; load it with AutoPeftModel"
            )
        mapped = (config.auto_mapping or {}).get("base_model_class", "")
        kind = getattr(transformers, _AUTO_CLASSES[task] if task is not None else mapped, None)
        if kind is None:
            raise AdapterError(
                "the adapter names neither its task nor a class of transformers; load the base yourself"
            )
        return kind


def _make_room(model: Any, folder: Path) -> None:
    """Let the embeddings grow to the size of a tokenizer that was saved beside the adapter."""
    if not (folder / "tokenizer_config.json").exists() or not hasattr(model, "resize_token_embeddings"):
        return
    from transformers import AutoTokenizer

    size = len(AutoTokenizer.from_pretrained(folder))
    if size > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(size)


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
