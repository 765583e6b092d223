"""The fused way through a whole model, against PEFT's sequence of operations."""

import copy

import pytest
import torch

from stack_platform.adapters import LoraConfig, get_peft_model
from stack_platform.adapters.fusing.shared_inputs import SharedInputs
from stack_platform.adapters.layer import AdaptedLayer

SETTINGS = {"r": 2, "target_modules": "all-linear", "init_lora_weights": False}


def gradients(model, ids):
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.requires_grad]


@pytest.fixture
def computed(monkeypatch):
    """Names of the layers that took the fused way."""
    found = []
    original = SharedInputs.output

    def noted(self, layer, x, projection):
        found.append(layer)
        return original(self, layer, x, projection)

    monkeypatch.setattr(SharedInputs, "output", noted)
    return found


@pytest.fixture
def model(build):
    return get_peft_model(build().double(), LoraConfig(**SETTINGS))


@pytest.mark.parametrize("compute", ["base_dtype", "adapter_dtype"])
def test_logits_and_gradients_are_those_of_the_unfused_model(model, ids, compute, computed):
    expected, logits = gradients(model, ids), model(ids).logits
    model.use_fused(compute)
    for _ in range(2):
        torch.testing.assert_close(gradients(model, ids), expected)
    torch.testing.assert_close(model(ids).logits, logits)
    assert set(computed) == {m for m in model.modules() if isinstance(m, AdaptedLayer)}
    model.use_fused(None)
    assert torch.equal(model(ids).logits, logits)


def test_two_active_adapters_act_both(model, ids):
    model.add_adapter("second", LoraConfig(**SETTINGS | {"r": 3}))
    model.base_model.set_adapter(["default", "second"])
    expected = gradients(model, ids)
    model.use_fused("base_dtype")
    for _ in range(2):
        torch.testing.assert_close(gradients(model, ids), expected)


def test_switching_disabling_and_merging_act_at_once(model, ids):
    model.eval()
    model.add_adapter("second", LoraConfig(**SETTINGS))
    expected = {}
    for fused in (None, "base_dtype"):
        model.use_fused(fused)
        for name in ("default", "second"):
            model.set_adapter(name)
            for _ in range(2):
                found = [model(ids).logits]
                with model.disable_adapter():
                    found.append(model(ids).logits)
                model.merge_adapter()
                found.append(model(ids).logits)
                model.unmerge_adapter()
                torch.testing.assert_close(found, expected.setdefault(name, found))
    assert not torch.allclose(expected["default"][0], expected["second"][0])


@pytest.mark.parametrize(
    "fields",
    [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True}],
    ids=lambda fields: next(iter(fields)),
)
def test_what_cannot_be_fused_takes_the_other_way(llama, ids, fields, computed):
    model = get_peft_model(llama(), LoraConfig(**SETTINGS | fields)).train()
    torch.manual_seed(0)
    expected = gradients(model, ids)
    model.use_fused("base_dtype")
    torch.manual_seed(0)
    assert all(torch.equal(a, b) for a, b in zip(gradients(model, ids), expected, strict=True))
    assert not computed


def test_dropout_is_fused_where_it_does_nothing(llama, ids, computed):
    model = get_peft_model(llama(), LoraConfig(**SETTINGS | {"lora_dropout": 0.5})).eval()
    model.use_fused("base_dtype")
    model(ids)
    assert computed


def test_hooks_on_a_base_layer_are_called(llama, ids):
    model = get_peft_model(llama(), LoraConfig(**SETTINGS))
    model.use_fused("base_dtype")
    seen = []
    base = model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    handle = base.register_forward_hook(lambda *_: seen.append(1))
    model(ids)
    handle.remove()
    model(ids)
    assert seen == [1]


def test_a_copied_model_computes_with_its_own_adapters(llama, ids):
    model = get_peft_model(llama(), LoraConfig(**SETTINGS)).eval()
    model.use_fused("base_dtype")
    for _ in range(2):
        before = model(ids).logits
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.requires_grad:
                parameter.zero_()
    twin(ids)
    with twin.disable_adapter():
        plain = twin(ids).logits
    torch.testing.assert_close(twin(ids).logits, plain)
    torch.testing.assert_close(model(ids).logits, before)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(llama, ids, reentrant):
    model = get_peft_model(llama().double(), LoraConfig(**SETTINGS)).train()
    expected = gradients(model, ids)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.use_fused("base_dtype")
    for _ in range(3):
        torch.testing.assert_close(gradients(model, ids), expected)


def test_generation_gives_the_same_tokens(llama, ids):
    model = get_peft_model(llama().double(), LoraConfig(**SETTINGS)).eval()
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(input_ids=ids, **settings)
    model.use_fused("base_dtype")
    assert torch.equal(model.generate(input_ids=ids, **settings), expected)


def test_the_model_compiles_without_a_break(llama, ids):
    model = get_peft_model(llama().double(), LoraConfig(**SETTINGS)).eval()
    expected = model(ids).logits
    model.use_fused("base_dtype")
    compiled = torch.compile(model.get_base_model(), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids, use_cache=False).logits, expected)
