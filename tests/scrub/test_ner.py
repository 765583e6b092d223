import pytest

from stack_platform.errors import ConfigError
from stack_platform.scrub.ner import NerConfig, recognize
from stack_platform.scrub.redact import ScrubConfig, scrub_text

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "Ada", "Lovelace", "wrote", "this", "Noether", ".", "#"]
PEOPLE = {"Ada": "B-NAME", "Lovelace": "I-NAME", "Noether": "B-NAME"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Save a model of one embedding and one classifier that knows three words: real code, weights set by hand."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    folder = str(tmp_path_factory.mktemp("model"))
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    labels = ["O", "B-NAME", "I-NAME"]
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=0, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=64, id2label=dict(enumerate(labels)),
        label2id={name: place for place, name in enumerate(labels)},
    )  # fmt: skip
    network = BertForTokenClassification(config).eval()
    with torch.no_grad():
        embeddings = network.bert.embeddings
        for table in (
            embeddings.word_embeddings,
            embeddings.position_embeddings,
            embeddings.token_type_embeddings,
        ):
            table.weight.zero_()
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor([2.0, 0.0, 0.0]))
        for place, word in enumerate(WORDS):
            embeddings.word_embeddings.weight[place, place] = 1.0
            label = labels.index(PEOPLE.get(word, "O"))
            network.classifier.weight[label, place] = 3.0
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def found(text, model, **settings):
    return [
        (span.type, text[span.start : span.end]) for span in recognize(text, NerConfig(model, **settings))
    ]


def test_names_are_put_together_from_their_tokens(model):
    assert found("this: Ada  Lovelace wrote this. Noether.", model) == [
        ("NAME", "Ada  Lovelace"),
        ("NAME", "Noether"),
    ]


def test_places_count_code_points_also_behind_lone_surrogates(model):
    assert found("é😀\ud800 Noether wrote", model) == [("NAME", "Noether")]


def test_a_long_text_is_read_in_windows_and_nothing_is_found_twice(model):
    text = "this wrote . " * 60 + "Ada Lovelace " + "this wrote . " * 60 + "Noether"
    expected = [("NAME", "Ada Lovelace"), ("NAME", "Noether")]
    for window, overlap in ((16, 4), (32, 8), (64, 0), (11, 7)):
        assert found(text, model, window=window, overlap=overlap) == expected


def test_names_under_the_threshold_do_not_count(model):
    assert found("Noether", model, threshold=1.0) == []
    assert found("", model) == []


def test_scrubbing_with_a_model_replaces_for_good(model):
    config = ScrubConfig(ner=NerConfig(model))
    once = scrub_text("x = 1  # Ada Lovelace wrote this\n", "a.py", config)
    assert "Lovelace" not in once.text
    assert [span.rule for span in once.spans] == ["ner.name"]
    assert scrub_text(once.text, "a.py", config).text == once.text


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="does not load"):
        recognize("text", NerConfig(str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": {"PER": "PERSON"}}, "'PERSON' is no type"),
        ({"threshold": 0}, "threshold"),
        ({"window": 16, "overlap": 14}, "smaller overlap"),
    ],
)
def test_a_wrong_configuration_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        NerConfig("model", **settings)
