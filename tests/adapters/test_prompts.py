"""Virtual tokens on models of every task; PEFT's numbers are compared in test_prompts_peft.py."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    GPTBigCodeConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    OPTConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from stack_platform.adapters.configs.prompts import (
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
)
from stack_platform.adapters.prompts.encoders import build_encoder, prompt_shape
from stack_platform.adapters.prompts.forward import forward_with_prompt
from stack_platform.adapters.prompts.generation import generate_with_prompt
from stack_platform.adapters.prompts.sizes import complete, kept_shapes
from stack_platform.errors import AdapterError, ConfigError

SMALL = {
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
METHODS = {
    "prompt": (PromptTuningConfig, {}),
    "ptuning": (PromptEncoderConfig, {}),
    "lstm": (PromptEncoderConfig, {"encoder_reparameterization_type": "LSTM"}),
    "prefix": (PrefixTuningConfig, {}),
    "projected": (PrefixTuningConfig, {"prefix_projection": True}),
}
TOKENS = 3


def adapter(model, method, task="CAUSAL_LM", **settings):
    kind, more = METHODS[method]
    config = complete(kind(task_type=task, num_virtual_tokens=TOKENS, **more, **settings), model)
    torch.manual_seed(1)
    return config, build_encoder(config, model.get_input_embeddings())


def t5(**sizes):
    torch.manual_seed(0)
    settings = {
        "vocab_size": 32,
        "d_model": 8,
        "d_kv": 4,
        "d_ff": 16,
        "num_layers": 2,
        "num_heads": 2,
    } | sizes
    return T5ForConditionalGeneration(T5Config(**settings, decoder_start_token_id=0)).eval()


def bart():
    torch.manual_seed(0)
    sizes = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in
             (("layers", 2), ("attention_heads", 2), ("ffn_dim", 16))}  # fmt: skip
    config = BartConfig(vocab_size=32, d_model=8, max_position_embeddings=64, init_std=0.3, **sizes)
    return BartForConditionalGeneration(config).eval()


def bert():
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SMALL, initializer_range=0.3)).eval()


def classifier():
    torch.manual_seed(0)
    return LlamaForSequenceClassification(LlamaConfig(**SMALL, pad_token_id=0, initializer_range=0.3)).eval()


@pytest.fixture(params=list(METHODS))
def method(request):
    return request.param


@pytest.fixture
def words():
    return torch.arange(12).reshape(2, 6) + 2


def test_logits_grow_with_embeddings_and_not_with_a_prefix(build, method, words):
    model = build()
    config, encoder = adapter(model, method)
    out = forward_with_prompt(config, encoder, model, (words,), {"labels": words})
    longer = 0 if isinstance(config, PrefixTuningConfig) else TOKENS
    assert out.logits.shape == (2, 6 + longer, 32)
    out.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_virtual_tokens_carry_no_loss(llama, words):
    model = llama()
    config, encoder = adapter(model, "prompt")
    out = forward_with_prompt(config, encoder, model, (), {"input_ids": words, "labels": words})
    real = out.logits[:, TOKENS:]
    expected = torch.nn.functional.cross_entropy(real[:, :-1].flatten(0, 1), words[:, 1:].flatten())
    first = torch.nn.functional.cross_entropy(out.logits[:, TOKENS - 1], words[:, 0])
    torch.testing.assert_close(out.loss, (expected * 10 + first * 2) / 12)


def test_embeddings_of_real_tokens_are_those_tokens(llama, words):
    """A prompt made of the embeddings of tokens has the effect of these tokens."""
    model = llama()
    config, encoder = adapter(model, "prompt")
    tokens = torch.tensor([5, 9, 4])
    with torch.no_grad():
        encoder.embedding.weight.copy_(model.get_input_embeddings()(tokens))
    out = forward_with_prompt(config, encoder, model, (), {"input_ids": words})
    plain = model(torch.cat([tokens.expand(2, -1), words], dim=1))
    torch.testing.assert_close(out.logits, plain.logits)
    generated = generate_with_prompt(
        config, encoder, model, (words,), {"max_new_tokens": 5, "do_sample": False}
    )
    expected = model.generate(
        torch.cat([tokens.expand(2, -1), words], dim=1), max_new_tokens=5, do_sample=False
    )
    assert torch.equal(generated, expected[:, TOKENS:])


def test_the_prefix_of_tokens_is_those_tokens(llama, words):
    """A prefix made of the keys and values of tokens has the effect of these tokens."""
    model = llama()
    config, encoder = adapter(model, "prefix")
    tokens = torch.tensor([[5, 9, 4]])
    cache = model(tokens, use_cache=True).past_key_values
    pairs = torch.stack(
        [torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers]
    )  # [L, 2, H, V, K]
    with torch.no_grad():
        encoder.embedding.weight.copy_(pairs.permute(3, 0, 1, 2, 4).reshape(TOKENS, -1))
    out = forward_with_prompt(config, encoder, model, (), {"input_ids": words})
    plain = model(torch.cat([tokens.expand(2, -1), words], dim=1))
    torch.testing.assert_close(out.logits, plain.logits[:, TOKENS:])


def alone_and_padded(model, method, words, beams):
    config, encoder = adapter(model, method)
    settings = {
        "max_new_tokens": 3,
        "do_sample": False,
        "num_beams": beams,
        "pad_token_id": 0,
        "eos_token_id": None,
    }
    mask = torch.ones_like(words)
    mask[0, :2] = 0
    padded = {"input_ids": words * mask, "attention_mask": mask, **settings}
    both = generate_with_prompt(config, encoder, model, (), padded)
    alone = generate_with_prompt(config, encoder, model, (words[:1, 2:],), settings)
    return alone[0, 4:], both[0, 6:]


def test_a_padded_row_generates_what_it_does_alone(build, method, words):
    """In PEFT 0.21.2 padding stands between the prompt and the text, and changes the text."""
    alone, padded = alone_and_padded(build(), method, words, 1)
    assert torch.equal(alone, padded)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_so_it_does_with_beams(llama, method, words):
    alone, padded = alone_and_padded(llama(), method, words, 2)
    assert torch.equal(alone, padded)


def test_generation_ends_where_the_forward_does(llama, method, words):
    """Greedy tokens are the largest logits of the forward pass, step by step."""
    model = llama()
    model.generation_config.eos_token_id = None
    config, encoder = adapter(model, method)
    out = generate_with_prompt(config, encoder, model, (words,), {"max_new_tokens": 3, "do_sample": False})
    for length in range(6, out.shape[1]):
        logits = forward_with_prompt(config, encoder, model, (out[:, :length],), {}).logits
        assert torch.equal(logits[:, -1].argmax(-1), out[:, length])


def test_a_configuration_of_generation_may_be_given(llama, words):
    model = llama()
    config, encoder = adapter(model, "prompt")
    settings = GenerationConfig(max_new_tokens=3, num_beams=2, pad_token_id=0, eos_token_id=None)
    assert generate_with_prompt(config, encoder, model, (words, settings), {}).shape == (2, 9)


def test_several_sequences_for_one_row(llama, method, words):
    model = llama()
    config, encoder = adapter(model, method)
    torch.manual_seed(0)
    out = generate_with_prompt(
        config, encoder, model, (words,), {"max_new_tokens": 3, "do_sample": True, "num_return_sequences": 2}
    )
    assert out.shape == (4, 9)


@pytest.mark.parametrize(
    ("model", "method"), [(t5, name) for name in METHODS] + [(bart, "prompt"), (bart, "prefix")]
)
def test_encoder_and_decoder(model, method, words):
    model = model()
    config, encoder = adapter(model, method, "SEQ_2_SEQ_LM")
    given = {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": words}
    out = forward_with_prompt(config, encoder, model, (), given)
    assert out.logits.shape == (2, 6, 32)
    out.loss.backward()
    assert encoder.embedding.weight.grad.any()
    plain = model(**given)
    assert not torch.allclose(out.logits, plain.logits)
    for beams in (1, 2):
        text = generate_with_prompt(
            config, encoder, model, (words,), {"max_new_tokens": 4, "num_beams": beams}
        )
        assert text.shape[0] == 2


def test_a_decoder_deeper_than_its_encoder_has_a_prefix_in_every_layer():
    model = t5(num_layers=1, num_decoder_layers=3)
    config, _ = adapter(model, "prefix", "SEQ_2_SEQ_LM")
    assert config.num_layers == 3


def test_heads_of_another_size_are_seen():
    """PEFT takes d_model / num_heads for the size of T5's heads."""
    config, _ = adapter(t5(d_kv=6), "prefix", "SEQ_2_SEQ_LM")
    assert (config.num_attention_heads, config.token_dim) == (2, 12)


