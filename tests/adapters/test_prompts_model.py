"""Prompts on a model: switching, disabling, beside other adapters, saving and strict loading."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForSequenceClassification

from stack_platform.adapters import (
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from stack_platform.errors import AdapterError

CONFIGS = {
    "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "ptuning": PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    "lstm": PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=2,
        encoder_reparameterization_type="LSTM",
        encoder_dropout=0.5,
    ),
    "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "projected": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, prefix_projection=True),
}


@pytest.fixture(params=list(CONFIGS))
def config(request):
    return CONFIGS[request.param]


def last(peft, ids):
    return peft(input_ids=ids).logits[:, -1]


@torch.no_grad()
def test_prompts_are_switched_and_disabled(llama, ids):
    model = llama()
    plain = model(input_ids=ids).logits[:, -1]
    torch.manual_seed(0)
    peft = get_peft_model(model, CONFIGS["prompt"], "prompt").eval()
    for name in ("ptuning", "prefix"):
        peft.add_adapter(name, CONFIGS[name])
    peft.eval()
    outputs = {}
    for name in ("prompt", "ptuning", "prefix"):
        peft.set_adapter(name)
        outputs[name] = last(peft, ids)
        with peft.disable_adapter():
            assert torch.equal(last(peft, ids), plain)
            assert torch.equal(peft.generate(ids, max_new_tokens=2), model.generate(ids, max_new_tokens=2))
        assert torch.equal(last(peft, ids), outputs[name])
    assert not torch.allclose(outputs["prompt"], outputs["prefix"])
    peft.set_adapter("prompt")
    assert torch.equal(last(peft, ids), outputs["prompt"])
    peft.delete_adapter("prompt")
    assert torch.equal(last(peft, ids), outputs["ptuning"])


def test_only_the_active_prompt_trains(llama):
    peft = get_peft_model(llama(), CONFIGS["prompt"], "a")
    peft.add_adapter("b", CONFIGS["prefix"])
    assert {name.split(".")[1] for name, p in peft.named_parameters() if p.requires_grad} == {"a"}
    peft.set_adapter("b")
    assert {name.split(".")[1] for name, p in peft.named_parameters() if p.requires_grad} == {"b"}


def test_two_prompts_cannot_act_at_once(llama):
    peft = get_peft_model(llama(), CONFIGS["prompt"], "a")
    peft.add_adapter("b", CONFIGS["prefix"])
    with pytest.raises(AdapterError, match="adapters a, b each bring a prompt"):
        peft.set_adapter(["a", "b"])


@torch.no_grad()
def test_a_prompt_and_lora_act_together(llama, ids):
    torch.manual_seed(0)
    peft = get_peft_model(
        llama(), LoraConfig(target_modules=["q_proj"], init_lora_weights=False), "lora"
    ).eval()
    peft.add_adapter("prompt", CONFIGS["prompt"])
    only = last(peft, ids)
    peft.set_adapter(["lora", "prompt"])
    both = last(peft, ids)
    peft.set_adapter("prompt")
    assert not torch.allclose(both, only)
    assert not torch.allclose(both, last(peft, ids))


def test_a_few_steps_lower_the_loss(llama, ids, config):
    torch.manual_seed(0)
    peft = get_peft_model(llama(), config).train()
    optimizer = torch.optim.Adam([p for p in peft.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(8):
        loss = peft(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_saved_and_loaded_it_is_the_same(llama, ids, config, tmp_path):
    torch.manual_seed(0)
    peft = get_peft_model(llama(), config)
    peft.train().save_pretrained(tmp_path)  # in training mode dropout must not reach the file
    peft.eval()
    again = PeftModel.from_pretrained(llama(), tmp_path)
    torch.testing.assert_close(last(again, ids), last(peft, ids))
    first = (tmp_path / "adapter_model.safetensors").read_bytes()
    peft.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == first
    assert not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_a_prompt_of_its_own_parameters_goes_on_training(llama, name, tmp_path):
    get_peft_model(llama(), CONFIGS[name]).save_pretrained(tmp_path)
    peft = PeftModel.from_pretrained(llama(), tmp_path, is_trainable=True)
    assert [n for n, p in peft.named_parameters() if p.requires_grad] == [
        "prompt_encoder.default.embedding.weight"
    ]


@pytest.mark.parametrize("name", ["ptuning", "projected"])
def test_a_prompt_without_its_network_cannot_go_on_training(llama, name, tmp_path):
    get_peft_model(llama(), CONFIGS[name]).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="is_trainable=True: the network of this P"):
        PeftModel.from_pretrained(llama(), tmp_path, is_trainable=True)


def test_a_classifier_saves_its_head_in_pefts_place(tmp_path, ids):
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    settings = LlamaConfig(vocab_size=32, **sizes, pad_token_id=0)
    torch.manual_seed(0)
    config = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
    peft = get_peft_model(LlamaForSequenceClassification(settings), config).eval()
    assert sum(p.requires_grad for p in peft.parameters()) == 2
    peft.save_pretrained(tmp_path)
    assert sorted(load_file(tmp_path / "adapter_model.safetensors")) == [
        "base_model.score.weight",
        "prompt_embeddings",
    ]
    torch.manual_seed(0)
    again = PeftModel.from_pretrained(LlamaForSequenceClassification(settings), tmp_path)
    torch.testing.assert_close(again(input_ids=ids).logits, peft(input_ids=ids).logits)


def _without(tensors):
    tensors.pop("prompt_embeddings")
    tensors["other"] = torch.ones(1)


def _short(tensors):
    tensors["prompt_embeddings"] = tensors["prompt_embeddings"][:1].clone()


def _more(tensors):
    tensors["base_model.score.weight"] = torch.ones(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without, r"prompt_embeddings\)"),
        (_short, r"prompt_embeddings has shape \[1, 8\], the model and configuration need \[3, 8\]"),
        (_more, r"base_model\.score\.weight"),
    ],
)
def test_a_file_that_is_not_this_prompts_is_refused(llama, tmp_path, change, message):
    get_peft_model(llama(), CONFIGS["prompt"]).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(AdapterError, match=message):
        PeftModel.from_pretrained(llama(), tmp_path)


def test_an_unknown_field_that_is_set_is_refused(llama, tmp_path):
    get_peft_model(llama(), CONFIGS["prompt"]).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_ranks": 3}))
    with pytest.raises(AdapterError, match="num_ranks=3"):
        PeftModel.from_pretrained(llama(), tmp_path)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_both_read_the_files_of_both(llama, ids, config, tmp_path):
    peer = pytest.importorskip("peft")
    torch.manual_seed(0)
    get_peft_model(llama(), config).save_pretrained(tmp_path / "ours")
    torch.manual_seed(0)
    name = type(config).__name__
    settings = {"task_type": "CAUSAL_LM", "num_virtual_tokens": config.num_virtual_tokens}
    for field in ("prefix_projection", "encoder_reparameterization_type", "encoder_dropout"):
        if getattr(config, field, None):
            settings[field] = getattr(config, field)
    theirs = peer.get_peft_model(llama(), getattr(peer, name)(**settings)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        ours = PeftModel.from_pretrained(llama(), tmp_path / folder)
        peers = peer.PeftModel.from_pretrained(llama(), tmp_path / folder)
        torch.testing.assert_close(last(ours, ids), last(peers, ids))
    texts = [(tmp_path / folder / "adapter_config.json").read_bytes() for folder in ("ours", "theirs")]
    assert json.loads(texts[0]) == json.loads(texts[1])
