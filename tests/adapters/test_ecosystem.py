"""Adapters under the tools that people train with: transformers' Trainer, accelerate, torch.compile, GradScaler."""

import copy
import pickle

import pytest
import torch
from transformers import LlamaForCausalLM, Trainer, TrainingArguments

from stack_platform.adapters import (
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftModel,
    PeftModelForCausalLM,
    create_loraplus_optimizer,
    get_model_status,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from stack_platform.errors import AdapterError

pytestmark = pytest.mark.filterwarnings("ignore")


def lora(**fields):
    return LoraConfig(**({"r": 2, "init_lora_weights": False, "task_type": "CAUSAL_LM"} | fields))


def rows(count=8):
    return [
        {"input_ids": torch.arange(i, i + 6) % 32, "labels": torch.arange(i, i + 6) % 32}
        for i in range(count)
    ]


def arguments(folder, **fields):
    settings = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 0.01}
    return TrainingArguments(str(folder), **settings, use_cpu=True, report_to=[], disable_tqdm=True, **fields)


@pytest.mark.parametrize("tied", [False, True])
def test_the_trainer_trains_saves_and_resumes(llama, ids, tied, tmp_path):
    saved = None if tied else ["lm_head"]
    model = get_peft_model(llama(tie_word_embeddings=tied), lora(modules_to_save=saved))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = {"gradient_checkpointing": True, "max_grad_norm": 1.0}
    Trainer(model, arguments(tmp_path, **settings), train_dataset=rows()).train()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (not parameter.requires_grad), name
    again = get_peft_model(llama(tie_word_embeddings=tied), lora(modules_to_save=saved))
    Trainer(again, arguments(tmp_path, **settings), train_dataset=rows()).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-2")
    )
    assert torch.equal(again.eval()(ids).logits, model.eval()(ids).logits)
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(llama(tie_word_embeddings=tied), tmp_path / "adapter").eval()
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_a_whole_state_holds_a_shared_tensor_once_and_loads_again(llama, ids):
    model = get_peft_model(llama(tie_word_embeddings=True), lora()).eval()
    state = model.state_dict()
    assert "base_model.model.lm_head.weight" not in state
    other = get_peft_model(llama(tie_word_embeddings=True), LoraConfig(r=2, task_type="CAUSAL_LM")).eval()
    other.load_state_dict(state)
    assert torch.equal(other(ids).logits, model(ids).logits)


def test_a_model_with_adapters_can_be_copied_and_pickled(llama, ids):
    model = get_peft_model(llama(), lora()).eval()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin) is PeftModelForCausalLM
        assert torch.equal(twin(ids).logits, model(ids).logits)
        twin.set_adapter([])
        assert not torch.equal(twin(ids).logits, model(ids).logits)  # its switch is its own


def test_accelerate_prepares_trains_and_gathers_it(llama, ids, tmp_path):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = get_peft_model(llama(), lora())
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=16)
    model, optimizer = accelerator.prepare(model, optimizer)
    losses = []
    for _ in range(8):
        with accelerator.accumulate(model):
            loss = model(input_ids=ids, labels=ids).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert losses[-1] < losses[0]
    accelerator.unwrap_model(model).save_pretrained(tmp_path, state_dict=accelerator.get_state_dict(model))
    assert torch.equal(PeftModel.from_pretrained(llama(), tmp_path)(ids).logits, model(ids).logits)


def test_learning_rates_of_lora_plus_are_those_of_a_and_b(llama):
    model = get_peft_model(llama(), lora(target_modules=["q_proj", "embed_tokens"], use_dora=True))
    groups = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=16, loraplus_weight_decay=0.1
    ).param_groups
    assert [(len(g["params"]), g["lr"], g["weight_decay"]) for g in groups] == [
        (2, 0.01, 0.1),
        (3, 1e-6, 0.1),
        (2, 0.16, 0.1),
        (2, 0.16, 0.0),
    ]
    with pytest.raises(AdapterError, match="no B trains"):
        create_loraplus_optimizer(llama(), torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=16)


def test_a_compiled_model_computes_the_same_and_learns(llama, ids):
    model = get_peft_model(llama(), lora(target_modules="all-linear"))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    eager = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss = compiled(input_ids=ids, labels=ids, use_cache=False).loss
    torch.testing.assert_close(loss, eager)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_state_dict_goes_out_and_in_and_must_fit(llama, ids):
    model = get_peft_model(llama(), lora()).eval()
    state = {key: tensor.clone() for key, tensor in get_peft_model_state_dict(model).items()}
    other = get_peft_model(llama(), LoraConfig(r=2)).eval()
    set_peft_model_state_dict(other, state)
    assert torch.equal(other(ids).logits, model(ids).logits)
    state.pop(next(iter(state)))
    with pytest.raises(AdapterError, match="1 of 8 tensors are missing"):
        set_peft_model_state_dict(other, state)


def test_an_adapter_finds_its_base_by_name(llama, ids, tmp_path):
    llama().save_pretrained(tmp_path / "base")
    base = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    model = get_peft_model(base, lora()).eval()
    model.save_pretrained(tmp_path / "adapter")
    again = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    assert torch.equal(again(ids).logits, model(ids).logits)
    get_peft_model(llama(), lora(base_model_name_or_path=None)).save_pretrained(tmp_path / "nameless")
    with pytest.raises(AdapterError, match="does not name its base model"):
        AutoPeftModelForCausalLM.from_pretrained(tmp_path / "nameless")


@pytest.mark.peer
@pytest.mark.parametrize("fields", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_transformers_loads_our_folder_by_itself(llama, ids, fields, tmp_path):
    pytest.importorskip("peft", reason="transformers loads adapters through PEFT")
    llama().save_pretrained(tmp_path / "base")
    base = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    model = get_peft_model(base, lora(**fields)).eval()
    model.save_pretrained(tmp_path / "adapter")
    if (
        "use_dora" not in fields
    ):  # from_pretrained of 5.23 does not find the magnitudes, of PEFT's files neither
        again = LlamaForCausalLM.from_pretrained(tmp_path / "adapter").eval()
        torch.testing.assert_close(again(ids).logits, model(ids).logits)
    plain = llama()
    plain.load_adapter(str(tmp_path / "adapter"))
    torch.testing.assert_close(plain.eval()(ids).logits, model(ids).logits)


def test_the_status_says_what_is_there(llama):
    model = get_peft_model(llama(), lora())
    model.add_adapter("b", lora(target_modules=["down_proj"]))
    status = get_model_status(model)
    assert (status.base_model_type, status.adapter_model_type) == ("LlamaForCausalLM", "PeftModelForCausalLM")
    assert status.num_adapter_layers == 6
    assert status.active_adapters == ["default"]
    assert status.available_adapters == ["b", "default"]
    assert status.requires_grad == {"b": False, "default": True}
    assert status.enabled
    assert status.merged_adapters == []
