"""Modules that train in full, and rows of embeddings, beside the adapters."""

import pytest
import torch

from stack_platform.adapters import LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model
from stack_platform.errors import AdapterError


def lora(**fields):
    return LoraConfig(**({"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | fields))


def shake(model):
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def test_a_module_to_save_trains_is_saved_switched_and_merged(llama, ids, tmp_path):
    base = llama()(ids).logits
    model = shake(get_peft_model(llama(), lora(modules_to_save=["lm_head"])))
    trained = model(ids).logits
    model.save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(llama(), tmp_path).eval()(ids).logits, trained)
    with model.disable_adapter():
        assert torch.equal(model(ids).logits, base)
    model.add_adapter("plain", lora())
    model.set_adapter("plain")
    assert torch.equal(model(ids).logits, base)
    model.set_adapter("default")
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(ids).logits, trained, rtol=1e-5, atol=1e-5)
    assert merged.state_dict().keys() == llama().state_dict().keys()


def test_deleting_the_last_adapter_puts_the_module_back(llama, ids):
    model = shake(get_peft_model(llama(), lora(modules_to_save=["lm_head", "embed_tokens"])))
    model.delete_adapter("default")
    assert model.get_base_model().state_dict().keys() == llama().state_dict().keys()
    assert torch.equal(model(ids).logits, llama()(ids).logits)


def test_unloading_gives_the_original_module_back(llama, ids):
    model = shake(get_peft_model(llama(), lora(modules_to_save=["lm_head"])))
    assert torch.equal(model.unload()(ids).logits, llama()(ids).logits)


def test_a_name_without_module_or_with_two_roles_is_refused(llama):
    with pytest.raises(
        AdapterError, match="modules_to_save: 'lm_haed' matches no module; nearest: 'lm_head'"
    ):
        get_peft_model(llama(), lora(modules_to_save=["lm_haed"]))
    with pytest.raises(AdapterError, match="'lm_head' is in target_modules and in modules_to_save"):
        get_peft_model(llama(), lora(target_modules=["lm_head"], modules_to_save=["lm_head"]))


def test_two_active_adapters_cannot_both_replace_a_module(llama, ids):
    model = get_peft_model(llama(), lora(modules_to_save=["lm_head"]))
    model.add_adapter("b", lora(modules_to_save=["lm_head"]))
    before = model(ids).logits
    with pytest.raises(AdapterError, match="default, b each replace the same module"):
        model.set_adapter(["default", "b"])
    assert model.active_adapters == ["default"]
    assert torch.equal(model(ids).logits, before)


def test_a_second_adapter_cannot_train_the_base_models_biases_too(gpt2):
    fields = {"r": 2, "target_modules": ["c_attn"], "bias": "all"}
    model = get_peft_model(gpt2(), LoraConfig(**fields))
    model.add_adapter("plain", LoraConfig(r=2, target_modules=["c_attn"]))
    with pytest.raises(AdapterError, match="'default' trains biases of the base model already"):
        model.add_adapter("b", LoraConfig(**fields))
    assert list(model.peft_config) == ["default", "plain"]


def test_rows_of_a_batch_cannot_share_a_module_that_returns_several_tensors():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.gru = torch.nn.Linear(4, 4), torch.nn.GRU(4, 4, batch_first=True)

        def forward(self, x):
            return self.gru(self.lin(x))[0]

    model = get_peft_model(Model(), LoraConfig(target_modules=["lin"], modules_to_save=["gru"])).eval()
    with pytest.raises(AdapterError, match="a GRU returns more than one tensor"):
        model(torch.ones(2, 3, 4), adapter_names=["default", "__base__"])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_only_the_named_rows_train(llama, ids, tied, alone, tmp_path):
    config = (
        TrainableTokensConfig(token_indices=[1, 3], task_type="CAUSAL_LM")
        if alone
        else lora(trainable_token_indices=[1, 3])
    )
    model = get_peft_model(llama(tie_word_embeddings=tied), config)
    rows = sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and "tokens" in n)
    assert rows == 2 * 8
    shake(model)
    embedding = model.get_input_embeddings()
    changed = (embedding(torch.arange(32)) != llama(tie_word_embeddings=tied).model.embed_tokens.weight).any(
        dim=1
    )
    assert changed.nonzero().flatten().tolist() == [1, 3]
    expected = model(ids).logits
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(llama(tie_word_embeddings=tied), tmp_path).eval()
    torch.testing.assert_close(again(ids).logits, expected)
    with model.disable_adapter():
        torch.testing.assert_close(model(ids).logits, llama(tie_word_embeddings=tied)(ids).logits)
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-5, atol=1e-5)
    assert merged.state_dict().keys() == llama(tie_word_embeddings=tied).state_dict().keys()