def test_layers_that_slide_keep_their_cache(words):
    torch.manual_seed(0)
    sizes = SMALL | {"num_key_value_heads": 1, "head_dim": 6, "sliding_window": 4}
    kinds = ["sliding_attention", "full_attention"]
    model = Gemma3ForCausalLM(Gemma3TextConfig(**sizes, layer_types=kinds, pad_token_id=0)).eval()
    assert kept_shapes(model) == [(1, 6), (1, 6)]
    config, encoder = adapter(model, "prefix")
    out = generate_with_prompt(config, encoder, model, (words,), {"max_new_tokens": 3, "do_sample": False})
    logits = forward_with_prompt(config, encoder, model, (words,), {}).logits
    assert torch.equal(logits[:, -1].argmax(-1), out[:, 6])


FAMILIES = {
    "one head of keys": GPTBigCodeConfig(
        vocab_size=32, n_embd=16, n_layer=2, n_head=2, multi_query=True, bos_token_id=1, eos_token_id=1
    ),
    "embeddings of another size": OPTConfig(
        vocab_size=32,
        hidden_size=16,
        ffn_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        word_embed_proj_dim=8,
        max_position_embeddings=64,
    ),
}


@pytest.mark.parametrize("method", ["prompt", "prefix"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_families_of_other_shapes(family, method, words):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family]).eval()
    config, encoder = adapter(model, method)
    settings = {"max_new_tokens": 2, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    out = generate_with_prompt(config, encoder, model, (words,), settings)
    for length in (6, 7):
        logits = forward_with_prompt(config, encoder, model, (out[:, :length],), {}).logits
        assert torch.equal(logits[:, -1].argmax(-1), out[:, length])


@pytest.mark.parametrize("model", [bert, classifier])
def test_classifiers(model, method, words):
    model = model()
    config, encoder = adapter(model, method, "SEQ_CLS")
    given = {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": torch.tensor([0, 1])}
    out = forward_with_prompt(config, encoder, model, (), given)
    assert out.logits.shape == (2, 2)
    out.loss.backward()
    assert encoder.embedding.weight.grad.any()


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_labels_of_tokens_and_positions_of_answers_stay_with_their_tokens(method, words):
    """PEFT 0.21.2 counts the positions of an answer from the first virtual token."""
    torch.manual_seed(0)
    sizes = BertConfig(**SMALL, num_labels=2)
    model = BertForTokenClassification(sizes).eval()
    config, encoder = adapter(model, method, "TOKEN_CLS")
    labels = words % 2
    out = forward_with_prompt(config, encoder, model, (words,), {"labels": labels})
    expected = torch.nn.functional.cross_entropy(out.logits[:, -6:].flatten(0, 1), labels.flatten())
    torch.testing.assert_close(out.loss, expected)
    model = BertForQuestionAnswering(sizes).eval()
    config, encoder = adapter(model, method, "QUESTION_ANS")
    places = {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([3, 5])}
    out = forward_with_prompt(config, encoder, model, (words,), places)
    front = out.start_logits.shape[1] - 6
    first = torch.nn.functional.cross_entropy(out.start_logits, places["start_positions"] + front)
    second = torch.nn.functional.cross_entropy(out.end_logits, places["end_positions"] + front)
    torch.testing.assert_close(out.loss, (first + second) / 2)


def test_token_types_are_zero_for_virtual_tokens(words):
    model = bert()
    config, encoder = adapter(model, "prompt", "SEQ_CLS")
    types = torch.zeros_like(words)
    plain = forward_with_prompt(config, encoder, model, (words,), {})
    typed = forward_with_prompt(config, encoder, model, (words,), {"token_type_ids": types})
    torch.testing.assert_close(plain.logits, typed.logits)


def test_a_classifier_of_the_last_token_refuses_padding_at_the_end(words):
    model = classifier()
    config, encoder = adapter(model, "prompt", "SEQ_CLS")
    mask = torch.ones_like(words)
    mask[1, 4:] = 0
    with pytest.raises(AdapterError, match=r"classifies the last token, .*padding_side = 'left'"):
        forward_with_prompt(config, encoder, model, (words,), {"attention_mask": mask})


def test_positions_move_behind_the_virtual_tokens(llama, method, words):
    model = llama()
    config, encoder = adapter(model, method)
    positions = torch.arange(6).expand(2, -1)
    plain = forward_with_prompt(config, encoder, model, (words,), {})
    placed = forward_with_prompt(config, encoder, model, (words,), {"position_ids": positions})
    torch.testing.assert_close(plain.logits, placed.logits)


def test_embeddings_may_be_given_for_tokens(llama, method, words):
    model = llama()
    config, encoder = adapter(model, method)
    plain = forward_with_prompt(config, encoder, model, (words,), {})
    embeds = model.get_input_embeddings()(words)
    torch.testing.assert_close(
        forward_with_prompt(config, encoder, model, (), {"inputs_embeds": embeds}).logits, plain.logits
    )


def test_gradient_checkpointing_changes_no_gradient(llama, method, words):
    """Transformers takes the prefix away under checkpointing, and PEFT refuses it."""
    gradients = []
    for checkpoint in (False, True):
        model = llama().train()
        model.requires_grad_(requires_grad=False)
        config, encoder = adapter(model, method)
        if checkpoint:
            model.activation_checkpointing_enable()
        forward_with_prompt(config, encoder, model, (), {"input_ids": words, "labels": words}).loss.backward()
        gradients.append([p.grad for p in encoder.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert all(module.training for module in model.modules())
    assert not any("_can_checkpoint_with_cache" in vars(module) for module in model.modules())


def test_a_prefix_under_reentrant_checkpointing_is_refused(llama, words):
    model = llama().train()
    config, encoder = adapter(model, "prefix")
    model.activation_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(AdapterError, match="under gradient checkpointing"):
        forward_with_prompt(config, encoder, model, (words,), {})


def test_a_half_precision_model_takes_a_prompt_in_single_precision(llama, method, words):
    model = llama().to(torch.bfloat16)
    config, encoder = adapter(model, method)
    out = forward_with_prompt(config, encoder, model, (words,), {"labels": words})
    assert out.logits.dtype == torch.bfloat16
    out.loss.backward()
    assert encoder.embedding.weight.grad.dtype == torch.float32


def test_looking_at_the_layers_draws_no_random_number(llama):
    model = llama(attention_dropout=0.5).train()
    torch.manual_seed(3)
    complete(PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), model)
    first = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(first, torch.rand(1))


def test_a_prompt_starts_at_tokens_of_the_vocabulary(llama):
    model = llama()
    _, encoder = adapter(model, "prompt", prompt_tuning_init="SAMPLE_VOCAB")
    table = model.get_input_embeddings().weight
    assert all((row == table).all(dim=1).any() for row in encoder.embedding.weight)


@pytest.fixture
def tokenizer(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"<unk>": 0, "write": 7, "code": 9}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>").save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"), [("write code", [7, 9, 7]), ("code code write write", [9, 9, 7])]
)
def test_a_prompt_starts_at_a_text_repeated_or_cut(llama, tokenizer, text, expected):
    model = llama()
    _, encoder = adapter(
        model,
        "prompt",
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text=text,
        tokenizer_name_or_path=tokenizer,
    )
    assert torch.equal(encoder.embedding.weight, model.get_input_embeddings()(torch.tensor(expected)))


def test_a_text_start_that_cannot_be_is_refused(llama, tokenizer):
    text = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "code"}
    with pytest.raises(AdapterError, match="no tokenizer at '/nowhere'"):
        adapter(llama(), "prompt", **text, tokenizer_name_or_path="/nowhere")
    with pytest.raises(AdapterError, match="gives token 9, the model has 8"):
        adapter(llama(vocab_size=8), "prompt", **text, tokenizer_name_or_path=tokenizer)
    with pytest.raises(AdapterError, match="' ' has no tokens"):
        adapter(
            llama(), "prompt", **(text | {"prompt_tuning_init_text": " "}), tokenizer_name_or_path=tokenizer
        )
    with pytest.raises(ConfigError, match="trust_remote_code, which runs code"):
        unsafe = {"trust_remote_code": True}
        adapter(llama(), "prompt", **text, tokenizer_name_or_path=tokenizer, tokenizer_kwargs=unsafe)


