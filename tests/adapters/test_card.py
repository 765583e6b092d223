import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.adapters import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from stack_platform.adapters.saving.card import model_card

BASE = "HuggingFaceTB/SmolLM2-135M"


def front_matter(card):
    _, matter, text = card.split("---\n", 2)
    return yaml.safe_load(matter), text


def test_the_front_matter_says_what_pefts_says():
    config = LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=BASE)
    facts, text = front_matter(model_card(config))
    assert facts == {
        "base_model": BASE,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": [f"base_model:adapter:{BASE}", "lora", "transformers"],
    }
    assert f"A LORA adapter, rank 8 for `{BASE}`." in text


def test_license_and_data_of_the_provenance_are_there_and_the_whole_of_it_below():
    provenance = {"license": "Apache-2.0", "datasets": "user/set", "tags": ["code"], "steps": 3}
    facts, text = front_matter(model_card(IA3Config(), provenance))
    assert (facts["license"], facts["datasets"], facts["tags"]) == (
        "apache-2.0",
        ["user/set"],
        ["ia3", "code"],
    )
    assert json.loads(text.split("```json\n")[1].split("\n```")[0]) == provenance


def test_an_expression_of_licenses_is_other_to_the_hub():
    facts, text = front_matter(model_card(LoraConfig(), {"license": "MIT AND Apache-2.0"}))
    assert facts["license"] == "other"
    assert "MIT AND Apache-2.0" in text


@pytest.mark.parametrize("base", ["/home/someone/model", "../model", "a/b/c", "C:\\model", "x: y", None])
def test_a_path_is_no_base_model_of_the_hub(base):
    facts, _ = front_matter(
        model_card(PromptTuningConfig(num_virtual_tokens=2, base_model_name_or_path=base))
    )
    assert "base_model" not in facts
    assert facts["tags"] == ["prompt_tuning"]


@given(st.text(), st.dictionaries(st.sampled_from(["license", "tags", "model_name", "x"]), st.text()))
def test_no_text_breaks_out_of_its_place(base, provenance):
    config = LoraConfig(base_model_name_or_path=base)
    card = model_card(config, provenance)
    matter, text = front_matter(card)
    assert set(matter) <= {"base_model", "library_name", "license", "tags", "model_name"}
    if provenance.get("model_name"):
        assert matter["model_name"] == provenance["model_name"]
    assert text.count("\n# ") == 1
    assert card == model_card(config, provenance)


def test_a_card_is_written_once_and_never_over_the_users(llama, tmp_path):
    model = get_peft_model(llama(), LoraConfig(task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path, provenance={"license": "MIT"})
    assert front_matter((tmp_path / "README.md").read_text())[0]["license"] == "mit"
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_card_of_the_trainers_becomes_one_of_an_adapter(llama, tmp_path):
    model = get_peft_model(llama(), LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=BASE))
    model.create_or_update_model_card(tmp_path)
    assert (tmp_path / "README.md").read_text() == model_card(model.peft_config["default"])
    mine = "---\nlicense: mit\nlibrary_name: transformers\ntags:\n- own\n---\n\n# Mine\n\nText: *is* kept\n"
    (tmp_path / "README.md").write_text(mine)
    model.create_or_update_model_card(tmp_path)
    facts, text = front_matter((tmp_path / "README.md").read_text())
    assert (facts["license"], facts["library_name"], facts["base_model"]) == ("mit", "peft", BASE)
    assert facts["tags"] == [f"base_model:adapter:{BASE}", "lora", "transformers", "own"]
    assert text.strip() == "# Mine\n\nText: *is* kept"


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_pefts_card_says_the_same(llama, tmp_path):
    peft = pytest.importorskip("peft")
    base = llama()
    base.config._name_or_path = base.name_or_path = BASE
    theirs = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM"))
    theirs.save_pretrained(tmp_path / "theirs")
    expected, _ = front_matter((tmp_path / "theirs" / "README.md").read_text())
    found, _ = front_matter(model_card(LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=BASE)))
    assert found == expected
