import json
import re
import time

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stack_platform.errors import ConfigError, SchemaError
from stack_platform.quality.contamination import (
    ContaminationConfig,
    build_index,
    find_contaminated,
    load_index,
    pinned,
    read_config,
    squeeze,
)
from stack_platform.quality.items import Benchmark, Item

TASK = "Return the list of all even numbers between the two given limits, in ascending order, without zero."
SOLUTION = "def evens(low, high):\n    return [n for n in range(low, high) if n % 2 == 0 and n]\n"
ITEMS = [Item("bench", "7", "prompt", TASK), Item("bench", "7", "solution", SOLUTION)]
SUBSTRING = ContaminationConfig(ngrams=False, min_chars=8)


def batch_of(*texts):
    return pa.record_batch({"content": pa.array(texts, pa.large_string())})


def judge(items, *texts, config=ContaminationConfig()):
    return find_contaminated(batch_of(*texts), build_index(items, config))


def test_substring_is_found_across_white_space_and_case():
    text = "# é\n" + SOLUTION.replace("    ", "\t\t").replace(" ", "\n").upper() + "tail"
    reasons, evidence = judge(ITEMS, "clean", text, config=SUBSTRING)
    assert reasons == [None, "contaminated"]
    found = evidence[1]
    assert (found["benchmark"], found["item"], found["kind"], found["match"]) == (
        "bench",
        "7",
        "solution",
        "substring",
    )
    assert squeeze(text[found["start"] : found["end"]]) == squeeze(SOLUTION)
    assert text[found["start"]] == "D"


def test_share_of_ngrams_decides():
    words = [f"word{i}" for i in range(40)]  # 31 ten-grams
    item = [Item("b", "1", "prompt", " ".join(words))]
    config = ContaminationConfig(substring=False, threshold=0.5)
    half = "x-" + ";".join(words[:25])  # 16 of 31
    less = " ".join(words[:24])  # 15 of 31
    reasons, evidence = judge(item, half, less, config=config)
    assert reasons == ["contaminated", None]
    assert evidence[0]["match"] == "ngrams"
    assert evidence[0]["share"] == round(16 / 31, 4)
    assert half[evidence[0]["start"] : evidence[0]["end"]] == ";".join(words[:25])


def test_first_match_is_the_evidence_and_all_items_are_counted():
    _, evidence = judge(ITEMS, SOLUTION + TASK)
    assert (evidence[0]["kind"], evidence[0]["start"], evidence[0]["items"]) == ("solution", 0, 2)


def test_items_that_are_not_searched_are_reported_with_the_reason():
    items = [
        *ITEMS,
        Item("bench", "8", "prompt", TASK.upper()),
        Item("bench", "9", "solution", "x+y"),
        Item("bench", "9", "solution", "return len( string )"),
        Item("bench", "9", "prompt", "-" * 100),
    ]
    index = build_index(items)
    assert index.report["substring"].to_pylist() == [
        "searched", "searched", "same as an earlier item", "too short", "generic", "too uniform",
    ]  # fmt: skip
    assert index.report["ngrams"].to_pylist() == [
        "searched", "searched", "same as an earlier item", "too few n-grams", "too few n-grams", "too few n-grams",
    ]  # fmt: skip
    assert find_contaminated(batch_of("x+y return len(string)" + "-" * 200), index) == ([None], [None])


def test_no_items_find_nothing():
    assert judge([], "text") == ([None], [None])
    assert judge(ITEMS) == ([], [])


ALPHABET = st.text(st.sampled_from("abAB \n(é"), max_size=40)


@given(st.lists(ALPHABET, max_size=8), st.lists(ALPHABET, max_size=4), st.data())
@settings(max_examples=300, deadline=None)
@example(["abababab(é"], ["abababababababab(é", "abababab(é"], None)
def test_substrings_equal_a_search_for_each_item(items, texts, data):
    if data is not None and items and texts:
        texts = [text + data.draw(st.sampled_from(items)) + "a" for text in texts]
    listed = [Item("b", str(i), "prompt", text) for i, text in enumerate(items)]
    index = build_index(listed, SUBSTRING)
    used = [i for i, state in enumerate(index.report["substring"].to_pylist()) if state == "searched"]
    reasons, evidence = find_contaminated(batch_of(*texts), index)
    for text, reason, found in zip(texts, reasons, evidence, strict=True):
        expected = {i for i in used if squeeze(items[i]) in squeeze(text)}
        assert (reason is not None) == bool(expected)
        if found:
            assert found["items"] == len(expected)
            assert int(found["item"]) in expected
            assert squeeze(text[found["start"] : found["end"]]) == squeeze(items[int(found["item"])])


WORDS = st.lists(st.sampled_from(["a", "B", "b", "c3", "é", "_"]), max_size=25)


