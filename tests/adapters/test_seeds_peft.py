"""The same seed gives PEFT's adapter, and a script's run can be repeated after its import is changed."""

import pytest
import torch

import stack_platform.adapters as ours

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
peft = pytest.importorskip("peft")

TARGETS = {"target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
STARTS = [
    ("LoraConfig", {"r": 2}),
    ("LoraConfig", {"r": 2, "init_lora_weights": False}),
    ("LoraConfig", {"r": 2, "init_lora_weights": "gaussian"}),
    ("LoraConfig", {"r": 2, "init_lora_weights": "orthogonal"}),
    ("LoraConfig", {"r": 2, "init_lora_weights": "eva"}),
    ("LoraConfig", {"r": 3, "use_rslora": True, "rank_pattern": {"v_proj": 5}}),
    ("LoraConfig", {"r": 2, "target_modules": ["embed_tokens", "q_proj"]}),
    ("LoraConfig", {"r": 2, "target_modules": "all-linear"}),
    ("AdaLoraConfig", {"init_r": 2, "target_r": 1, "total_step": 10}),
    ("LoHaConfig", {"r": 2}),
    ("LoKrConfig", {"r": 2}),
    ("VeraConfig", {"r": 2, "target_modules": ["q_proj", "o_proj"]}),
    ("IA3Config", {"feedforward_modules": ["down_proj"]}),
    ("OFTConfig", {"r": 0, "oft_block_size": 4}),
    ("BOFTConfig", {"boft_block_size": 4}),
]
FULL = [
    ("LoraConfig", {"r": 2, "use_dora": True}),
    ("LoraConfig", {"r": 2, "lora_bias": True}),
    ("LoraConfig", {"r": 2, "init_lora_weights": False, "lora_bias": True}),
    ("LoraConfig", {"r": 2, "init_lora_weights": "pissa"}),
    ("LoraConfig", {"r": 2, "init_lora_weights": "pissa_niter_4"}),
    ("LoraConfig", {"r": 2, "init_lora_weights": "olora"}),
    ("AdaLoraConfig", {"init_r": 2, "target_r": 1, "total_step": 10, "init_lora_weights": False}),
]


def made(library, model, name, fields):
    torch.manual_seed(3)
    return library.get_peft_model(model, getattr(library, name)(**TARGETS | fields))


@pytest.mark.parametrize(
    ("name", "fields", "dtype"),
    [(*case, dtype) for case in STARTS for dtype in (torch.float32, torch.bfloat16, torch.float16)]
    + [(*case, torch.float32) for case in FULL],
)
def test_one_seed_gives_pefts_adapter_and_leaves_the_generator_where_peft_does(llama, name, fields, dtype):
    a = dict(made(ours, llama().to(dtype), name, fields).named_parameters())
    after = torch.get_rng_state()
    b = dict(made(peft, llama().to(dtype), name, fields).named_parameters())
    assert torch.equal(torch.get_rng_state(), after)
    trained = [key for key, p in b.items() if p.requires_grad and "ranknum" not in key]
    assert trained
    assert all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in trained)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_with_dropout_repeats_pefts_losses(llama, ids, dtype):
    losses = []
    for library in (ours, peft):
        fields = {"r": 4, "lora_dropout": 0.3, "target_modules": "all-linear"}
        model = made(library, llama().to(dtype), "LoraConfig", fields).train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
        losses.append([])
        for _ in range(5):
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[-1].append(loss.item())
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 5
