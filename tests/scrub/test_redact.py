import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.errors import ConfigError
from stack_platform.scrub import redact
from stack_platform.scrub.detect import find_spans
from stack_platform.scrub.policy import LEVELS
from stack_platform.scrub.redact import MODES, ScrubConfig, scrub_text
from stack_platform.scrub.spans import Span
from stack_platform.scrub.syntax import parses


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sensitivity", LEVELS)
def test_scrubbing_twice_changes_nothing(sample, mode, sensitivity):
    config = ScrubConfig(sensitivity, mode)
    once = scrub_text(sample.text, "", config)
    assert scrub_text(once.text, "", config).text == once.text
    assert find_spans(once.text, "", sensitivity) == []


def test_the_value_is_gone_and_the_rest_stays(sample):
    scrubbed = scrub_text(sample.text)
    assert sample.value not in scrubbed.text
    assert scrubbed.text == sample.lead + scrubbed.replacements[0] + sample.tail
    assert [sample.text[span.start : span.end] for span in scrubbed.spans] == [sample.value]


PIECES = st.one_of(
    st.sampled_from(
        [
            "password = ",
            "token: ",
            '"',
            "'",
            "\n",
            " ",
            "://u:",
            "@",
            "key=",
            "\\n",
            ",",
            "tel: ",
            "secret ",
            "<KEY>",
            "# Author: ",
            "Ada Lovelace",
            "/home/gmurdock/",
            "TODO(gmurdock)",
            ";password=",
            "connect to ",
            "twilio ",
            "é😀",
        ]
    ),
    st.text("abcXYZ0189.:@/-_+=%\\", max_size=24),
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_mixture_of_secrets_is_scrubbed_for_good(data, samples):
    secrets = st.sampled_from(
        [sample.text for sample in samples.values()] + [s.value for s in samples.values()]
    )
    text = "".join(data.draw(st.lists(st.one_of(PIECES, secrets), max_size=12)))
    config = ScrubConfig(data.draw(st.sampled_from(list(LEVELS))), data.draw(st.sampled_from(MODES)))
    path = data.draw(st.sampled_from(["", "a.py", "a.env", "a.json", "go.sum"]))
    once = scrub_text(text, path, config)
    assert scrub_text(once.text, path, config).text == once.text
    rebuilt, last = "", 0
    for span, replacement in zip(once.spans, once.replacements, strict=True):
        rebuilt += text[last : span.start] + replacement
        last = span.end
    assert rebuilt + text[last:] == once.text


def test_the_same_secret_gets_the_same_surrogate_everywhere(samples):
    value = samples["typed token"].value
    one = scrub_text(f'api_token = "{value}"\n', "a.py")
    two = scrub_text(f"# moved\nSECRET_KEY={value}\n", "b/env")
    assert one.replacements == two.replacements
    assert (
        one.replacements
        != scrub_text(f'api_token = "{value}"\n', "a.py", ScrubConfig(scope="file")).replacements
    )
    assert (
        one.replacements != scrub_text(f'api_token = "{value}"\n', "a.py", ScrubConfig(key=b"k")).replacements
    )


def test_tokens_name_the_type(sample):
    token = {"CREDIT_CARD": "CARD"}.get(sample.kind, sample.kind)
    assert scrub_text(sample.text, "", ScrubConfig(mode="token")).replacements == (f"<{token}>",)


def test_masks_keep_the_length_and_the_lines(sample):
    masked = scrub_text(sample.text, "", ScrubConfig(mode="mask")).text
    assert [len(line) for line in masked.splitlines()] == [len(line) for line in sample.text.splitlines()]


def test_copyright_lines_keep_the_name(samples):
    sample = samples["email in a copyright line"]
    assert scrub_text(sample.text).text.startswith("// Copyright 2020 Ada <user-")


def test_a_text_without_secrets_is_returned_as_it_is():
    text = "def f(x):\n    return x + 1\n"
    assert scrub_text(text) == redact.Scrubbed(text)


def test_a_detector_that_is_never_content_ends_in_a_blank_text(monkeypatch):
    monkeypatch.setattr(redact, "find_spans", lambda text, *_, **__: [Span(0, 2, "KEY", "r", 1.0)])
    scrubbed = scrub_text("ab cd\n'ef'")
    assert (scrubbed.text, scrubbed.masked) == ("xx xx\n'xx'", True)


def test_a_secret_that_a_surrogate_brings_to_light_is_replaced_too(monkeypatch):
    def finder(text, *_, **__):
        if "secret" in text:
            return [Span(text.index("secret"), text.index("secret") + 6, "PASSWORD", "r", 1.0)]
        place = text.find("hidden")
        return [Span(place, place + 6, "PASSWORD", "r", 1.0)] if place >= 0 else []

    monkeypatch.setattr(redact, "find_spans", finder)
    scrubbed = scrub_text("a secret b hidden c")
    assert scrubbed.text == "a REDACT b REDACT c"
    assert [(span.start, span.end) for span in scrubbed.spans] == [(2, 8), (11, 17)]


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"mode": "drop"}, "surrogate, token, mask"),
        ({"sensitivity": "max"}, "paranoid"),
        ({"scope": "world"}, "file, repository, release"),
        ({"key": b""}, "non-empty bytes"),
    ],
)
def test_a_wrong_configuration_is_refused(settings_, message):
    with pytest.raises(ConfigError, match=message):
        ScrubConfig(**settings_)


