import copy
import inspect

import pytest
import torch

from stack_platform.adapters import (
    LoraConfig,
    PeftMixedModel,
    PeftModel,
    PeftModelForCausalLM,
    TaskType,
    cast_mixed_precision_params,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from stack_platform.adapters.saving.files import WEIGHTS_NAME
from stack_platform.errors import AdapterError


def config(**fields):
    return LoraConfig(**({"r": 2, "init_lora_weights": False, "task_type": "CAUSAL_LM"} | fields))


def test_a_new_adapter_starts_at_the_base_model(build, ids):
    base = build()(ids).logits
    model = get_peft_model(build(), LoraConfig()).eval()
    assert torch.equal(model(ids).logits, base)


def test_only_adapter_parameters_train_and_receive_gradients(build, ids):
    model = get_peft_model(build(), config()).train()
    model(input_ids=ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        is_adapter = "lora_" in name
        assert parameter.requires_grad == is_adapter, name
        assert (parameter.grad is not None) == is_adapter, name
        assert not is_adapter or parameter.grad.any(), name


def test_training_lowers_the_loss(build, ids):
    model = get_peft_model(build(), LoraConfig(r=4, target_modules="all-linear")).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.03)
    losses = []
    for _ in range(10):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_the_trainable_parameters_are_counted(llama, capsys):
    model = get_peft_model(llama(), config())
    # q: 8 -> 8, v: 8 -> 4, two layers, r = 2
    trainable = 2 * (2 * (8 + 8) + 2 * (8 + 4))
    total = sum(p.numel() for p in llama().parameters()) + trainable
    assert model.get_nb_trainable_parameters() == (trainable, total)
    model.print_trainable_parameters()
    percent = f"{100 * trainable / total:.4f}"
    printed = capsys.readouterr().out
    assert printed == f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {percent}\n"


def test_a_saved_adapter_loads_bit_for_bit(build, ids, tmp_path):
    model = get_peft_model(
        build(), config(use_rslora=True, target_modules="all-linear", rank_pattern={".*fc|.*up_proj": 3})
    ).eval()
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(build(), tmp_path).eval()
    assert torch.equal(again(ids).logits, model(ids).logits)
    for (name, a), (other, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b)


def test_a_loaded_adapter_is_frozen_unless_it_is_to_be_trained(llama, tmp_path):
    get_peft_model(llama(), config()).save_pretrained(tmp_path)
    frozen = PeftModel.from_pretrained(llama(), tmp_path)
    assert not any(p.requires_grad for p in frozen.parameters())
    trainable = PeftModel.from_pretrained(llama(), tmp_path, is_trainable=True)
    assert trainable.get_nb_trainable_parameters()[0] > 0


def test_saving_a_loaded_adapter_writes_the_same_bytes(llama, tmp_path):
    get_peft_model(llama(), config()).save_pretrained(tmp_path / "a")
    PeftModel.from_pretrained(llama(), tmp_path / "a").save_pretrained(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_named_adapters_are_saved_in_folders_of_their_name(llama, ids, tmp_path):
    model = get_peft_model(llama(), config())
    model.add_adapter("code", config(r=3))
    model.save_pretrained(tmp_path)
    assert (tmp_path / "code" / WEIGHTS_NAME).exists()
    again = PeftModel.from_pretrained(llama(), tmp_path)
    again.load_adapter(tmp_path / "code", "code")
    for name in ("default", "code"):
        again.set_adapter(name)
        model.set_adapter(name)
        assert torch.equal(again.eval()(ids).logits, model.eval()(ids).logits)


def test_only_the_main_process_saves_and_pickle_is_refused(llama, tmp_path):
    model = get_peft_model(llama(), config())
    model.save_pretrained(tmp_path / "a", is_main_process=False)
    assert not (tmp_path / "a").exists()
    with pytest.raises(AdapterError, match="writes pickle"):
        model.save_pretrained(tmp_path, safe_serialization=False)


def test_an_adapter_of_another_model_is_refused_and_leaves_the_model_untouched(llama, tmp_path):
    get_peft_model(llama(num_hidden_layers=1), config()).save_pretrained(tmp_path)
    model = llama()
    with pytest.raises(AdapterError, match=r"4 of 8 tensors are missing"):
        PeftModel.from_pretrained(model, tmp_path)
    assert all(p.requires_grad for p in model.parameters())
    assert model.state_dict().keys() == llama().state_dict().keys()


def test_a_wrong_target_leaves_the_model_untouched(llama):
    model = llama()
    with pytest.raises(AdapterError, match="'q_porj' matches no module; nearest: 'q_proj'"):
        get_peft_model(model, config(target_modules=["q_porj", "v_proj"]))
    assert all(p.requires_grad for p in model.parameters())


def test_adapters_are_switched_disabled_and_deleted(llama, ids):
    model = get_peft_model(llama(), config()).eval()
    base, first = llama()(ids).logits, model(ids).logits
    model.add_adapter("b", config(target_modules=["down_proj"]))
    assert model.active_adapter == "default"
    assert torch.equal(model(ids).logits, first)
    model.set_adapter("b")
    second = model(ids).logits
    assert not torch.equal(second, first)
    assert {n.split(".")[-2] for n, p in model.named_parameters() if p.requires_grad} == {"b"}
    with model.disable_adapter():
        assert torch.equal(model(ids).logits, base)
    assert torch.equal(model(ids).logits, second)
    model.delete_adapter("b")
    assert model.active_adapters == ["default"]
    assert torch.equal(model(ids).logits, first)
    model.delete_adapter("default")
    assert torch.equal(model(ids).logits, base)
    assert model.get_base_model().state_dict().keys() == llama().state_dict().keys()
    with pytest.raises(AdapterError, match="no adapter is active"):
        _ = model.active_adapter


def test_disabling_ends_with_the_block_even_after_an_error(llama, ids):
    model = get_peft_model(llama(), config()).eval()
    expected = model(ids).logits
    with pytest.raises(KeyError), model.disable_adapter():
        raise KeyError
    assert torch.equal(model(ids).logits, expected)


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "..", "-a"])
def test_an_adapter_name_that_is_no_folder_name_is_refused(llama, name):
    with pytest.raises(AdapterError, match="adapter name"):
        get_peft_model(llama(), config(), adapter_name=name)


