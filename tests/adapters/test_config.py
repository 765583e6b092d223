import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.adapters.config import LoraConfig, PeftConfig, TaskType, parse_config
from stack_platform.adapters.configs.fields import TargetedConfig
from stack_platform.adapters.configs.lora import ReservedFields
from stack_platform.errors import AdapterError, ConfigError

names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=8)
configs = st.builds(
    LoraConfig,
    r=st.integers(1, 512),
    lora_alpha=st.floats(0.01, 1e4),
    lora_dropout=st.floats(0, 0.99),
    target_modules=st.none() | names | st.lists(names, min_size=1),
    exclude_modules=st.none() | names | st.lists(names, min_size=1),
    rank_pattern=st.dictionaries(names, st.integers(1, 64), max_size=3),
    alpha_pattern=st.dictionaries(names, st.floats(0.5, 64), max_size=3),
    use_rslora=st.booleans(),
    init_lora_weights=st.sampled_from([True, False, "gaussian"]),
    task_type=st.sampled_from([None, "CAUSAL_LM", TaskType.FEATURE_EXTRACTION]),
)


@given(configs)
def test_a_config_survives_its_own_json(config):
    assert parse_config(config.to_json(), "here") == config


@given(st.permutations(["q", "k", "v", "o"]))
def test_the_order_of_targets_does_not_change_the_bytes(order):
    assert (
        LoraConfig(target_modules=order).to_json()
        == LoraConfig(target_modules=["k", "o", "q", "v"]).to_json()
    )


def test_the_json_is_sorted_and_indented_like_pefts():
    content = LoraConfig().to_json().decode()
    values = json.loads(content)
    assert content == json.dumps(values, indent=2, sort_keys=True)
    assert values["peft_type"] == "LORA"
    assert values["r"] == values["lora_alpha"] == 8


def test_a_config_cannot_be_changed_through_the_callers_objects():
    ranks = {"q": 4}
    config = LoraConfig(rank_pattern=ranks)
    ranks["q"] = 8
    assert config.rank_pattern == {"q": 4}


def test_a_misspelled_field_cannot_be_set():
    with pytest.raises(AttributeError, match="lora_alhpa"):
        LoraConfig().lora_alhpa = 4


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("r", 0, "r=0; a rank is a whole number from 1"),
        ("r", True, "r=True"),
        ("r", 2.0, "r=2.0"),
        ("lora_alpha", 0, "lora_alpha=0"),
        ("lora_alpha", float("nan"), "lora_alpha=nan"),
        ("lora_dropout", 1.0, "lora_dropout=1.0"),
        ("rank_pattern", {"q": 0}, r"rank_pattern\['q'\]=0"),
        ("alpha_pattern", {"q": -1}, r"alpha_pattern\['q'\]=-1"),
        ("target_modules", [], r"target_modules=\[\]"),
        ("target_modules", "(", "not a regular expression"),
        ("rank_pattern", {"(": 2}, "not a regular expression"),
        ("task_type", "CHAT", "task_type='CHAT'; write one of"),
        ("bias", "some", "bias='some'; known: 'none', 'all', 'lora_only'"),
        ("bias", "lora-only", "did you mean 'lora_only'"),
        ("init_lora_weights", "gausian", "did you mean 'gaussian'"),
        ("init_lora_weights", 1, "init_lora_weights=1; known: True, False"),
        ("modules_to_save", "lm_head", "modules_to_save='lm_head'; write a list of names"),
        ("use_qalora", True, "not in this release: use_qalora=True"),
        ("eva_config", {"rho": 2.0}, "write 'eva', or leave it out"),
        ("loftq_config", {"loftq_bits": 4}, "write 'loftq', or leave it out"),
        ("layers_pattern", "h", "without layers_to_transform"),
        ("peft_type", "IA3", "peft_type='IA3'"),
    ],
)
def test_an_unusable_value_is_named(field, value, message):
    with pytest.raises(ConfigError, match=message):
        LoraConfig(**{field: value})


def test_layer_indices_with_a_regular_expression_are_refused():
    with pytest.raises(ConfigError, match="write the indices into the regular expression"):
        LoraConfig(target_modules=".*q_proj", layers_to_transform=[0])


def test_an_unknown_field_is_refused_by_name_only_when_it_is_set():
    assert LoraConfig.from_dict({"r": 4, "use_newlora": False, "new_config": None}).r == 4
    with pytest.raises(ConfigError, match="use_newlora=True"):
        LoraConfig.from_dict({"use_newlora": True})


def test_parameters_of_absent_methods_change_nothing_and_are_kept():
    assert LoraConfig(qalora_group_size=32).to_dict()["qalora_group_size"] == 32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "holds a list"),
        (b"{}", "peft_type None is not known"),
        (b'{"peft_type": "HRA"}', "peft_type 'HRA' is not known; known: ADALORA, BOFT"),
        (b'{"peft_type": "LORA", "use_qalora": true}', "here: not in this release: use_qalora=True"),
        (b'{"peft_type": "LORA", "r": "8"}', "here: r='8'"),
        (b"\xff", "is not JSON"),
    ],
)
def test_a_damaged_or_foreign_file_is_an_adapter_error(content, message):
    with pytest.raises(AdapterError, match=message):
        parse_config(content, "here")


def test_the_base_class_reads_the_class_the_file_names(tmp_path):
    LoraConfig(r=3).save_pretrained(tmp_path / "new")
    config = PeftConfig.from_pretrained(tmp_path / "new")
    assert isinstance(config, LoraConfig)
    assert config.r == 3


def test_a_folder_without_a_config_is_named(tmp_path):
    with pytest.raises(AdapterError, match=r"no adapter_config.json in .*save_pretrained"):
        PeftConfig.from_pretrained(tmp_path)


def test_every_reserved_field_is_refused_when_it_is_set():
    inherited = {f.name for f in dataclasses.fields(TargetedConfig)}
    reserved = {f.name for f in dataclasses.fields(ReservedFields)} - inherited
    for name in reserved - {"megatron_core", "qalora_group_size"}:
        with pytest.raises(ConfigError, match=name):
            LoraConfig(**{name: "something"})
