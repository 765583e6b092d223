"""Scripts as PEFT's users write them, run with either package named in their import line."""

import pytest

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
arguments = TrainingArguments(folder + "/run", max_steps=3, use_cpu=True, report_to=[], save_strategy="no")
Trainer(model=model, args=arguments, train_dataset=rows).train()
model.save_pretrained(folder + "/adapter")
model = PeftModel.from_pretrained(base(), folder + "/adapter").eval()
merged = model.merge_and_unload()
output = merged.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=3, do_sample=False, pad_token_id=0)
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
for name in ("default", "other"):
    model.set_adapter(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(3):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
with model.disable_adapter():
    plain = model.eval()(input_ids=ids, labels=ids).logits
model.delete_adapter("other")
model.set_adapter("default")
output = model(input_ids=ids, labels=ids).logits
assert not torch.equal(plain, output)
model.save_pretrained(folder + "/adapter")
"""

SCRIPTS = {"language model": LANGUAGE_MODEL, "own model": OWN_MODEL, "several adapters": SEVERAL_ADAPTERS}
PACKAGES = ["stack_platform.adapters", pytest.param("peft", marks=pytest.mark.peer)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_with_either_import_line(name, package, tmp_path):
    pytest.importorskip(package)
    names = {"folder": str(tmp_path)}
    exec(SCRIPTS[name].replace("{package}", package), names)
    assert names["output"].numel()
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
