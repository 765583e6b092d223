"""Models and adapters on the meta device: shapes first, values later."""

import pytest
import torch
from torch import nn

from stack_platform.adapters import (
    AdaLoraConfig,
    BOFTConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    initialize_lora_eva_weights,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from stack_platform.errors import AdapterError

TARGETS = {"target_modules": ["q_proj", "o_proj"]}
PLAIN = {"r": 2, "init_lora_weights": False, **TARGETS}
CONFIGS = [
    LoraConfig(**PLAIN),
    LoraConfig(**PLAIN, use_dora=True),
    LoraConfig(r=2, target_modules=["q_proj", "embed_tokens", "lm_head"]),
    LoraConfig(**PLAIN, modules_to_save=["lm_head"]),
    LoraConfig(**PLAIN, trainable_token_indices=[1, 5]),
    LoraConfig(**PLAIN, lora_bias=False, bias="none", task_type="CAUSAL_LM"),
    LoraConfig(r=2, init_lora_weights="orthogonal", **TARGETS),
    LoraConfig(r=2, init_lora_weights="eva", **TARGETS),
    AdaLoraConfig(init_r=2, target_r=1, total_step=10, **TARGETS),
    BOFTConfig(boft_block_size=4, **TARGETS),
    IA3Config(**TARGETS, feedforward_modules=[]),
    LoHaConfig(r=2, **TARGETS),
    LoKrConfig(r=2, **TARGETS),
    OFTConfig(oft_block_size=4, **TARGETS),
    VeraConfig(r=2, **TARGETS),
    VeraConfig(r=2, save_projection=False, **TARGETS),
    PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
]


def on_meta(build, **overrides):
    with torch.device("meta"):
        return build(**overrides)


def devices(model, part=""):
    return {p.device.type for name, p in model.named_parameters() if part in name}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.peft_type}")
@pytest.mark.parametrize("tied", [False, True])
def test_a_model_on_meta_takes_every_method_and_computes_once_its_state_is_assigned(llama, ids, config, tied):
    real = get_peft_model(llama(tie_word_embeddings=tied), config).eval()
    model = get_peft_model(on_meta(llama, tie_word_embeddings=tied), config).eval()
    assert devices(model) == {"meta"}
    assert {n: (p.shape, p.dtype, p.requires_grad) for n, p in model.named_parameters()} == {
        n: (p.shape, p.dtype, p.requires_grad) for n, p in real.named_parameters()
    }
    model.load_state_dict(real.state_dict(), assign=True)
    assert devices(model) == {"cpu"}
    model.get_base_model().model.rotary_emb = real.get_base_model().model.rotary_emb  # no state dict has it
    assert torch.equal(model(ids).logits, real(ids).logits)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, p in real.named_parameters() if p.requires_grad
    }


def test_what_is_shared_stays_shared_when_a_state_is_assigned(llama):
    config = LoraConfig(**PLAIN, trainable_token_indices=[1, 5])
    model = get_peft_model(on_meta(llama, tie_word_embeddings=True), config)
    model.load_state_dict(get_peft_model(llama(tie_word_embeddings=True), config).state_dict(), assign=True)
    base = model.get_base_model()
    assert base.lm_head.weight is base.model.embed_tokens.weight
    embedding, head = (
        base.get_submodule(f"{path}.token_adapter") for path in ("model.embed_tokens", "lm_head")
    )
    rows = embedding.tensors("default")["trainable_tokens_delta"]
    assert rows is head.tensors("default")["trainable_tokens_delta"]
    assert rows.device.type == "cpu"


def test_a_saved_adapter_on_a_model_on_meta_is_checked_but_has_no_values(llama, tmp_path):
    get_peft_model(llama(), LoraConfig(**PLAIN, modules_to_save=["lm_head"])).save_pretrained(tmp_path)
    model = PeftModel.from_pretrained(on_meta(llama), tmp_path)
    assert devices(model) == {"meta"}
    with pytest.raises(AdapterError, match="has shape"):
        PeftModel.from_pretrained(on_meta(llama, hidden_size=16), tmp_path)


