import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.adapters.config import LoraConfig
from stack_platform.adapters.defaults import TargetError, default_targets
from stack_platform.adapters.targets import ModuleNames, find_targets, resolve_targets
from stack_platform.errors import AdapterError

LAYERS = tuple(
    f"model.layers.{i}.{name}"
    for i in range(3)
    for name in ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.o_proj", "mlp.up_proj", "mlp.down_proj")
)
OTHERS = {"model": "LlamaModel", "model.embed_tokens": "Embedding", "model.layers": "ModuleList"}
OTHERS |= {f"model.layers.{i}.{part}": "Block" for i in range(3) for part in ("attn", "mlp")}
NAMES = ModuleNames((*LAYERS, "lm_head"), OTHERS, frozenset({*LAYERS, "lm_head"}), "lm_head")


def paths(**fields):
    return [t.path for t in find_targets(NAMES, LoraConfig(**fields))]


def test_a_suffix_matches_whole_names_in_the_models_order():
    assert paths(target_modules=["v_proj", "q_proj"]) == [
        p for p in LAYERS if p.endswith((".q_proj", ".v_proj"))
    ]
    assert paths(target_modules=["attn.q_proj"]) == paths(target_modules=["q_proj"])
    with pytest.raises(TargetError, match="'proj' matches no module"):
        paths(target_modules=["proj"])


def test_a_dot_in_a_list_entry_is_a_dot():
    with pytest.raises(TargetError, match="matches no module"):
        paths(target_modules=["q.proj"])


def test_a_string_is_an_expression_for_the_whole_path():
    assert paths(target_modules=r".*\.1\..*(q|k)_proj") == [
        "model.layers.1.attn.q_proj",
        "model.layers.1.attn.k_proj",
    ]
    with pytest.raises(TargetError, match="'q_proj' matches no module"):
        paths(target_modules="q_proj")


def test_all_linear_leaves_the_head_alone():
    assert paths(target_modules="all-linear") == list(LAYERS)
    assert paths(target_modules="ALL-LINEAR", layers_to_transform=[1]) == [p for p in LAYERS if ".1." in p]


def test_the_default_is_query_and_value():
    assert paths() == paths(target_modules=["q_proj", "v_proj"])


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc"], ("c_attn",)),
        (["l.0.attention.query_key_value", "l.0.attention.dense"], ("query_key_value",)),
        (["e.layer.0.attention.self.query", "e.layer.0.attention.self.value"], ("query", "value")),
        (["t.0.q_lin", "t.0.k_lin", "t.0.v_lin"], ("q_lin", "v_lin")),
        (["b.0.SelfAttention.q", "b.0.SelfAttention.v", "b.0.wo"], ("q", "v")),
        (["layers.0.qkv_proj", "layers.0.gate_up_proj"], ("qkv_proj",)),
        (
            ["l.0.attn.q_a_proj", "l.0.attn.kv_a_proj_with_mqa", "l.0.up_proj"],
            ("kv_a_proj_with_mqa", "q_a_proj"),
        ),
        (["l.0.attention.self.in_proj", "l.0.output.dense"], ("in_proj",)),
        (["b.0.linear_q", "b.0.linear_k", "b.0.linear_v"], ("linear_q", "linear_v")),
    ],
)
def test_the_default_follows_the_names_of_the_attention_inputs(layers, expected):
    assert default_targets(layers) == expected


def test_a_model_without_attention_asks_for_targets_and_lists_the_layers():
    with pytest.raises(TargetError, match="set target_modules to some of: fc1, fc2"):
        default_targets(["fc1", "fc2"])


def test_without_attention_the_linear_layers_of_the_blocks_are_taken_or_the_convolutions():
    mixer = ["layers.0.mixer.in_proj", "layers.0.mixer.out_proj", "layers.0.mixer.conv1d", "head"]
    assert default_targets(mixer, linear=mixer[:2]) == ("in_proj", "out_proj")
    convolutions = ["stages.0.conv", "stages.0.depthwise", "stem"]
    assert default_targets(convolutions, linear=(), ungrouped={"stages.0.conv", "stem"}) == ("stages.0.conv",)


