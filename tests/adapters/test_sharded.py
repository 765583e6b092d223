"""Adapters of a model that is kept in parts, in two processes: gathered, saved, and put on a whole model.

By FSDP2, whose state is given to `save_pretrained`; and by FSDP of version 1 and data parallelism, through which the
state of an adapter is read and written.
"""

import subprocess
import sys

import pytest
import torch
from torch import distributed

from stack_platform.adapters import LoraConfig, PeftModel, PromptEncoderConfig, VeraConfig, get_peft_model
from stack_platform.adapters.saving.files import write_adapter
from stack_platform.errors import AdapterError

pytestmark = pytest.mark.skipif(
    not distributed.is_available(), reason="this torch has no distributed package"
)
BUILD = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

def build(tied):
    torch.manual_seed(0)
    sizes = dict(vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    config = LlamaConfig(**sizes, initializer_range=0.3, tie_word_embeddings=tied)
    return LlamaForCausalLM(config).eval()
"""
CONFIGS = {
    "lora": LoraConfig(
        r=3, target_modules="all-linear", modules_to_save=["lm_head"], task_type="CAUSAL_LM", lora_alpha=30
    ),
    "tied": LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"], use_dora=True, task_type="CAUSAL_LM"),
    "tokens": LoraConfig(
        r=2, target_modules=["q_proj"], trainable_token_indices=[1, 2], task_type="CAUSAL_LM"
    ),
    "vera": VeraConfig(r=4, task_type="CAUSAL_LM"),
    "prompt": PromptEncoderConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
}
WORK = (
    BUILD
    + """
import json, sys
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from stack_platform.adapters import get_peft_model
from stack_platform.adapters.config import CONFIGS
from stack_platform.errors import AdapterError

rank, folder, configs = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
ids = torch.arange(12).reshape(2, 6)
outputs = {}
for name, fields in configs.items():
    torch.manual_seed(0)
    base = build(name == "tied")
    torch.manual_seed(1)
    model = get_peft_model(base, CONFIGS[fields["peft_type"]].from_dict(fields))
    mesh = init_device_mesh("cpu", (2,))
    for block in model.get_base_model().model.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    outputs[name] = model.eval()(input_ids=ids).logits.detach()
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    model.save_pretrained(f"{folder}/{name}", state_dict=state, is_main_process=rank == 0)
    try:
        model.save_pretrained(f"{folder}/parts")
        raise SystemExit("parts were saved")
    except AdapterError as error:
        assert "is kept in parts" in str(error), error

from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from stack_platform.adapters import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict

def adapted(seed):
    torch.manual_seed(seed)
    return get_peft_model(build(False), LoraConfig(target_modules="all-linear", init_lora_weights=False)).eval()

def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)

plain = adapted(1)
state = get_peft_model_state_dict(plain)
parts = lambda model: FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
for wrap in (parts, DistributedDataParallel):
    assert equal(get_peft_model_state_dict(wrap(adapted(1))), state), "read"
    wrapped = wrap(adapted(2))
    set_peft_model_state_dict(wrapped, state)
    assert equal(get_peft_model_state_dict(wrapped), state), "written"
    with torch.no_grad():
        torch.testing.assert_close(wrapped(input_ids=ids).logits, plain(input_ids=ids).logits)

if rank == 0:
    torch.save(outputs, f"{folder}/outputs.pt")
distributed.barrier()
distributed.destroy_process_group()
"""
)


def test_adapters_of_models_in_parts_are_gathered_saved_and_loaded(tmp_path):
    import json

    configs = json.dumps({name: config.to_dict() for name, config in CONFIGS.items()})
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORK, str(rank), str(tmp_path), configs],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [worker.communicate(timeout=240)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)
    names: dict = {}
    exec(BUILD, names)
    outputs = torch.load(tmp_path / "outputs.pt")
    ids = torch.arange(12).reshape(2, 6)
    assert not (tmp_path / "parts").exists()
    for name, config in CONFIGS.items():
        base = names["build"](name == "tied")
        plain = base(ids).logits
        loaded = PeftModel.from_pretrained(base, tmp_path / name).eval()
        torch.testing.assert_close(loaded(input_ids=ids).logits, outputs[name], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(outputs[name][:, -6:], plain, atol=1e-3), name
        whole = trained(names["build"](name == "tied"), config, ids)
        torch.testing.assert_close(whole(input_ids=ids).logits, outputs[name], rtol=1e-3, atol=1e-4)


def trained(base, config, ids):
    """Return what one process makes of the same."""
    torch.manual_seed(1)
    model = get_peft_model(base, config)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def test_a_tensor_in_parts_is_refused(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    where = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=where, rank=0, world_size=1)
    try:
        parts = distribute_tensor(torch.ones(2, 2), init_device_mesh("cpu", (1,)))
        with pytest.raises(
            AdapterError, match=r"base_model\.x is kept in parts .* save_pretrained\(state_dict=\.\.\.\)"
        ):
            write_adapter(tmp_path / "new", LoraConfig(), {"base_model.x": parts})
    finally:
        distributed.destroy_process_group()
    assert not (tmp_path / "new").exists()
