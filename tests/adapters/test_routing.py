"""Rows of one batch with adapters of their own, on whole models."""

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from stack_platform.adapters import IA3Config, LoraConfig, get_peft_model
from stack_platform.adapters.mixing.routing import Rows
from stack_platform.errors import AdapterError

ROWS = ["a", "__base__", "b", "a", "c"]


@pytest.fixture
def words():
    return torch.arange(20).reshape(5, 4) % 32


def adapted(model, **settings):
    torch.manual_seed(0)
    settings = {"target_modules": "all-linear", "init_lora_weights": False} | settings
    peft = get_peft_model(model, LoraConfig(r=2, **settings), "a")
    peft.add_adapter("b", LoraConfig(r=4, lora_alpha=16, **settings))
    narrow = {name: value for name, value in settings.items() if name != "target_modules"}
    last = [n for n, m in model.named_modules() if type(m).__name__ == "AdaptedLayer"][-1].rpartition(".")[2]
    peft.add_adapter("c", LoraConfig(r=3, target_modules=[last], **narrow))
    return peft.eval()


def alone(peft, words, names):
    rows = []
    for number, name in enumerate(names):
        chosen = [] if name == "__base__" else [name] if isinstance(name, str) else list(name)
        one = words[number : number + 1]
        if chosen:
            peft.set_adapter(chosen)
            rows.append(peft(input_ids=one).logits)
        else:
            with peft.disable_adapter():
                rows.append(peft(input_ids=one).logits)
    return torch.cat(rows)


@pytest.mark.parametrize(
    "settings", [{}, {"use_dora": True}, {"lora_bias": True}], ids=["lora", "dora", "lora_bias"]
)
@torch.no_grad()
def test_each_row_is_its_own_adapters(build, words, settings):
    peft = adapted(build(), **settings)
    expected = alone(peft, words, ROWS)
    for _ in range(2):  # the second time from kept stacks
        torch.testing.assert_close(peft(input_ids=words, adapter_names=ROWS).logits, expected)


def test_gradients_reach_the_adapters_of_the_rows(llama, words):
    peft = adapted(llama())
    peft.base_model.set_requires_grad(["a", "b", "c"])
    peft(input_ids=words[:2], adapter_names=["a", "__base__"]).logits.sum().backward()
    grads = {name: p.grad for name, p in peft.named_parameters() if p.requires_grad}
    assert all(grad.any() for name, grad in grads.items() if ".a." in name)
    assert not any(grad is not None and grad.any() for name, grad in grads.items() if ".b." in name)


@torch.no_grad()
def test_a_change_of_an_adapter_is_seen(llama, words):
    peft = adapted(llama())
    before = peft(input_ids=words, adapter_names=ROWS).logits
    for name, parameter in peft.named_parameters():
        if "lora_B.b." in name:
            parameter.mul_(2)
    after = peft(input_ids=words, adapter_names=ROWS).logits
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[2], after[2])
    torch.testing.assert_close(after, alone(peft, words, ROWS))
    peft.delete_adapter("b")
    peft.add_adapter("b", LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    torch.testing.assert_close(peft(input_ids=words, adapter_names=ROWS).logits, alone(peft, words, ROWS))


def test_a_step_of_training_is_seen(llama, words):
    peft = adapted(llama())
    peft.set_adapter("b")
    optimizer = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=0.1, fused=True)
    with torch.no_grad():
        before = peft(input_ids=words, adapter_names=ROWS).logits
    peft(input_ids=words, labels=words).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        after = peft(input_ids=words, adapter_names=ROWS).logits
        torch.testing.assert_close(after, alone(peft, words, ROWS))
    assert not torch.allclose(before[2], after[2])


@torch.no_grad()
def test_a_row_may_have_several_adapters(llama, words):
    peft = adapted(llama())
    rows = [["a", "b"], "a", ("b",), "__base__", ["c", "a"]]
    torch.testing.assert_close(peft(input_ids=words, adapter_names=rows).logits, alone(peft, words, rows))


@torch.no_grad()
def test_weights_of_a_row_multiply_its_updates(llama, words):
    peft = adapted(llama())
    weighted = peft(input_ids=words[:1], adapter_names=[{"a": 0.5, "b": -2.0}]).logits
    peft.base_model.rescale("a", 0.5)
    peft.base_model.rescale("b", -2.0)
    torch.testing.assert_close(weighted, alone(peft, words[:1], [["a", "b"]]))


