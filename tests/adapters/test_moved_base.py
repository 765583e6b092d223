"""Adapters that start from a part of the base weights, beside others that do not."""

import pytest
import torch

from stack_platform.adapters import LoraConfig, PeftModel, get_peft_model
from stack_platform.errors import AdapterError

MOVING = ["pissa", "olora", "loftq"]


@pytest.fixture
def other(llama, tmp_path):
    """Return the folder of a plain adapter that changes the outputs."""
    torch.manual_seed(3)
    model = get_peft_model(llama(), LoraConfig(r=2, init_lora_weights=False))
    model.save_pretrained(tmp_path / "other")
    return tmp_path / "other"


def both(llama, other, start):
    model = get_peft_model(llama(), LoraConfig(r=4, init_lora_weights=start), "moved").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B.moved" in name:
                parameter.mul_(1.5)
    model.load_adapter(other, "other")
    return model


@pytest.mark.parametrize("start", MOVING)
def test_another_adapter_computes_beside_the_original_weights(llama, ids, other, start):
    expected = PeftModel.from_pretrained(llama(), other)(ids).logits
    base = llama()(ids).logits
    model = both(llama, other, start)
    moved = model(ids).logits
    model.set_adapter("other")
    assert torch.equal(model(ids).logits, expected)
    with model.disable_adapter():
        assert torch.equal(model(ids).logits, base)
    assert torch.equal(model(ids).logits, expected)
    model.set_adapter("moved")
    assert torch.equal(model(ids).logits, moved)
    assert (moved - expected).abs().max() > 1e-3


@pytest.mark.parametrize("start", MOVING)
def test_adding_such_an_adapter_changes_nothing_until_it_is_active(llama, ids, other, start):
    model = PeftModel.from_pretrained(llama(), other)
    before = model(ids).logits
    model.add_adapter("moved", LoraConfig(r=4, init_lora_weights=start))
    assert torch.equal(model(ids).logits, before)
    model.delete_adapter("moved")
    assert torch.equal(model(ids).logits, before)


def test_both_together_are_the_sum_of_their_updates(llama, ids, other):
    model = both(llama, other, "pissa")
    layer = model.base_model.layers["model.layers.0.self_attn.q_proj"]
    rest = layer.base_layer.weight.detach()
    alone = [layer.get_delta_weight(name) for name in ("moved", "other")]
    model.set_adapter(["moved", "other"])
    merged, _ = layer.merged_weight(["moved", "other"])
    torch.testing.assert_close(merged, rest + sum(alone))


def test_merging_goes_with_what_is_active(llama, ids, other):
    model = both(llama, other, "pissa")
    with pytest.raises(AdapterError, match="activate with set_adapter what is to be merged"):
        model.merge_adapter(["other"])
    model.set_adapter("other")
    expected = model(ids).logits
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.merge_adapter()
    with pytest.raises(AdapterError, match="call unmerge_adapter"):
        model.set_adapter("moved")
    torch.testing.assert_close(model(ids).logits, expected, rtol=1e-5, atol=1e-5)
    model.unmerge_adapter()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    torch.testing.assert_close(model.merge_and_unload()(ids).logits, expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_is_refused(llama, ids, other):
    model = both(llama, other, "pissa")
    with pytest.raises(AdapterError, match="'moved' took a part of the base weights, which are there once"):
        model(ids, adapter_names=["other"] * len(ids))
    with pytest.raises(AdapterError, match="init_lora_weights"):
        model.set_adapter({"moved": 0.5})
    model.add_adapter("second", LoraConfig(r=2, init_lora_weights="olora"))
    with pytest.raises(AdapterError, match="moved, second each took a part"):
        model.set_adapter("second")
    assert model.active_adapters == ["moved"]


def test_a_saved_one_is_not_loaded_beside_another(llama, tmp_path):
    get_peft_model(llama(), LoraConfig(r=2, init_lora_weights="olora")).save_pretrained(tmp_path / "saved")
    model = get_peft_model(llama(), LoraConfig(r=4, init_lora_weights="pissa"), "moved")
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(
        AdapterError, match=r"'saved' was saved beside what it left .* 'moved' took a part too"
    ):
        model.load_adapter(tmp_path / "saved", "saved")
    assert {name for name, _ in model.named_parameters()} == before.keys()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_targets_and_fields_that_cannot_go_together_are_refused(llama):
    with pytest.raises(AdapterError, match="no place in an embedding"):
        get_peft_model(llama(), LoraConfig(target_modules=["embed_tokens"], lora_bias=True))
    with pytest.raises(AdapterError, match="belongs to a layer that is adapted itself"):
        get_peft_model(llama(), LoraConfig(target_modules=["q_proj"], target_parameters=["q_proj.weight"]))
    assert LoraConfig(init_lora_weights="OLoRA").init_lora_weights == "olora"
    with pytest.raises(ValueError, match="loftq_config has bits; it takes loftq_bits, loftq_iter"):
        LoraConfig(init_lora_weights="loftq", loftq_config={"bits": 4})
