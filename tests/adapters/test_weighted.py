"""add_weighted_adapter on whole models."""

import copy

import pytest
import torch

from stack_platform.adapters import IA3Config, LoraConfig, PeftModel, get_peft_model
from stack_platform.adapters.compose.combine import COMBINATION_TYPES
from stack_platform.errors import AdapterError


def adapted(model, ranks=(3, 3), **settings):
    torch.manual_seed(0)
    settings = {"target_modules": "all-linear", "init_lora_weights": False} | settings
    peft = get_peft_model(model, LoraConfig(r=ranks[0], lora_alpha=4, **settings), "a")
    peft.add_adapter("b", LoraConfig(r=ranks[1], lora_alpha=6, **settings))
    return peft.eval()


def deltas(peft, name):
    """Return what an adapter adds to each weight."""
    found = {}
    for path, layer in peft.base_model.layers.items():
        if name in layer.adapters:
            with_it, _ = layer.merged_weight([name])
            found[path] = with_it - layer.merged_weight([])[0]
    return found


@pytest.mark.parametrize("kind", ["cat", "svd"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"lora_bias": True},
        {"target_modules": r".*(embed_tokens|wte|q_proj|c_attn)"},
    ],
    ids=["lora", "rslora", "lora_bias", "embedding"],
)
@torch.no_grad()
def test_the_new_adapter_has_the_effect_of_the_weighted_sum(build, ids, kind, settings):
    peft = adapted(build(), (2, 4), **settings)
    more = {"svd_rank": 6} if kind == "svd" else {}
    peft.add_weighted_adapter(["a", "b"], [0.5, -1.5], "new", kind, **more)
    assert peft.peft_config["new"].r == 6
    peft.set_adapter("new")
    alone = peft(input_ids=ids).logits
    peft.base_model.rescale("a", 0.5)
    peft.base_model.rescale("b", -1.5)
    peft.set_adapter(["a", "b"])
    torch.testing.assert_close(alone, peft(input_ids=ids).logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_every_weight_gets_the_weighted_sum(build):
    peft = adapted(build(), (2, 4))
    peft.add_weighted_adapter(["a", "b"], [0.5, -1.5], "new", "cat")
    first, second, new = (deltas(peft, name) for name in ("a", "b", "new"))
    torch.testing.assert_close(
        new, {p: 0.5 * first[p] - 1.5 * second[p] for p in first}, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("kind", COMBINATION_TYPES)
@torch.no_grad()
def test_the_new_adapter_is_saved_and_loaded(llama, ids, tmp_path, kind):
    peft = adapted(llama())
    density = {} if kind in ("svd", "cat", "linear") else {"density": 0.5}
    peft.add_weighted_adapter(["a", "b"], [1.0, 0.5], "new", kind, **density)
    peft.set_adapter("new")
    peft.save_pretrained(tmp_path, selected_adapters=["new"])
    again = PeftModel.from_pretrained(llama(), tmp_path / "new")
    torch.testing.assert_close(again(input_ids=ids).logits, peft(input_ids=ids).logits)


def test_the_new_adapter_is_neither_active_nor_trainable(llama):
    peft = adapted(llama())
    peft.add_weighted_adapter(["a", "b"], [1.0, 1.0], "new", "linear")
    assert peft.active_adapters == ["a"]
    assert not any(p.requires_grad for name, p in peft.named_parameters() if ".new." in name)


def test_a_seed_gives_one_adapter(llama):
    peft = adapted(llama())
    for name, draw in (("x", 1), ("y", 1), ("z", 2)):
        seed = torch.Generator().manual_seed(draw)
        peft.add_weighted_adapter(["a", "b"], [1.0, 1.0], name, "dare_linear", density=0.5, generator=seed)
    values = {name: [t for key, t in peft.adapter_tensors(name).items() if "lora_A" in key] for name in "xyz"}
    assert all(torch.equal(x, y) for x, y in zip(values["x"], values["y"], strict=True))
    assert not all(torch.equal(x, z) for x, z in zip(values["x"], values["z"], strict=True))


@torch.no_grad()
def test_layers_of_either_adapter_are_in_the_new_one(llama):
    torch.manual_seed(0)
    more = {"init_lora_weights": False}
    peft = get_peft_model(
        llama(), LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[0], **more), "a"
    )
    peft.add_adapter("b", LoraConfig(r=2, target_modules=["v_proj"], **more))
    peft.add_weighted_adapter(["a", "b"], [1.0, 1.0], "new", "cat")
    assert deltas(peft, "new").keys() == deltas(peft, "a").keys() | deltas(peft, "b").keys()


@torch.no_grad()
def test_vectors_of_ia3_are_summed(llama):
    model = llama()
    config = IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"])
    peft = get_peft_model(model, config, "a")
    peft.add_adapter("b", config)
    for name, parameter in peft.named_parameters():
        if "ia3_l" in name:
            parameter.fill_(2.0 if ".a" in name else 3.0)
    peft.add_weighted_adapter(["a", "b"], [0.5, 2.0], "new")
    assert all((tensor == 7.0).all() for tensor in peft.adapter_tensors("new").values())


@pytest.mark.parametrize(
    ("adapters", "name", "settings", "message"),
    [
        (["a", "x"], "new", {}, "no adapter 'x'; there are: a, b"),
        (["a", "a"], "new", {}, "adapter 'a' is named twice"),
        (["a", "b"], "b", {}, "adapter 'b' is there already"),
        (["a", "b"], "no/name", {}, "adapter name 'no/name'"),
        ([], "new", {}, "no adapters to combine"),
        (["a", "b"], "new", {"combination_type": "tis"}, "combination_type='tis'; known"),
        (["a", "b"], "new", {"combination_type": "ties"}, "density=None"),
        (["a", "b"], "new", {"densty": 0.5}, "densty"),
    ],
)
def test_what_cannot_be_combined_is_named(llama, adapters, name, settings, message):
    peft = adapted(llama())
    before = {key: tensor.clone() for key, tensor in peft.state_dict().items()}
    with pytest.raises(AdapterError, match=message):
        peft.add_weighted_adapter(adapters, [1.0] * len(adapters), name, **settings)
    after = peft.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["linear", "cat", "svd", "ties", "ties_svd", "magnitude_prune"])
@torch.no_grad()
def test_the_outputs_are_pefts(build, ids, tmp_path, kind):
    peer = pytest.importorskip("peft")
    model = build()
    peft = adapted(
        copy.deepcopy(model), target_modules=["q_proj", "v_proj"] if "Llama" in str(model) else ["c_attn"]
    )
    peft.save_pretrained(tmp_path)
    theirs = peer.PeftModel.from_pretrained(model, tmp_path / "a", adapter_name="a")
    theirs.load_adapter(tmp_path / "b", "b")
    density = {} if kind in ("svd", "cat", "linear") else {"density": 0.5}
    for each in (peft, theirs):
        each.add_weighted_adapter(["a", "b"], [0.8, -0.3], "new", combination_type=kind, **density)
        each.set_adapter("new")
    torch.testing.assert_close(peft(input_ids=ids).logits, theirs(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
    peft.save_pretrained(tmp_path, selected_adapters=["new"])
    loaded = peer.PeftModel.from_pretrained(build(), tmp_path / "new")
    torch.testing.assert_close(loaded(input_ids=ids).logits, peft(input_ids=ids).logits, atol=1e-5, rtol=1e-5)
