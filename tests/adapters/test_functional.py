"""Adapters on models that keep their class."""

import copy

import pytest
import torch
from torch import nn

from stack_platform.adapters import (
    LoraConfig,
    PromptTuningConfig,
    VeraConfig,
    functional,
    get_layer_status,
    get_model_status,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.errors import AdapterError

SETTINGS = {"r": 2, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False}


def test_the_model_keeps_its_class_and_only_the_adapter_trains(llama, ids):
    model = llama()
    base = model(ids).logits
    assert inject_adapter_in_model(LoraConfig(**SETTINGS, modules_to_save=["lm_head"]), model) is model
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 2 + 1
    assert "model.layers.0.self_attn.q_proj.lora_A.default.weight" in trained
    assert "lm_head.modules_to_save.default.weight" in trained
    assert list(model.peft_config) == ["default"]
    assert not torch.equal(model(ids).logits, base)


def test_its_state_has_no_prefix_and_is_read_with_and_without_one(llama, ids):
    model = inject_adapter_in_model(LoraConfig(**SETTINGS), llama())
    state = get_peft_model_state_dict(model)
    assert "model.layers.0.self_attn.q_proj.lora_A.weight" in state
    expected = model(ids).logits
    for prefix in ("", "base_model.model."):
        other = llama()
        torch.manual_seed(5)
        inject_adapter_in_model(LoraConfig(**SETTINGS), other)
        assert not torch.equal(other(ids).logits, expected)
        given = {prefix + key: tensor for key, tensor in state.items()}
        result = set_peft_model_state_dict(other, given)
        assert (result.missing_keys, result.unexpected_keys) == ([], [])
        assert torch.equal(other(ids).logits, expected)
    with pytest.raises(AdapterError, match="1 of 8 tensors are missing"):
        set_peft_model_state_dict(model, dict(list(state.items())[1:]))


def test_it_computes_as_a_peft_model_of_the_same_tensors(llama, ids):
    bare = inject_adapter_in_model(LoraConfig(**SETTINGS), llama())
    wrapped = get_peft_model(llama(), LoraConfig(**SETTINGS))
    state = {f"base_model.model.{key}": t for key, t in get_peft_model_state_dict(bare).items()}
    set_peft_model_state_dict(wrapped, state)
    assert torch.equal(bare(ids).logits, wrapped(ids).logits)


def test_a_second_adapter_becomes_active_and_can_be_switched_and_deleted(llama, ids):
    model = inject_adapter_in_model(LoraConfig(**SETTINGS), llama())
    one = model(ids).logits
    inject_adapter_in_model(LoraConfig(**SETTINGS), model, "b")
    assert not torch.equal(model(ids).logits, one)
    functional.set_adapter(model, "default")
    assert torch.equal(model(ids).logits, one)
    assert not any(p.requires_grad for name, p in model.named_parameters() if ".b." in name)
    functional.set_requires_grad(model, "b")
    assert all(p.requires_grad for name, p in model.named_parameters() if ".b." in name)
    functional.delete_adapter(model, "b")
    with pytest.raises(AdapterError, match="no adapter 'b'; there are: default"):
        functional.delete_adapter(model, "b")
    functional.delete_adapter(model, "default")
    assert not any(isinstance(module, AdaptedLayer) for module in model.modules())


def test_single_layers_switch_until_the_model_switches(llama, ids):
    model = inject_adapter_in_model(LoraConfig(**SETTINGS), llama())
    inject_adapter_in_model(LoraConfig(**SETTINGS), model, "b")
    b = model(ids).logits
    layers = [module for module in model.modules() if isinstance(module, AdaptedLayer)]
    layers[0].set_adapter("default")
    mixed = model(ids).logits
    assert not torch.equal(mixed, b)
    for layer in layers:
        layer.set_adapter("default")
    alone = model(ids).logits
    functional.set_adapter(model, "b")
    assert torch.equal(model(ids).logits, b)
    assert not any(p.requires_grad for name, p in model.named_parameters() if ".default." in name)
    functional.set_adapter(model, "default")
    assert torch.equal(model(ids).logits, alone)


def test_merging_layer_by_layer_and_through_the_index(llama, ids):
    model = inject_adapter_in_model(LoraConfig(**SETTINGS), llama())
    expected = model(ids).logits
    for module in model.modules():
        if isinstance(module, AdaptedLayer):
            module.merge(safe_merge=True)
    torch.testing.assert_close(model(ids).logits, expected, rtol=1e-5, atol=1e-5)
    index = functional.adapters_of(model)
    assert index.merged_adapters == ["default"]
    index.unmerge_adapter()
    assert torch.equal(model(ids).logits, expected)
    assert index.merge_and_unload() is model
    torch.testing.assert_close(model(ids).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_copy_of_such_a_model_stands_alone(llama, ids):
    model = inject_adapter_in_model(LoraConfig(**SETTINGS), llama())
    twin = copy.deepcopy(model)
    assert torch.equal(twin(ids).logits, model(ids).logits)
    functional.adapters_of(twin).merge_and_unload()
    assert functional.adapters_of(model).layers


def test_a_state_dict_says_where_the_adapter_goes(llama):
    keys = (
        "model.layers.1.mlp.up_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight",
    )
    model = inject_adapter_in_model(
        LoraConfig(r=2, target_modules=["q_proj"]), llama(), state_dict=dict.fromkeys(keys, torch.zeros(1))
    )
    assert list(functional.adapters_of(model).layers) == [
        "model.layers.0.self_attn.v_proj",
        "model.layers.1.mlp.up_proj",
    ]
    for bad, message in (
        ("model.nowhere.lora_A.weight", "'model.nowhere', which is no layer"),
        ("x", "no tensor named lora_"),
    ):
        with pytest.raises(AdapterError, match=message):
            inject_adapter_in_model(LoraConfig(), llama(), state_dict={bad: torch.zeros(1)})


@pytest.mark.parametrize(
    "config",
    [
        VeraConfig(target_modules=["q_proj", "o_proj"]),
        PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    ],
)
def test_methods_with_tensors_outside_of_the_layers_are_refused(llama, config):
    model = llama()
    with pytest.raises(AdapterError, match="use get_peft_model"):
        inject_adapter_in_model(config, model)
    assert all(p.requires_grad for p in model.parameters())


def test_what_cannot_be_injected_twice_is_said(llama):
    model = inject_adapter_in_model(LoraConfig(**SETTINGS), llama())
    with pytest.raises(AdapterError, match="adapter 'default' is there already"):
        inject_adapter_in_model(LoraConfig(**SETTINGS), model)
    wrapped = get_peft_model(llama(), LoraConfig(**SETTINGS))
    with pytest.raises(AdapterError, match="belongs to a PeftModel"):
        inject_adapter_in_model(LoraConfig(**SETTINGS), wrapped.get_base_model(), "b")
    with pytest.raises(AdapterError, match="a Linear without adapters"):
        functional.adapters_of(nn.Linear(1, 1))


def test_half_precision_adapters_are_widened(llama):
    model = get_peft_model(llama().bfloat16(), LoraConfig(**SETTINGS), autocast_adapter_dtype=False)
    functional.cast_adapter_dtype(model, "default", autocast_adapter_dtype=False)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.bfloat16}
    functional.cast_adapter_dtype(model, "default")
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_scalings_are_changed_for_a_while(llama, ids):
    model = inject_adapter_in_model(LoraConfig(**SETTINGS), llama()).eval()
    outputs, base = model(ids).logits, llama()(ids).logits
    with functional.rescale_adapter_scale(model, 0.0):
        assert torch.equal(model(ids).logits, base)
    with pytest.raises(ZeroDivisionError), functional.rescale_adapter_scale(model, 2):
        assert (model(ids).logits - outputs).abs().max() > 0.01
        _ = 1 / 0
    assert torch.equal(model(ids).logits, outputs)
    with pytest.raises(AdapterError, match="without adapters"), functional.rescale_adapter_scale(llama(), 2):
        pass


def test_its_state_is_reported(llama):
    model = inject_adapter_in_model(LoraConfig(**SETTINGS), llama())
    status = get_model_status(model)
    assert (status.base_model_type, status.adapter_model_type) == ("LlamaForCausalLM", "None")
    assert status.peft_types == {"default": "LORA"}
    assert status.num_adapter_layers == 4
    assert next(layer.name for layer in get_layer_status(model)) == "model.layers.0.self_attn.q_proj"