def test_a_head_tied_to_trained_rows_stays_tied_when_they_are_merged(llama, ids, tmp_path):
    model = shake(get_peft_model(llama(tie_word_embeddings=True), TrainableTokensConfig(token_indices=[1])))
    expected = model(ids).logits
    merged = model.merge_and_unload()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert merged.config.tie_word_embeddings
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(type(merged).from_pretrained(tmp_path).eval()(ids).logits, expected)


def test_biases_train_and_are_saved(gpt2, ids, tmp_path):
    model = get_peft_model(
        gpt2(), LoraConfig(r=2, bias="all", target_modules=["c_attn"], fan_in_fan_out=True)
    )
    trained = {n for n, p in model.named_parameters() if p.requires_grad and "lora" not in n}
    assert trained
    assert all(name.endswith(".bias") for name in trained)
    shake(model).save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(gpt2(), tmp_path).eval()(ids).logits, model(ids).logits)
    with pytest.raises(AdapterError, match="no layer it names has a bias"):
        get_peft_model(
            torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)),
            LoraConfig(target_modules=["0"], bias="all"),
        )


def test_a_task_with_a_head_trains_it(llama):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    sizes = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    base = LlamaForSequenceClassification(LlamaConfig(**sizes, num_attention_heads=2))
    model = get_peft_model(base, LoraConfig(r=2, task_type="SEQ_CLS"))
    assert any("score.modules_to_save.default" in n for n, p in model.named_parameters() if p.requires_grad)
    with pytest.raises(AdapterError, match="trains a head called classifier or score, which the model lacks"):
        get_peft_model(llama(), LoraConfig(r=2, task_type="SEQ_CLS"))


def test_two_active_adapters_cannot_both_replace_a_row(llama):
    model = get_peft_model(llama(), lora(trainable_token_indices=[0, 1, 2]))
    model.add_adapter("other", lora(trainable_token_indices=[3]))
    model.add_adapter("overlapping", lora(trainable_token_indices=[2, 3]))
    model.set_adapter(["default", "other"])
    with pytest.raises(AdapterError, match="default, overlapping each replace row 2"):
        model.set_adapter(["default", "overlapping"])
    assert model.active_adapters == ["default", "other"]
    model.merge_adapter(["default"])
    with pytest.raises(AdapterError, match="default, overlapping each replace row 2"):
        model.merge_adapter(["overlapping"])
    assert model.merged_adapters == ["default"]


def test_an_embedding_trains_in_full_or_by_rows(llama):
    with pytest.raises(
        AdapterError, match=r"'model.embed_tokens' is in modules_to_save and in trainable_token"
    ):
        get_peft_model(llama(), lora(modules_to_save=["embed_tokens"], trainable_token_indices=[1]))


def test_rows_of_their_own_untie_a_head(llama, ids, tmp_path):
    rows = {"embed_tokens": [1, 3], "lm_head": [2]}
    model = get_peft_model(llama(tie_word_embeddings=True), lora(trainable_token_indices=rows))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "trainable_tokens" in name:
                parameter.add_(1.0)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if "trainable_tokens" in name}
    assert sorted(shape[0] for shape in shapes.values()) == [1, 2]
    expected = model(ids).logits
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(llama(tie_word_embeddings=True), tmp_path)
    assert torch.equal(again(ids).logits, expected)
    torch.testing.assert_close(again.merge_and_unload()(ids).logits, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(AdapterError, match=r"names other rows for 'lm_head' than for 'model.embed_tokens'"):
        get_peft_model(
            llama(tie_word_embeddings=True), lora(trainable_token_indices=rows, ensure_weight_tying=True)
        )


def test_tying_of_whole_modules_is_refused_where_it_would_be_lost(llama):
    with pytest.raises(AdapterError, match=r"not all of 'model.embed_tokens'"):
        get_peft_model(
            llama(tie_word_embeddings=True), lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True)
        )
    with pytest.warns(UserWarning, match="the model does not tie its weights"):
        get_peft_model(llama(), lora(trainable_token_indices=[1], ensure_weight_tying=True))
