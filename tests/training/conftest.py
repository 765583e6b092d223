"""A tiny byte-level model in transformers' layout, made here: no download, no file of another machine."""

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from stack_platform.training.models import BaseModel, resolve_base_model

END = "<|end|>"


def byte_tokenizer():
    """Make a tokenizer of one token a byte, a merge, and an end token whose id is 0."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate([END, *alphabet, "re"])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[("r", "e")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=END)


def tiny_config(**changes):
    """Describe a llama of two layers; large initial weights, so that frozen ones can express something."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 264}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return transformers.LlamaConfig(**{**sizes, **heads, **ends, "initializer_range": 0.3, **changes})


def tiny_model(seed=0, **changes):
    """Make a model of `tiny_config` from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(tiny_config(**changes)).eval()


def save_base(folder, seed=0, dtype=torch.float32, **changes):
    """Write model and tokenizer and resolve them."""
    tiny_model(seed, **changes).to(dtype).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return resolve_base_model(str(folder), folder / "unused")


@pytest.fixture(scope="session")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture(scope="session")
def make_base():
    return save_base


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> BaseModel:
    return save_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def texts():
    """Files that are easy to learn from: one statement in many sizes."""
    body = "def add_{0}(value):\n    return value + {0}\n"
    return [(f"file {i}", "".join(body.format(i % 7) for _ in range(1 + i % 4))) for i in range(200)]
