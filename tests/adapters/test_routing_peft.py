"""The same adapters in PEFT give the same rows; it has them for plain LoRA only, where ours take any method."""

import pytest
import torch

from stack_platform.adapters import LoraConfig, get_peft_model

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

ROWS = ["a", "__base__", "b", "a"]


def both(build, tmp_path, **settings):
    peer = pytest.importorskip("peft")
    torch.manual_seed(0)
    targets = ["q_proj", "down_proj", "c_attn"]
    there = [t for t in targets if any(name.endswith(t) for name, _ in build().named_modules())]
    settings = {"target_modules": there, "init_lora_weights": False} | settings
    ours = get_peft_model(build(), LoraConfig(r=2, **settings), "a")
    ours.add_adapter("b", LoraConfig(r=5, lora_alpha=3, **settings))
    ours.save_pretrained(tmp_path)
    theirs = peer.PeftModel.from_pretrained(build(), tmp_path / "a", adapter_name="a")
    theirs.load_adapter(tmp_path / "b", "b")
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}], ids=["lora", "rslora"])
@torch.no_grad()
def test_rows_are_pefts(build, tmp_path, settings):
    ours, theirs = both(build, tmp_path, **settings)
    words = torch.arange(24).reshape(4, 6)
    mine = ours(input_ids=words, adapter_names=ROWS).logits
    torch.testing.assert_close(mine, theirs(input_ids=words, adapter_names=ROWS).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("beams", [1, 2])
def test_generated_rows_are_pefts(build, tmp_path, beams):
    ours, theirs = both(build, tmp_path)
    words = torch.arange(24).reshape(4, 6) + 2
    given = {"input_ids": words, "attention_mask": torch.ones_like(words), "adapter_names": ROWS}
    settings = {"max_new_tokens": 4, "num_beams": beams, "do_sample": False}
    assert torch.equal(ours.generate(**given, **settings), theirs.generate(**given, **settings))