@given(st.lists(WORDS, max_size=5), st.lists(WORDS, max_size=4), st.sampled_from([0.1, 0.5, 1.0]))
@settings(max_examples=300, deadline=None)
def test_overlaps_equal_sets_of_ngrams(items, texts, threshold):
    def grams(text):
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}

    config = ContaminationConfig(substring=False, ngram=3, min_ngrams=2, threshold=threshold)
    listed = [Item("b", str(i), "prompt", "-".join(words)) for i, words in enumerate(items)]
    index = build_index(listed, config)
    used = [i for i, state in enumerate(index.report["ngrams"].to_pylist()) if state == "searched"]
    assert {frozenset(grams(listed[i].text)) for i in used} == {
        frozenset(grams(item.text)) for item in listed if len(grams(item.text)) >= 2
    }
    joined = [" ".join(words) for words in texts]
    _, evidence = find_contaminated(batch_of(*joined), index)
    for text, found in zip(joined, evidence, strict=True):
        shares = {i: len(grams(text) & grams(listed[i].text)) / len(grams(listed[i].text)) for i in used}
        expected = {i for i, share in shares.items() if share >= threshold}
        assert (found["items"] if found else 0) == len(expected)
        assert found is None or round(shares[int(found["item"])], 4) == found["share"]


@given(st.lists(st.sampled_from([TASK, SOLUTION, "clean", ""]), max_size=6), st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_answer_does_not_depend_on_how_files_are_batched(texts, cut):
    index = build_index(ITEMS)
    batch = batch_of(*texts)
    cut = min(cut, len(texts))
    halves = [find_contaminated(part, index) for part in (batch.slice(0, cut), batch.slice(cut))]
    whole = find_contaminated(batch, index)
    assert [*halves[0][0], *halves[1][0]] == whole[0]
    assert [*halves[0][1], *halves[1][1]] == whole[1]


@pytest.mark.parametrize("unit", ["a" * 99 + "b", "abcdefgh", TASK[:60], "word "])
def test_ten_megabytes_of_near_matches_take_linear_time(unit):
    """Items that repeat a pattern and end otherwise; comparing each everywhere would take a quarter of an hour."""
    items = [Item("b", str(i), "prompt", unit * 50 + f"{i} xyz uvw") for i in range(20)]
    index = build_index(items)
    batch = batch_of(unit * (10_000_000 // len(unit)))
    find_contaminated(batch_of("compile"), index)
    started = time.process_time()
    find_contaminated(batch, index)
    assert time.process_time() - started < 20


def test_more_hits_than_expected_are_all_found():
    items = [Item("b", str(i), "prompt", f"the number {i:05} of items") for i in range(2000)]
    text = "\n".join(item.text for item in items)
    _, evidence = judge(items, text, config=SUBSTRING)
    assert evidence[0]["items"] == 2000


def test_configuration_is_read_and_pinned(tmp_path):
    (tmp_path / "b.jsonl").write_text(json.dumps({"q": TASK}))
    path = tmp_path / "c.yaml"
    path.write_text(
        json.dumps(
            {
                "benchmarks": [{"name": "b", "path": str(tmp_path / "b.jsonl"), "prompt": "q"}],
                "ngram": 8,
                "generic": [],
            }
        )
    )
    config = read_config(path)
    assert (config.ngram, config.generic, config.threshold) == (8, (), 0.5)
    assert len(config.benchmarks[0].sha256) == 64
    assert pinned(config) == config
    assert load_index(config) is load_index(read_config(path))
    assert find_contaminated(batch_of(TASK), load_index(config))[0] == ["contaminated"]


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"benchmark": []}, "did you mean 'benchmarks'"),
        ({"benchmarks": {}}, r"benchmarks is \{\}; write a list"),
        ({"min_chars": 4}, "min_chars is 4; write a number of at least 8"),
        ({"threshold": 2}, "threshold is 2; write a number from 0 to 1"),
        ({"ngram": 0}, "ngram is 0"),
        ({"substring": "yes"}, "substring is 'yes'; write true or false"),
    ],
)
def test_unusable_settings_are_named(tmp_path, settings_, message):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(settings_))
    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_settings_made_in_code_are_checked_too():
    with pytest.raises(ConfigError, match="min_chars is 3"):
        build_index(ITEMS, ContaminationConfig(min_chars=3))


def test_batch_without_content_is_refused():
    with pytest.raises(SchemaError, match="needs the column content"):
        find_contaminated(pa.record_batch({"x": [1]}), build_index(ITEMS))


def test_benchmark_without_file_is_refused_when_loaded():
    with pytest.raises(ConfigError, match="no file"):
        load_index(ContaminationConfig(benchmarks=(Benchmark("b", "/nowhere/b.jsonl"),)))