def test_a_prefix_may_start_at_zero(llama):
    _, encoder = adapter(llama(), "prefix", init_weights="zero")
    assert not encoder().any()
    _, encoder = adapter(llama(), "projected", init_weights="zero")
    assert not encoder().any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "either input_ids or inputs_embeds"),
        ({"input_ids": torch.ones(1, 2).long(), "inputs_embeds": torch.ones(1, 2, 8)}, "either input_ids or"),
        (
            {"input_ids": torch.ones(1, 2).long(), "attention_mask": torch.ones(1, 1, 2, 2)},
            r"attention_mask is \[1, 1, 2, 2\]; beside a prompt it must be \[rows, tokens\]",
        ),
    ],
)
def test_inputs_that_cannot_stand_behind_a_prompt_are_named(llama, method, kwargs, message):
    model = llama()
    config, encoder = adapter(model, method)
    with pytest.raises(AdapterError, match=message):
        forward_with_prompt(config, encoder, model, (), kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"inputs_embeds": torch.ones(1, 2, 8)}, "give input_ids to generate"),
        (
            {"input_ids": torch.ones(1, 2).long(), "use_cache": False},
            "leave past_key_values and use_cache out",
        ),
    ],
)
def test_generation_that_cannot_be_is_refused(llama, method, kwargs, message):
    model = llama()
    config, encoder = adapter(model, method)
    with pytest.raises(AdapterError, match=message):
        generate_with_prompt(config, encoder, model, (), kwargs)


def test_a_model_without_embeddings_of_tokens_is_refused():
    model = torch.nn.Linear(2, 2)
    model.config = LlamaConfig(**SMALL)
    with pytest.raises(AdapterError, match="a Linear has no embeddings of tokens"):
        complete(PromptTuningConfig(num_virtual_tokens=2), model)


def test_the_file_has_the_shape_of_what_is_computed(llama, method):
    config, encoder = adapter(llama(), method)
    assert tuple(encoder().shape) == prompt_shape(config)
    again = build_encoder(config, llama().get_input_embeddings(), encoder().detach())
    assert torch.equal(again(), encoder())
