"""The same seeds in PEFT: the same parameters, outputs, gradients and generated tokens."""

import copy

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from stack_platform.adapters.configs import prompts
from stack_platform.adapters.prompts.encoders import build_encoder
from stack_platform.adapters.prompts.forward import forward_with_prompt
from stack_platform.adapters.prompts.generation import generate_with_prompt
from stack_platform.adapters.prompts.sizes import complete

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

SMALL = {
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
LLAMA = LlamaConfig(**SMALL, num_key_value_heads=1, initializer_range=0.3, pad_token_id=0)
MODELS = {
    "llama": (LlamaForCausalLM, LLAMA, "CAUSAL_LM"),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=32, n_embd=8, n_layer=2, n_head=2), "CAUSAL_LM"),
    "t5": (
        T5ForConditionalGeneration,
        T5Config(
            vocab_size=32, d_model=8, d_kv=4, d_ff=16, num_layers=3, num_heads=2, decoder_start_token_id=0
        ),
        "SEQ_2_SEQ_LM",
    ),
    "bert": (BertForSequenceClassification, BertConfig(**SMALL, initializer_range=0.3), "SEQ_CLS"),
    "classifier": (LlamaForSequenceClassification, LLAMA, "SEQ_CLS"),
}
METHODS = {
    "prompt": ("PromptTuningConfig", {}),
    "sampled": ("PromptTuningConfig", {"prompt_tuning_init": "SAMPLE_VOCAB"}),
    "ptuning": ("PromptEncoderConfig", {"encoder_hidden_size": 6}),
    "lstm": ("PromptEncoderConfig", {"encoder_reparameterization_type": "LSTM", "encoder_num_layers": 1}),
    "prefix": ("PrefixTuningConfig", {}),
    "projected": ("PrefixTuningConfig", {"prefix_projection": True, "encoder_hidden_size": 6}),
}
SIZES = ("num_layers", "token_dim", "num_attention_heads", "num_transformer_submodules")


@pytest.fixture(params=list(METHODS))
def method(request):
    return request.param


def both(model, method):
    peft = pytest.importorskip("peft")
    kind, config, task = MODELS[model]
    torch.manual_seed(0)
    base = kind(config).eval()
    name, settings = METHODS[method]
    torch.manual_seed(1)
    peer = peft.get_peft_model(
        copy.deepcopy(base), getattr(peft, name)(task_type=task, num_virtual_tokens=3, **settings)
    )
    torch.manual_seed(1)
    own = complete(getattr(prompts, name)(task_type=task, num_virtual_tokens=3, **settings), base)
    return peer.eval(), (own, build_encoder(own, base.get_input_embeddings()).eval(), base)


@pytest.mark.parametrize("model", list(MODELS))
def test_a_step_is_pefts(model, method):
    peer, (config, encoder, base) = both(model, method)
    for name in SIZES:
        assert getattr(config, name) == getattr(peer.peft_config["default"], name)
    words = torch.arange(12).reshape(2, 6) + 2
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    labels = torch.tensor([0, 1]) if config.task_type == "SEQ_CLS" else words
    given = {"input_ids": words, "attention_mask": mask, "labels": labels}
    theirs, ours = peer(**given), forward_with_prompt(config, encoder, base, (), given)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.loss, theirs.loss)
    theirs.loss.backward()
    ours.loss.backward()
    own = {name: p.grad for name, p in encoder.named_parameters()}
    their = {name: p.grad for name, p in peer.prompt_encoder["default"].named_parameters()}
    torch.testing.assert_close(own, their, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder().detach(), peer.get_prompt_embedding_to_save("default"))


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("model", ["llama", "gpt2", "t5"])
def test_generated_tokens_are_pefts(model, method, beams):
    peer, (config, encoder, base) = both(model, method)
    words = torch.arange(12).reshape(2, 6) + 3
    given = {
        "input_ids": words,
        "attention_mask": torch.ones_like(words),
        "max_new_tokens": 5,
        "num_beams": beams,
    }
    assert torch.equal(generate_with_prompt(config, encoder, base, (), given), peer.generate(**given))
