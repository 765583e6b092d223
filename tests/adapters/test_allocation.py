import pytest
import torch

from stack_platform.adapters import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from stack_platform.adapters.allocation import RankAllocator, orthogonality
from stack_platform.errors import AdapterError

FIELDS = {"init_r": 4, "target_r": 2, "total_step": 12, "tinit": 2, "tfinal": 3, "deltaT": 2}
FIELDS |= {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"], "orth_reg_weight": 0.3}


def train(model, ids, steps=12):
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for step in range(1, steps + 1):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    return model.eval()


def kept(model):
    return sum(
        int(layer.tensors("default")["lora_E"].count_nonzero()) for layer in model.base_model.layers.values()
    )


def test_pruning_leaves_the_target_and_says_so(llama, ids):
    model = train(get_peft_model(llama(), AdaLoraConfig(**FIELDS)), ids)
    pattern = model.peft_config["default"].rank_pattern
    assert kept(model) == 2 * 4 == sum(sum(flags) for flags in pattern.values())
    assert set(pattern) == {
        f"model.layers.{i}.self_attn.{n}.lora_E" for i in range(2) for n in ("q_proj", "v_proj")
    }


def test_a_file_holds_only_what_pruning_left(llama, ids, tmp_path):
    model = train(get_peft_model(llama(), AdaLoraConfig(**FIELDS)), ids)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(llama(), tmp_path).eval()
    torch.testing.assert_close(again(ids).logits, model(ids).logits)
    sizes = {path: len(layer.tensors("default")["lora_E"]) for path, layer in again.base_model.layers.items()}
    assert sum(sizes.values()) == 2 * 4
    again.save_pretrained(tmp_path / "again")
    name = "adapter_model.safetensors"
    assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_budget_falls_from_all_to_the_target(llama):
    allocator = RankAllocator(get_peft_model(llama(), AdaLoraConfig(**FIELDS)).base_model, "default")
    budgets = [allocator.budget(step) for step in range(1, 13)]
    assert budgets[:2] == [16, 16]
    assert budgets == sorted(budgets, reverse=True)
    assert budgets[-3:] == [8, 8, 8]


def test_the_penalty_is_added_to_the_loss(llama, ids):
    model = get_peft_model(llama(), AdaLoraConfig(**FIELDS))
    with model.disable_adapter():
        plain = model(input_ids=ids, labels=ids).loss
    loss = model(input_ids=ids, labels=ids).loss  # the adapter starts at no change
    torch.testing.assert_close(loss, plain + 0.3 * orthogonality(model.base_model, "default"))


def test_gradients_must_be_there_and_the_method_the_right_one(llama):
    model = get_peft_model(llama(), AdaLoraConfig(**FIELDS))
    with pytest.raises(AdapterError, match="has no gradient; call this before zero_grad"):
        model.base_model.update_and_allocate(1)
    with pytest.raises(AdapterError, match="only AdaLoRA allocates ranks"):
        RankAllocator(get_peft_model(llama(), LoraConfig()).base_model, "default")


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_training_with_pruning_is_pefts(llama, ids, tmp_path):
    peft = pytest.importorskip("peft")
    theirs = peft.get_peft_model(llama(), peft.AdaLoraConfig(**FIELDS))
    theirs.save_pretrained(tmp_path)
    ours = train(PeftModel.from_pretrained(llama(), tmp_path, is_trainable=True), ids)
    train(theirs, ids)
    assert torch.equal(ours(ids).logits, theirs(ids).logits)
    expected = theirs.peft_config["default"].rank_pattern
    assert ours.peft_config["default"].rank_pattern == {
        k.removesuffix(".default"): v for k, v in expected.items()
    }
