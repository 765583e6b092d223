"""Adapter folders in PEFT's layout, written atomically and read strictly.

A folder holds, in this order of writing:

1. `adapter_model.safetensors`: metadata {"format": "pt"}; one tensor per key
   `base_model.model.<module path>.<tensor>.weight`, with no adapter name in it: lora_A [r, in], lora_B [out, r].
2. `adapter_config.json`: the fields of the configuration, keys sorted, indented by two spaces.

The same adapter gives the same bytes, whatever the hash seed. Other files in the folder are left alone.

Writing: both files are completed and synced in a temporary folder inside the target; renaming that folder to
`.adapter_pending` is the commit; then each file is moved to its place and the empty folder goes. A save killed
before the commit leaves the old checkpoint, one killed after it the new one: `read_adapter` prefers pending
files and the next save finishes the move. What a killed save can leave behind is one hidden folder. Only a
reader that does not know `.adapter_pending` (PEFT) can see one new and one old file, and only after a kill
between the two moves.

Reading: a key that is missing, a key too many, a wrong shape or a truncated file is an error that names it.
PEFT 0.21.2 warns, and keeps random values for what is missing.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from stack_platform.adapters.config import CONFIG_NAME, LoraConfig, PeftConfig, parse_config
from stack_platform.errors import AdapterError

WEIGHTS_NAME = "adapter_model.safetensors"
_PENDING = ".adapter_pending"
_PREFIX = "base_model.model."
_SUFFIX = ".weight"
_KEYS_SHOWN = 3


def tensor_key(path: str, name: str) -> str:
    """Return the key of a tensor in the file.

    >>> tensor_key("layers.0.q_proj", "lora_A")
    'base_model.model.layers.0.q_proj.lora_A.weight'
    """
    return f"{_PREFIX}{path}.{name}{_SUFFIX}"


def write_adapter(
    folder: str | Path, config: LoraConfig, tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Write an adapter, module path to tensor name to tensor, over whatever adapter the folder held.

    Raises: AdapterError when the folder is a file or cannot be written to.
    """
    flat = {
        tensor_key(path, name): tensor.detach().cpu().contiguous()
        for path, named in tensors.items()
        for name, tensor in named.items()
    }
    contents = {
        WEIGHTS_NAME: save_tensors(flat, metadata={"format": "pt"}),  # sorts the tensors itself
        CONFIG_NAME: config.to_json(),
    }
    try:
        _commit(Path(folder), contents)
    except OSError as error:
        raise AdapterError(
            f"cannot save an adapter to {str(folder)!r} ({error.strerror}); give a folder that can be written to"
        ) from error


def read_config(folder: str | Path) -> PeftConfig:
    """Read the configuration of an adapter folder.

    Raises: AdapterError when it is absent, damaged, or asks for what this release lacks.
    """
    return parse_config(_read(Path(folder), CONFIG_NAME), str(Path(folder) / CONFIG_NAME))


def read_adapter(
    folder: str | Path, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> dict[str, dict[str, Tensor]]:
    """Read the tensors of an adapter folder: module path to tensor name to tensor, exactly those of `shapes`.

    Raises: AdapterError when the file is damaged, or a tensor is missing, too many, misshapen or not
    floating point.
    """
    source = str(Path(folder) / WEIGHTS_NAME)
    try:
        found = load_tensors(_read(Path(folder), WEIGHTS_NAME))
    except SafetensorError as error:
        raise AdapterError(f"{source} is damaged ({error}); copy or save the adapter again") from error
    expected = {tensor_key(p, n): (p, n, s) for p, named in shapes.items() for n, s in named.items()}
    _check_keys(source, expected.keys(), found.keys())
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, (path, name, shape) in expected.items():
        tensor = found[key]
        if tuple(tensor.shape) != shape:
            raise AdapterError(
                f"{source}: {key} has shape {list(tensor.shape)}, the model and configuration need "
                f"{list(shape)}; load it into the model it was trained on"
            )
        if not tensor.is_floating_point():
            raise AdapterError(f"{source}: {key} holds {tensor.dtype}, not floating point; save it again")
        tensors.setdefault(path, {})[name] = tensor
    return tensors


def _check_keys(source: str, expected: Iterable[str], found: Iterable[str]) -> None:
    expected, found = set(expected), set(found)
    problems = []
    if missing := sorted(expected - found):
        problems.append(f"{len(missing)} of {len(expected)} tensors are missing ({_some(missing)})")
    if extra := sorted(found - expected):
        problems.append(f"{len(extra)} tensors have no place in the model ({_some(extra)})")
    if problems:
        raise AdapterError(
            f"{source}: {' and '.join(problems)}; load it into the model it was trained on, with its own "
            "adapter_config.json"
        )


def _some(keys: list[str]) -> str:
    more = ", …" if len(keys) > _KEYS_SHOWN else ""
    return ", ".join(keys[:_KEYS_SHOWN]) + more


def _read(folder: Path, name: str) -> bytes:
    if not folder.is_dir():
        raise AdapterError(f"no folder {str(folder)!r}; give the local folder that save_pretrained wrote")
    for path in (folder / _PENDING / name, folder / name):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise AdapterError(f"cannot read {str(path)!r} ({error.strerror})") from error
    raise AdapterError(f"no {name} in {str(folder)!r}; give the folder that save_pretrained wrote")


def _commit(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".adapter_saving_", dir=folder))
    try:
        for name, content in contents.items():
            with (staging / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(staging)
        _finish(folder)  # an earlier save may have been killed after its commit
        staging.rename(folder / _PENDING)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync(folder)
    _finish(folder)


def _finish(folder: Path) -> None:
    """Move committed files to their place."""
    pending = folder / _PENDING
    if not pending.is_dir():
        return
    for path in sorted(pending.iterdir(), reverse=True):
        path.replace(folder / path.name)
    _sync(folder)
    pending.rmdir()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
