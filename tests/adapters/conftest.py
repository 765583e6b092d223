"""Models of a few hundred parameters, built from a configuration; nothing is downloaded."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM


def build_llama(**overrides):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 32,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
        "tie_word_embeddings": False,
        "initializer_range": 0.3,  # a head of the usual 0.02 would hold every logit near zero
    }
    return LlamaForCausalLM(LlamaConfig(**(sizes | overrides))).eval()


def build_gpt2():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=32,
        n_embd=8,
        n_layer=2,
        n_head=2,
        n_positions=32,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
    )
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def llama():
    return build_llama


@pytest.fixture
def gpt2():
    return build_gpt2


@pytest.fixture(params=["llama", "gpt2"])
def build(request):
    """Linear layers stored [out, in] (Llama) and [in, out] (GPT-2's Conv1D)."""
    return {"llama": build_llama, "gpt2": build_gpt2}[request.param]


@pytest.fixture
def ids():
    return torch.arange(12).reshape(2, 6)
