import gc

import pytest
import torch

from stack_platform.adapters import get_peft_model
from stack_platform.adapters.config import LoraConfig
from stack_platform.adapters.configs.orthogonal import BOFTConfig
from stack_platform.adapters.inject import Placement, inject, module_names, resolve, restore
from stack_platform.adapters.layer import AdaptedLayer, Switch
from stack_platform.errors import AdapterError


def put(model, name="a", **fields):
    _, slots = resolve(model, LoraConfig(**fields))
    return inject(model, name, slots, Switch())


def test_the_head_and_the_layers_of_a_model_are_found(llama):
    names = module_names(llama())
    assert names.head == "lm_head"
    assert len(names.adaptable) == 2 * 7 + 1
    assert names.others["model.embed_tokens"] == "Embedding"


def test_an_adapted_model_shows_the_same_names(llama):
    model = llama()
    before = module_names(model).adaptable
    put(model, target_modules="all-linear")
    assert module_names(model).adaptable == before


def test_defaults_are_found_in_real_models(llama, gpt2):
    assert resolve(llama(), LoraConfig())[0].target_modules == ("q_proj", "v_proj")
    config, _ = resolve(gpt2(), LoraConfig())
    assert config.target_modules == ("c_attn",)
    assert config.fan_in_fan_out


def test_rank_pattern_reaches_the_tensors(llama):
    layers = put(llama(), target_modules=["q_proj", "k_proj"], rank_pattern={"k_proj": 3})
    assert {layer.tensors("a")["lora_A"].shape[0] for p, layer in layers.items() if "k_proj" in p} == {3}
    assert {layer.tensors("a")["lora_B"].shape[1] for p, layer in layers.items() if "q_proj" in p} == {8}


def test_a_second_adapter_shares_the_layer(llama):
    model = llama()
    first = put(model, "a", target_modules=["q_proj"])
    second = put(model, "b", target_modules=["q_proj", "v_proj"], r=2)
    assert all(second[path] is layer for path, layer in first.items())
    assert list(first["model.layers.0.self_attn.q_proj"].adapters) == ["a", "b"]


def test_a_method_that_does_not_fit_a_layer_is_refused_before_the_model_changes(llama):
    model = llama()
    with pytest.raises(AdapterError, match="needs an even block size"):
        resolve(model, BOFTConfig(boft_block_size=1, boft_n_butterfly_factor=2))
    assert not any(isinstance(m, AdaptedLayer) for m in model.modules())


@pytest.mark.parametrize(("full", "expected"), [(True, torch.float32), (False, torch.bfloat16)])
def test_adapters_are_kept_in_full_precision_unless_asked(llama, full, expected):
    model = llama().bfloat16()
    _, slots = resolve(model, LoraConfig())
    layers = inject(model, "a", slots, Switch(), placement=Placement(full))
    assert {t.dtype for layer in layers.values() for t in layer.tensors("a").values()} == {expected}


def test_restoring_puts_the_same_object_back(llama):
    model = llama()
    base = model.model.layers[0].self_attn.q_proj
    restore(model, put(model, target_modules=["q_proj"]))
    assert model.model.layers[0].self_attn.q_proj is base


@pytest.mark.parametrize(
    ("name", "r", "message"),
    [
        ("pissa", 9, "takes 9 directions of a weight of shape"),
        ("orthogonal", 2, "not on a Embedding; exclude it"),
    ],
)
def test_a_start_that_cannot_be_computed_is_refused_before_the_model_changes(llama, name, r, message):
    model = llama()
    with pytest.raises(AdapterError, match=message):
        get_peft_model(
            model,
            LoraConfig(
                r=r, init_lora_weights=name, target_modules=["embed_tokens"] if r == 2 else ["q_proj"]
            ),
        )
    assert not any(isinstance(m, AdaptedLayer) for m in model.modules())


def test_collection_of_garbage_goes_on_after_an_injection(llama):
    assert gc.isenabled()
    put(llama())
    assert gc.isenabled()
    gc.disable()
    try:
        put(llama())
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_model_itself_is_no_target():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.ones(4, 4))

    with pytest.raises(AdapterError, match="weights belongs to the model itself"):
        resolve(Model(), LoraConfig(target_parameters=["weights"]))
    with pytest.raises(AdapterError, match=r"belongs to the model itself|no layer"):
        resolve(torch.nn.Linear(4, 4), LoraConfig(target_modules="all-linear"))
