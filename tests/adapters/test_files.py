import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stack_platform.adapters.config import CONFIG_NAME, LoraConfig
from stack_platform.adapters.saving import files
from stack_platform.adapters.saving.files import (
    WEIGHTS_NAME,
    read_config,
    read_tensors,
    write_adapter,
)
from stack_platform.errors import AdapterError

SHAPES = {
    f"base_model.model.layers.{i}.q_proj.lora_{name}.weight": shape
    for i in range(2)
    for name, shape in (("A", (2, 4)), ("B", (3, 2)))
}
FIRST = "base_model.model.layers.0.q_proj.lora_A.weight"
LAST = "base_model.model.layers.1.q_proj.lora_B.weight"
CONFIG = LoraConfig(r=2, target_modules=["q_proj"])


def tensors(value=None):
    make = torch.randn if value is None else lambda shape: torch.full(shape, value)
    return {key: make(shape) for key, shape in SHAPES.items()}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    given = tensors()
    write_adapter(tmp_path / "new" / "adapter", CONFIG, given)
    back = read_tensors(tmp_path / "new" / "adapter", SHAPES)
    assert all(torch.equal(back[key], tensor) for key, tensor in given.items())
    assert read_config(tmp_path / "new" / "adapter") == CONFIG


def test_the_folder_holds_pefts_two_files_keys_and_metadata(tmp_path):
    write_adapter(tmp_path, CONFIG, tensors())
    assert sorted(contents(tmp_path)) == ["README.md", CONFIG_NAME, WEIGHTS_NAME]
    with safe_open(tmp_path / WEIGHTS_NAME, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert sorted(file.keys()) == [
            f"base_model.model.layers.{i}.q_proj.lora_{m}.weight" for i in range(2) for m in "AB"
        ]


def test_saving_twice_writes_the_same_bytes(tmp_path):
    given = tensors()
    write_adapter(tmp_path / "a", CONFIG, given)
    write_adapter(tmp_path / "b", CONFIG, dict(reversed(given.items())))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_hash_seed_does_not_reach_the_file():
    code = "from stack_platform.adapters import LoraConfig as C; print(C(target_modules=['v','q','k']).to_json())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "other").mkdir()
    write_adapter(tmp_path, CONFIG, tensors())
    write_adapter(tmp_path, CONFIG, tensors())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        CONFIG_NAME,
        WEIGHTS_NAME,
        "other",
        "tokenizer.json",
    ]


def damage(folder, change):
    path = folder / WEIGHTS_NAME
    held = load_file(path)
    change(held)
    save_file(held, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop(LAST),
            r"1 of 4 tensors are missing \(.*1.q_proj.lora_B",
        ),
        (lambda t: t.update(more=torch.zeros(1)), r"1 tensors have no place in the model \(more\)"),
        (
            lambda t: t.update({FIRST: torch.zeros(3, 4)}),
            r"0.q_proj.lora_A.weight has shape \[3, 4\], the model and configuration need \[2, 4\]",
        ),
        (
            lambda t: t.update({FIRST: torch.zeros(2, 4, dtype=torch.int8)}),
            "torch.int8, not floating point",
        ),
        (
            lambda t: (t.clear(), t.update(x=torch.zeros(1))),
            "4 of 4 tensors are missing .* and 1 tensors have no",
        ),
    ],
)
def test_a_tensor_missing_extra_or_misshapen_is_named(tmp_path, change, message):
    write_adapter(tmp_path, CONFIG, tensors())
    damage(tmp_path, change)
    with pytest.raises(AdapterError, match=message):
        read_tensors(tmp_path, SHAPES)


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_damaged(tmp_path, length):
    write_adapter(tmp_path, CONFIG, tensors())
    path = tmp_path / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(AdapterError, match=f"{WEIGHTS_NAME} is damaged"):
        read_tensors(tmp_path, SHAPES)


