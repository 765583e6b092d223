import pytest
import torch

from stack_platform.adapters import (
    IA3Config,
    LoraConfig,
    PeftModel,
    get_peft_model,
    hotswap_adapter,
    prepare_model_for_compiled_hotswap,
)
from stack_platform.errors import AdapterError


@pytest.fixture
def saved(llama, tmp_path):
    def save(name, config):
        torch.manual_seed(len(name))
        model = get_peft_model(llama(), config).eval()
        model.save_pretrained(tmp_path / name)
        return model

    return save


def lora(**fields):
    return LoraConfig(**({"r": 2, "init_lora_weights": False, "task_type": "CAUSAL_LM"} | fields))


def test_a_swapped_adapter_computes_as_the_one_it_came_from(llama, ids, saved, tmp_path):
    saved("a", lora())
    other = saved("other", lora(r=3, lora_alpha=9, use_rslora=True, target_modules=["v_proj"]))
    model = PeftModel.from_pretrained(llama(), tmp_path / "a").eval()
    before = model(ids).logits
    prepare_model_for_compiled_hotswap(model, target_rank=4)
    torch.testing.assert_close(model(ids).logits, before)
    tensors = [p.data_ptr() for p in model.parameters()]
    hotswap_adapter(model, tmp_path / "other")
    torch.testing.assert_close(model(ids).logits, other(ids).logits)
    assert [p.data_ptr() for p in model.parameters()] == tensors
    model.save_pretrained(tmp_path / "again")
    again = PeftModel.from_pretrained(llama(), tmp_path / "again").eval()
    torch.testing.assert_close(again(ids).logits, other(ids).logits)


def test_a_compiled_model_is_not_compiled_again(llama, ids, saved, tmp_path):
    saved("a", lora())
    other = saved("other", lora(lora_alpha=5))
    model = PeftModel.from_pretrained(llama(num_hidden_layers=2), tmp_path / "a").eval()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(ids)
        hotswap_adapter(compiled, tmp_path / "other")
        with torch.compiler.set_stance("fail_on_recompile"):
            torch.testing.assert_close(compiled(ids).logits, other(ids).logits)


def test_what_cannot_be_swapped_is_refused_and_nothing_changes(llama, ids, saved, tmp_path):
    saved("a", lora())
    saved("larger", lora(r=3))
    saved("wider", lora(target_modules="all-linear"))
    saved("dora", lora(use_dora=True))
    saved("scales", IA3Config(task_type="CAUSAL_LM"))
    model = PeftModel.from_pretrained(llama(), tmp_path / "a").eval()
    before = model(ids).logits
    for folder, message in (
        ("larger", r"has shape \[3, 8\], here it is \[2, 8\]; call prepare_model_for_compiled_hotswap"),
        ("wider", "adapts 10 layers that 'default' does not"),
        ("dora", "use_dora is False here and True there"),
        ("scales", "only LoRA is swapped for LoRA, not LORA for IA3"),
    ):
        with pytest.raises(AdapterError, match=message):
            hotswap_adapter(model, tmp_path / folder)
        assert torch.equal(model(ids).logits, before)
    with pytest.raises(AdapterError, match="no adapter 'x'"):
        hotswap_adapter(model, tmp_path / "a", "x")
    with pytest.raises(AdapterError, match="has rank 2; write a target_rank from 2"):
        prepare_model_for_compiled_hotswap(model, target_rank=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_a_compiled_model_is_prepared_only_when_asked_to(llama):
    model = get_peft_model(llama(), LoraConfig(r=2))
    compiled = torch.compile(model)
    with pytest.raises(AdapterError, match=r"prepare it before torch\.compile"):
        prepare_model_for_compiled_hotswap(compiled, target_rank=4)
    with pytest.warns(UserWarning, match="it will be compiled again"):
        prepare_model_for_compiled_hotswap(compiled, target_rank=4, check_compiled="warn")
    assert {p.shape[0] for name, p in model.named_parameters() if "lora_A" in name} == {4}
    with pytest.raises(AdapterError, match="check_compiled='never'"):
        prepare_model_for_compiled_hotswap(model, check_compiled="never")
