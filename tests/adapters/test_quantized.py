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
from stack_platform.adapters.storage.weights import is_dense_layer, weight_of
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
        self.down_proj = quantized(nn.Linear(128, 64), bits)
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


LAYERS = ("q_proj", "down_proj")
FREE = {"init_weights": False}
METHODS = {
    "lora": ("LoraConfig", {"r": 4, "init_lora_weights": False}),
    "rslora": ("LoraConfig", {"r": 4, "init_lora_weights": False, "use_rslora": True}),
    "dora": ("LoraConfig", {"r": 4, "init_lora_weights": False, "use_dora": True}),
    "lora_bias": ("LoraConfig", {"r": 4, "init_lora_weights": False, "lora_bias": True}),
    "adalora": ("AdaLoraConfig", {"init_r": 4, "total_step": 10, "init_lora_weights": False}),
    "ia3": ("IA3Config", {"init_ia3_weights": False, "feedforward_modules": ["down_proj"]}),
    "vera": ("VeraConfig", FREE | {"r": 8}),
    "loha": ("LoHaConfig", FREE | {"r": 2}),
    "lokr": ("LoKrConfig", FREE | {"r": 2}),
    "oft": ("OFTConfig", FREE | {"oft_block_size": 8}),
    "boft": ("BOFTConfig", FREE | {"boft_block_size": 8}),
}
UNBUILT = {("loha", 4), ("lokr", 4)}
"""PEFT takes the shape of the packed bytes for that of the weight."""
UNMERGED = {"adalora", "ia3", "loha", "lokr"}
"""PEFT's merge raises beside such weights."""
ROUNDING = 5e-7


def marked(bits):
    """Return a model that says how it is stored: PEFT asks it, not its layers."""
    model = Net(bits)
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = bits == 4, bits == 8
    return model


def apart(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def both(name, bits, folder):
    """Return PEFT's model and ours with the same adapter, which went through a file."""
    peft = pytest.importorskip("peft")
    class_name, fields = METHODS[name]
    torch.manual_seed(3)
    theirs = peft.get_peft_model(marked(bits), getattr(peft, class_name)(**fields, **TARGETS))
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    theirs.save_pretrained(folder / "theirs")
    ours = PeftModel.from_pretrained(Net(bits), folder / "theirs", is_trainable=True)
    ours.save_pretrained(folder / "ours")
    return theirs.train(), ours.train()


@pytest.mark.peer
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", METHODS)
def test_outputs_gradients_and_files_are_pefts(name, bits, tmp_path):
    if (name, bits) in UNBUILT:
        pytest.skip("PEFT makes tensors of another shape")
    theirs, ours = both(name, bits, tmp_path)
    expected, found = theirs(X), ours(X)
    assert apart(found, expected) <= ROUNDING
    expected.square().sum().backward()
    found.square().sum().backward()
    wanted = {key: p.grad for key, p in theirs.named_parameters() if p.requires_grad}
    given = {key: p.grad for key, p in ours.named_parameters() if p.requires_grad}
    assert wanted.keys() == given.keys()
    assert all(
        apart(gradient, wanted[key]) <= ROUNDING for key, gradient in given.items() if gradient is not None
    )
    weights = [(tmp_path / who / "adapter_model.safetensors").read_bytes() for who in ("ours", "theirs")]
    assert weights[0] == weights[1]


@pytest.mark.peer
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", [name for name in METHODS if name not in UNMERGED])
def test_a_merged_weight_quantized_again_is_what_peft_keeps(name, bits, tmp_path):
    """PEFT quantizes what it merged, and loses what 4 or 8 bits cannot hold; ours stays dense."""
    theirs, ours = both(name, bits, tmp_path)
    dense, packed = ours.merge_and_unload(), theirs.merge_and_unload()
    for path in LAYERS:
        layer, kept = getattr(dense, path), weight_of(getattr(packed, path))
        again = weight_of(quantized(layer, bits))
        step = (kept.abs().max() / 127).item()
        # a rotation's last bits may turn a value that lies between two of the storage's
        assert ((again - kept).abs() > 1e-6).float().mean() <= (1e-3 if name in ("oft", "boft") else 0)
        assert (again - kept).abs().max() <= 2 * step
        assert 1e-3 < apart(layer.weight, kept) < 0.2
        if layer.bias is not None and name != "lora_bias":
            assert torch.equal(layer.bias, getattr(packed, path).bias)


@pytest.mark.peer
@pytest.mark.parametrize("bits", [4, 8])
def test_peft_forgets_the_scaling_of_a_merged_bias(bits, tmp_path):
    theirs, ours = both("lora_bias", bits, tmp_path)
    own = {key: p.detach().clone() for key, p in ours.named_parameters() if "lora_B" in key and "bias" in key}
    before = marked(bits)
    dense, packed = ours.merge_and_unload(), theirs.merge_and_unload()
    for path in LAYERS:
        bias, added = getattr(before, path).bias, own[f"base_model.model.{path}.lora_B.default.bias"]
        torch.testing.assert_close(getattr(dense, path).bias, bias + 2 * added)  # alpha 8 over rank 4
        torch.testing.assert_close(getattr(packed, path).bias, bias + added)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["lora", "ia3", "vera", "oft", "boft"])
def test_the_forward_of_inference_is_pefts(name, build, tmp_path):
    """Where bitsandbytes has packed 4-bit weights for the CPU, in bf16."""
    bits = 4 if type(build().q_proj).__name__ == "Linear4bit" else 8
    theirs, ours = both(name, bits, tmp_path)
    with torch.no_grad():
        assert apart(ours.eval()(X), theirs.eval()(X)) < 0.02
