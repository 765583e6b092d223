"""Embeddings in an adapter's file, where the vocabulary grew."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from stack_platform import adapters
from stack_platform.adapters import (
    IA3Config,
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from stack_platform.errors import AdapterError

KEYS = {"base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def based(llama, tmp_path):
    """Load models from a folder, with a vocabulary of 32 words or more."""

    def load(words=32, tied=False):
        folder = tmp_path / f"base {tied}"
        llama(tie_word_embeddings=tied).save_pretrained(folder)
        model = LlamaForCausalLM.from_pretrained(folder).eval()
        if words > 32:
            torch.manual_seed(5)
            model.resize_token_embeddings(words, mean_resizing=False)
        return model

    return load


def adapted(base, kind=LoraConfig, **fields):
    settings = {"task_type": "CAUSAL_LM"} | ({"init_lora_weights": False} if kind is LoraConfig else {})
    return get_peft_model(base, kind(**settings, **fields)).eval()


def keys(folder):
    return {key for key in load_file(folder / "adapter_model.safetensors") if "lora" not in key}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", [LoraConfig, IA3Config])
def test_a_vocabulary_that_grew_is_saved_and_comes_back(based, ids, tied, kind, tmp_path):
    model = adapted(based(35, tied), kind)
    model.save_pretrained(tmp_path)
    assert keys(tmp_path) >= KEYS
    fresh = based(35, tied)
    with torch.no_grad():
        fresh.get_input_embeddings().weight.add_(1)
    again = PeftModel.from_pretrained(fresh, tmp_path).eval()
    assert torch.equal(again(ids + 23).logits, model(ids + 23).logits)
    with pytest.raises(AdapterError, match=r"model's is \[32, 8\]; call resize_token_embeddings\(35\)"):
        PeftModel.from_pretrained(based(32, tied), tmp_path)


def test_they_are_left_out_where_nothing_grew_or_nobody_wants_them(based, tmp_path):
    adapted(based()).save_pretrained(tmp_path / "same")
    assert not keys(tmp_path / "same")
    adapted(based(35)).save_pretrained(tmp_path / "no", save_embedding_layers=False)
    assert not keys(tmp_path / "no")
    adapted(based()).save_pretrained(tmp_path / "yes", save_embedding_layers=True)
    assert keys(tmp_path / "yes") == KEYS


def test_an_embedding_that_trains_anyway_is_saved_once_and_the_base_keeps_its_own(based, ids, tmp_path):
    model = adapted(based(35), modules_to_save=["embed_tokens"])
    with torch.no_grad():
        model.base_model.saved["model.embed_tokens"].modules_to_save["default"].weight.add_(1)
    model.save_pretrained(tmp_path)
    assert keys(tmp_path) == KEYS
    again = PeftModel.from_pretrained(based(35), tmp_path).eval()
    assert torch.equal(again(ids + 23).logits, model(ids + 23).logits)
    with again.disable_adapter(), model.disable_adapter():
        assert torch.equal(again(ids + 23).logits, model(ids + 23).logits)


def test_they_go_out_and_in_as_a_mapping_too(based, ids):
    model = adapted(based(35))
    state = {key: tensor.clone() for key, tensor in get_peft_model_state_dict(model).items()}
    assert state.keys() >= KEYS
    assert not KEYS & get_peft_model_state_dict(model, save_embedding_layers=False).keys()
    fresh = based(35)
    with torch.no_grad():
        fresh.get_input_embeddings().weight.add_(1)
    other = get_peft_model(fresh, LoraConfig(task_type="CAUSAL_LM")).eval()
    set_peft_model_state_dict(other, state)
    assert torch.equal(other(ids + 23).logits, model(ids + 23).logits)
    with pytest.raises(AdapterError, match=r"call resize_token_embeddings\(35\)"):
        set_peft_model_state_dict(adapted(based()), state)


def test_other_tensors_still_have_no_place(based, tmp_path):
    from safetensors.torch import save_file

    adapted(based(35)).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file(load_file(path) | {"base_model.model.model.norm.weight": torch.ones(8)}, path)
    with pytest.raises(AdapterError, match=r"1 tensors have no place in the model \(.*norm.weight\)"):
        PeftModel.from_pretrained(based(35), tmp_path)


@pytest.mark.peer
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("wanted", ["auto", True, False])
def test_pefts_file_and_ours_are_the_same(based, ids, tied, wanted, tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False)
    theirs = peft.get_peft_model(based(35, tied), config).eval()
    theirs.save_pretrained(tmp_path / "theirs", save_embedding_layers=wanted)
    ours = PeftModel.from_pretrained(based(35, tied), tmp_path / "theirs").eval()
    ours.save_pretrained(tmp_path / "ours", save_embedding_layers=wanted)
    files = [(tmp_path / who / "adapter_model.safetensors").read_bytes() for who in ("ours", "theirs")]
    assert files[0] == files[1]
    keys = [
        package.get_peft_model_state_dict(model, save_embedding_layers=wanted).keys()
        for package, model in ((adapters, ours), (peft, theirs))
    ]
    assert keys[0] == keys[1]
    assert torch.equal(ours(ids + 23).logits, theirs(input_ids=ids + 23).logits)
    back = peft.PeftModel.from_pretrained(based(35, tied), tmp_path / "ours").eval()
    assert torch.equal(back(input_ids=ids + 23).logits, ours(ids + 23).logits)