def test_one_wrong_entry_among_right_ones_is_an_error_naming_the_nearest():
    with pytest.raises(AdapterError, match="'q_porj' matches no module; nearest: 'q_proj'"):
        paths(target_modules=["q_porj", "v_proj"])


def test_a_module_that_cannot_be_adapted_is_named_with_its_class():
    with pytest.raises(TargetError, match=r"'embed_tokens' matches 'model.embed_tokens', a Embedding"):
        paths(target_modules=["q_proj", "embed_tokens"])
    with pytest.raises(TargetError, match="a Block, which LORA cannot adapt"):
        paths(target_modules=r".*attn.*")


def test_exclusions_take_lists_and_expressions_and_must_match():
    assert paths(target_modules=["q_proj"], exclude_modules=["layers.0.attn.q_proj"]) == [
        "model.layers.1.attn.q_proj",
        "model.layers.2.attn.q_proj",
    ]
    assert paths(target_modules="all-linear", exclude_modules=".*mlp.*") == [p for p in LAYERS if "attn" in p]
    with pytest.raises(TargetError, match=re.escape("such as '.*mlp.*'")):
        paths(target_modules="all-linear", exclude_modules=["mlp"])
    with pytest.raises(TargetError, match="removes every layer"):
        paths(target_modules=["q_proj"], exclude_modules=["q_proj"])


def test_layer_indices_choose_blocks_and_must_exist():
    assert paths(target_modules=["q_proj"], layers_to_transform=2) == ["model.layers.2.attn.q_proj"]
    assert paths(target_modules=["q_proj"], layers_to_transform=[0], layers_pattern="layers") == [
        "model.layers.0.attn.q_proj"
    ]
    with pytest.raises(TargetError, match=r"block 3, 7 .*0 to 2"):
        paths(target_modules=["q_proj"], layers_to_transform=[1, 3, 7])
    with pytest.raises(TargetError, match=r"layers_pattern='h'.*none"):
        paths(target_modules=["q_proj"], layers_to_transform=[0], layers_pattern="h")


def test_rank_and_alpha_follow_their_patterns():
    config = LoraConfig(
        target_modules=["q_proj", "v_proj"], rank_pattern={"q_proj": 2}, alpha_pattern={r"layers\.0\..*": 3}
    )
    found = {t.path: (t.r, t.alpha) for t in find_targets(NAMES, config)}
    assert found["model.layers.0.attn.q_proj"] == (2, 3)
    assert found["model.layers.1.attn.q_proj"] == (2, 8)
    assert found["model.layers.1.attn.v_proj"] == (8, 8)


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_without_a_layer_or_in_conflict_is_an_error(field):
    with pytest.raises(TargetError, match=f"{field}: 'up_proj' matches no adapted layer"):
        paths(target_modules=["q_proj"], **{field: {"up_proj": 2}})
    with pytest.raises(TargetError, match="two values, 2 and 4"):
        paths(target_modules=["q_proj"], **{field: {"attn.q_proj": 2, "q_proj": 4}})


def test_what_is_saved_is_explicit():
    assert resolve_targets(NAMES, LoraConfig()) == ("q_proj", "v_proj")
    assert resolve_targets(NAMES, LoraConfig(target_modules="all-linear")) == tuple(sorted(LAYERS))
    assert resolve_targets(NAMES, LoraConfig(target_modules=".*q_proj")) == ".*q_proj"


@given(
    st.sets(st.sampled_from(["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]), min_size=1),
    st.none() | st.sets(st.integers(0, 2), min_size=1).map(sorted),
)
def test_resolved_targets_select_the_same_layers_again(targets, blocks):
    config = LoraConfig(target_modules=sorted(targets), layers_to_transform=blocks)
    everything = LoraConfig(target_modules="all-linear", layers_to_transform=blocks)
    for given_config in (config, everything):
        again = LoraConfig(target_modules=resolve_targets(NAMES, given_config), layers_to_transform=blocks)
        assert find_targets(NAMES, again) == find_targets(NAMES, given_config)
