"""Scripts as PEFT's users write them, run with either package named in their import line: the same numbers come out.

Each leaves `losses` or `output` behind, and writes `folder`/adapter. Bases are built anew and tiny.
"""

import pytest
import torch

LANGUAGE_MODEL = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from {package} import LoraConfig, PeftModel, TaskType, get_peft_model

def base():
    torch.manual_seed(0)
    sizes = dict(vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    return LlamaForCausalLM(LlamaConfig(**sizes))

config = LoraConfig(task_type=TaskType.CAUSAL_LM, inference_mode=False, r=4, lora_alpha=16, lora_dropout=0.1)
model = get_peft_model(base(), config)
model.print_trainable_parameters()
rows = [dict(input_ids=torch.arange(i, i + 6), labels=torch.arange(i, i + 6)) for i in range(8)]
arguments = TrainingArguments(
    folder + "/run", max_steps=4, save_steps=2, logging_steps=1, learning_rate=0.05, use_cpu=True, report_to=[]
)
trainer = Trainer(model=model, args=arguments, train_dataset=rows)
trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
model.save_pretrained(folder + "/adapter")
model = PeftModel.from_pretrained(base(), folder + "/adapter").eval()
merged = model.merge_and_unload()
merged.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=3, do_sample=False, pad_token_id=0)
output = merged(torch.tensor([[1, 2, 3]])).logits
"""

OWN_MODEL = """
import torch
from torch import nn
from {package} import LoraConfig, PeftModel, get_peft_model

class MLP(nn.Module):
    def __init__(self, units=16):
        super().__init__()
        torch.manual_seed(0)
        self.seq = nn.Sequential(nn.Linear(4, units), nn.ReLU(), nn.Linear(units, 9), nn.ReLU(), nn.Linear(9, 2))

    def forward(self, x):
        return self.seq(x)

config = LoraConfig(target_modules=["seq.0", "seq.2"], modules_to_save=["seq.4"])
model = get_peft_model(MLP(), config)
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
x, y = torch.rand(64, 4), torch.randint(0, 2, (64,))
losses = []
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0]
model.save_pretrained(folder + "/adapter")
output = PeftModel.from_pretrained(MLP(), folder + "/adapter").eval()(x)
"""

SEVERAL_ADAPTERS = """
import torch
from transformers import T5Config, T5ForConditionalGeneration
from {package} import IA3Config, TaskType, get_peft_model

torch.manual_seed(0)
sizes = dict(vocab_size=32, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0)
base = T5ForConditionalGeneration(T5Config(**sizes))
model = get_peft_model(base, IA3Config(task_type=TaskType.SEQ_2_SEQ_LM))
model.add_adapter("other", IA3Config(task_type=TaskType.SEQ_2_SEQ_LM))
ids = torch.tensor([[1, 2, 3, 4]])
losses = []
for name in ("default", "other"):
    model.set_adapter(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(3):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
with model.disable_adapter():
    plain = model.eval()(input_ids=ids, labels=ids).logits
model.delete_adapter("other")
model.set_adapter("default")
output = model(input_ids=ids, labels=ids).logits
assert not torch.equal(plain, output)
model.save_pretrained(folder + "/adapter")
"""

SENTENCES = """
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup
from {package} import PeftConfig, PeftModel, PromptEncoderConfig, TaskType, get_peft_model

def base():
    torch.manual_seed(0)
    sizes = dict(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return BertForSequenceClassification(BertConfig(**sizes, initializer_range=0.2, num_labels=3)).eval()

config = PromptEncoderConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=4, encoder_hidden_size=8)
model = get_peft_model(base(), config)
torch.manual_seed(1)
words = torch.randint(3, 64, (24, 10))
rows = [dict(input_ids=w, attention_mask=(w > 5).long(), labels=w[0] % 3) for w in words]
loader = DataLoader(rows, batch_size=8)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
schedule = get_linear_schedule_with_warmup(optimizer, 2, 12)
losses = []
for epoch in range(4):
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    right = sum((model(**batch).logits.argmax(-1) == batch["labels"]).sum().item() for batch in loader)
model.save_pretrained(folder + "/adapter")
found = PeftConfig.from_pretrained(folder + "/adapter")
assert found.num_virtual_tokens == 4 and found.peft_type == "P_TUNING"
output = PeftModel.from_pretrained(base(), folder + "/adapter").eval()(words).logits
assert torch.allclose(output, model(words).logits, atol=1e-5)
"""

IMAGES = """
import torch
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification
from {package} import LoraConfig, PeftModel, get_peft_model

def base():
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=4, num_labels=3))

names = [name for name, _ in base().named_modules()]
targets = ["query", "value"] if any(name.endswith("query") for name in names) else ["q_proj", "v_proj"]
config = LoraConfig(
    r=4, lora_alpha=16, target_modules=targets, lora_dropout=0.0, bias="none", modules_to_save=["classifier"]
)
lora_model = get_peft_model(base(), config)
lora_model.print_trainable_parameters()
torch.manual_seed(2)
rows = [dict(pixel_values=torch.randn(3, 16, 16) + i % 3, labels=i % 3) for i in range(12)]
arguments = TrainingArguments(
    folder + "/run",
    remove_unused_columns=False,
    eval_strategy="epoch",
    save_strategy="epoch",
    learning_rate=0.01,
    per_device_train_batch_size=4,
    num_train_epochs=2,
    logging_steps=1,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    label_names=["labels"],
    use_cpu=True,
    report_to=[],
)