@pytest.mark.parametrize("fields", [{}, {"use_dora": True}, {"trainable_token_indices": [3]}])
def test_low_cpu_mem_usage_draws_nothing_and_waits_for_values(llama, ids, fields):
    config = LoraConfig(**PLAIN, **fields)
    source = get_peft_model(llama(), config).eval()
    base, state = llama(), torch.get_rng_state()
    model = get_peft_model(base, config, low_cpu_mem_usage=True).eval()
    assert torch.equal(torch.get_rng_state(), state)
    assert devices(model, "lora_") == {"meta"}
    assert devices(model, "base_layer") == {"cpu"}
    set_peft_model_state_dict(model, get_peft_model_state_dict(source), low_cpu_mem_usage=True)
    assert torch.equal(model(ids).logits, source(ids).logits)
    assert all(p.requires_grad for p in model.base_model.adapter_parameters("default"))


def test_a_second_adapter_and_an_injected_one_can_wait_too(llama, ids):
    config = LoraConfig(**PLAIN)
    source = get_peft_model(llama(), config).eval()
    state = get_peft_model_state_dict(source)
    model = get_peft_model(llama(), config)
    model.add_adapter("b", config, low_cpu_mem_usage=True)
    assert devices(model, ".default.") == {"cpu"}
    assert devices(model, ".b.") == {"meta"}
    set_peft_model_state_dict(model, state, adapter_name="b", low_cpu_mem_usage=True)
    model.set_adapter("b")
    bare = inject_adapter_in_model(config, llama(), low_cpu_mem_usage=True)
    assert devices(bare, "lora_") == {"meta"}
    set_peft_model_state_dict(bare, state, low_cpu_mem_usage=True)
    for other in (model, bare):
        assert torch.equal(other.eval()(ids).logits, source(ids).logits)


def test_values_are_kept_in_the_adapters_format_beside_the_layers_weight(llama):
    state = get_peft_model_state_dict(get_peft_model(llama().double(), LoraConfig(**PLAIN)))
    model = get_peft_model(llama().bfloat16(), LoraConfig(**PLAIN), low_cpu_mem_usage=True)
    set_peft_model_state_dict(model, state, low_cpu_mem_usage=True)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_a_base_that_splits_is_split_also_where_the_adapter_waits(llama, ids):
    config = LoraConfig(r=2, init_lora_weights="pissa", target_modules=["q_proj"])
    source = get_peft_model(llama(), config).eval()
    model = get_peft_model(llama(), config, low_cpu_mem_usage=True).eval()
    set_peft_model_state_dict(model, get_peft_model_state_dict(source), low_cpu_mem_usage=True)
    assert torch.equal(model(ids).logits, source(ids).logits)


@pytest.mark.parametrize("name", ["pissa", "pissa_niter_2", "olora", "loftq"])
def test_a_start_that_splits_the_weight_needs_it(llama, name):
    fields = {"loftq_config": {"loftq_bits": 4}} if name == "loftq" else {}
    config = LoraConfig(r=2, init_lora_weights=name, target_modules=["q_proj"], **fields)
    model = on_meta(llama)
    with pytest.raises(AdapterError, match=f"{name!r} splits the base weight, which is on the meta device"):
        get_peft_model(model, config)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    assert all(p.requires_grad for p in model.parameters())


def test_eva_needs_weights(llama, ids):
    model = get_peft_model(on_meta(llama), LoraConfig(r=2, init_lora_weights="eva", **TARGETS))
    with pytest.raises(AdapterError, match="the model is on the meta device"):
        initialize_lora_eva_weights(model, [{"input_ids": ids}])


def test_eva_fills_an_adapter_that_waits(llama, ids):
    config = LoraConfig(r=2, init_lora_weights="eva", **TARGETS)
    model = get_peft_model(llama(), config, low_cpu_mem_usage=True)
    initialize_lora_eva_weights(model, [{"input_ids": ids}])
    assert devices(model) == {"cpu"}


def test_one_layer_without_any_model_can_be_on_meta():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4, device="meta"), nn.Linear(4, 4)

    model = get_peft_model(Model(), LoraConfig(r=2, target_modules=["first", "second"]))
    assert (devices(model, "first"), devices(model, "second")) == ({"meta"}, {"cpu"})


def test_an_adapter_without_values_is_neither_saved_nor_merged(llama, tmp_path):
    model = get_peft_model(llama(), LoraConfig(**PLAIN), low_cpu_mem_usage=True)
    with pytest.raises(
        AdapterError, match="is on the meta device and has no values; bring them before saving"
    ):
        model.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(
            AdapterError, match=r"adapter 'default' has no values at 'model\.layers\.0\.self_attn\.q_proj'"
        ):
            merge(safe_merge=False)
    assert not model.merged_adapters
