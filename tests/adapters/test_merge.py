import weakref

import pytest
import torch

from stack_platform.adapters import LoraConfig, get_peft_model
from stack_platform.adapters.layer import AdaptedLayer
from stack_platform.errors import AdapterError


def adapted(model, **fields):
    torch.manual_seed(2)
    settings = {"r": 2, "init_lora_weights": False, "target_modules": "all-linear"} | fields
    return get_peft_model(model, LoraConfig(**settings)).eval()


@pytest.mark.parametrize("use_rslora", [False, True])
def test_merged_logits_are_those_of_base_and_adapter(build, ids, use_rslora):
    model = adapted(build(), use_rslora=use_rslora)
    base = build()(ids).logits
    expected = model(ids).logits
    assert (expected - base).abs().max() > 0.05
    model.merge_adapter()
    torch.testing.assert_close(model(ids).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merge_and_unmerge_restore_every_bit(build, dtype):
    model = adapted(build().to(dtype))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.merge_adapter()
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    model.unmerge_adapter()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_merge_and_unload_leaves_a_plain_model(build, ids, tmp_path):
    plain = build()
    keys = plain.state_dict().keys()
    model = adapted(plain)
    expected = model(ids).logits
    merged = model.merge_and_unload()
    assert merged is plain
    assert merged.state_dict().keys() == keys
    torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-5, atol=1e-5)
    merged.save_pretrained(tmp_path)
    assert torch.equal(type(plain).from_pretrained(tmp_path).eval()(ids).logits, merged(ids).logits)


def test_merge_and_unload_from_a_merged_model_merges_once(llama, ids):
    model = adapted(llama())
    expected = model(ids).logits
    model.merge_adapter()
    torch.testing.assert_close(model.merge_and_unload()(ids).logits, expected, rtol=1e-5, atol=1e-5)


def test_unload_gives_the_base_back_bit_for_bit(build, ids):
    base = build()(ids).logits
    model = adapted(build())
    model.merge_adapter()
    assert torch.equal(model.unload()(ids).logits, base)


def test_merging_into_a_tied_head_leaves_the_embedding_alone(llama, ids, tmp_path):
    plain = llama(tie_word_embeddings=True)
    embedding = plain.model.embed_tokens.weight.detach().clone()
    model = adapted(plain, target_modules=["lm_head", "q_proj"])
    expected = model(ids).logits
    merged = model.merge_and_unload()
    assert torch.equal(merged.model.embed_tokens.weight, embedding)
    assert not merged.config.tie_word_embeddings
    torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-5, atol=1e-5)
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(type(plain).from_pretrained(tmp_path).eval()(ids).logits, merged(ids).logits)


def test_a_merge_that_is_not_finite_is_refused_before_anything_changes(llama):
    model = adapted(llama())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        model.base_model.layers["model.layers.1.mlp.down_proj"].tensors("default")["lora_B"][0, 0] = torch.inf
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(
            AdapterError, match=r"into 'model.layers.1.mlp.down_proj' gives values that are not"
        ):
            merge()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if "base_layer" in name)
    model.merge_adapter(safe_merge=False)
    assert model.merged_adapters == ["default"]


def test_merging_an_unknown_adapter_or_deleting_a_merged_one_is_refused(llama):
    model = adapted(llama())
    with pytest.raises(AdapterError, match="no adapter 'other'; there are: default"):
        model.merge_adapter(["other"])
    model.merge_adapter()
    with pytest.raises(AdapterError, match="adapter 'default' is merged"):
        model.delete_adapter("default")


def test_merging_again_changes_nothing_and_says_so(llama):
    model = adapted(llama())
    model.merge_adapter("default")
    once = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.warns(UserWarning, match="already merged, nothing to do"):
        model.merge_adapter()
    assert all(torch.equal(p, once[name]) for name, p in model.named_parameters())


def test_adapters_merged_one_after_the_other_are_merged_as_if_at_once(llama):
    one, other = adapted(llama()), adapted(llama())
    for model in (one, other):
        torch.manual_seed(1)
        model.add_adapter("second", LoraConfig(init_lora_weights=False))
    before = {name: p.clone() for name, p in one.named_parameters()}
    one.merge_adapter(["default", "second"])
    other.merge_adapter(["default"])
    other.merge_adapter(["second"])
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    other.unmerge_adapter()
    assert all(torch.equal(p, before[name]) for name, p in other.named_parameters())


def test_a_second_merge_that_is_not_finite_leaves_the_first_one(llama):
    model = adapted(llama())
    model.add_adapter("broken", LoraConfig())
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B.broken" in name).fill_(torch.nan)
    model.merge_adapter(["default"])
    merged = {name: p.clone() for name, p in model.named_parameters() if "broken" not in name}
    with pytest.raises(AdapterError, match="not finite"):
        model.merge_adapter(["broken"])
    assert all(torch.equal(p, merged[name]) for name, p in model.named_parameters() if name in merged)
    assert model.merged_adapters == ["default"]


def test_two_adapters_merge_into_their_sum(llama, ids):
    model = adapted(llama(), target_modules=["down_proj"])
    model.add_adapter("b", LoraConfig(r=3, init_lora_weights=False, target_modules=["down_proj"]))
    layer = model.base_model.layers["model.layers.0.mlp.down_proj"]
    base = layer.weight.detach().clone()
    one, two = (layer.merged_weight([name])[0] - base for name in ("default", "b"))
    model.merge_adapter(["default", "b"])
    torch.testing.assert_close(layer.weight, base + one + two)


def test_disabling_a_merged_model_computes_the_base_and_merges_again(llama, ids):
    base = llama()(ids).logits
    model = adapted(llama())
    model.merge_adapter()
    merged = model(ids).logits
    with model.disable_adapter():
        assert torch.equal(model(ids).logits, base)
    assert torch.equal(model(ids).logits, merged)


def test_merging_for_good_frees_each_adapter_before_the_next_merge(llama, monkeypatch):
    model = adapted(llama())
    layers = [weakref.ref(layer) for layer in model.base_model.layers.values()]
    alive = []
    merged_weight = AdaptedLayer.merged_weight

    def counted(layer, names):
        alive.append(sum(ref() is not None for ref in layers))
        return merged_weight(layer, names)

    monkeypatch.setattr(AdaptedLayer, "merged_weight", counted)
    model.merge_and_unload(safe_merge=False)
    assert alive == list(range(len(layers), 0, -1))


def test_layers_around_one_weight_merge_in_the_order_in_which_they_wrap_it(llama, ids):
    torch.manual_seed(0)
    config = LoraConfig(
        r=2,
        init_lora_weights=False,
        target_modules=["embed_tokens", "q_proj"],
        trainable_token_indices=[1, 2],
    )
    model = get_peft_model(llama(), config).eval()
    with torch.no_grad():
        model.base_model.layers["model.embed_tokens.token_adapter"].tensors("default")[
            "trainable_tokens_delta"
        ].add_(1)
    expected = model(ids).logits
    torch.testing.assert_close(model.merge_and_unload()(ids).logits, expected, rtol=1e-5, atol=1e-5)
