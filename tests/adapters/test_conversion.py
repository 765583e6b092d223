"""Adapters that started from the base weight, saved for the base as it was."""

import dataclasses

import pytest
import torch

from stack_platform.adapters import LoraConfig, PeftModel, export_for_vllm, get_peft_model
from stack_platform.errors import AdapterError

pytestmark = pytest.mark.filterwarnings("ignore")
PATTERNS = {"rank_pattern": {".*q_proj": 3}, "alpha_pattern": {".*down_proj": 5, ".*q_proj": 9}}


def lora(**fields):
    return LoraConfig(**({"r": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | fields))


def trained(model, ids):
    torch.manual_seed(4)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize(
    "fields",
    [
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora", "lora_alpha": 5},
        {"init_lora_weights": "pissa", "use_rslora": True},
        {"init_lora_weights": "olora", **PATTERNS},
        {"init_lora_weights": "pissa", "use_rslora": True, **PATTERNS},
    ],
)
def test_a_converted_adapter_needs_no_changed_base_and_is_one_vllm_takes(llama, ids, fields, tmp_path):
    model = get_peft_model(llama(), lora(**fields))
    model.save_pretrained(tmp_path / "start")
    trained(model, ids)
    model.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=tmp_path / "start")
    export_for_vllm(tmp_path / "plain", tmp_path / "served")
    for name in ("plain", "served"):
        base = llama()
        again = PeftModel.from_pretrained(base, tmp_path / name).eval()
        assert again.peft_config["default"].init_lora_weights is True
        torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)
        assert torch.equal(again.unload()(ids).logits, llama()(ids).logits)
    assert not torch.allclose(model(ids).logits, llama()(ids).logits, atol=1e-2)


def test_what_cannot_be_converted_is_named(llama, tmp_path):
    plain = get_peft_model(llama(), lora())
    plain.save_pretrained(tmp_path / "start")
    with pytest.raises(
        AdapterError, match="init_lora_weights=True; only LoRA that started by pissa or olora"
    ):
        plain.save_pretrained(tmp_path / "new", path_initial_model_for_weight_conversion=tmp_path / "start")
    other = get_peft_model(llama(), lora(init_lora_weights="pissa", r=3))
    with pytest.raises(AdapterError, match=r"start.*: .*lora_A.weight has shape \[2, 8\]"):
        other.save_pretrained(tmp_path / "new", path_initial_model_for_weight_conversion=tmp_path / "start")
    assert not (tmp_path / "new").exists()
    other.save_pretrained(tmp_path / "pissa")
    with pytest.raises(AdapterError, match=r"'pissa', which changes the base model \(see path_initial"):
        export_for_vllm(tmp_path / "pissa", tmp_path / "served")


@pytest.mark.peer
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_pefts_conversion_is_the_same(llama, ids, init, tmp_path):
    peft = pytest.importorskip("peft")
    theirs = peft.get_peft_model(llama(), peft.LoraConfig(**as_dict(lora(init_lora_weights=init))))
    theirs.peft_config["default"].init_lora_weights = True
    theirs.save_pretrained(tmp_path / "start")
    theirs.peft_config["default"].init_lora_weights = init
    trained(theirs, ids)
    theirs.save_pretrained(tmp_path / "trained")
    where = {"path_initial_model_for_weight_conversion": str(tmp_path / "start")}
    theirs.save_pretrained(tmp_path / "theirs", **where)
    ours = PeftModel.from_pretrained(llama(), tmp_path / "trained")
    ours.save_pretrained(tmp_path / "ours", **where)
    files = [(tmp_path / who / "adapter_model.safetensors").read_bytes() for who in ("ours", "theirs")]
    assert files[0] == files[1]
    again = PeftModel.from_pretrained(llama(), tmp_path / "theirs").eval()
    torch.testing.assert_close(again(ids).logits, ours.eval()(ids).logits, rtol=1e-4, atol=1e-5)


def as_dict(config):
    names = {f.name for f in dataclasses.fields(config)} - {"peft_type", "peft_version"}
    return {name: value for name, value in config.to_dict().items() if name in names}