def test_bytes_that_are_no_safetensors_are_damaged(tmp_path):
    write_adapter(tmp_path, CONFIG, tensors())
    (tmp_path / WEIGHTS_NAME).write_bytes(b"\xff" * 64)
    with pytest.raises(AdapterError, match="is damaged"):
        read_tensors(tmp_path, SHAPES)


def test_absent_folders_and_files_are_named(tmp_path):
    with pytest.raises(AdapterError, match=r"no folder .*model"):
        read_config(tmp_path / "model")
    with pytest.raises(AdapterError, match=r"no folder 'user/model', and no such repository"):
        read_config("user/model", local_files_only=True)
    with pytest.raises(AdapterError, match=r"no adapter_config.json in"):
        read_config(tmp_path)
    with pytest.raises(AdapterError, match=r"no adapter_model.safetensors in"):
        read_tensors(tmp_path, SHAPES)


def test_a_file_where_the_folder_should_be_is_an_adapter_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(AdapterError, match=r"cannot save an adapter to .*taken"):
        write_adapter(tmp_path / "taken", CONFIG, tensors())


def _save_and_die(folder, calls):
    """Save another adapter in a process that is killed at its n-th rename."""
    real_rename, real_replace, left = Path.rename, Path.replace, [calls]

    def counted(real):
        def call(self, target):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(self, target)

        return call

    Path.rename, Path.replace = counted(real_rename), counted(real_replace)
    write_adapter(folder, LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"]), tensors(2.0))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside idle threads, from Python 3.12
@pytest.mark.parametrize(("calls", "alpha"), [(0, 1), (1, 2), (2, 2)])
def test_a_killed_save_leaves_the_old_checkpoint_or_the_new_one_never_a_mixture(tmp_path, calls, alpha):
    write_adapter(tmp_path, LoraConfig(r=2, lora_alpha=1, target_modules=["q_proj"]), tensors(1.0))
    process = multiprocessing.get_context("fork").Process(target=_save_and_die, args=(tmp_path, calls))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert read_config(tmp_path).lora_alpha == alpha
    held = read_tensors(tmp_path, SHAPES)
    assert {t.unique().item() for t in held.values()} == {float(alpha)}
    write_adapter(tmp_path, CONFIG, tensors(3.0))
    assert read_config(tmp_path) == CONFIG
    assert not (tmp_path / ".adapter_pending").exists()


def test_a_save_that_fails_leaves_the_old_checkpoint_and_no_litter(tmp_path, monkeypatch):
    write_adapter(tmp_path, CONFIG, tensors())
    before = contents(tmp_path)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(AdapterError, match="No space left on device"):
        write_adapter(tmp_path, LoraConfig(r=2), tensors())
    assert contents(tmp_path) == before


def test_an_old_adapters_file_is_read_and_runs_no_code(tmp_path):
    given = tensors()
    CONFIG.save_pretrained(tmp_path)
    torch.save(given, tmp_path / "adapter_model.bin")
    back = read_tensors(tmp_path, SHAPES)
    assert all(torch.equal(back[key], tensor) for key, tensor in given.items())
    for content, message in (
        (given | {"run": print}, r"holds more than tensors \(UnpicklingError\)"),
        (given | {"more": 3}, "holds something else than tensors by key"),
    ):
        torch.save(content, tmp_path / "adapter_model.bin")
        with pytest.raises(AdapterError, match=message):
            read_tensors(tmp_path, SHAPES)
    (tmp_path / "adapter_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(AdapterError, match=r"adapter_model\.bin is damaged"):
        read_tensors(tmp_path, SHAPES)
    write_adapter(tmp_path, CONFIG, tensors(2.0))
    assert {tensor.unique().item() for tensor in read_tensors(tmp_path, SHAPES).values()} == {2.0}


def test_the_config_is_json_that_others_can_read(tmp_path):
    write_adapter(tmp_path, CONFIG, tensors())
    assert json.loads((tmp_path / CONFIG_NAME).read_text())["target_modules"] == ["q_proj"]
