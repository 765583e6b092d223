"""The files that vLLM is given: read as vLLM reads them, by rank and alpha of the configuration alone."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM

from stack_platform.adapters import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PromptTuningConfig,
    get_peft_model,
)
from stack_platform.adapters.saving.export import export_for_vllm
from stack_platform.errors import AdapterError

FIELDS = {"r": 4, "init_lora_weights": False, "task_type": "CAUSAL_LM", "target_modules": "all-linear"}
MIXED = {"rank_pattern": {".*q_proj": 2, ".*down_proj": 7}, "alpha_pattern": {".*q_proj|.*up_proj": 3}}


def lora(**fields):
    return LoraConfig(**(FIELDS | fields))


def mixtral():
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_local_experts": 3,
        "num_experts_per_tok": 2,
    }
    return MixtralForCausalLM(MixtralConfig(**sizes, **heads, initializer_range=0.3)).eval()


def read(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    return config, load_file(folder / "adapter_model.safetensors")


def differences(model):
    """Return what merging adds to each weight, by path."""
    layers = model.base_model.layers
    before = {path: layer.base_layer.weight.detach().clone() for path, layer in layers.items()}
    model.merge_adapter()
    return {path: layer.base_layer.weight.detach() - before[path] for path, layer in layers.items()}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="plain"),
        pytest.param({"lora_alpha": 5, "use_rslora": True}, id="rslora"),
        pytest.param(MIXED, id="patterns"),
        pytest.param(MIXED | {"use_rslora": True}, id="rslora patterns"),
        pytest.param({"init_lora_weights": "gaussian"}, id="gaussian"),
    ],
)
def test_the_products_of_the_files_factors_are_what_merging_adds(llama, fields, tmp_path):
    model = get_peft_model(llama(), lora(**fields))
    model.save_for_vllm(tmp_path)
    config, tensors = read(tmp_path)
    assert config["r"] == config["lora_alpha"] == (7 if "rank_pattern" in fields else 4)
    plain = ("use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "modules_to_save", "lora_bias")
    assert not any(config[name] for name in plain)
    assert config["init_lora_weights"] is True
    expected = differences(model)
    assert len(tensors) == 2 * len(expected)
    for path, difference in expected.items():
        A, B = (tensors.pop(f"base_model.model.{path}.lora_{m}.weight") for m in "AB")
        assert A.shape[0] == B.shape[1] == config["r"]
        close(B @ A, difference)
    assert not tensors


def test_a_saved_adapter_is_rewritten_without_its_model_to_the_same_bytes(llama, tmp_path):
    model = get_peft_model(llama(), lora(**MIXED))
    model.save_pretrained(tmp_path / "saved")
    model.save_for_vllm(tmp_path / "ours")
    export_for_vllm(tmp_path / "saved", tmp_path / "rewritten")
    export_for_vllm(tmp_path / "rewritten", tmp_path / "twice")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        contents = {(tmp_path / f / name).read_bytes() for f in ("ours", "rewritten", "twice")}
        assert len(contents) == 1


@pytest.mark.parametrize(
    "fields", [MIXED, MIXED | {"use_rslora": True}, {"target_modules": ["embed_tokens"]}]
)
def test_the_export_loads_here_and_gives_the_same_outputs(llama, ids, fields, tmp_path):
    model = get_peft_model(llama(), lora(**fields)).eval()
    model.save_for_vllm(tmp_path)
    again = PeftModel.from_pretrained(llama(), tmp_path).eval()
    close(again(ids).logits, model(ids).logits)


def test_an_adapted_embedding_goes_without_the_embedding(llama, tmp_path):
    model = get_peft_model(llama(), lora(target_modules=["embed_tokens", "q_proj"], lora_alpha=12))
    model.save_pretrained(tmp_path / "saved")
    export_for_vllm(tmp_path / "saved", tmp_path / "served")
    _, saved = read(tmp_path / "saved")
    _, tensors = read(tmp_path / "served")
    assert saved.keys() - tensors.keys() == {"base_model.model.model.embed_tokens.base_layer.weight"}
    prefix = "base_model.model.model.embed_tokens.lora_embedding_"
    difference = differences(model)["model.embed_tokens"]
    close((tensors[f"{prefix}B"] @ tensors[f"{prefix}A"]).T, difference)


def test_experts_of_two_ranks_get_one_rank_each(tmp_path):
    experts = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    fields = {"target_modules": ["q_proj"], "target_parameters": experts}
    patterns = {"rank_pattern": {".*gate_up_proj": 2}, "alpha_pattern": {".*down_proj": 3}}
    model = get_peft_model(mixtral(), lora(**fields, **patterns))
    model.save_for_vllm(tmp_path)
    _, tensors = read(tmp_path)
    base = model.get_base_model()
    owners = {"gate_up_proj": "experts.base_layer", "down_proj": "experts"}
    before = {
        name: p.detach().clone()
        for name, p in base.named_parameters()
        if ".experts." in name and "lora" not in name
    }
    merged = model.merge_and_unload()
    for name, parameter in merged.named_parameters():
        if ".experts." not in name:
            continue
        module, _, kind = name.rpartition(".")
        key = f"base_model.model.{module.removesuffix('experts')}{owners[kind]}"
        A, B = (tensors[f"{key}.lora_{m}.weight"] for m in "AB")
        A, B = A.reshape(3, 4, -1), B.reshape(B.shape[0], 4, 3)
        old = next(p for n, p in before.items() if n.replace("base_layer.", "") == name)
        close(torch.einsum("orx,xri->xoi", B, A), parameter - old)


def test_a_head_of_a_classifier_goes_along(tmp_path):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    sizes = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    base = LlamaForSequenceClassification(LlamaConfig(**sizes, num_attention_heads=2, pad_token_id=0))
    model = get_peft_model(base, lora(task_type="SEQ_CLS", target_modules=["q_proj"]))
    model.save_for_vllm(tmp_path)
    _, tensors = read(tmp_path)
    head = model.base_model.saved["score"].modules_to_save["default"]
    assert torch.equal(tensors["base_model.model.score.weight"], head.weight)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lora(use_dora=True), "does not take use_dora=True; merge_and_unload it"),
        (lora(lora_bias=True), "lora_bias=True"),
        (lora(modules_to_save=["lm_head"]), r"modules_to_save=\['lm_head'\]"),
        (lora(trainable_token_indices=[1, 2]), r"trainable_token_indices=\(1, 2\)"),
        (lora(init_lora_weights="pissa"), "'pissa', which changes the base model"),
        (lora(use_dora=True, modules_to_save=["norm"]), r"use_dora=True, modules_to_save=\['norm'\]"),
        (IA3Config(task_type="CAUSAL_LM"), "takes LoRA adapters, and this is IA3"),
        (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "this is PROMPT_TUNING"),
        (lora(rank_pattern={"q_proj": 513}), "rank 513 is above 512"),
    ],
)
def test_what_vllm_lacks_is_refused_by_name_and_nothing_is_written(llama, config, message, tmp_path):
    model = get_peft_model(llama(), config)
    with pytest.raises(AdapterError, match=message):
        model.save_for_vllm(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_one_parameter_of_experts_alone_is_refused(tmp_path):
    experts = ["mlp.experts.down_proj"]
    model = get_peft_model(mixtral(), lora(target_modules=["q_proj"], target_parameters=experts))
    with pytest.raises(AdapterError, match=r"takes gate_up_proj and down_proj of .*experts' together"):
        model.save_for_vllm(tmp_path)


def test_a_convolution_is_refused(tmp_path):
    base = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"]))
    with pytest.raises(AdapterError, match="adapts no convolution, and '0' is one"):
        model.save_for_vllm(tmp_path)


def test_an_unknown_adapter_is_named(llama, tmp_path):
    with pytest.raises(AdapterError, match="no adapter 'other'"):
        get_peft_model(llama(), lora()).save_for_vllm(tmp_path, "other")