@torch.no_grad()
def test_weights_of_a_row_multiply_updates_that_are_no_matrix(llama, words):
    settings = {"target_modules": ["embed_tokens", "q_proj"], "init_lora_weights": False}
    peft = get_peft_model(llama(), LoraConfig(r=2, **settings), "a").eval()
    weighted = peft(input_ids=words, adapter_names=[{"a": -0.5}] * len(words)).logits
    peft.base_model.rescale("a", -0.5)
    torch.testing.assert_close(weighted, peft(input_ids=words).logits)


@torch.no_grad()
def test_dropout_acts_in_training_though_a_stack_was_kept(llama, words):
    peft = adapted(llama(), lora_dropout=0.5)
    before = peft(input_ids=words, adapter_names=ROWS).logits
    dropped = peft.train()(input_ids=words, adapter_names=ROWS).logits
    assert not torch.allclose(before[0], dropped[0])
    assert torch.equal(peft.eval()(input_ids=words, adapter_names=ROWS).logits, before)


@torch.no_grad()
def test_weights_of_other_methods_are_refused(llama, words):
    peft = adapted(llama(), use_dora=True)
    with pytest.raises(AdapterError, match=r"'a' the weight 0\.5, which only plain LoRA"):
        peft(input_ids=words[:1], adapter_names=[{"a": 0.5}])


@pytest.mark.parametrize("beams", [1, 2])
def test_generation_is_each_rows_own(llama, words, beams):
    peft = adapted(llama())
    settings = {
        "max_new_tokens": 3,
        "do_sample": False,
        "num_beams": beams,
        "pad_token_id": 0,
        "eos_token_id": None,
    }
    rows, words = ["a", "__base__", "b"], words[:3]
    mixed = peft.generate(words, adapter_names=rows, **settings)
    for number, name in enumerate(rows):
        own = peft.generate(words[number : number + 1], adapter_names=[name], **settings)
        assert torch.equal(mixed[number], own[0])


@torch.no_grad()
def test_an_encoder_has_rows_and_its_decoder_beams():
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=32, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    model = T5ForConditionalGeneration(config)
    peft = get_peft_model(model, LoraConfig(r=2, target_modules=["q", "v"], init_lora_weights=False), "a")
    peft.add_adapter("b", LoraConfig(r=3, target_modules=["q", "v"], init_lora_weights=False))
    words = torch.arange(8).reshape(2, 4) + 2
    settings = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False}
    mixed = peft.eval().generate(input_ids=words, adapter_names=["a", "b"], **settings)
    for number, name in enumerate("ab"):
        own = peft.generate(input_ids=words[number : number + 1], adapter_names=[name], **settings)
        assert torch.equal(mixed[number, : own.shape[1]], own[0])


@torch.no_grad()
def test_half_precision_rows_are_close_to_their_adapters_alone(llama, words):
    peft = adapted(llama().to(torch.bfloat16))
    mixed = peft(input_ids=words, adapter_names=ROWS).logits
    expected = alone(peft, words, ROWS)
    assert mixed.dtype == torch.bfloat16
    assert (mixed - expected).float().norm() < 0.05 * expected.float().norm()


@torch.no_grad()
def test_other_methods_have_rows_too(llama, words):
    model = llama()
    target = {"target_modules": ["q_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
    peft = get_peft_model(model, IA3Config(init_ia3_weights=False, **target), "a").eval()
    peft.add_adapter("b", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    for parameter in peft.parameters():
        if parameter.numel() < 64:
            parameter.add_(0.5 * torch.randn_like(parameter))
    rows = ["a", "__base__", "b", "a", "b"]
    torch.testing.assert_close(peft(input_ids=words, adapter_names=rows).logits, alone(peft, words, rows))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a", "b"], "adapter_names has 2 entries for a batch of 5"),
        (["x"] * 5, "no adapter 'x'; there are: a, b, c"),
        ([{"a": float("nan")}] * 5, "adapter_names has 'a': nan"),
        ([3] * 5, "adapter_names has 3"),
        ("a", "adapter_names='a'; write a list with one entry for each row"),
    ],
)
def test_rows_that_cannot_be_are_named(llama, words, rows, message):
    peft = adapted(llama())
    with pytest.raises(AdapterError, match=message):
        peft(input_ids=words, adapter_names=rows)
    assert peft.base_model.switch.rows is None


def test_merged_weights_have_no_rows(llama, words):
    peft = adapted(llama())
    peft.merge_adapter()
    with pytest.raises(AdapterError, match="call unmerge_adapter first"):
        peft(input_ids=words, adapter_names=ROWS)


def test_rows_are_repeated_once():
    rows = Rows.of(["a", {"b": 2.0}])
    assert rows.repeated(4) is rows.repeated(4)
    assert rows.repeated(4).sets == ((("a", 1.0),), (("a", 1.0),), (("b", 2.0),), (("b", 2.0),))
    assert rows.repeated(2) is rows
