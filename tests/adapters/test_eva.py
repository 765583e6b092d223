import pytest
import torch

from stack_platform.adapters import (
    EvaConfig,
    LoraConfig,
    PeftModel,
    get_peft_model,
    initialize_lora_eva_weights,
)
from stack_platform.adapters.eva import distribute_ranks
from stack_platform.errors import AdapterError

FIELDS = {
    "r": 2,
    "init_lora_weights": "eva",
    "target_modules": ["q_proj", "k_proj", "down_proj"],
    "task_type": "CAUSAL_LM",
}


def batches():
    generator = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(0, 32, (4, 16), generator=generator)} for _ in range(3)]


def started(llama, **fields):
    model = get_peft_model(llama(), LoraConfig(**FIELDS, eva_config=EvaConfig(**fields)))
    initialize_lora_eva_weights(model, batches())
    return model


def test_a_is_the_main_directions_of_what_the_layer_reads(llama):
    model = started(llama, rho=1.0)
    path = "model.layers.1.mlp.down_proj"
    read = []
    handle = llama_layer = model.get_base_model().get_submodule(path)
    handle = llama_layer.register_forward_pre_hook(lambda _, args: read.append(args[0].flatten(0, 1)))
    with torch.no_grad(), model.disable_adapter():
        for batch in batches():
            model(**batch)
    handle.remove()
    x = torch.cat(read).double()
    expected = torch.linalg.svd(x - x.mean(dim=0))[2][:2].float()
    A = model.base_model.layers[path].tensors("default")["lora_A"]
    torch.testing.assert_close((A @ expected.T).abs(), torch.eye(2), rtol=1e-4, atol=1e-4)


def test_training_starts_at_no_change_and_ranks_keep_their_sum_and_scaling(llama, ids, tmp_path):
    model = started(llama, rho=2.0).eval()
    assert torch.equal(model(ids).logits, llama()(ids).logits)
    ranks = [layer.adapters["default"].r for layer in model.base_model.layers.values()]
    assert sum(ranks) == 2 * len(ranks)
    assert min(ranks) >= 1
    assert max(ranks) <= 4
    assert {layer.adapters["default"].scaling for layer in model.base_model.layers.values()} == {4.0}
    assert model.get_nb_trainable_parameters()[0] > 0
    model.save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(llama(), tmp_path).eval()(ids).logits, model(ids).logits)


def test_ranks_go_where_they_explain_most():
    flat, steep = torch.ones(8), torch.tensor([100.0, 1, 1, 1, 1, 1, 1, 1])
    config = LoraConfig(r=3, init_lora_weights="eva", eva_config=EvaConfig(rho=1.5))
    assert distribute_ranks({"flat": flat, "steep": steep}, config) == {"flat": 4, "steep": 2}


def test_layers_that_read_the_same_have_the_same_directions(llama):
    layers = started(llama, rho=1.0).base_model.layers
    q, k = (
        layers[f"model.layers.0.self_attn.{n}"].tensors("default")["lora_A"] for n in ("q_proj", "k_proj")
    )
    assert torch.equal(q, k)


def test_another_start_and_no_data_are_refused(llama):
    with pytest.raises(AdapterError, match="has not init_lora_weights='eva'"):
        initialize_lora_eva_weights(get_peft_model(llama(), LoraConfig()), batches())
    with pytest.raises(AdapterError, match="the data never reached"):
        initialize_lora_eva_weights(get_peft_model(llama(), LoraConfig(**FIELDS)), [])


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_the_directions_are_those_that_peft_approaches(llama):
    peft = pytest.importorskip("peft")
    ours = started(llama, rho=1.0)
    settings = FIELDS | {"eva_config": peft.EvaConfig(rho=1.0)}
    theirs = peft.get_peft_model(llama(), peft.LoraConfig(**settings))
    peft.initialize_lora_eva_weights(theirs, batches() * 4, show_progress_bar=False)
    for path, layer in ours.base_model.layers.items():
        A = theirs.base_model.model.get_submodule(path).lora_A["default"].weight
        cosines = (layer.tensors("default")["lora_A"] @ A.T).diagonal().abs()
        assert cosines.min() > 0.95, path