def test_unknown_and_taken_names_are_refused(llama):
    model = get_peft_model(llama(), config())
    with pytest.raises(AdapterError, match="no adapter 'x'; there are: default"):
        model.set_adapter("x")
    with pytest.raises(AdapterError, match="'default' is there already"):
        model.add_adapter("default", config())
    with pytest.raises(AdapterError, match="carries adapters already"):
        get_peft_model(model.get_base_model(), config())


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(llama, ids, reentrant):
    def gradients(model):
        model.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}

    torch.manual_seed(0)
    model = get_peft_model(llama(), config())
    twin = copy.deepcopy(model)
    twin.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    plain, checkpointed = gradients(model), gradients(twin)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient)


def test_checkpointing_enabled_before_the_adapter_still_reaches_it(llama, ids):
    base = llama()
    base.activation_checkpointing_enable({"use_reentrant": True})
    base.disable_input_require_grads()
    model = get_peft_model(base, config()).train()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_it_trains_under_autocast(build, ids):
    model = get_peft_model(build(), config(lora_dropout=0.1)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_it_generates_and_answers_for_the_base_model(build, ids):
    base = build()
    model = get_peft_model(base, config()).eval()
    tokens = model.generate(ids[:1], max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=0)
    assert tokens.shape == (1, 9)
    assert model.config is base.config
    assert model.dtype == torch.float32
    assert model.base_model.model is base is model.get_base_model()
    with pytest.raises(AttributeError, match="nonsense"):
        _ = model.nonsense


def test_a_language_model_names_its_inputs(llama):
    model = get_peft_model(llama(), config())
    assert isinstance(model, PeftModelForCausalLM)
    assert {"input_ids", "attention_mask", "labels"} <= inspect.signature(model.forward).parameters.keys()
    assert type(get_peft_model(llama(), config(task_type=None))) is PeftModel


def test_the_saved_config_says_what_it_is_for(llama, tmp_path):
    get_peft_model(llama(), config(task_type=None)).save_pretrained(tmp_path)
    saved = LoraConfig.from_pretrained(tmp_path)
    assert saved.inference_mode
    assert saved.auto_mapping["base_model_class"] == "LlamaForCausalLM"
    assert saved.task_type is None
    assert TaskType.CAUSAL_LM == "CAUSAL_LM"


def test_a_plain_torch_model_is_adapted_too(tmp_path):
    def build():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))

    x = torch.ones(1, 4)
    model = get_peft_model(build(), LoraConfig(r=1, target_modules=["0"], init_lora_weights=False))
    model.save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(build(), tmp_path)(x), model(x))


def test_the_model_itself_reports_and_names_its_class(llama):
    model = get_peft_model(llama(), LoraConfig(r=2), mixed=True)
    assert isinstance(model, PeftMixedModel)
    assert model.get_model_status().adapter_model_type == "PeftMixedModel"
    assert len(model.get_layer_status()) == 4


def test_what_is_frozen_can_be_kept_in_half_precision(llama):
    model = get_peft_model(llama(), LoraConfig(r=2))
    cast_mixed_precision_params(model, torch.bfloat16)
    assert {(p.requires_grad, p.dtype) for p in model.parameters()} == {
        (True, torch.float32),
        (False, torch.bfloat16),
    }


def test_saved_tensors_are_read_without_a_model(llama, tmp_path):
    model = get_peft_model(llama(), LoraConfig(r=2, init_lora_weights=False))
    model.save_pretrained(tmp_path)
    other = get_peft_model(llama(), LoraConfig(r=2))
    set_peft_model_state_dict(other, load_peft_weights(tmp_path))
    a, b = (get_peft_model_state_dict(m) for m in (model, other))
    assert all(torch.equal(a[key], b[key]) for key in a)
