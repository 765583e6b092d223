"""What scripts written for PEFT do beside calling its verbs."""

import pytest
import torch

from stack_platform.adapters import BOFTConfig, LoraConfig, OFTConfig, PeftModel, get_peft_model
from stack_platform.errors import AdapterError, ConfigError


@pytest.fixture
def saved(llama, tmp_path):
    get_peft_model(llama(), LoraConfig(r=2, lora_dropout=0.5)).save_pretrained(tmp_path)
    return tmp_path


def test_a_configuration_may_be_changed_before_it_is_used(llama):
    config = LoraConfig(r=2)
    config.r = 4
    config.target_modules = ["v_proj", "q_proj"]
    model = get_peft_model(llama(), config)
    assert model.peft_config["default"].r == 4
    assert model.peft_config["default"].target_modules == ("q_proj", "v_proj")
    assert {p.shape[0] for name, p in model.named_parameters() if "lora_A" in name} == {4}


def test_a_configuration_changed_to_nonsense_is_refused_when_it_is_used(llama):
    config = LoraConfig()
    config.r = 0
    with pytest.raises(ConfigError, match="r=0; a rank is a whole number from 1"):
        get_peft_model(llama(), config)


def test_a_later_change_does_not_reach_a_model(llama):
    config = LoraConfig(r=2)
    model = get_peft_model(llama(), config)
    config.r = 16
    assert model.peft_config["default"].r == 2


def test_an_adapter_that_is_loaded_to_infer_leaves_training_mode(llama, saved):
    assert llama().train().training
    assert not any(m.training for m in PeftModel.from_pretrained(llama().train(), saved).modules())
    model = PeftModel.from_pretrained(llama().train(), saved, is_trainable=True)
    assert model.training
    model.load_adapter(saved, "other", is_trainable=True)
    assert model.training
    model.load_adapter(saved, "another")
    assert not any(m.training for m in model.modules())


def test_where_to_put_tensors_may_be_said(llama, saved, ids):
    plain = PeftModel.from_pretrained(llama(), saved)
    placed = PeftModel.from_pretrained(llama(), saved, torch_device="cpu", device_map={"": "cpu"})
    placed.load_adapter(saved, "other", torch_device="cpu")
    assert torch.equal(placed(ids).logits, plain(ids).logits)


def test_errors_are_value_errors(llama):
    with pytest.raises(ValueError, match="no_such_layer"):
        get_peft_model(llama(), LoraConfig(target_modules=["no_such_layer"]))
    with pytest.raises(ValueError, match="a rank is a whole number"):
        LoraConfig(r=0)
    assert issubclass(AdapterError, ValueError)


def test_parameters_are_told_by_the_methods_prefix(llama):
    model = get_peft_model(llama(), LoraConfig())
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if model.prefix in name}
    assert model.base_model.active_adapter == "default"
    model.add_adapter("other", LoraConfig())
    model.base_model.set_adapter(["default", "other"])
    assert model.base_model.active_adapter == ["default", "other"]


def test_layers_say_what_acts_on_them(llama):
    model = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"]))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert layer.active_adapters == ["default"]
    assert layer.active_adapter == "default"
    assert not layer.disable_adapters
    assert not layer.merged
    with model.disable_adapter():
        assert layer.disable_adapters
    model.merge_adapter()
    assert layer.merged


@pytest.mark.parametrize(
    "config", [OFTConfig(oft_block_size=4, use_cayley_neumann=False), BOFTConfig()], ids=["oft", "boft"]
)
def test_rotations_work_in_half_precision(llama, ids, config):
    model = get_peft_model(llama().bfloat16(), config, autocast_adapter_dtype=False)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    loss = model(ids, labels=ids).loss
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
