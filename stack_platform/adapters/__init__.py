"""Adapters under PEFT's names: a PEFT script runs after its import line is changed.

Importing this package imports neither torch nor transformers; the first use of a name does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stack_platform.adapters.auto import (
        AutoPeftModel,
        AutoPeftModelForCausalLM,
        AutoPeftModelForFeatureExtraction,
        AutoPeftModelForQuestionAnswering,
        AutoPeftModelForSeq2SeqLM,
        AutoPeftModelForSequenceClassification,
        AutoPeftModelForTokenClassification,
    )
    from stack_platform.adapters.config import PEFT_TYPE_TO_CONFIG_MAPPING, get_peft_config
    from stack_platform.adapters.configs.fields import PeftConfig, PeftType, TaskType
    from stack_platform.adapters.configs.lora import AdaLoraConfig, EvaConfig, LoftQConfig, LoraConfig
    from stack_platform.adapters.configs.lycoris import LoHaConfig, LoKrConfig
    from stack_platform.adapters.configs.orthogonal import BOFTConfig, OFTConfig
    from stack_platform.adapters.configs.prompts import (
        PrefixTuningConfig,
        PromptEncoderConfig,
        PromptEncoderReparameterizationType,
        PromptLearningConfig,
        PromptTuningConfig,
        PromptTuningInit,
        XLoraConfig,
    )
    from stack_platform.adapters.configs.vectors import IA3Config, TrainableTokensConfig, VeraConfig
    from stack_platform.adapters.eva import initialize_lora_eva_weights
    from stack_platform.adapters.functional import inject_adapter_in_model
    from stack_platform.adapters.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap
    from stack_platform.adapters.mixing.router import Router, route
    from stack_platform.adapters.model import PeftModel
    from stack_platform.adapters.optimizers import create_loraplus_optimizer
    from stack_platform.adapters.saving.checkpoints import AdapterCheckpoints
    from stack_platform.adapters.saving.export import export_for_vllm
    from stack_platform.adapters.saving.state import (
        get_peft_model_state_dict,
        load_peft_weights,
        set_peft_model_state_dict,
    )
    from stack_platform.adapters.status import get_layer_status, get_model_status
    from stack_platform.adapters.storage.precision import cast_mixed_precision_params
    from stack_platform.adapters.storage.quantized import prepare_model_for_kbit_training
    from stack_platform.adapters.tasks import (
        MODEL_TYPE_TO_PEFT_MODEL_MAPPING,
        PeftMixedModel,
        PeftModelForCausalLM,
        PeftModelForFeatureExtraction,
        PeftModelForQuestionAnswering,
        PeftModelForSeq2SeqLM,
        PeftModelForSequenceClassification,
        PeftModelForTokenClassification,
        get_peft_model,
    )

__all__ = [
    "MODEL_TYPE_TO_PEFT_MODEL_MAPPING",
    "PEFT_TYPE_TO_CONFIG_MAPPING",
    "AdaLoraConfig",
    "AdapterCheckpoints",
    "AutoPeftModel",
    "AutoPeftModelForCausalLM",
    "AutoPeftModelForFeatureExtraction",
    "AutoPeftModelForQuestionAnswering",
    "AutoPeftModelForSeq2SeqLM",
    "AutoPeftModelForSequenceClassification",
    "AutoPeftModelForTokenClassification",
    "BOFTConfig",
    "EvaConfig",
    "IA3Config",
    "LoHaConfig",
    "LoKrConfig",
    "LoftQConfig",
    "LoraConfig",
    "OFTConfig",
    "PeftConfig",
    "PeftMixedModel",
    "PeftModel",
    "PeftModelForCausalLM",
    "PeftModelForFeatureExtraction",
    "PeftModelForQuestionAnswering",
    "PeftModelForSeq2SeqLM",
    "PeftModelForSequenceClassification",
    "PeftModelForTokenClassification",
    "PeftType",
    "PrefixTuningConfig",
    "PromptEncoderConfig",
    "PromptEncoderReparameterizationType",
    "PromptLearningConfig",
    "PromptTuningConfig",
    "PromptTuningInit",
    "Router",
    "TaskType",
    "TrainableTokensConfig",
    "VeraConfig",
    "XLoraConfig",
    "cast_mixed_precision_params",
    "create_loraplus_optimizer",
    "export_for_vllm",
    "get_layer_status",
    "get_model_status",
    "get_peft_config",
    "get_peft_model",
    "get_peft_model_state_dict",
    "hotswap_adapter",
    "initialize_lora_eva_weights",
    "inject_adapter_in_model",
    "load_peft_weights",
    "prepare_model_for_compiled_hotswap",
    "prepare_model_for_kbit_training",
    "route",
    "set_peft_model_state_dict",
]

_HOMES = {
    "auto": (
        "AutoPeftModel",
        "AutoPeftModelForCausalLM",
        "AutoPeftModelForFeatureExtraction",
        "AutoPeftModelForQuestionAnswering",
        "AutoPeftModelForSeq2SeqLM",
        "AutoPeftModelForSequenceClassification",
        "AutoPeftModelForTokenClassification",
    ),
    "saving.checkpoints": ("AdapterCheckpoints",),
    "config": (
        "PEFT_TYPE_TO_CONFIG_MAPPING",
        "get_peft_config",
    ),
    "configs.fields": (
        "PeftConfig",
        "PeftType",
        "TaskType",
    ),
    "configs.lora": (
        "AdaLoraConfig",
        "EvaConfig",
        "LoftQConfig",
        "LoraConfig",
    ),
    "configs.lycoris": (
        "LoHaConfig",
        "LoKrConfig",
    ),
    "configs.orthogonal": (
        "BOFTConfig",
        "OFTConfig",
    ),
    "configs.prompts": (
        "PrefixTuningConfig",
        "PromptEncoderConfig",
        "PromptEncoderReparameterizationType",
        "PromptLearningConfig",
        "PromptTuningConfig",
        "PromptTuningInit",
        "XLoraConfig",
    ),
    "configs.vectors": (
        "IA3Config",
        "TrainableTokensConfig",
        "VeraConfig",
    ),
    "eva": ("initialize_lora_eva_weights",),
    "saving.export": ("export_for_vllm",),
    "functional": ("inject_adapter_in_model",),
    "hotswap": (
        "hotswap_adapter",
        "prepare_model_for_compiled_hotswap",
    ),
    "model": ("PeftModel",),
    "optimizers": ("create_loraplus_optimizer",),
    "storage.precision": ("cast_mixed_precision_params",),
    "storage.quantized": ("prepare_model_for_kbit_training",),
    "mixing.router": ("Router", "route"),
    "saving.state": (
        "get_peft_model_state_dict",
        "load_peft_weights",
        "set_peft_model_state_dict",
    ),
    "status": (
        "get_layer_status",
        "get_model_status",
    ),
    "tasks": (
        "MODEL_TYPE_TO_PEFT_MODEL_MAPPING",
        "PeftMixedModel",
        "PeftModelForCausalLM",
        "PeftModelForFeatureExtraction",
        "PeftModelForQuestionAnswering",
        "PeftModelForSeq2SeqLM",
        "PeftModelForSequenceClassification",
        "PeftModelForTokenClassification",
        "get_peft_model",
    ),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
