"""Agreement with PEFT itself, bit for bit where both compute the same sums."""

import json

import pytest
import torch

from stack_platform.adapters import LoraConfig, PeftModel, get_peft_model
from stack_platform.adapters.defaults import default_targets
from stack_platform.adapters.inject import module_names

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
peft = pytest.importorskip("peft")

SETTINGS = [
    {},
    {"use_rslora": True},
    {"target_modules": "all-linear", "lora_alpha": 5},
    {
        "target_modules": "all-linear",
        "rank_pattern": {".*c_fc|.*up_proj": 3},
        "alpha_pattern": {".*c_fc|.*up_proj": 7},
    },
]


def settings(fields):
    return {"r": 2, "init_lora_weights": False, "task_type": "CAUSAL_LM"} | fields


@pytest.mark.parametrize("fields", SETTINGS)
def test_our_checkpoint_in_peft_gives_the_same_logits_bytes_and_merge(build, ids, tmp_path, fields):
    ours = get_peft_model(build(), LoraConfig(**settings(fields))).eval()
    ours.save_pretrained(tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(build(), tmp_path / "ours").eval()
    assert torch.equal(theirs(ids).logits, ours(ids).logits)
    assert [n for n, _ in theirs.named_parameters()] == [n for n, _ in ours.named_parameters()]
    theirs.save_pretrained(tmp_path / "theirs")
    name = "adapter_model.safetensors"
    assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    a, b = (json.loads((tmp_path / who / "adapter_config.json").read_text()) for who in ("ours", "theirs"))
    assert sorted(b.pop("target_modules")) == a.pop("target_modules")
    assert a.pop("peft_version").split(".")[0] == b.pop("peft_version").split(".")[0]
    assert a == b
    assert torch.equal(theirs.merge_and_unload()(ids).logits, ours.merge_and_unload()(ids).logits)


@pytest.mark.parametrize("fields", SETTINGS)
def test_pefts_checkpoint_in_ours_gives_the_same_logits(build, ids, tmp_path, fields):
    theirs = peft.get_peft_model(build(), peft.LoraConfig(**settings(fields))).eval()
    theirs.save_pretrained(tmp_path)
    ours = PeftModel.from_pretrained(build(), tmp_path).eval()
    assert torch.equal(ours(ids).logits, theirs(ids).logits)


def test_gradients_are_equal_in_bf16(llama, ids, tmp_path):
    theirs = peft.get_peft_model(
        llama().bfloat16(), peft.LoraConfig(**settings({"target_modules": "all-linear"}))
    )
    theirs.save_pretrained(tmp_path)
    ours = PeftModel.from_pretrained(llama().bfloat16(), tmp_path, is_trainable=True)
    for model in (theirs, ours):
        model.train()(input_ids=ids, labels=ids).loss.backward()
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        assert a.grad is None or torch.equal(a.grad, b.grad), name


def test_every_default_and_field_name_is_pefts():
    ours, theirs = LoraConfig().to_dict(), peft.LoraConfig().to_dict()
    assert ours.keys() == theirs.keys() - {"runtime_config"}
    assert {k: v for k, v in ours.items() if v != theirs[k]}.keys() <= {"peft_version"}


@pytest.mark.parametrize(
    "architecture", ["llama", "gpt2", "bert", "bloom", "gpt_neox", "opt", "t5", "qwen3", "falcon", "gptj"]
)
def test_default_targets_are_pefts(architecture):
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TABLE
    from transformers import CONFIG_MAPPING, AutoModel

    config = CONFIG_MAPPING[architecture]()
    for field in ("num_hidden_layers", "num_layers"):
        if hasattr(config, field):
            setattr(config, field, 1)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert default_targets(module_names(model).adaptable) == tuple(sorted(TABLE[architecture]))
