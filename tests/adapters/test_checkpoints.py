"""What transformers' Trainer writes and resumes from, with the callback and without, whatever stores the base."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import BitsAndBytesConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from stack_platform.adapters import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    PeftModel,
    PromptEncoderConfig,
    get_peft_model,
    prepare_model_for_kbit_training,
)
from stack_platform.adapters.saving.checkpoints import AdapterCheckpoints
from stack_platform.errors import AdapterError

pytestmark = pytest.mark.filterwarnings("ignore")
CONFIGS = {
    "lora": LoraConfig(r=2, lora_dropout=0.1, task_type="CAUSAL_LM"),
    "head": LoraConfig(r=2, modules_to_save=["lm_head"], task_type="CAUSAL_LM"),
    "ia3": IA3Config(task_type="CAUSAL_LM"),
    "p-tuning": PromptEncoderConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    "adalora": AdaLoraConfig(init_r=3, total_step=10, task_type="CAUSAL_LM"),
}


def rows(count=8):
    return [
        {"input_ids": torch.arange(i, i + 6) % 32, "labels": torch.arange(i, i + 6) % 32}
        for i in range(count)
    ]


def arguments(folder, **fields):
    settings = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 0.05}
    settings |= {"use_cpu": True, "report_to": [], "disable_tqdm": True, "seed": 1}
    return TrainingArguments(str(folder), **(settings | fields))


def train(model, folder, resume=None, callbacks=(), **fields):
    trainer = Trainer(
        model, arguments(folder, **fields), train_dataset=rows(), eval_dataset=rows(2), callbacks=[*callbacks]
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def fresh(build, config):
    base = build()
    torch.manual_seed(5)
    return get_peft_model(base, config)


def values(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("name", "callbacks"), [("lora", []), *((name, [AdapterCheckpoints]) for name in CONFIGS)]
)
def test_training_resumed_in_the_middle_ends_where_it_would_have(llama, ids, name, callbacks, tmp_path):
    model = fresh(llama, CONFIGS[name])
    train(model, tmp_path, callbacks=callbacks)
    again = fresh(llama, CONFIGS[name])
    train(again, tmp_path, str(tmp_path / "checkpoint-2"), callbacks)
    expected = values(model)
    assert expected
    assert all(torch.equal(value, expected[key]) for key, value in values(again).items())


def test_a_checkpoint_holds_what_trains_and_the_adapter(llama, ids, tmp_path):
    model = fresh(llama, CONFIGS["head"])
    trainer = train(model, tmp_path, callbacks=[AdapterCheckpoints()])
    held = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert held.keys() == values(model).keys()
    for folder in (tmp_path / "checkpoint-4", tmp_path):
        loaded = PeftModel.from_pretrained(llama(), folder).eval()
        assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)
    assert "base_model.model.model.embed_tokens.weight" in model.state_dict()  # the whole again
    trainer.save_model()
    assert torch.equal(PeftModel.from_pretrained(llama(), tmp_path).eval()(ids).logits, model(ids).logits)


def test_the_trainers_card_of_an_adapter_says_so(llama, tmp_path):
    trainer = train(fresh(llama, CONFIGS["lora"]), tmp_path, callbacks=[AdapterCheckpoints])
    trainer.create_model_card(model_name="mine", tags="own")
    card = (tmp_path / "README.md").read_text()
    assert "library_name: peft" in card
    assert "- own" in card
    assert "## Training procedure" in card


def test_without_the_callback_the_whole_is_saved_and_the_error_says_what_to_do(llama, tmp_path):
    train(fresh(llama, CONFIGS["lora"]), tmp_path)
    held = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert "base_model.model.model.embed_tokens.weight" in held
    with pytest.raises(
        AdapterError, match=r"a whole model, as transformers' Trainer saves it: call save_pretrained"
    ):
        PeftModel.from_pretrained(llama(), tmp_path / "checkpoint-4")


@pytest.mark.parametrize(
    ("strategy", "callbacks"),
    [("steps", []), *((name, [AdapterCheckpoints]) for name in ("steps", "epoch", "best"))],
)
def test_the_best_model_is_the_one_at_the_end(llama, ids, callbacks, strategy, tmp_path):
    losses = {}

    class Worse(TrainerCallback):
        """After the first evaluation everything gets worse."""

        def on_evaluate(self, *given, metrics, model, **_):
            losses[given[1].global_step] = metrics["eval_loss"], values(model)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.5)

    settings = {"load_best_model_at_end": True, "eval_strategy": "epoch" if strategy == "epoch" else "steps"}
    settings |= {"save_strategy": strategy, "eval_steps": 2, "metric_for_best_model": "eval_loss"}
    settings |= {"max_steps": -1, "num_train_epochs": 2} if strategy == "epoch" else {"max_steps": 6}
    model = fresh(llama, CONFIGS["lora"])
    train(model, tmp_path, callbacks=[*callbacks, Worse], **settings)
    best = min(losses, key=lambda step: losses[step][0])
    assert best < max(losses)
    state = json.loads((tmp_path / f"checkpoint-{best}" / "trainer_state.json").read_text())
    assert state["best_global_step"] == best
    kept = load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors")
    assert all(torch.equal(value, kept[key]) for key, value in values(model).items())
    if callbacks:
        loaded = PeftModel.from_pretrained(llama(), tmp_path).eval()
        assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)


def test_running_means_of_the_base_are_part_of_a_checkpoint(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

        def forward(self, x, labels=None, **_):
            y = self.layers(x).squeeze(-1)
            return {"loss": (y - labels).square().mean(), "logits": y}

    data = [{"x": torch.randn(4), "labels": torch.tensor(1.0)} for _ in range(8)]

    def run(resume=None):
        model = fresh(Net, LoraConfig(r=2, target_modules=["0", "2"]))
        settings = arguments(tmp_path, remove_unused_columns=False)
        trainer = Trainer(model, settings, train_dataset=data, callbacks=[AdapterCheckpoints()])
        trainer.train(resume_from_checkpoint=resume)
        return model.state_dict()

    whole = run()
    resumed = run(str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(value, whole[key]) for key, value in resumed.items())
    assert whole["base_model.model.layers.1.running_mean"].abs().sum() > 0


@pytest.mark.parametrize(
    ("bits", "callbacks"), [(4, []), (4, [AdapterCheckpoints]), (8, [AdapterCheckpoints])]
)
def test_a_quantized_base_trains_resumes_and_saves(llama, ids, bits, callbacks, tmp_path):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    llama(**sizes).save_pretrained(tmp_path / "base")
    settings = BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
    )

    def build():
        model = LlamaForCausalLM.from_pretrained(
            tmp_path / "base", quantization_config=settings, device_map="cpu"
        )
        return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)

    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model = fresh(build, config)
    train(model, tmp_path / "run", callbacks=callbacks)
    again = fresh(build, config)
    train(again, tmp_path / "run", str(tmp_path / "run" / "checkpoint-2"), callbacks)
    expected = values(model)
    for key, value in values(again).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)
    assert any(value.abs().sum() > 0 for key, value in expected.items() if "lora_B" in key)
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(build(), tmp_path / "adapter").eval()
    # in training mode, for in the other bitsandbytes packs 4-bit weights anew on some CPUs
    torch.testing.assert_close(loaded.train()(ids).logits, model.train()(ids).logits, rtol=1e-3, atol=1e-3)
