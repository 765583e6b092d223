import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stack_platform.errors import ConfigError
from stack_platform.quality.items import Benchmark, Item, pin, read_benchmark, read_items

ROWS = [
    {"task_id": "T/0", "prompt": "Add two numbers.", "canonical_solution": "return a + b"},
    {"task_id": "T/1", "prompt": "Say hello.", "canonical_solution": None},
]
ITEMS = [
    Item("b", "T/0", "prompt", "Add two numbers."),
    Item("b", "T/0", "solution", "return a + b"),
    Item("b", "T/1", "prompt", "Say hello."),
]


@pytest.mark.parametrize("name", ["b.jsonl", "b.json", "b.parquet"])
def test_every_format_gives_the_same_items(tmp_path, name):
    path = tmp_path / name
    if name == "b.jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in ROWS) + "\n")
    elif name == "b.json":
        path.write_text(json.dumps(ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert list(read_items(Benchmark("b", str(path)))) == ITEMS


def test_fields_may_be_nested_lists_and_named_by_the_user(tmp_path):
    path = tmp_path / "mbpp.jsonl"
    path.write_text(json.dumps({"text": "Task", "meta": {"answers": ["one", " ", "two"]}}))
    benchmark = Benchmark("m", str(path), prompt=("text",), solution=("meta.answers",), id="id")
    assert [(i.id, i.kind, i.text) for i in read_items(benchmark)] == [
        ("0", "prompt", "Task"),
        ("0", "solution", "one"),
        ("0", "solution", "two"),
    ]


def test_docstring_of_a_prompt_is_its_last_string_in_triple_quotes(tmp_path):
    path = tmp_path / "h.json"
    prompts = [
        "def a():\n    \"\"\"A helper.\"\"\"\n\ndef f(x):\n    '''Do it.\n    Twice.'''\n",
        "No quotes",
    ]
    path.write_text(json.dumps([{"prompt": p} for p in prompts]))
    found = [item.text for item in read_items(Benchmark("h", str(path), prompt_part="docstring"))]
    assert found == ["Do it.\n    Twice.", "No quotes"]


def test_folder_holds_one_item_a_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.py").write_text("print(1)")
    (tmp_path / "b.jsonl").write_text('{"prompt": "x"}')
    found = [(item.id, item.text) for item in read_items(Benchmark("f", str(tmp_path)))]
    assert found == [("b.jsonl:0", "x"), ("sub/a.py", "print(1)")]


def test_pinned_benchmark_refuses_other_bytes(tmp_path):
    path = tmp_path / "b.txt"
    path.write_text("one")
    pinned = pin(Benchmark("b", str(path)))
    assert [item.text for item in read_items(pinned)] == ["one"]
    path.write_text("two")
    with pytest.raises(ConfigError, match="have changed"):
        list(read_items(pinned))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.jsonl", b'{"prompt": "x"}\n{', r"b.jsonl:2 is no JSON"),
        ("b.jsonl", b"[1]", "b.jsonl:1 holds 1"),
        ("b.jsonl", b'{"question": "x"}', "has one of the fields prompt, canonical_solution"),
        ("b.parquet", b"PAR", "is no Parquet file"),
        ("b.txt", b"\xff", "is not UTF-8"),
        ("b.jsonl", b"\xff", "is not UTF-8"),
    ],
)
def test_malformed_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        list(read_items(Benchmark("b", str(tmp_path / name))))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="benchmark b has no file at"):
        list(read_items(Benchmark("b", str(tmp_path / "x.jsonl"))))


def test_settings_of_a_benchmark_are_checked():
    assert read_benchmark({"name": "n", "path": "p", "prompt": "text"}, "k").prompt == ("text",)
    for value, message in [
        ({"name": "n"}, "k lacks `path`"),
        ({"name": "n", "path": "p", "prompts": "x"}, "did you mean 'prompt'"),
        ({"name": "n", "path": "p", "prompt_part": "half"}, "'half'; write whole or docstring"),
        ({"name": "n", "path": "p", "solution": [1]}, r"solution\[0\] is 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            read_benchmark(value, "k")
