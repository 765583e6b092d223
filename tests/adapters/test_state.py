"""Adapters out of one model and into another as mappings of tensors, for every method."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from stack_platform.adapters import (
    AdaLoraConfig,
    BOFTConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TrainableTokensConfig,
    VeraConfig,
    XLoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from stack_platform.errors import AdapterError

CAUSAL = {"task_type": "CAUSAL_LM"}
TARGETS = CAUSAL | {"target_modules": ["q_proj", "down_proj"]}
PROMPT = CAUSAL | {"num_virtual_tokens": 3}
CONFIGS = {
    "lora": LoraConfig(r=2, **TARGETS),
    "dora": LoraConfig(r=2, use_dora=True, **TARGETS),
    "modules to save": LoraConfig(r=2, modules_to_save=["lm_head"], **TARGETS),
    "tokens beside lora": LoraConfig(r=2, trainable_token_indices=[1, 3], **TARGETS),
    "embedding": LoraConfig(r=2, target_modules=["embed_tokens"], **CAUSAL),
    "adalora": AdaLoraConfig(init_r=3, target_r=1, total_step=4, **TARGETS),
    "loha": LoHaConfig(r=2, **TARGETS),
    "lokr": LoKrConfig(r=2, **TARGETS),
    "vera": VeraConfig(r=4, **TARGETS),
    "vera of a file without projections": VeraConfig(r=4, save_projection=False, **TARGETS),
    "ia3": IA3Config(feedforward_modules=["down_proj"], **TARGETS),
    "oft": OFTConfig(oft_block_size=4, **TARGETS),
    "boft": BOFTConfig(boft_block_size=4, **TARGETS),
    "tokens": TrainableTokensConfig(token_indices=[1, 3], **CAUSAL),
    "prompt": PromptTuningConfig(**PROMPT),
    "p-tuning": PromptEncoderConfig(**PROMPT),
    "prefix": PrefixTuningConfig(**PROMPT),
    "projected prefix": PrefixTuningConfig(prefix_projection=True, **PROMPT),
}


def perturbed(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def state_of(model, name="default"):
    return {key: t.clone() for key, t in get_peft_model_state_dict(model, adapter_name=name).items()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("tied", [False, True])
def test_what_comes_out_of_one_model_goes_into_another(llama, ids, name, tied):
    model = perturbed(get_peft_model(llama(tie_word_embeddings=tied), CONFIGS[name]))
    other = get_peft_model(llama(tie_word_embeddings=tied), CONFIGS[name]).eval()
    trained = sum(p.requires_grad for p in other.parameters())
    expected, before = model(ids).logits, other(ids).logits
    assert not torch.allclose(before, expected, atol=1e-4)
    result = set_peft_model_state_dict(other, state_of(model))
    assert result.missing_keys == result.unexpected_keys == []
    torch.testing.assert_close(other(ids).logits, expected)
    again = state_of(other)
    assert again.keys() == state_of(model).keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in state_of(model).items())
    assert 0 < sum(p.requires_grad for p in other.parameters()) <= trained


def test_a_prompts_network_becomes_the_values_which_train(llama, ids):
    model = perturbed(get_peft_model(llama(), CONFIGS["p-tuning"]))
    other = get_peft_model(llama(), CONFIGS["p-tuning"]).train()
    set_peft_model_state_dict(other, state_of(model))
    other(input_ids=ids, labels=ids).loss.backward()
    (parameter,) = (p for p in other.parameters() if p.requires_grad)
    assert parameter.shape == (3, 8)
    assert parameter.grad.abs().sum() > 0


def test_a_classifier_of_texts_with_a_prompt_goes_with_its_head(ids):
    def build():
        torch.manual_seed(0)
        sizes = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
        config = LlamaConfig(**sizes, num_attention_heads=2, pad_token_id=0)
        settings = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
        return get_peft_model(LlamaForSequenceClassification(config), settings).eval()

    model, other = perturbed(build()), build()
    assert "base_model.score.weight" in state_of(model)
    set_peft_model_state_dict(other, state_of(model))
    torch.testing.assert_close(other(input_ids=ids).logits, model(input_ids=ids).logits)


def test_the_classifier_of_x_lora_and_each_of_its_adapters(llama, ids, tmp_path):
    for number in range(2):
        torch.manual_seed(number)
        config = LoraConfig(r=2, init_lora_weights=False, **TARGETS)
        get_peft_model(llama(), config).save_pretrained(tmp_path / str(number))
    folders = {str(n): str(tmp_path / str(n)) for n in range(2)}

    def build(seed):
        base = llama(use_cache=False)
        torch.manual_seed(seed)
        settings = {"xlora_depth": 2, "xlora_size": 6, "xlora_dropout_p": 0.0}
        return get_peft_model(base, XLoraConfig(adapters=folders, **settings, **CAUSAL)).eval()

    model, other = build(1), build(2)
    assert not torch.allclose(other(ids).logits, model(ids).logits)
    set_peft_model_state_dict(other, state_of(model))
    assert torch.equal(other(ids).logits, model(ids).logits)
    changed = {key: tensor * 2 for key, tensor in state_of(model, "1").items()}
    set_peft_model_state_dict(other, changed, "1")
    assert not torch.allclose(other(ids).logits, model(ids).logits)


def test_what_pruning_left_of_adalora_is_what_is_set(llama, ids):
    def pruned():
        torch.manual_seed(1)
        model = get_peft_model(llama(), CONFIGS["adalora"])
        for step in range(1, 6):
            model(input_ids=ids, labels=ids).loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.1 * parameter.grad)
            model.base_model.update_and_allocate(step)
            model.zero_grad()
        return model.eval()

    model, other = pruned(), pruned()
    assert any(not all(kept) for kept in model.peft_config["default"].rank_pattern.values())
    state = {key: tensor * 1.5 for key, tensor in state_of(model).items()}
    set_peft_model_state_dict(other, state)
    again = state_of(other)
    assert all(torch.equal(again[key], tensor) for key, tensor in state.items())
    assert not torch.allclose(other(ids).logits, model(ids).logits)


def test_what_does_not_fit_is_named_and_changes_nothing(llama):
    model = get_peft_model(llama(), CONFIGS["lora"])
    before = state_of(model)
    first, *_ = before
    for state, message in (
        ({k: t for k, t in before.items() if k != first}, "1 of 8 tensors are missing"),
        (before | {"more": torch.zeros(1)}, r"1 tensors have no place in the model \(more\)"),
        (before | {first: torch.zeros(3, 3)}, r"has shape \[3, 3\]"),
    ):
        with pytest.raises(AdapterError, match=message):
            set_peft_model_state_dict(model, {key: tensor + 1 for key, tensor in state.items()})
    assert all(torch.equal(tensor, before[key]) for key, tensor in state_of(model).items())


def test_another_shape_is_left_out_where_asked_for(llama):
    model = get_peft_model(llama(), CONFIGS["lora"])
    before = state_of(model)
    first, second, *_ = before
    state = {key: tensor + 1 for key, tensor in before.items()} | {first: torch.zeros(3, 3)}
    with pytest.warns(UserWarning, match="1 tensors have another shape"):
        set_peft_model_state_dict(model, state, ignore_mismatched_sizes=True)
    after = state_of(model)
    assert torch.equal(after[first], before[first])
    assert torch.equal(after[second], before[second] + 1)


def test_a_merged_adapter_takes_no_new_values(llama):
    model = get_peft_model(llama(), CONFIGS["lora"])
    state = state_of(model)
    model.merge_adapter()
    with pytest.raises(AdapterError, match="is merged; call unmerge_adapter first"):
        set_peft_model_state_dict(model, state)


def test_gathered_values_are_taken_for_prompts_too_and_a_lack_is_named(llama):
    for name in ("p-tuning", "prompt", "modules to save"):
        model = perturbed(get_peft_model(llama(), CONFIGS[name]))
        gathered = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        expected = state_of(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        found = get_peft_model_state_dict(model, gathered)
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
        with pytest.raises(AdapterError, match="state_dict lacks '"):
            get_peft_model_state_dict(model, {})


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in CONFIGS if "prefix" not in name and name != "p-tuning"])
def test_a_mapping_goes_to_peft_and_back(llama, ids, name):
    peft = pytest.importorskip("peft")
    fields = {k: v for k, v in CONFIGS[name].to_dict().items() if k not in ("peft_type", "peft_version")}
    build = getattr(peft, type(CONFIGS[name]).__name__)
    theirs = peft.get_peft_model(llama(), build(**fields)).eval()
    ours = perturbed(get_peft_model(llama(), CONFIGS[name]))
    state = state_of(ours)
    result = peft.set_peft_model_state_dict(theirs, dict(state))
    assert set(result.unexpected_keys) <= {"prompt_embeddings"}  # PEFT takes it, and lists it
    torch.testing.assert_close(theirs(input_ids=ids).logits, ours(ids).logits)
    back = peft.get_peft_model_state_dict(theirs)
    assert set_peft_model_state_dict(get_peft_model(llama(), CONFIGS[name]), back).unexpected_keys == []
