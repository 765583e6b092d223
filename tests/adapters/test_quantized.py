"""Adapters beside weights of 4 and 8 bits, on the CPU."""

import pytest
import torch
from torch import nn

from stack_platform.adapters import (
    BOFTConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    VeraConfig,
    get_peft_model,
    prepare_model_for_kbit_training,
)
from stack_platform.adapters.weights import is_dense_layer, weight_of
from stack_platform.errors import AdapterError

bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore")
TARGETS = {"target_modules": ["q_proj", "down_proj"]}
CONFIGS = {
    "lora": LoraConfig(r=4, init_lora_weights=False, **TARGETS),
    "dora": LoraConfig(r=4, init_lora_weights=False, use_dora=True, **TARGETS),
    "ia3": IA3Config(init_ia3_weights=False, feedforward_modules=["down_proj"], **TARGETS),
    "vera": VeraConfig(r=8, init_weights=False, **TARGETS),
    "loha": LoHaConfig(r=2, init_weights=False, **TARGETS),
    "oft": OFTConfig(oft_block_size=8, init_weights=False, **TARGETS),
    "boft": BOFTConfig(boft_block_size=8, init_weights=False, **TARGETS),
}


class Net(nn.Module):
    """Two quantized layers of several blocks a row, between layers that are not."""

    def __init__(self, bits):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(8, 64)
        self.q_proj = quantized(nn.Linear(64, 128), bits)
        self.down_proj = quantized(nn.Linear(128, 64, bias=False), bits)
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        hidden = torch.relu(self.q_proj(self.first(x)))
        return self.head(torch.relu(self.down_proj(hidden)))


def quantized(layer, bits):
    out, inputs = layer.weight.shape
    bias = layer.bias is not None
    if bits == 4:
        new = bitsandbytes.nn.Linear4bit(inputs, out, bias, quant_type="nf4", compute_dtype=torch.float32)
    else:
        new = bitsandbytes.nn.Linear8bitLt(inputs, out, bias, has_fp16_weights=False)
    new.load_state_dict(layer.state_dict())
    return new.to("cpu")


@pytest.fixture(params=[4, 8])
def build(request):
    return lambda: Net(request.param).eval()


X = torch.randn(6, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_trains_saves_and_merges_into_a_dense_model(name, build, tmp_path):
    base = build()(X)
    torch.manual_seed(1)
    model = get_peft_model(build(), CONFIGS[name])
    model.train()(X).square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    expected = model.eval()(X).detach()
    effect = (expected - base).abs().max()
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(build(), tmp_path).eval()(X)
    # for inference bitsandbytes packs 4-bit weights on some CPUs, and computes in bf16
    rounding = 0.05 * expected.abs().max()
    assert effect > 0.5 * rounding
    assert (again - expected).abs().max() < rounding
    with model.disable_adapter():
        assert (model(X) - base).abs().max() < rounding
    merged = model.merge_and_unload()
    assert type(merged.q_proj) is nn.Linear
    # int8 rounds activations too, which the dense model does not
    assert (merged(X) - expected).abs().max() < 2 * rounding


def test_a_merge_and_unmerge_put_the_quantized_layer_back(build):
    model = get_peft_model(build(), CONFIGS["lora"]).eval()
    layer = next(iter(model.base_model.layers.values()))
    packed, before = layer.base_layer, model(X)
    model.merge_adapter()
    assert is_dense_layer(layer.base_layer)
    model.unmerge_adapter()
    assert layer.base_layer is packed
    assert torch.equal(model(X), before)


def test_a_weight_reads_the_same_before_and_after_inference_packed_it(build):
    model = build()
    before = {name: weight_of(layer).clone() for name, layer in model.named_children()}
    with torch.no_grad():
        model(X)
    for name, layer in model.named_children():
        # packing for AVX-512 rounds the scales to bf16
        torch.testing.assert_close(weight_of(layer), before[name], rtol=1e-2, atol=1e-3)


def test_an_initialization_that_changes_the_base_is_refused(build):
    with pytest.raises(
        AdapterError, match="init_lora_weights='olora' changes the base weight, which is quantized"
    ):
        get_peft_model(build(), LoraConfig(init_lora_weights="olora", **TARGETS))


def test_packed_numbers_are_counted_as_what_they_stand_for():
    assert (
        get_peft_model(Net(4), CONFIGS["lora"]).get_nb_trainable_parameters()[1]
        == (get_peft_model(Net(8), CONFIGS["lora"]).get_nb_trainable_parameters()[1])
    )


def test_a_model_that_transformers_quantized_is_prepared_trained_and_saved_dense(llama, ids, tmp_path):
    from transformers import BitsAndBytesConfig, LlamaForCausalLM

    llama(hidden_size=64, intermediate_size=64, num_hidden_layers=1).save_pretrained(tmp_path / "base")
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = LlamaForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=settings, device_map="cpu"
    )
    model = prepare_model_for_kbit_training(model)
    assert not any(p.requires_grad for p in model.parameters())
    assert model.is_gradient_checkpointing
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")).train()
    adapted(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)
    merged = adapted.eval().merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    again = LlamaForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(again(ids).logits, merged.eval()(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["lora", "ia3", "vera", "oft", "boft"])
def test_the_forward_is_pefts(name, build, tmp_path):
    peft = pytest.importorskip("peft")

    def marked():  # PEFT asks the model, not the layer
        model = build()
        model.is_loaded_in_4bit = type(model.q_proj).__name__ == "Linear4bit"
        model.is_loaded_in_8bit = not model.is_loaded_in_4bit
        return model

    get_peft_model(build(), CONFIGS[name]).save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(marked(), tmp_path).eval()
    expected = theirs(X)
    ours = PeftModel.from_pretrained(build(), tmp_path).eval()
    assert (ours(X) - expected).abs().max() < 0.02 * expected.abs().max()
