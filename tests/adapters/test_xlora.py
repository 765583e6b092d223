import pytest
import torch
from safetensors.torch import load_file

from stack_platform.adapters import LoraConfig, PeftModel, XLoraConfig, get_peft_model
from stack_platform.adapters.mixing.xlora import PeftModelForXLora
from stack_platform.errors import AdapterError


@pytest.fixture
def folders(llama, tmp_path):
    for number in range(3):
        torch.manual_seed(number)
        fields = {"r": 2 + number, "init_lora_weights": False, "task_type": "CAUSAL_LM"}
        get_peft_model(llama(), LoraConfig(**fields, target_modules=["q_proj", "down_proj"])).save_pretrained(
            tmp_path / str(number)
        )
    return {str(number): str(tmp_path / str(number)) for number in range(3)}


def mixed(llama, folders, **fields):
    torch.manual_seed(7)
    settings = {"xlora_depth": 2, "xlora_size": 6, "xlora_dropout_p": 0.0, "task_type": "CAUSAL_LM"} | fields
    return get_peft_model(llama(use_cache=False), XLoraConfig(adapters=folders, **settings)).eval()


def test_only_the_classifier_trains_and_every_token_has_its_weights(llama, folders, ids):
    model = mixed(llama, folders)
    assert {n.split(".")[1] for n, p in model.named_parameters() if p.requires_grad} == {
        "internal_xlora_classifier"
    }
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    weights = model.get_latest_scalings()
    assert weights.shape == (2, 6, 1, 3)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 6, 1))


def test_weights_of_one_kind_are_the_adapter_itself(llama, folders, ids):
    model = mixed(llama, folders, enable_softmax=False)
    with torch.no_grad():
        last = model.base_model.internal_xlora_classifier.layers[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    expected = PeftModel.from_pretrained(llama(), folders["1"]).eval()(ids).logits
    torch.testing.assert_close(model(input_ids=ids).logits, expected)
    with model.disable_adapter():
        torch.testing.assert_close(model(input_ids=ids).logits, llama()(ids).logits)


@pytest.mark.parametrize(
    "fields", [{}, {"layerwise_scalings": True}, {"top_k_lora": 2, "enable_softmax": False}]
)
def test_a_saved_classifier_loads_and_generates(llama, folders, ids, fields, tmp_path):
    model = mixed(llama, folders, **fields)
    expected = model(input_ids=ids).logits
    model.save_pretrained(tmp_path / "mix")
    again = PeftModel.from_pretrained(llama(use_cache=False), tmp_path / "mix").eval()
    assert type(again) is PeftModelForXLora
    assert torch.equal(again(input_ids=ids).logits, expected)
    assert not any(p.requires_grad for p in again.parameters())
    mask = torch.ones_like(ids)
    tokens = again.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=1, do_sample=False, pad_token_id=0
    )
    assert torch.equal(tokens[:, -1], expected[:, -1].argmax(dim=-1))


def test_top_k_leaves_the_others_out(llama, folders, ids):
    model = mixed(llama, folders, top_k_lora=1, enable_softmax=False, enable_softmax_topk=True)
    model(input_ids=ids)
    assert set(model.get_latest_scalings().unique().tolist()) == {0.0, 1.0}


def test_without_adapters_there_is_nothing_to_mix(llama):
    with pytest.raises(AdapterError, match="adapters is empty"):
        get_peft_model(llama(), XLoraConfig(task_type="CAUSAL_LM"))


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "fields", [{}, {"layerwise_scalings": True}, {"top_k_lora": 2}, {"scaling_pass_value": 0.5}]
)
def test_outputs_and_gradients_are_pefts_whose_file_lacks_the_classifier(
    llama, folders, ids, fields, tmp_path
):
    peft = pytest.importorskip("peft")
    settings = {
        "hidden_size": 8,
        "xlora_depth": 2,
        "xlora_size": 6,
        "xlora_dropout_p": 0.0,
        "task_type": "CAUSAL_LM",
    }
    settings |= fields
    theirs = peft.get_peft_model(
        llama(use_cache=False), peft.XLoraConfig(adapters=folders, **settings)
    ).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    # its adapters must be called "0", "1", ...; saving then takes `layers.0` for the tensors of another adapter
    assert not load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    ours = get_peft_model(llama(use_cache=False), XLoraConfig(adapters=folders, **settings)).eval()
    classifier = ours.base_model.internal_xlora_classifier
    classifier.load_state_dict(theirs.base_model.internal_xlora_classifier.state_dict())
    expected, found = theirs(input_ids=ids).logits, ours(input_ids=ids).logits
    torch.testing.assert_close(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    wanted = dict(theirs.base_model.internal_xlora_classifier.named_parameters())
    for name, parameter in classifier.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-4, atol=1e-4)
