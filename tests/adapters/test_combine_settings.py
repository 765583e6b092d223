import pytest
import torch

from stack_platform.adapters.compose.low_rank import LowRank
from stack_platform.adapters.compose.settings import check_combinable, combined_config
from stack_platform.adapters.configs.lora import AdaLoraConfig, LoraConfig
from stack_platform.adapters.configs.vectors import IA3Config
from stack_platform.errors import AdapterError

LAYERS = {
    "h.0.q": LowRank(torch.ones(5, 2), torch.ones(3, 5)),
    "h.1.q": LowRank(torch.ones(5, 2), torch.ones(3, 5)),
}


def test_alpha_is_the_rank_and_patterns_are_gone():
    """PEFT keeps use_rslora, which multiplies the combined update by the square root of its rank."""
    first = LoraConfig(r=2, lora_alpha=8, target_modules=["q"], rank_pattern={"h.0.q": 4}, use_rslora=True)
    config = combined_config({"a": first, "b": LoraConfig(r=3, target_modules=["q"])}, LAYERS)
    assert (config.r, config.lora_alpha, config.use_rslora) == (5, 5, False)
    assert (config.rank_pattern, config.alpha_pattern) == ({}, {})
    assert config.target_modules == ("q",)


def test_targets_that_differ_become_paths():
    first = LoraConfig(target_modules=["q"], layers_to_transform=[0])
    config = combined_config({"a": first, "b": LoraConfig(target_modules=["q"])}, LAYERS)
    assert config.target_modules == ("h.0.q", "h.1.q")
    assert config.layers_to_transform is None


def test_a_start_that_changed_the_base_is_not_repeated():
    config = combined_config({"a": LoraConfig(target_modules=["q"], init_lora_weights="pissa")}, LAYERS)
    assert config.init_lora_weights is True


def test_a_bias_in_the_result_is_in_the_configuration():
    layers = {"h.0.q": LowRank(torch.ones(5, 2), torch.ones(3, 5), bias=torch.ones(3))}
    assert combined_config({"a": LoraConfig(target_modules=["q"])}, layers).lora_bias


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (IA3Config(target_modules=["q"], feedforward_modules=["q"]), "adapter 'b' is IA3; only LoRA"),
        (AdaLoraConfig(target_modules=["q"], total_step=10), "adapter 'b' is ADALORA; only LoRA"),
        (LoraConfig(target_modules=["q"], use_dora=True), "'b' has use_dora=True"),
        (LoraConfig(target_modules=["q"], modules_to_save=["head"]), r"'b' has modules_to_save=\('head',\)"),
        (LoraConfig(target_parameters=["experts.w"]), "'b' has target_parameters"),
        (LoraConfig(target_modules=["q"], trainable_token_indices=[1]), "'b' has trainable_token_indices"),
    ],
)
def test_what_is_more_than_a_product_is_refused(config, message):
    with pytest.raises(AdapterError, match=message):
        check_combinable({"a": LoraConfig(target_modules=["q"]), "b": config})


def test_adapters_of_two_tasks_are_refused():
    two = {
        "a": LoraConfig(target_modules=["q"], task_type="CAUSAL_LM"),
        "b": LoraConfig(target_modules=["q"], task_type="FEATURE_EXTRACTION"),
    }
    with pytest.raises(AdapterError, match="task_type differs"):
        combined_config(two, LAYERS)
