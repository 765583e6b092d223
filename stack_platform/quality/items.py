"""Benchmark items to keep out of a training set, read from files that the user points to.

A benchmark is a file or folder:
- `.jsonl`, `.ndjson`: one JSON object a line; `.json`: a list of objects; `.parquet`: one row an item. The fields
  `prompt` and `solution` name may hold a text, a list of texts or nothing; `id` names the field of the item's id
  (default: its number from 0). A dotted name reads a field inside a field.
- any other file: one item, its whole text a prompt, its id the file's name
- a folder: one item for each file in it, as above, its id the path below the folder

With `prompt_part: docstring`, a prompt that holds strings in triple quotes counts by the last of them only: the
function's description, which is what StarCoder2 looks for in HumanEval.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stack_platform.errors import ConfigError
from stack_platform.quality import settings

_LINES, _TABULAR = (".jsonl", ".ndjson"), (".jsonl", ".ndjson", ".json", ".parquet")
_TRIPLE_QUOTED = re.compile(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', re.DOTALL)
PARTS = ("whole", "docstring")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Where a benchmark lies and what its fields are called."""

    name: str
    path: str
    prompt: tuple[str, ...] = ("prompt",)  # fields of an item's task
    solution: tuple[str, ...] = ("canonical_solution",)  # fields of its answers
    id: str = "task_id"
    prompt_part: str = "whole"  # whole, docstring
    sha256: str = ""  # of the files; when it is there, other files are refused


@dataclass(frozen=True, slots=True)
class Item:
    """One text that must not be learned."""

    benchmark: str
    id: str
    kind: str  # prompt, solution
    text: str


def read_benchmark(value: Any, key: str) -> Benchmark:
    """Check the settings of one benchmark."""
    raw = settings.mapping(value, key)
    settings.only_known(raw, {"name", "path", "prompt", "solution", "id", "prompt_part", "sha256"}, key)
    for name in ("name", "path"):
        if name not in raw:
            raise ConfigError(f"{key} lacks `{name}`; write {{name: my-benchmark, path: items.jsonl}}")
    part = raw.get("prompt_part", "whole")
    if part not in PARTS:
        raise ConfigError(f"{key}.prompt_part is {part!r}; write {' or '.join(PARTS)}")
    checked: dict[str, Any] = {"prompt_part": part}
    for name, value in raw.items():
        if name in ("prompt", "solution"):
            checked[name] = settings.texts(value, f"{key}.{name}")
        elif name != "prompt_part":
            checked[name] = settings.text(value, f"{key}.{name}")
    return Benchmark(**checked)


def pin(benchmark: Benchmark) -> Benchmark:
    """Write the digest of the files into the settings, so that a change of the files changes the settings."""
    return replace(benchmark, sha256=_digest(benchmark))


def read_items(benchmark: Benchmark) -> Iterator[Item]:
    """Read the items in the order of the files.

    Raises ConfigError where a file is missing or malformed, has other bytes than `sha256` says, or where none of the
    fields is in any item.
    """
    if benchmark.sha256 and benchmark.sha256 != _digest(benchmark):
        raise ConfigError(
            f"the files of the benchmark {benchmark.name} at {benchmark.path} have changed: their digest is not "
            f"{benchmark.sha256}; pin the benchmark again"
        )
    root = Path(benchmark.path)
    found = False
    for path in _files(benchmark):
        relative = path.relative_to(root).as_posix() if root.is_dir() else path.name
        if path.suffix.lower() not in _TABULAR:
            found = True
            yield Item(benchmark.name, relative, "prompt", _part(benchmark, _text(path)))
            continue
        prefix = f"{relative}:" if root.is_dir() else ""
        for number, row in enumerate(_rows(path)):
            name = _field(row, benchmark.id)
            for item in _texts_of(benchmark, row, f"{prefix}{number if name is None else name}"):
                found = True
                yield item
    if not found:
        raise ConfigError(
            f"no item of the benchmark {benchmark.name} at {benchmark.path} has one of the fields "
            f"{', '.join((*benchmark.prompt, *benchmark.solution))}; name the fields in `prompt` and `solution`"
        )


def _texts_of(benchmark: Benchmark, row: Mapping[str, Any], name: str) -> Iterator[Item]:
    for kind, field_names in (("prompt", benchmark.prompt), ("solution", benchmark.solution)):
        for field_name in field_names:
            value = _field(row, field_name)
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and text.strip():
                    yield Item(
                        benchmark.name, name, kind, _part(benchmark, text) if kind == "prompt" else text
                    )


def _files(benchmark: Benchmark) -> list[Path]:
    root = Path(benchmark.path)
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    if not files or not files[0].is_file():
        raise ConfigError(
            f"the benchmark {benchmark.name} has no file at {benchmark.path}; write the path of a file or folder"
        )
    return files


def _digest(benchmark: Benchmark) -> str:
    root = Path(benchmark.path)
    digest = hashlib.sha256()
    for path in _files(benchmark):
        name = path.relative_to(root).as_posix() if root.is_dir() else ""
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix.lower() == ".parquet":
        try:
            yield from pq.read_table(path).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigError(f"{path} is no Parquet file: {error}") from error
        return
    if path.suffix.lower() in _LINES:
        numbered = enumerate(_text(path).split("\n"), 1)
        rows = [(number, line) for number, line in numbered if line.strip()]
    else:
        rows = [(1, _text(path))]
    for number, line in rows:
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}:{number} is no JSON: {error}") from error
        for row in value if isinstance(value, list) else [value]:
            if not isinstance(row, Mapping):
                raise ConfigError(f"{path}:{number} holds {row!r:.80}; write one JSON object for each item")
            yield row


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8: {error}; convert it, or take it out of the folder"
        ) from error


def _field(row: Mapping[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _part(benchmark: Benchmark, prompt: str) -> str:
    if benchmark.prompt_part == "whole":
        return prompt
    strings = [first or second for first, second in _TRIPLE_QUOTED.findall(prompt)]
    return strings[-1] if strings else prompt
