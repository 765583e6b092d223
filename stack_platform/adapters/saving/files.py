"""Adapter folders in PEFT's layout, written atomically and read strictly.

A folder holds, in this order of writing:

1. `adapter_model.safetensors`: metadata {"format": "pt"}; one tensor per key
   `base_model.model.<module path>.<tensor>`, with no adapter name in it, such as `….q_proj.lora_A.weight` [r, in].
2. `adapter_config.json`: the fields of the configuration, keys sorted, indented by two spaces.
3. `adapter_provenance.json`, where it is asked for: SHA-256 of the two, and where the adapter comes from; PEFT and
   vLLM do not look at it. Where it is there, reading checks the two against it.
4. `README.md`, the model card, unless there is one.

The same adapter gives the same bytes, whatever the hash seed. Other files in the folder are left alone.

Writing: all files are completed and synced in a temporary folder inside the target; renaming that folder to
`.adapter_pending` is the commit; then each file is moved to its place and the empty folder goes. A save killed
before the commit leaves the old checkpoint, one killed after it the new one: `read_tensors` prefers pending
files and the next save finishes the move. What a killed save can leave behind is one hidden folder. Only a
reader that does not know `.adapter_pending` (PEFT) can see one new and one old file, and only after a kill
between the two moves.

Reading: a key that is missing, a key too many, a wrong shape or a truncated file is an error that names it. PEFT
0.21.2 warns, and keeps random values for what is missing. `adapter_model.bin`, of old adapters, is read where there is
no other file, and never written.
"""

import hashlib
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from stack_platform.adapters.config import parse_config
from stack_platform.adapters.configs.fields import CONFIG_NAME, PeftConfig
from stack_platform.adapters.saving.card import CARD_NAME, model_card
from stack_platform.adapters.saving.hub import local_folder
from stack_platform.errors import AdapterError

WEIGHTS_NAME = "adapter_model.safetensors"
OLD_WEIGHTS_NAME = "adapter_model.bin"
PROVENANCE_NAME = "adapter_provenance.json"
_PENDING = ".adapter_pending"
_KEYS_SHOWN = 3


def write_adapter(
    folder: str | Path,
    config: PeftConfig,
    tensors: Mapping[str, Tensor],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write an adapter, its tensors by key, over whatever adapter the folder held.

    Raises: AdapterError when the folder cannot be written to, or a tensor is kept in parts or has no values.
    """
    if split := [key for key, tensor in tensors.items() if hasattr(tensor, "full_tensor")]:
        raise AdapterError(
            f"{split[0]} is kept in parts by several processes; gather the model's state in all of them, and give it: "
            "save_pretrained(state_dict=...)"
        )
    if empty := [key for key, tensor in tensors.items() if tensor.is_meta]:
        raise AdapterError(f"{empty[0]} is on the meta device and has no values; bring them before saving")
    # tensors that share memory, as tied ones do, are written once for each key
    flat = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
    contents = {
        WEIGHTS_NAME: save_tensors(flat, metadata={"format": "pt"}),  # sorts the tensors itself
        CONFIG_NAME: config.to_json(),
    }
    if provenance is not None:
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        record = {"files": digests, "provenance": dict(provenance)}
        contents[PROVENANCE_NAME] = json.dumps(record, indent=2, sort_keys=True).encode()
    if not (Path(folder) / CARD_NAME).exists():
        contents[CARD_NAME] = model_card(config, provenance).encode()
    try:
        _commit(Path(folder), contents)
    except OSError as error:
        raise AdapterError(
            f"cannot save an adapter to {str(folder)!r} ({error.strerror}); give a folder that can be written to"
        ) from error


def read_config(folder: str | Path, **hub: Any) -> PeftConfig:
    """Read the configuration of an adapter folder, or of a hub repository.

    Raises: AdapterError when it is absent, damaged, or asks for what this release lacks.
    """
    place = local_folder(folder, **hub, names=(CONFIG_NAME,))
    return parse_config(_read(place, CONFIG_NAME), str(place / CONFIG_NAME))


def read_tensors(
    folder: str | Path, shapes: Mapping[str, tuple[int, ...]], optional: Iterable[str] = (), **hub: Any
) -> dict[str, Tensor]:
    """Read the tensors of an adapter folder by key: exactly those of `shapes`, and `optional` ones that are there.

    Raises: AdapterError when the file is damaged, or a tensor is missing, too many or misshapen.
    """
    place = local_folder(folder, **hub)
    found = read_file(place)
    check_tensors(str(place / WEIGHTS_NAME), found, shapes, optional)
    return found


def read_file(folder: str | Path, **hub: Any) -> dict[str, Tensor]:
    """Read all tensors of an adapter folder by key.

    Raises: AdapterError when the file is absent, damaged, or not what its checksums say.
    """
    place = local_folder(folder, **hub)
    if (place / OLD_WEIGHTS_NAME).exists() and not (place / WEIGHTS_NAME).exists():
        return _read_old(place / OLD_WEIGHTS_NAME)
    content = _read(place, WEIGHTS_NAME)
    _check_digests(place, content)
    try:
        found: dict[str, Tensor] = load_tensors(content)
    except SafetensorError as error:
        raise AdapterError(
            f"{place / WEIGHTS_NAME} is damaged ({error}); copy or save the adapter again"
        ) from error
    return found


def _read_old(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an adapter that an old PEFT saved, by the part of pickle that runs no code."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise AdapterError(
            f"{path} is damaged, or holds more than tensors ({type(error).__name__}); save the adapter again"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise AdapterError(f"{path} holds something else than tensors by key; save the adapter again")
    return found


def check_tensors(
    source: str,
    found: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    optional: Iterable[str] = (),
) -> None:
    """Check that tensors are exactly those of `shapes`.

    Raises: AdapterError naming those missing, too many, misshapen or not floating point.
    """
    _check_keys(source, shapes.keys(), found.keys() - set(optional))
    for key, shape in shapes.items():
        tensor = found[key]
        if tuple(tensor.shape) != shape:
            raise AdapterError(
                f"{source}: {key} has shape {list(tensor.shape)}, the model and configuration need "
                f"{list(shape)}; load it into the model it was trained on"
            )
        if not tensor.is_floating_point():
            raise AdapterError(f"{source}: {key} holds {tensor.dtype}, not floating point; save it again")


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


def _check_digests(folder: Path, weights: bytes) -> None:
    try:
        record = json.loads(_read(folder, PROVENANCE_NAME))["files"]
    except AdapterError:  # there is none
        return
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{folder / PROVENANCE_NAME} is damaged ({error}); delete it, or save again"
        ) from error
    for name, content in ((WEIGHTS_NAME, weights), (CONFIG_NAME, _read(folder, CONFIG_NAME))):
        if record.get(name) != hashlib.sha256(content).hexdigest():
            raise AdapterError(
                f"{folder / name} is not what was saved: its SHA-256 is not the one in {PROVENANCE_NAME}; copy "
                f"it again, or delete {PROVENANCE_NAME} if it was changed on purpose"
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
    instead = "give the folder that save_pretrained wrote"
    if (folder / "model.safetensors").exists():
        instead = (
            "there is a whole model, as transformers' Trainer saves it: call save_pretrained of the model with "
            "adapters, or give the Trainer callbacks=[AdapterCheckpoints()]"
        )
    raise AdapterError(f"no {name} in {str(folder)!r}; {instead}")


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