def test_surrogates_are_consistent_where_asked(samples):
    text = samples["typed token"].text

    def made(scope, path, within):
        return scrub_text(text, path, ScrubConfig(scope=scope), within=within).replacements

    assert made("release", "a.py", "one") == made("release", "b.py", "two")
    assert made("repository", "a.py", "one") == made("repository", "b.py", "one")
    assert made("repository", "a.py", "one") != made("repository", "a.py", "two")
    assert made("file", "a.py", "") != made("file", "b.py", "")


def test_code_that_parsed_still_parses_in_every_mode(samples):
    secret = samples["hex key"].value
    text = f'API_KEY = "{secret}"\nhost = "{samples["ipv4"].value}"\nphone = 4155552671\n'
    for mode in MODES:
        scrubbed = scrub_text(text, "a.py", ScrubConfig("paranoid", mode))
        assert scrubbed.text != text
        assert parses(scrubbed.text, "a.py")


def test_where_a_token_breaks_the_syntax_letters_are_masked():
    text = "x = 5\npassword=Tr0ub4dor3\n"
    scrubbed = scrub_text(text, "a.py", ScrubConfig(mode="token"))
    assert (scrubbed.text, scrubbed.masked) == ("x = 5\npassword=xx0xx0xxx0\n", True)
    kept = scrub_text(text, "a.py", ScrubConfig(mode="token", check_syntax=False))
    assert (kept.text, kept.masked) == ("x = 5\npassword=<PASSWORD>\n", False)
    assert scrub_text(scrubbed.text, "a.py", ScrubConfig(mode="token")).text == scrubbed.text


def test_a_text_that_never_parsed_gets_its_tokens():
    assert "<PASSWORD>" in scrub_text("def (\npassword=Tr0ub4dor3\n", "a.py", ScrubConfig(mode="token")).text


def test_names_of_people_become_people_who_are_nobody():
    text = "# @author Charles Babbage\nx = 1  # TODO(cbabbage): ask Charles Babbage\n"
    scrubbed = scrub_text(text, "a.py", ScrubConfig("strict"))
    assert [span.type for span in scrubbed.spans] == ["NAME", "USERNAME"]
    assert scrub_text(scrubbed.text, "a.py", ScrubConfig("strict")).text == scrubbed.text
    assert "cbabbage" not in scrubbed.text