def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}

def collate(examples):
    pixels = torch.stack([example["pixel_values"] for example in examples])
    return {"pixel_values": pixels, "labels": torch.tensor([example["labels"] for example in examples])}

trainer = Trainer(
    lora_model, arguments, train_dataset=rows, eval_dataset=rows, compute_metrics=accuracy, data_collator=collate
)
trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
losses += [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
lora_model.save_pretrained(folder + "/adapter")
pixels = torch.stack([row["pixel_values"] for row in rows])
output = PeftModel.from_pretrained(base(), folder + "/adapter").eval()(pixels).logits
"""

QUANTIZED = """
import torch
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from {package} import LoraConfig, get_peft_model, prepare_model_for_kbit_training

torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder + "/base")
quantization = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_use_double_quant=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
)
model = LlamaForCausalLM.from_pretrained(folder + "/base", quantization_config=quantization, device_map="cpu")
model.gradient_checkpointing_enable()
model = prepare_model_for_kbit_training(model)
config = LoraConfig(
    r=8,
    lora_alpha=32,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    lora_dropout=0.05,
    bias="none",
    task_type="CAUSAL_LM",
)
torch.manual_seed(1)
model = get_peft_model(model, config)
rows = [dict(input_ids=torch.arange(i, i + 16), labels=torch.arange(i, i + 16)) for i in range(16)]
arguments = TrainingArguments(
    folder + "/run",
    per_device_train_batch_size=2,
    gradient_accumulation_steps=2,
    warmup_steps=1,
    max_steps=4,
    learning_rate=0.02,
    logging_steps=1,
    optim="paged_adamw_8bit" if torch.cuda.is_available() else "adamw_torch",
    use_cpu=not torch.cuda.is_available(),
    report_to=[],
    save_strategy="no",
)
trainer = Trainer(model=model, train_dataset=rows, args=arguments)
model.config.use_cache = False
trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
model.save_pretrained(folder + "/adapter")
output = model(rows[0]["input_ids"][None]).logits
"""

SERVING = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from {package} import LoraConfig, PeftModel, get_peft_model

def base():
    torch.manual_seed(0)
    sizes = dict(vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=0.3)).eval()

for number, name in enumerate(("sql", "chat", "adapter")):
    model = base()
    torch.manual_seed(number)
    settings = dict(target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    config = LoraConfig(r=2 + 2 * (number > 0), **settings)
    get_peft_model(model, config).save_pretrained(folder + "/" + name)
model = PeftModel.from_pretrained(base(), folder + "/sql", adapter_name="sql")
model.load_adapter(folder + "/chat", adapter_name="chat")
model.load_adapter(folder + "/adapter", adapter_name="other")
ids = torch.arange(12).reshape(3, 4)
outputs = []
for name in ("sql", "chat", "other"):
    model.set_adapter(name)
    outputs.append(model(input_ids=ids).logits)
model.eval()
outputs.append(model(input_ids=ids, adapter_names=["sql", "__base__", "chat"]).logits)
tokens = model.generate(
    input_ids=ids,
    attention_mask=torch.ones_like(ids),
    adapter_names=["sql", "__base__", "chat"],
    max_new_tokens=4,
    do_sample=False,
    pad_token_id=0,
)
outputs.append(tokens.float())
model.add_weighted_adapter(["sql", "chat"], [0.7, 0.3], combination_type="cat", adapter_name="both")
model.add_weighted_adapter(["chat", "other"], [1.0, 0.5], combination_type="ties", density=0.5, adapter_name="trim")
for name in ("both", "trim"):
    model.set_adapter(name)
    outputs.append(model(input_ids=ids).logits)
model.delete_adapter("sql")
with model.disable_adapter():
    outputs.append(model(input_ids=ids).logits)
model.set_adapter("chat")
outputs.append(model.merge_and_unload()(input_ids=ids).logits)
output = torch.cat([each.flatten() for each in outputs])
"""

SCRIPTS = {
    "images": IMAGES,
    "language model": LANGUAGE_MODEL,
    "own model": OWN_MODEL,
    "quantized": QUANTIZED,
    "sentences": SENTENCES,
    "serving": SERVING,
    "several adapters": SEVERAL_ADAPTERS,
}
pytestmark = pytest.mark.filterwarnings("ignore")


def run(name, package, folder):
    if name == "quantized":
        pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    names = {"folder": str(folder)}
    torch.manual_seed(0)
    exec(SCRIPTS[name].replace("{package}", package), names)
    assert (folder / "adapter" / "adapter_model.safetensors").exists()
    return names


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs(name, tmp_path):
    names = run(name, "stack_platform.adapters", tmp_path)
    assert names["output"].isfinite().all()
    losses = names.get("losses", [1.0, 0.0])
    assert losses[-1] < losses[0]


@pytest.mark.peer
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_gives_the_same_numbers_with_peft_in_its_import_line(name, tmp_path):
    pytest.importorskip("peft")
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours = run(name, "stack_platform.adapters", tmp_path / "ours")
    theirs = run(name, "peft", tmp_path / "theirs")
    assert ours.get("losses") == theirs.get("losses")
    torch.testing.assert_close(ours["output"], theirs["output"], rtol=1e-4, atol=1e-5)
