"""Active sets with weights, on whole models: forward, fused forward, merge and files."""

import pytest
import torch

from stack_platform.adapters import IA3Config, LoraConfig, get_peft_model
from stack_platform.errors import AdapterError

WEIGHTS = {"a": 0.7, "b": -1.5}


def adapted(model, **settings):
    torch.manual_seed(0)
    settings = {"target_modules": "all-linear", "init_lora_weights": False} | settings
    peft = get_peft_model(model, LoraConfig(r=2, **settings), "a")
    peft.add_adapter("b", LoraConfig(r=4, lora_alpha=16, **settings))
    return peft.eval()


def rescaled(model, **settings):
    """Return the same with the weights in the adapters' scalings."""
    peft = adapted(model, **settings)
    for name, weight in WEIGHTS.items():
        peft.base_model.rescale(name, weight)
    peft.set_adapter(list(WEIGHTS))
    return peft


@pytest.mark.parametrize("settings", [{}, {"lora_bias": True}], ids=["lora", "lora_bias"])
@torch.no_grad()
def test_weights_multiply_the_updates(build, ids, settings):
    expected = rescaled(build(), **settings)(input_ids=ids).logits
    peft = adapted(build(), **settings)
    peft.set_adapter(WEIGHTS)
    assert peft.active_adapters == ["a", "b"]
    assert torch.equal(peft(input_ids=ids).logits, expected)
    rows = peft(input_ids=ids, adapter_names=[WEIGHTS] * len(ids)).logits
    torch.testing.assert_close(rows, expected)


@torch.no_grad()
def test_rows_have_their_own_weights(llama, ids):
    peft = adapted(llama())
    plain = peft(input_ids=ids, adapter_names=["a", "b"]).logits
    peft.set_adapter(WEIGHTS)
    assert torch.equal(peft(input_ids=ids, adapter_names=["a", "b"]).logits, plain)


@pytest.mark.parametrize("compute", ["adapter_dtype", "base_dtype"])
def test_the_fused_forward_and_its_gradients_have_them(llama, ids, compute):
    found = []
    for fused in (None, compute):
        peft = adapted(llama())
        peft.set_adapter(WEIGHTS)
        peft.base_model.use_fused(fused)
        logits = peft(input_ids=ids).logits
        logits.sum().backward()
        found.append([logits, *(p.grad for p in peft.parameters() if p.grad is not None)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_merge_has_them(build, ids):
    peft = adapted(build())
    peft.set_adapter(WEIGHTS)
    expected = peft(input_ids=ids).logits
    peft.merge_adapter()
    torch.testing.assert_close(peft(input_ids=ids).logits, expected)
    with peft.disable_adapter():
        pass
    torch.testing.assert_close(peft(input_ids=ids).logits, expected)
    peft.unmerge_adapter()
    assert torch.equal(peft(input_ids=ids).logits, expected)
    torch.testing.assert_close(peft.merge_and_unload()(input_ids=ids).logits, expected)


@torch.no_grad()
def test_a_weight_holds_until_the_adapter_is_named_again(llama, ids):
    peft = adapted(llama())
    before = peft(input_ids=ids).logits
    peft.set_adapter({"a": 0.5})
    assert not torch.equal(peft(input_ids=ids).logits, before)
    peft.set_adapter("a")
    assert torch.equal(peft(input_ids=ids).logits, before)
    peft.set_adapter({"a": 0.5})
    peft.delete_adapter("a")
    assert "a" not in peft.base_model.switch.weights


def test_weights_are_not_saved(llama, tmp_path):
    peft = adapted(llama())
    peft.save_pretrained(tmp_path / "before")
    peft.set_adapter(WEIGHTS)
    peft.save_pretrained(tmp_path / "after")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "before/a" / file).read_bytes() == (tmp_path / "after/a" / file).read_bytes()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(r=2, target_modules=["q_proj"], use_dora=True), r"'x' \(use_dora\) has the weight 0\.5"),
        (LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]), r"'x' \(modules_to_save\)"),
        (IA3Config(target_modules=["q_proj"], feedforward_modules=[]), r"'x' \(IA3\)"),
    ],
)
def test_what_is_not_plain_lora_has_no_weight(llama, config, message):
    peft = adapted(llama())
    peft.add_adapter("x", config)
    with pytest.raises(AdapterError, match=message):
        peft.set_adapter({"a": 1.0, "x": 0.5})
    assert peft.active_adapters == ["a"]
    peft.set_adapter({"a": 0.5, "x": 1.0})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"a": float("inf")}, "set_adapter has 'a': inf"),
        ({"a": True}, "set_adapter has 'a': True"),
        (3, "set_adapter has 3; write a name"),
        ({"z": 0.5}, "no adapter 'z'"),
        ("__base__", "no adapter '__base__'"),
    ],
)
def test_sets_that_cannot_be_are_named(llama, choice, message):
    peft = adapted(llama())
    with pytest.raises(AdapterError, match=message):
        peft.base_model.set_adapter(choice)
    assert peft.base_model.switch.weights.get("a", 1.0) == 1.0


def test_a_merged_adapter_keeps_its_weight(llama):
    peft = adapted(llama())
    peft.set_adapter(WEIGHTS)
    peft.merge_adapter()
    with pytest.raises(AdapterError, match=r"'a' is merged with the weight 0\.7; call unmerge_adapter"):
        peft.set_adapter("a")
    peft.set_adapter(WEIGHTS)
